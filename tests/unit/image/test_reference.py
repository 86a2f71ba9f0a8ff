"""Docker's reference grammar, its defaults and its short form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidError
from pycontain.image import reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "short", "repository"),
    [
        ("busybox", "busybox:latest", "docker.io/library/busybox"),
        ("busybox:1.36", "busybox:1.36", "docker.io/library/busybox"),
        ("user/app", "user/app:latest", "docker.io/user/app"),
        ("docker.io/library/busybox", "busybox:latest", "docker.io/library/busybox"),
        ("index.docker.io/busybox", "busybox:latest", "docker.io/library/busybox"),
        ("localhost/app", "localhost/app:latest", "localhost/app"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app"),
        ("ghcr.io/a/b/c", "ghcr.io/a/b/c:latest", "ghcr.io/a/b/c"),
        ("Registry/app", "Registry/app:latest", "Registry/app"),
        ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest", "[2001:db8::1]:5000/app"),
        (f"busybox@{DIGEST}", f"busybox@{DIGEST}", "docker.io/library/busybox"),
        (f"busybox:1@{DIGEST}", f"busybox:1@{DIGEST}", "docker.io/library/busybox"),
        ("a__b/c--d.e", "a__b/c--d.e:latest", "docker.io/a__b/c--d.e"),
        ("library/a/b", "library/a/b:latest", "docker.io/library/a/b"),
    ],
)
def test_a_name_gets_its_defaults(text: str, short: str, repository: str) -> None:
    parsed = reference.parse(text)
    assert str(parsed) == short
    assert parsed.repository == repository


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "../../../etc/x:latest",
        "a/../../b",
        "X\n",
        "busybox\n",
        "-v",
        "--help",
        "/abs",
        "a//b",
        "a/",
        "/",
        ".",
        "..",
        "a:",
        "a:b:c",
        "a@",
        "a@sha256:zz",
        f"a@{DIGEST[:-1]}",
        f"a@{DIGEST.upper()}",
        "a:-tag",
        "a:.tag",
        "a:t\x1b[31m",
        "a:" + "t" * 129,
        "a" * 300,
        "UPPER",
        "a___b",
        "a..b",
        "a._b",
        "a-",
        "-a/b",
        "a b",
        "ä",
        "a\0b",
        "a:\0",
        "\u0661",
        "0" * 64,
        "host:/a",
        "host:99x/a",
        "[::g]/a",
        "a+b",
    ],
)
def test_a_hostile_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        reference.parse(text)
    assert str(caught.value).isprintable()


@given(st.text())
def test_whatever_is_accepted_is_a_safe_file_name(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except InvalidError:
        return
    directory = parsed.repository.replace("/", "+")
    assert directory.isprintable()
    assert len(directory) <= 255
    assert directory not in (".", "..")
    assert not parsed.tag or reference.is_tag(parsed.tag)


WORD = st.text("abc019", min_size=1, max_size=6)


@given(WORD, WORD, WORD)
def test_the_short_form_parses_to_the_same_name(domain: str, path: str, tag: str) -> None:
    for text in (path, f"{path}:{tag}", f"{domain}/{path}:{tag}", f"{domain}.org/{path}:{tag}"):
        parsed = reference.parse(text)
        assert reference.parse(str(parsed)) == parsed


def test_a_digest_has_one_spelling() -> None:
    assert reference.is_digest(DIGEST)
    assert reference.is_digest("sha512:" + "a" * 128)
    for text in (
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "md5:" + "a" * 32,
        "sha256:../" + "a" * 61,
    ):
        assert not reference.is_digest(text)
