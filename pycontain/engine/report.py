"""What `info` says of the host: the executor, cgroups, storage driver, and what is missing."""

from __future__ import annotations

import posix

from pycontain.cgroup.hierarchy import detect
from pycontain.errors import PycontainError
from pycontain.runtime import capabilities
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.engine.engine import Engine

NATIVE = __file__.rpartition("/")[0].rpartition("/")[0] + "/native/bin/"


def host_report(engine: Engine, version: str) -> dict[str, str]:
    """Return (what, value) in the order to show."""
    host = posix.uname()
    records = engine.store.records()
    running = sum(engine.status(record) in ("running", "paused") for record in records)
    return {
        "Version": version,
        "Containers": f"{len(records)} ({running} running)",
        "Images": str(len(engine.maker.images.images(damaged=lambda _: None))),
        "Data root": engine.store.root,
        "State root": engine.store.state,
        "Storage driver": engine.maker.snapshots.driver(),
        "Executor": _executor(),
        "Monitor": "native" if _there("monitor") else "python (the native monitor is not built)",
        "Cgroups": _cgroups(),
        "User": "root" if posix.geteuid() == 0 else _rootless(),
        "Capabilities": _missing_capabilities(),
        "Kernel": host.release,
        "Architecture": host.machine,
    }


def _executor() -> str:
    if kernel.native is None:
        return "python (the native module is not built: no C compiler at installation)"
    return "native" if _there("stub") else "native, without the stub"


def _there(name: str) -> bool:
    try:
        posix.stat(NATIVE + name)
    except OSError:
        return False
    return True


def _cgroups() -> str:
    try:
        found = detect()
    except PycontainError as error:
        return str(error)
    if found.pure_v2:
        return "v2"
    if found.v1:
        kind = "hybrid" if found.unified else "v1"
        return f"{kind} ({' '.join(sorted(found.v1))})"
    return "none mounted"


def _rootless() -> str:
    from pycontain.rootfs import userns

    maps = userns.id_maps()
    how = f"{maps.count} ids" if maps.helpers else "one id (install uidmap, see /etc/subuid)"
    return f"ordinary, {how}"


def _missing_capabilities() -> str:
    held = 0
    from pycontain import trees

    for line in trees.read_file("/proc/self/status", 1 << 16).split(b"\n"):
        if line.startswith(b"CapEff:"):
            held = int(line[7:], 16)
    missing = [name for name in capabilities.known() if name not in capabilities.names(held)]
    return "all" if not missing else "without " + " ".join(missing)
