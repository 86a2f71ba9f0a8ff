"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: made here, bound over the image's.

They are files of the container's directory, so nothing is written into an image or through one of
its links. The texts come from validated names and addresses only.
"""

from __future__ import annotations

import posix

from pycontain import trees
from pycontain.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.spec.options import RunOptions

LIMIT = 1 << 16
_LOCAL = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)
NAMES = ("hosts", "hostname", "resolv.conf")


def write(
    directory: str, hostname: str, options: RunOptions, *, host_network: bool
) -> list[tuple[str, str]]:
    """Write the three files; return (destination, source) of each. Raises KernelError."""
    texts = {
        "hosts": hosts(hostname, options, host_network=host_network),
        "hostname": hostname + "\n",
        "resolv.conf": resolv_conf(options, host_network=host_network),
    }
    for name, text in texts.items():
        path = f"{directory}/{name}"
        try:
            flags = (
                posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW
            )
            fd = posix.open(path, flags, 0o644)
            try:
                # The umask of the caller must not hide them from the container's users.
                posix.fchmod(fd, 0o644)
                trees.write_all(fd, text.encode("utf-8", "surrogateescape"))
            finally:
                posix.close(fd)
        except OSError as error:
            raise KernelError("write", path, error) from None
    return places(directory)


def places(directory: str) -> list[tuple[str, str]]:
    """Return (destination, source) of the files in a container's directory."""
    return [("/etc/" + name, f"{directory}/{name}") for name in NAMES]


def hosts(hostname: str, options: RunOptions, *, host_network: bool) -> str:
    """Return /etc/hosts; with the host's network it is the host's and what was added."""
    added = "".join(f"{address}\t{name}\n" for name, address in options.add_host)
    if host_network:
        return _host_file("/etc/hosts", _LOCAL) + added
    return f"{_LOCAL}127.0.1.1\t{hostname}\n{added}"


def resolv_conf(options: RunOptions, *, host_network: bool) -> str:
    """Return the text of /etc/resolv.conf: what was asked for, or the host's with its network."""
    if not (options.dns or options.dns_search or options.dns_option):
        return _host_file("/etc/resolv.conf", "") if host_network else ""
    lines = [f"nameserver {address}" for address in options.dns]
    if options.dns_search:
        lines.append("search " + " ".join(options.dns_search))
    if options.dns_option:
        lines.append("options " + " ".join(options.dns_option))
    return "\n".join(lines) + "\n"


def _host_file(path: str, otherwise: str) -> str:
    try:
        text = trees.read_file(path, LIMIT).decode("utf-8", "surrogateescape")
    except OSError:
        return otherwise
    return text if text.endswith("\n") else text + "\n"
