"""Texts from outside to values: strict, and never a root by accident."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import UsageError
from pycontain.spec import files, values


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("7", 7),
        ("7b", 7),
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("0.5k", 512),
        ("1 g", 1 << 30),
        ("2t", 2 << 40),
    ],
)
def test_sizes_read_as_in_docker(text: str, size: int) -> None:
    assert values.size_bytes(text, "--memory") == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        ".",
        "5.",
        "-1",
        "+1",
        "1_0",
        "1e3",
        "1bb",
        "1i",
        "1ib",
        "0x10",
        "\u0661",
        " 1",
        "1  g",
        "9999p",
    ],
)
def test_sizes_that_do_not_read_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        values.size_bytes(text, "--memory")


@pytest.mark.parametrize(
    "text",
    ["-1", "4294967296", "2147483648", "", "0x0", "1000:-1", "\u0661", "+0", " 0", "00", "0:", ":0",
     "a:b:c", "1_0", "0\n", "\x1b[0m", "\u0660", "0.0", "1000:4294967296", "9" * 5000],
)  # fmt: skip
def test_a_user_that_only_looks_like_a_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        values.identity(text, "--user")


@given(st.text(max_size=12))
def test_a_user_reads_as_given_or_not_at_all(text: str) -> None:
    try:
        user, group = values.identity(text, "--user")
    except UsageError:
        return
    assert text == (f"{user}:{group}" if group else user)
    assert values.digits(user) is (user == str(int(user)) if user.isdecimal() else False)


@pytest.mark.parametrize(
    "text", ["a", "-a", ".a", "a/b", "..", "a b", "a\n", "\x1b[1m", "é" * 3, "a" * 300]
)
def test_names_outside_dockers_pattern_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        values.container_name(text, "--name")


@pytest.mark.parametrize("text", ["web", "w1", "Web_1.x-y"])
def test_names_of_dockers_pattern_are_taken(text: str) -> None:
    assert values.container_name(text, "--name") == text


@pytest.mark.parametrize("text", ["", "a\nb", "a b", "\x1b", "-a", ".", "a" * 65, "a\tb", "hö"])
def test_a_host_name_cannot_add_a_line_to_hosts(text: str) -> None:
    with pytest.raises(UsageError):
        values.host_name(text, "--hostname")


@given(st.text(max_size=20))
def test_an_extra_host_stays_on_its_line(text: str) -> None:
    try:
        name, address = values.extra_host(text, "--add-host")
    except UsageError:
        return
    assert not set(name + address) & set("\n\r\t \x1b")


@pytest.mark.parametrize(
    ("text", "number"), [("TERM", 15), ("SIGKILL", 9), ("9", 9), ("rtmin+1", 35), ("RTMAX", 64)]
)
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    assert values.signal_number(text, "--signal") == number


@pytest.mark.parametrize("text", ["", "0", "65", "NOSUCH", "-9", "9.0", "RTMIN-1"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        values.signal_number(text, "--signal")


@pytest.mark.parametrize(
    ("text", "nano"), [("0.5", 500_000_000), ("2", 2_000_000_000), (".25", 250_000_000)]
)
def test_cpus_are_billionths(text: str, nano: int) -> None:
    assert values.nano_cpus(text, "--cpus") == nano


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("1.5", 1.5), ("1h30m", 5400.0), ("500ms", 0.5), ("2m1s", 121.0)],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert values.seconds(text, "--since") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "kind", "source", "place", "options"),
    [
        ("/a:/b", "bind", "/a", "/b", []),
        ("/a/../c:/b/./d:ro,z", "bind", "/c", "/b/d", ["ro"]),
        ("data:/x", "volume", "data", "/x", []),
        ("/x", "volume", "", "/x", []),
        ("/a:/../../x:rslave", "bind", "/a", "/x", ["rslave"]),
    ],
)
def test_volumes_read_as_in_docker(
    text: str, kind: str, source: str, place: str, options: list[str]
) -> None:
    mount = files.volume(text, "--volume")
    assert (mount.kind, mount.source, mount.destination, mount.options) == (
        kind,
        source,
        place,
        options,
    )


@pytest.mark.parametrize(
    ("source", "path"), [(".", "/here/now"), ("./a", "/here/now/a"), ("../a/./b", "/here/a/b")]
)
@pytest.mark.parametrize(
    ("parse", "form"),
    [(files.volume, "{}:/x:ro"), (files.mount, "type=bind,src={},dst=/x,readonly")],
)
def test_a_source_that_begins_with_a_dot_is_the_callers(
    monkeypatch: pytest.MonkeyPatch,
    parse: Callable[[str, str], files.Mount],
    form: str,
    source: str,
    path: str,
) -> None:
    monkeypatch.setattr("posix.getcwd", lambda: "/here/now")
    mount = parse(form.format(source), "option")
    assert (mount.kind, mount.source, mount.options) == ("bind", path, ["ro"])


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (files.volume, "a:b"),
        (files.volume, "/a:/"),
        (files.volume, "/a:/b:nosuch"),
        (files.volume, "~/a:/b"),
        (files.volume, "/a\0:/b"),
        (files.mount, "type=bind,src=a,dst=/b"),
        (files.mount, "type=nosuch,dst=/b"),
        (files.mount, "type=tmpfs,src=/a,dst=/b"),
        (files.mount, "type=bind,src=/a"),
        (files.mount, "type=bind,src=/a,dst=/b,dst=/c"),
        (files.mount, "type=bind,src=/a,dst=/b,unknown=1"),
        (files.tmpfs, "/t:unknown"),
        (files.tmpfs, "relative"),
        (files.device, "relative"),
        (files.device, "/dev/a:/dev/b:x"),
        (files.device_rule, "c 1 rwm"),
        (files.device_rule, "x 1:2 r"),
        (values.ulimit, "nosuch=1"),
        (values.ulimit, "nofile=2:1"),
        (values.ulimit, "nofile=-2"),
        (values.cpu_list, "3-1"),
        (values.cpu_list, "a"),
        (values.umask, "8"),
        (values.umask, "1777"),
        (values.variable, "=x"),
        (values.variable, "A=\0"),
        (values.restart_policy, "sometimes"),
        (values.restart_policy, "always:3"),
        (values.offset, "realtime=1s"),
        (values.address, "300.1.1.1"),
        (values.domain, "a..b"),
        (values.domain, "a-.b"),
        (values.resolver_option, "ndots:1\nnameserver 1.2.3.4"),
        (values.log_option, "max-file=0"),
        (values.log_option, "compress=true"),
        (values.platform, "plan9"),
        (values.platform, "linux/"),
        (values.platform, ""),
    ],
)
def test_nonsense_is_a_usage_error(parse: Callable[[str, str], object], text: str) -> None:
    with pytest.raises(UsageError):
        parse(text, "--option")


@given(st.text(alphabet="/.ab", max_size=30))
def test_a_cleaned_path_is_absolute_and_holds_no_dots(text: str) -> None:
    parts = files.clean_path("/" + text)[1:].split("/")
    assert files.clean_path("/" + text).startswith("/")
    assert not {".", ".."} & set(parts)
