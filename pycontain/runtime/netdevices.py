"""linux.netDevices: move network devices of the host into the container's network namespace.

A device keeps its global addresses and is up afterwards; the kernel gives a physical one back when
the namespace ends. Imported when config.json names a device. Speaks rtnetlink(7) itself: the few
messages needed are fixed structs. Source: runtime-spec config-linux.md "Network Devices".
"""

from __future__ import annotations

import _socket
import errno
import posix
from _struct import pack, unpack_from

from pycontain.errors import KernelError, NotFoundError
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pycontain.oci.runtime import NetDevice

NETLINK_ROUTE = 0
RTM_NEWLINK, RTM_NEWADDR, RTM_GETADDR = 16, 20, 22
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK, DUMP = 1, 4, 0x300
IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
IFF_UP = 1
SCOPE_GLOBAL = 0
IFA_F_PERMANENT = 0x80


def move(devices: Mapping[str, NetDevice], pid: int) -> None:
    """Move every device into the network namespace of `pid`.

    Raises NotFoundError for a device that is not there, KernelError for one that cannot be moved.
    """
    namespace = posix.open(f"/proc/{pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        for name, device in devices.items():
            _move_one(name, device.get("name") or name, namespace)
    finally:
        posix.close(namespace)


def _move_one(name: str, new_name: str, namespace: int) -> None:
    try:
        index = _socket.if_nametoindex(name)
    except OSError:
        raise NotFoundError(f"linux.netDevices: there is no network device {name!r}") from None
    try:
        with _route() as route:
            addresses = list(_addresses(route, index))
            attributes = _attribute(IFLA_NET_NS_FD, pack("<i", namespace))
            attributes += _attribute(IFLA_IFNAME, new_name.encode() + b"\0")
            _ask(route, RTM_NEWLINK, pack("<BxHiII", 0, 0, index, 0, 0) + attributes)
        _inside(namespace, new_name, addresses)
    except OSError as error:
        raise KernelError(f"linux.netDevices: move {name!r} as", new_name, error) from None


def _route() -> _Route:
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
    return _Route(_socket.AF_NETLINK, kind, NETLINK_ROUTE)


class _Route(_socket.socket):
    def __enter__(self) -> _Route:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _attribute(kind: int, value: bytes) -> bytes:
    return pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return pack("<IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body


def _ask(route: _socket.socket, kind: int, body: bytes, flags: int = 0) -> None:
    """Send one request and wait for its acknowledgement; raises OSError."""
    route.send(_message(kind, ACK | flags, body))
    for answer, content in _messages(route.recv(65536)):
        if answer == NLMSG_ERROR:
            (number,) = unpack_from("<i", content)
            if number:
                raise OSError(-number, posix.strerror(-number))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 16:
        length, kind = unpack_from("<IH", data)
        yield kind, data[16:length]
        data = data[-(-max(length, 16) // 4) * 4 :]


def _addresses(route: _socket.socket, index: int) -> Iterator[bytes]:
    """Yield family, prefix and attributes of each permanent global address of a device."""
    route.send(_message(RTM_GETADDR, DUMP, bytes(8)))
    while True:
        for kind, content in _messages(route.recv(1 << 18)):
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                return
            family, prefix, flags, scope, owner = unpack_from("<BBBBi", content)
            if owner == index and scope == SCOPE_GLOBAL and flags & IFA_F_PERMANENT:
                yield pack("<BBBB", family, prefix, 0, scope) + content[8:]


def _inside(namespace: int, name: str, addresses: list[bytes]) -> None:
    """In a child in the other namespace: give the device its addresses, switch it on."""
    child = posix.fork()
    if child == 0:
        status = errno.EIO
        try:
            kernel.setns(namespace, c.CLONE_NEWNET)
            _set_up(name, addresses)
            status = 0
        except OSError as error:
            status = error.errno or errno.EIO
        finally:
            posix._exit(status)
    _, result = posix.waitpid(child, 0)
    number = posix.WEXITSTATUS(result) if posix.WIFEXITED(result) else errno.EIO
    if number:
        raise OSError(number, posix.strerror(number))


def _set_up(name: str, addresses: list[bytes]) -> None:
    index = _socket.if_nametoindex(name)
    with _route() as route:
        for address in addresses:
            body = address[:4] + pack("<i", index) + address[4:]
            _ask(route, RTM_NEWADDR, body, flags=0x400)  # NLM_F_CREATE
        _ask(route, RTM_NEWLINK, pack("<BxHiII", 0, 0, index, IFF_UP, IFF_UP))
