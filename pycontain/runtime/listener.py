"""Hand a seccomp listener to its agent.

The agent's socket gets one message: the ContainerProcessState as JSON, with the listener attached
(runtime-spec config-linux.md, "The Container Process State").
"""

from __future__ import annotations

import _socket

from pycontain.errors import UnsupportedError
from pycontain.oci import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Spec
    from pycontain.runtime.launch import LaunchOptions


def hand_over(fd: int, spec: Spec, options: LaunchOptions, pid: int) -> None:
    """Send `fd` to linux.seccomp.listenerPath; raises OSError."""
    profile = spec["linux"]["seccomp"]
    path = profile.get("listenerPath", "")
    if not path:
        raise UnsupportedError("linux.seccomp: SCMP_ACT_NOTIFY needs listenerPath")
    home = options.park.rpartition("/")[0] or options.bundle
    state = {
        "ociVersion": spec.get("ociVersion", ""),
        "id": options.id or home.rpartition("/")[2],
        "status": "creating",
        "pid": pid,
        "bundle": options.bundle,
        "annotations": spec.get("annotations") or {},
    }
    message = {
        "ociVersion": spec.get("ociVersion", ""),
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": profile.get("listenerMetadata", ""),
        "state": state,
    }
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        agent.connect(path)
        raw = codec.dumps(message)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))
        sent = agent.sendmsg([raw], [rights])
        while sent < len(raw):
            sent += agent.send(raw[sent:])
    finally:
        agent.close()
