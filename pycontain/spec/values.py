"""Texts from the command line to typed values: each parser takes `(text, what)` and is strict.

`what` names the place for messages ("--memory"). Numbers are ASCII digits only: `int()` takes
signs, blanks, underscores and foreign digits, and a user id that wraps or is misread is root.
Nothing here touches the file system; units stand in the names of what is returned.
"""

from __future__ import annotations

from pycontain.errors import UnsupportedError, UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ID = 2**31 - 1
"""Largest uid or gid taken, as docker (moby daemon/oci_linux.go): larger ones wrap in places."""
UNLIMITED = 2**64 - 1
"""RLIM_INFINITY, see getrlimit(2)."""
WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
PROTOCOLS = ("tcp", "udp", "sctp")
ULIMITS = frozenset(
    [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)
SIGNALS = {
    name: number
    for number, name in enumerate(
        [
            "HUP",
            "INT",
            "QUIT",
            "ILL",
            "TRAP",
            "ABRT",
            "BUS",
            "FPE",
            "KILL",
            "USR1",
            "SEGV",
            "USR2",
            "PIPE",
            "ALRM",
            "TERM",
            "STKFLT",
            "CHLD",
            "CONT",
            "STOP",
            "TSTP",
            "TTIN",
            "TTOU",
            "URG",
            "XCPU",
            "XFSZ",
            "VTALRM",
            "PROF",
            "WINCH",
            "IO",
            "PWR",
            "SYS",
        ],
        1,
    )
}
"""Signal numbers by name on x86 and arm, see signal(7)."""


def bad(what: str, text: str, expected: str) -> UsageError:
    """Return the error for a value that does not read."""
    return UsageError(f"{what} {quote(text) or repr(text)}: expected {expected}")


def digits(text: str) -> bool:
    """Return whether `text` is one or more ASCII digits (and short enough to be a number)."""
    return text.isascii() and text.isdigit() and len(text) <= 20


def text_value(text: str, what: str) -> str:
    """Return `text` unchanged; a NUL byte ends a C string early, so it is refused."""
    if "\0" in text:
        raise UsageError(f"{what} holds a NUL byte")
    return text


def boolean(text: str, what: str) -> bool:
    """Return a flag's explicit value, in the words of Go's strconv.ParseBool, as docker."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise bad(what, text, "true or false")


def integer(text: str, what: str) -> int:
    """Return a decimal integer, with a leading minus at most."""
    if not digits(text[1:] if text.startswith("-") else text):
        raise bad(what, text, "a number")
    return int(text)


def natural(text: str, what: str) -> int:
    """Return a decimal number of zero or more."""
    if not digits(text):
        raise bad(what, text, "a number of 0 or more")
    return int(text)


def ratio(text: str) -> tuple[int, int] | None:
    """Return a decimal fraction as (numerator, denominator), None when it does not read."""
    whole, dot, part = text.partition(".")
    if not digits(whole or "0") or (dot and not digits(part)) or not (whole or part):
        return None
    return int((whole or "0") + part), 10 ** len(part)


def size_bytes(text: str, what: str) -> int:
    """Return a size in bytes: a number with b, k, m, g, t or p (powers of 1024), as docker."""
    unit = text.lower().removesuffix("b")
    letter = unit.removesuffix("i")[-1:]
    letter = letter if letter in UNITS else ""
    number = ratio(
        unit[:-1].removesuffix(letter) if unit.endswith("i") else unit.removesuffix(letter)
    )
    number = number or ratio(unit.removesuffix(letter).removesuffix(" "))
    if number is None or (unit.endswith("i") and not letter):
        raise bad(what, text, "a size such as 64m, 1.5g or 512k")
    value = number[0] * UNITS[letter] // number[1]
    if value >= 2**63:
        raise bad(what, text, "a size below 8 EiB")
    return value


def swap_bytes(text: str, what: str) -> int:
    """Return a size in bytes, or -1 for no limit."""
    return -1 if text == "-1" else size_bytes(text, what)


def nano_cpus(text: str, what: str) -> int:
    """Return a number of CPUs in billionths ("0.5" is 500000000); 0 means no limit."""
    number = ratio(text)
    if number is None or number[1] > 10**9:
        raise bad(what, text, "a number of CPUs such as 0.5 or 2")
    return number[0] * 10**9 // number[1]


def seconds(text: str, what: str) -> float:
    """Return a duration in seconds: "1.5", or Go's form "1h30m", "500ms"."""
    number = ratio(text)
    if number is not None:
        return number[0] / number[1]
    total, rest = 0.0, text
    while rest:
        count = len(rest) - len(rest.lstrip("0123456789."))
        amount, rest = ratio(rest[:count]), rest[count:]
        unit = next((u for u in ("ms", "h", "m", "s") if rest.startswith(u)), "")
        if amount is None or not unit:
            raise bad(what, text, "a duration such as 90s, 10m or 1h30m")
        total += amount[0] / amount[1] * {"h": 3600, "m": 60, "s": 1, "ms": 0.001}[unit]
        rest = rest[len(unit) :]
    if not text:
        raise bad(what, text, "a duration")
    return total


def container_name(text: str, what: str) -> str:
    """Return a container or volume name: a letter or digit, then letters, digits, `_` `.` `-`."""
    if len(text) < 2 or len(text) > 200 or text[0] not in WORD:
        raise bad(what, text, "a name of 2 or more characters from [a-zA-Z0-9_.-]")
    if not WORD.issuperset(text.translate({95: None, 46: None, 45: None})):
        raise bad(what, text, "a name of characters from [a-zA-Z0-9_.-]")
    return text


def host_name(text: str, what: str) -> str:
    """Return a host name of at most 64 bytes (uname(2)): it is written into /etc/hosts."""
    plain = text.translate({46: None, 45: None, 95: None})
    if not text or len(text) > 64 or text[0] in ".-" or not WORD.issuperset(plain) or not plain:
        raise bad(what, text, "a host name of at most 64 characters from [a-zA-Z0-9.-]")
    return text


def cpu_list(text: str, what: str) -> str:
    """Return a list of CPUs or memory nodes as the kernel reads it ("0-2,5")."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not digits(first) or (dash and (not digits(last) or int(last) < int(first))):
            raise bad(what, text, "a list such as 0-2,5")
    return text


def octal(text: str, what: str) -> int:
    """Return a file mode written in octal."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or set(text) & {"8", "9"}:
        raise bad(what, text, "an octal number such as 0022")
    return int(text, 8)


def umask(text: str, what: str) -> int:
    """Return a umask of at most 0777."""
    value = octal(text, what)
    if value > 0o777:
        raise bad(what, text, "an octal number of at most 0777")
    return value


def ulimit(text: str, what: str) -> tuple[str, int, int]:
    """Return (name, soft, hard) of `NAME=SOFT[:HARD]`; -1 and `unlimited` are RLIM_INFINITY."""
    name, equals, limits = text.partition("=")
    if not equals or name not in ULIMITS:
        raise bad(what, text, "NAME=SOFT[:HARD], NAME one of " + " ".join(sorted(ULIMITS)))
    soft_text, colon, hard_text = limits.partition(":")
    soft = _limit(soft_text, text, what)
    hard = _limit(hard_text, text, what) if colon else soft
    if soft > hard:
        raise bad(what, text, "a soft limit that is not above the hard limit")
    return name, soft, hard


def _limit(value: str, text: str, what: str) -> int:
    if value in ("-1", "unlimited"):
        return UNLIMITED
    if not digits(value) or int(value) > UNLIMITED:
        raise bad(what, text, "NAME=SOFT[:HARD]")
    return int(value)


def signal_number(text: str, what: str) -> int:
    """Return a signal's number from a name (with or without SIG) or a number from 1 to 64."""
    if digits(text) and 1 <= int(text) <= 64:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    if base == "RTMIN" and sign != "-" and (not sign or digits(offset)):
        return min(34 + int(offset or 0), 64)
    if base == "RTMAX" and sign != "+" and (not sign or digits(offset)):
        return max(64 - int(offset or 0), 34)
    raise bad(what, text, "a signal such as TERM or 15")


def key_value(text: str, what: str) -> tuple[str, str]:
    """Return (key, value) of `KEY=VALUE`; the value of a bare `KEY` is empty."""
    key, _, value = text_value(text, what).partition("=")
    if not key:
        raise bad(what, text, "KEY=VALUE")
    return key, value


def variable(text: str, what: str) -> str:
    """Return `NAME=VALUE` or `NAME` (taken from the caller's environment)."""
    key_value(text, what)
    return text


def setting(text: str, what: str) -> tuple[str, str]:
    """Return (key, value) of `KEY=VALUE`; the equals sign is required."""
    if "=" not in text:
        raise bad(what, text, "KEY=VALUE")
    return key_value(text, what)


def identity(text: str, what: str) -> tuple[str, str]:
    """Return (user, group) of `USER[:GROUP]`, each a name or an id; the group may be "".

    An id is ASCII digits in their shortest form, at most 2147483647. Whatever else looks like a
    number (a sign, a base, an id that wraps) is an error: read leniently it is root.
    """
    user, colon, group = text_value(text, what).partition(":")
    if not user or (colon and not group) or ":" in group:
        raise bad(what, text, "USER[:GROUP]")
    for part in (user, group) if colon else (user,):
        check_id(part, what, text)
    return user, group


def check_id(part: str, what: str, text: str) -> None:
    """Raise UsageError when one user or group is neither a plain name nor a valid id."""
    if part.isascii() and part.isdigit():
        if len(part) > 10 or int(part) > MAX_ID or (part[0] == "0" and part != "0"):
            raise bad(what, text, f"an id from 0 to {MAX_ID}")
    elif part[0] in "-+" or part[0].isdigit() or not part.isprintable() or " " in part:
        raise bad(what, text, "a user name or a decimal id")


def group(text: str, what: str) -> str:
    """Return one group name or id."""
    if not text:
        raise bad(what, text, "a group name or id")
    check_id(text, what, text)
    return text


def capability(text: str, what: str) -> str:
    """Return a capability name in capitals with its prefix (`CAP_NET_ADMIN`), or `ALL`."""
    name = text.upper()
    if name == "ALL":
        return name
    if not name or not WORD.issuperset(name.replace("_", "")):
        raise bad(what, text, "a capability such as NET_ADMIN, or ALL")
    return name if name.startswith("CAP_") else "CAP_" + name


def address(text: str, what: str) -> str:
    """Return an IPv4 or IPv6 address."""
    # Here, not above: the module is a shared object that takes half a millisecond to load.
    from _socket import AF_INET, AF_INET6, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return text
    raise bad(what, text, "an IP address")


def domain(text: str, what: str) -> str:
    """Return a search domain of resolv.conf(5); "." is none, as docker has it."""
    labels = text.removesuffix(".").split(".")
    plain = all(
        label[:1] in WORD and label[-1:] in WORD and WORD.issuperset(label.translate(_HYPHENS))
        for label in labels
    )
    if text != "." and (not plain or len(text) > 254):
        raise bad(what, text, "a domain such as example.org")
    return text


_HYPHENS = {ord("-"): None, ord("_"): None}


def resolver_option(text: str, what: str) -> str:
    """Return an option of resolv.conf(5) such as `ndots:2`; it stays on its line of the file."""
    if not text.strip() or not text.isprintable():
        raise bad(what, text, "an option such as ndots:2")
    return text


def extra_host(text: str, what: str) -> tuple[str, str]:
    """Return (name, address) of `HOST:IP` or `HOST=IP`, as docker."""
    name, _, target = text.partition("=") if "=" in text else text.partition(":")
    return host_name(name, what), address(target.strip("[]"), what)


def rate(text: str, what: str) -> tuple[str, int]:
    """Return (device path, bytes per second) of `/dev/NAME:SIZE`."""
    path, _, value = text.rpartition(":")
    return _device_path(path, text, what), size_bytes(value, what)


def operations(text: str, what: str) -> tuple[str, int]:
    """Return (device path, operations per second) of `/dev/NAME:NUMBER`."""
    path, _, value = text.rpartition(":")
    return _device_path(path, text, what), natural(value, what)


def _device_path(path: str, text: str, what: str) -> str:
    if not path.startswith("/dev/") or "\0" in path:
        raise bad(what, text, "/dev/NAME:VALUE")
    return path


def offset(text: str, what: str) -> tuple[str, int]:
    """Return (clock, nanoseconds) of `monotonic|boottime=[-]DURATION`, see time_namespaces(7)."""
    clock, _, amount = text.partition("=")
    if clock not in ("monotonic", "boottime") or not amount:
        raise bad(what, text, "monotonic=DURATION or boottime=DURATION")
    sign = -1 if amount.startswith("-") else 1
    return clock, sign * round(seconds(amount.lstrip("+-"), what) * 10**9)


def restart_policy(text: str, what: str) -> tuple[str, int]:
    """Return (policy, most retries) of `no|always|unless-stopped|on-failure[:N]`; 0 is no bound."""
    policy, colon, count = text.partition(":")
    if policy not in ("no", "always", "unless-stopped", "on-failure"):
        raise bad(what, text, "no, always, unless-stopped or on-failure[:N]")
    if colon and (policy != "on-failure" or not digits(count)):
        raise bad(what, text, "on-failure:N")
    return policy, int(count or 0)


def pull_policy(text: str, what: str) -> str:
    """Return `missing` or `never`: what is there is taken, and what is not there is an error."""
    if text == "always":
        raise UnsupportedError(f"{what} always: images are loaded, never pulled",
                               hint="load it: pycontain load -i FILE")  # fmt: skip
    if text not in ("missing", "never"):
        raise bad(what, text, "missing or never")
    return text


def port_range(text: str, what: str) -> str:
    """Return `text` when it is `PORT[-PORT][/PROTOCOL]`."""
    ports, slash, protocol = text.partition("/")
    first, dash, last = ports.partition("-")
    numbers = [first, last] if dash else [first]
    good = all(digits(number) and 0 < int(number) < 1 << 16 for number in numbers)
    if not good or int(numbers[-1]) < int(first) or (slash and protocol not in PROTOCOLS):
        raise bad(what, text, "PORT[-PORT][/tcp|/udp|/sctp]")
    return text


def log_option(text: str, what: str) -> tuple[str, str]:
    """Return (key, value) of `max-size=SIZE` or `max-file=NUMBER`, both above 0."""
    key, value = setting(text, what)
    if key not in ("max-size", "max-file"):
        raise bad(what, text, "max-size=SIZE or max-file=NUMBER")
    count = size_bytes(value, what) if key == "max-size" else natural(value, what)
    if not count:
        raise bad(what, text, f"a {key} above 0")
    return key, value


def platform(text: str, what: str) -> tuple[str, str]:
    """Return (architecture, variant) of `linux[/ARCH[/VARIANT]]` or `ARCH[/VARIANT]`, "" for any.

    The words are those of the image specification (GOARCH), and of uname(2) where they differ.
    """
    parts = text.lower().split("/")
    if parts[0] == "linux":
        parts = parts[1:]
    architecture = ARCHITECTURES.get(parts[0], parts[0]) if parts else ""
    if len(parts) > 2 or (parts and architecture not in ARCHITECTURES.values()):
        known = ", ".join(sorted(set(ARCHITECTURES.values())))
        raise bad(what, text, f"linux/ARCH[/VARIANT], ARCH one of {known}")
    return architecture, parts[1] if len(parts) > 1 else ""


ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64",
    "armhf": "arm", "armel": "arm", "arm": "arm", "i386": "386", "386": "386",
    "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64", "loong64": "loong64",
    "mips64le": "mips64le", "mips64": "mips64",
}  # fmt: skip
"""The image specification's word for each architecture that images are made for."""


def choice(*words: str) -> Callable[[str, str], str]:
    """Return a parser that takes one of `words`."""

    def parse(text: str, what: str) -> str:
        if text not in words:
            raise bad(what, text, " or ".join(words))
        return text

    return parse
