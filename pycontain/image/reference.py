"""Names of images: docker's reference grammar, `[domain/]path[:tag][@digest]`.

Owns parsing, defaults (docker.io/library, :latest) and the short form docker prints. What a name
leads to is the store's business. Source: the grammar of distribution/reference (its `reference.go`
comment). Hot path: no `re`, so the grammar is checked by hand.
"""

from __future__ import annotations

from pycontain.errors import InvalidError, quote

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
NAME_MAX = 255
"""Longest `domain/path` docker takes; also the longest directory name of Linux."""

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_HEX = frozenset("0123456789abcdef")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG = _ALNUM | frozenset("_.-")
_DIGITS = {"sha256": 64, "sha512": 128}


class Reference:
    """One parsed name; `tag` is "" only when a digest was given without a tag."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str, digest: str) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def repository(self) -> str:
        """`domain/path`, always with the domain."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """The repository as docker shows it: `busybox`, `user/app`, `ghcr.io/user/app`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return self.familiar + tag + digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, str, str]:
        return (self.domain, self.path, self.tag, self.digest)


def parse(text: str) -> Reference:
    """Return the reference `text` means, defaults filled in.

    Raises InvalidError for anything the grammar does not know, and for 64 hex digits, which docker
    keeps for image IDs.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _refused(text, "malformed digest")
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    name, tag = (rest, "") if colon < 0 else (rest[:colon], rest[colon + 1 :])
    if colon >= 0 and not is_tag(tag):
        raise _refused(text, "malformed tag")
    if len(name) == 64 and _HEX.issuperset(name):
        raise _refused(text, "64 hexadecimal digits are an image ID, not a name")
    domain, path = _split_domain(name)
    _check_name(text, domain, path)
    return Reference(domain, path, tag or ("" if digest else DEFAULT_TAG), digest)


def is_digest(text: str) -> bool:
    """Tell whether `text` is `sha256:` or `sha512:` and as many lower-case hex digits."""
    algorithm, _, digits = text.partition(":")
    return len(digits) == _DIGITS.get(algorithm, -1) and _HEX.issuperset(digits)


def is_tag(text: str) -> bool:
    """Tell whether `text` is a tag: up to 128 of letters, digits, `_`, `.`, `-`; no leading . -."""
    return 0 < len(text) <= 128 and text[0] not in ".-" and _TAG.issuperset(text)


def is_hex(text: str) -> bool:
    """Tell whether `text` is non-empty and all lower-case hexadecimal digits."""
    return bool(text) and _HEX.issuperset(text)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    named = "." in first or ":" in first or first == "localhost" or first.lower() != first
    if not slash or not named:
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = ("docker.io" if first == "index.docker.io" else first), rest
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = "library/" + path
    return domain, path


def _check_name(text: str, domain: str, path: str) -> None:
    if not _is_domain(domain):
        raise _refused(text, "malformed registry host")
    if not all(map(_is_component, path.split("/"))):
        if path.lower() != path:
            raise _refused(text, "repository name must be lower case")
        raise _refused(text, "malformed repository name")
    if len(domain) + 1 + len(path) > NAME_MAX:
        raise _refused(text, f"repository name is longer than {NAME_MAX} characters")


def _is_domain(domain: str) -> bool:
    host, colon, port = domain.partition(":")
    if domain.startswith("["):
        host, _, after = domain[1:].partition("]")
        colon, port = after[:1], after[1:]
        if not host or not (_HEX | set("ABCDEF:")).issuperset(host) or colon not in ("", ":"):
            return False
    elif not all(map(_is_label, host.split("."))):
        return False
    return not colon or (port.isascii() and port.isdigit())


def _is_label(label: str) -> bool:
    ends = bool(label) and label[0] != "-" and label[-1] != "-"
    return ends and all(c in _ALNUM or c == "-" for c in label)


def _is_component(component: str) -> bool:
    # Runs of letters and digits, joined by one ".", "_", "__" or any number of "-".
    if not component or component[0] not in _LOWER or component[-1] not in _LOWER:
        return False
    joints = "".join("/" if c in _LOWER else c for c in component).split("/")
    return all(j in ("", ".", "_", "__") or not j.strip("-") for j in joints)


def _refused(text: str, why: str) -> InvalidError:
    return InvalidError(f'image name "{quote(text[:300])}": {why}')
