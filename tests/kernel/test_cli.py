"""The command line as a user meets it: images, help, completion, mistakes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import BIN, Cli

from pycontain.cli import commands

pytestmark = pytest.mark.root


def test_images_are_listed_in_dockers_columns(box: Cli) -> None:
    lines = box.text("images").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert lines[1].split()[:2] == ["busybox", "latest"]
    row = json.loads(box.text("images", "--format", "json").splitlines()[0])
    assert row["Repository"] == "busybox"
    assert len(box.text("images", "-q", "--no-trunc").strip()) == len("sha256:") + 64


def test_an_image_is_tagged_inspected_and_removed(cli: Cli, busybox_archive: Path) -> None:
    assert cli.text("load", "-i", str(busybox_archive)).startswith("Loaded image: busybox")
    cli("tag", "busybox", "box:2")
    assert {"busybox:latest", "box:2"} == set(
        json.loads(cli.text("inspect", "box:2"))[0]["RepoTags"]
    )
    assert cli.text("history", "box:2").startswith("IMAGE")
    assert cli.text("rmi", "box:2") == "Untagged: box:2\n"
    cli("create", "--name", "user", "busybox", "true")
    assert b"used by" in cli("rmi", "busybox", status=125).stderr
    cli("rm", "user")
    assert "Deleted: sha256:" in cli.text("rmi", "busybox")
    assert cli.text("images", "-q") == ""


def test_load_reads_standard_input(cli: Cli, busybox_archive: Path) -> None:
    with busybox_archive.open("rb") as archive:
        done = subprocess.run(
            cli.argv("load", "-q"), stdin=archive, capture_output=True, timeout=60
        )
    assert (done.returncode, done.stdout) == (0, b"Loaded image: busybox:latest\n")


def test_an_image_is_made_of_the_hosts_programs(cli: Cli) -> None:
    cli("import", "--from-host", "tools", "sh", "ls")
    assert cli.text("run", "--rm", "tools", "sh", "-c", "ls -d /").strip() == "/"


@pytest.mark.parametrize("verb", sorted(commands.VERBS))
def test_help_names_every_option_and_an_example(box: Cli, verb: str) -> None:
    command = commands.command_named(verb)
    assert command is not None
    text = box.text(verb, "--help")
    assert all("--" + option.name in text for option in command.options)
    assert "Example:" in text


@pytest.mark.parametrize(
    "argv",
    [
        ["nosuchverb"],
        ["run"],
        ["run", "--nosuch", "busybox"],
        ["run", "--memory"],
        ["run", "--memory", "lots", "busybox"],
        ["run", "--name", "../x", "busybox"],
        ["run", "--name", "a\nb", "busybox"],
        ["run", "--hostname", "a\n127.0.0.1 evil", "busybox"],
        ["run", "nosuchimage"],
        ["run", "../../etc/passwd"],
        ["rm", "nosuch"],
        ["inspect", "nosuch"],
        ["logs", "nosuch"],
        ["exec", "nosuch", "true"],
        ["load", "-i", "/no/such"],
        ["load", "-i", "/etc/passwd"],
        ["ps", "--filter", "nosuch=1"],
        ["ps", "--format", "{{.ID"],
        ["stop", "../x"],
        ["rename", "nosuch", "-x"],
    ],
)
def test_a_mistake_is_one_clear_line_and_125(box: Cli, argv: list[str]) -> None:
    done = box(*argv, status=125)
    assert done.stderr.startswith(b"pycontain: ")
    assert done.stderr.count(b"\n") == 1
    assert b"internal error" not in done.stderr
    assert b"\x1b" not in done.stderr
    as_json = box("--error-format", "json", *argv, status=125)
    assert json.loads(as_json.stderr)["message"]


def test_what_is_missing_is_no_failure_of_a_forced_removal(box: Cli) -> None:
    box("create", "--name", "one", "busybox", "true")
    box("create", "--name", "two", "busybox", "true")
    done = box("rm", "-f", "one", "nosuch", "two")
    assert done.stdout == b"one\ntwo\n"
    assert done.stderr.startswith(b"pycontain: container nosuch: not found")
    assert done.stderr.count(b"\n") == 1
    assert box.text("ps", "-aq") == ""
    assert box("rmi", "-f", "nosuch").stderr.count(b"\n") == 1
    box("create", "--name", "three", "busybox", "true")
    assert box("rm", "nosuch", "three", status=125).stdout == b"three\n"


def test_version_and_info_have_no_secrets_to_hide(box: Cli) -> None:
    assert "Python" in json.loads(box.text("version", "--format", "json"))
    facts = json.loads(box.text("info", "--format", "json"))
    assert facts["Dataroot"] == str(box.data)
    assert facts["Executor"]


def test_a_shell_completes_verbs_options_and_names(box: Cli) -> None:
    box("create", "--name", "completed", "busybox", "true")

    def complete(words: str, count: int) -> list[str]:
        env = {
            **os.environ,
            "_PYCONTAIN_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(count),
            "PYCONTAIN_ROOT": str(box.data),
            "PYCONTAIN_STATE": str(box.state),
        }
        done = subprocess.run(
            [BIN / "pycontain"], env=env, capture_output=True, text=True, timeout=30
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert "run" in complete("pycontain r", 1)
    assert "--memory" in complete("pycontain run --mem", 2)
    assert complete("pycontain rm comp", 2) == ["completed"]
    assert "busybox:latest" in complete("pycontain run busy", 2)


@pytest.mark.parametrize("place", ["/proc", "/proc/sys", "/proc/self", "/proc/self/attr"])
def test_a_volume_over_proc_is_refused_or_changes_nothing(
    box: Cli, tmp_path: Path, place: str
) -> None:
    script = "echo x > /proc/sys/kernel/hostname; grep -c ' /proc proc' /proc/mounts"
    done = box(
        "run", "--rm", "-v", f"{tmp_path}:{place}", "busybox", "sh", "-c", script, status=None
    )
    assert done.returncode == 125 or done.stdout.strip() != b"0"
    assert not list(tmp_path.iterdir())


def test_what_the_caller_has_open_does_not_leak(box: Cli, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        argv = box.argv("run", "--rm", "busybox", "ls", "/proc/self/fd")
        done = subprocess.run(argv, capture_output=True, pass_fds=[secret.fileno()], timeout=30)
    assert set(done.stdout.split()) <= {b"0", b"1", b"2", b"3"}


@pytest.mark.parametrize("script", ["exit", "kill -9 $$"])
def test_the_hot_verbs_import_no_slow_module(box: Cli, script: str) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from pycontain.cli import entry; "
        "entry.run(sys.argv[1:]); "
        "slow = {'re', 'enum', 'typing', 'argparse', 'pathlib', 'subprocess', 'dataclasses', "
        "'logging', 'click', 'json', 'os', 'contextlib', 'functools'} & set(sys.modules); "
        "sys.exit(repr(slow) if slow else 0)"
    )
    checkout = str(Path(__file__).resolve().parents[2])
    roots = box.argv("run", "--rm", "busybox", "sh", "-c", script)[1:]
    argv = [str(BIN / "python3"), "-I", "-S", "-c", program, checkout, *roots]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
