"""The command line of pycontain-oci: options, help, signals, sizes, log lines, exit statuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pycontain.cli import oci_help, oci_update
from pycontain.cli import oci_main as oci
from pycontain.cli import oci_options as table
from pycontain.cli.oci_log import Log
from pycontain.errors import CommandNotFoundError, KernelError, UsageError
from pycontain.runtime import events, tolerate


def parsed(verb: str, *words: str) -> tuple[table.Options, list[str]]:
    entry = table.VERBS[verb]
    return table.parse(words, entry[6], rest=entry[4])


def test_options_before_and_after_the_id() -> None:
    for words in (["--bundle", "/b", "one"], ["one", "--bundle=/b"], ["-b", "/b", "one"]):
        options, positional = parsed("create", *words)
        assert (options.bundle, positional) == ("/b", ["one"])


def test_one_dash_is_enough_as_for_go() -> None:
    assert parsed("create", "-bundle", "/b", "one")[0].bundle == "/b"


def test_what_follows_the_id_of_exec_is_the_command() -> None:
    options, positional = parsed("exec", "-d", "one", "ls", "--detach", "-x")
    assert options.detach
    assert positional == ["one", "ls", "--detach", "-x"]


def test_single_letters_can_be_bundled() -> None:
    options, _ = parsed("exec", "-td", "one", "sh")
    assert options.tty
    assert options.detach


def test_lists_gather_and_defaults_are_fresh() -> None:
    options, _ = parsed("exec", "-e", "A=1", "--env", "B=2", "one", "env")
    assert options.env == ["A=1", "B=2"]
    assert parsed("exec", "one", "env")[0].env == []


@pytest.mark.parametrize(
    "words",
    [
        ["--nope"],
        ["--bundle=/b", "--pid-file"],
        ["-x"],
        ["--preserve-fds", "x"],
        ["--no-pivot=maybe"],
    ],
)
def test_a_wrong_option_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parsed("create", "one", *words)


@pytest.mark.parametrize("name", table.VERBS)
def test_every_verb_has_help_with_its_options(name: str) -> None:
    text = oci_help.verb(name)
    assert name in text.splitlines()[1]
    for names, _, _, about in table.VERBS[name][6]:
        assert names.split()[0] in text
        assert about in text
    if name not in ("checkpoint", "restore"):
        assert f"pycontain-oci {name}" in text[text.index("EXAMPLE") :]


def test_the_overview_names_every_verb_and_global() -> None:
    text = oci_help.overview()
    for name in table.VERBS:
        assert f"\n   {name} " in text
    for names, *_ in table.GLOBALS:
        assert names.split()[0] in text


def test_the_version_reads_like_runcs() -> None:
    lines = oci_help.version().splitlines()
    assert re.fullmatch(r"pycontain-oci version \d+\.\d+\.\d+", lines[0])
    assert lines[1].startswith("commit: ")
    assert lines[2] == "spec: 1.3.0"


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("0", 0), ("64", 64), ("USR1", 10),
     ("RTMIN", signal.SIGRTMIN), ("SIGRTMIN+2", signal.SIGRTMIN + 2)],
)  # fmt: skip
def test_signals_by_name_and_number(text: str, number: int) -> None:
    assert oci.signal_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "-1", "65", "NOPE", "SIG", "_DFL", "SIG_BLOCK", "9x", "٩", "RTMIN+99", "TERM+1"]
)
def test_unknown_signals_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="unknown signal"):
        oci.signal_number(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("64m", 64 << 20), ("64M", 64 << 20), ("1g", 1 << 30), ("1.5k", 1536),
     ("64MiB", 64 << 20), ("64mb", 64 << 20), ("-1", -1), ("10b", 10)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert oci_update.size("--memory", text) == size


@pytest.mark.parametrize("text", ["", "lots", "1x", "m", "1e3", "1_0", " 1", "1..5m", "٣m"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        oci_update.size("--memory", text)


def test_zeros_say_nothing_in_an_update() -> None:
    wanted = {
        "memory": {"limit": 0, "swap": -1},
        "cpu": {"shares": 0, "cpus": ""},
        "unified": {"a": "0"},
    }
    kept = tolerate.without_zeros(wanted)  # type: ignore[arg-type]
    assert kept == {"memory": {"swap": -1}, "unified": {"a": "0"}}


@pytest.mark.parametrize(
    ("text", "ms"), [("5s", 5000), ("500ms", 500), ("1m30s", 90000), ("0.5s", 500), ("2h", 7200000)]
)
def test_durations(text: str, ms: int) -> None:
    assert events.duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "-1s", "0s", "1..5s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        events.duration_ms(text)


def test_engines_find_their_words_in_errors() -> None:
    missing = CommandNotFoundError("execute", "/x", 2)
    assert "no such file or directory" in oci.describe(missing)
    denied = KernelError("open", "/x", 13)
    assert "permission denied" in oci.describe(denied)


def test_a_json_log_line_holds_level_msg_and_time(tmp_path: Path) -> None:
    log = Log()
    log.configure(str(tmp_path / "log"), "json", debugging=False)
    log.warning('a "quoted"\nline')
    log.debug("not shown")
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(e["level"], e["msg"]) for e in entries] == [("warning", 'a "quoted"\nline')]
    assert entries[0]["time"].endswith("Z")


def test_a_text_log_line_is_one_line(tmp_path: Path) -> None:
    log = Log()
    log.configure(str(tmp_path / "log"), "text", debugging=True)
    log.debug('a "quoted"\nline \x1b[31m')
    text = (tmp_path / "log").read_text()
    assert len(text.splitlines()) == 1
    assert 'level=debug msg="a \\"quoted\\"' in text
    assert "\x1b" not in text


def call(*argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(oci.__file__).parents[2])!r})\n"
        "from pycontain.cli.oci import entry; entry()"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *argv], capture_output=True, text=True,
        env=dict(os.environ) if env is None else env, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["state", "none"], 1),
        (["exec", "none", "true"], 255),
        (["nope"], 1),
        (["--nope"], 1),
        (["state"], 1),
        (["state", "a", "b"], 1),
        (["checkpoint", "--help"], 1),
        (["--log-format", "xml", "state", "a"], 1),
        (["--cgroup-manager", "x", "state", "a"], 1),
        (["delete", "--force", "none"], 0),
        (["--help"], 0),
        (["create", "--help"], 0),
        (["--version"], 0),
        ([], 0),
        (["features"], 0),
    ],
)
def test_exit_statuses(tmp_path: Path, argv: list[str], status: int) -> None:
    done = call("--root", str(tmp_path), *argv, env={})
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == (status != 0)


def test_spec_writes_a_config_once(tmp_path: Path) -> None:
    done = call("spec", "--bundle", str(tmp_path))
    assert done.returncode == 0, done
    assert json.loads((tmp_path / "config.json").read_text())["process"]["args"] == ["sh"]
    assert call("spec", "--bundle", str(tmp_path)).returncode == 1


HOT = {
    "start": {"pycontain.cgroup", "pycontain.runtime.launch", "pycontain.runtime.validate"},
    "state": {"pycontain.cgroup", "pycontain.runtime.launch", "pycontain.runtime.validate"},
    "kill": {"pycontain.runtime.launch", "pycontain.runtime.validate"},
    "delete": {"pycontain.runtime.launch", "pycontain.runtime.validate"},
}
NEVER = {"re", "enum", "json", "typing", "argparse", "os", "pathlib", "subprocess", "dataclasses",
         "logging", "click", "contextlib", "functools", "struct", "socket", "signal"}  # fmt: skip


@pytest.mark.parametrize("verb", HOT)
def test_a_hot_verb_imports_no_more_than_it_needs(tmp_path: Path, verb: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(oci.__file__).parents[2])!r})\n"
        "from pycontain.cli import oci_main as oci; oci.main(sys.argv[1:]); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, "--root", str(tmp_path), verb, "none"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "pycontain.runtime.container" in loaded
    assert not loaded & (HOT[verb] | NEVER)


def test_create_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(oci.__file__).parents[2])!r})\n"
        "from pycontain.cli import oci, oci_main\n"
        "from pycontain.runtime import bundle, launch, hooks, foreground\n"
        "from pycontain.cgroup import manager\n"
        "from pycontain.cli import oci_run; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert not set(done.stdout.split()) & NEVER, done
