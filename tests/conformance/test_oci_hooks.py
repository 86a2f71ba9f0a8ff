"""The six hook stages: order, namespaces, state on stdin, failures."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def shell(script: str, **more: object) -> dict[str, object]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], **more}


def test_stages_run_in_order(oci: Oci, bundle: Bundle) -> None:
    (bundle.rootfs / "log").touch()
    log = bundle.rootfs / "log"
    bundle.config["hooks"] = {
        stage: [shell(f"echo {stage} >> {'/log' if stage == 'startContainer' else log}")]
        for stage in STAGES
    }
    bundle.shell("echo program >> /log")
    oci.create(bundle, "one")
    assert log.read_text().split()[:3] == list(STAGES[:3])
    oci("start", "one")
    oci.wait("one")
    oci("delete", "one")
    lines = log.read_text().split()
    # poststart and the program run side by side (and runc 1.1 runs poststart at create).
    assert [li for li in lines if li not in ("poststart", "program")] == [*STAGES[:4], "poststop"]
    assert sorted(lines) == sorted([*STAGES, "program"])
    assert lines.index("startContainer") < lines.index("program")


@pytest.mark.parametrize("stage", ["prestart", "createRuntime", "poststart", "poststop"])
def test_the_state_comes_on_stdin(oci: Oci, bundle: Bundle, tmp_path: Path, stage: str) -> None:
    bundle.config["annotations"] = {"org.example": "value"}
    bundle.config["hooks"] = {stage: [shell(f"cat > {tmp_path}/hook-state")]}
    bundle.command("sleep", "100")
    oci.create(bundle, "one")
    pid = oci.state()["pid"]
    oci("start", "one")
    oci("delete", "--force", "one")
    state = json.loads((tmp_path / "hook-state").read_text())
    assert state["id"] == "one"
    assert state["bundle"] == str(bundle.path)
    assert state["annotations"]["org.example"] == "value"
    if stage != "poststop":
        assert state["pid"] == pid
    else:
        assert state["status"] == "stopped"
    if stage == "poststart" and oci.name != "runc":
        assert state["status"] == "running"


@pytest.mark.parametrize("stage", ["prestart", "createRuntime"])
def test_early_hooks_run_in_the_runtimes_namespaces(
    oci: Oci, bundle: Bundle, tmp_path: Path, stage: str
) -> None:
    script = f"readlink /proc/self/ns/mnt /proc/self/ns/uts > {tmp_path}/ns"
    bundle.config["hooks"] = {stage: [shell(script)]}
    oci.run(bundle)
    own = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "uts")]
    assert (tmp_path / "ns").read_text().split() == own


def test_create_container_hooks_run_in_the_containers_namespaces(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    script = f"readlink /proc/self/ns/mnt /proc/self/ns/uts > {tmp_path}/ns"
    bundle.config["hooks"] = {"createContainer": [shell(script)]}
    bundle.shell("readlink /proc/self/ns/mnt; readlink /proc/self/ns/uts")
    inside = oci.output(bundle).split()
    assert (tmp_path / "ns").read_text().split() == inside


def test_start_container_hooks_run_in_the_containers_root(oci: Oci, bundle: Bundle) -> None:
    bundle.config["hooks"] = {
        "startContainer": [
            {"path": "/bin/busybox", "args": ["sh", "-c", "readlink /proc/self/ns/mnt > /ns"]}
        ]
    }
    bundle.command("readlink", "/proc/self/ns/mnt")
    inside = oci.output(bundle)
    assert (bundle.rootfs / "ns").read_text() == inside


def test_the_network_namespace_exists_at_prestart(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    # docker's network hook opens it by the pid it reads.
    script = "pid=$(grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*'); readlink /proc/$pid/ns/net"
    bundle.config["hooks"] = {"prestart": [shell(f"{{ {script}; }} > {tmp_path}/net")]}
    bundle.command("readlink", "/proc/self/ns/net")
    inside = oci.output(bundle)
    assert (tmp_path / "net").read_text() == inside


@pytest.mark.parametrize("stage", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_fails_create(oci: Oci, bundle: Bundle, stage: str) -> None:
    bundle.config["hooks"] = {stage: [{"path": "/bin/true"}, {"path": "/bin/false"}]}
    bundle.write()
    message = oci.fails("create", "--bundle", bundle.path, "one")
    if oci.name != "crun":
        assert "hook #1" in message
    oci.fails("state", "one")
    assert oci("list", "-q").out == ""


@pytest.mark.lacks(crun="1.8 does not")
@pytest.mark.parametrize("stage", ["prestart", "createRuntime", "createContainer"])
def test_poststop_hooks_run_where_create_failed(
    oci: Oci, bundle: Bundle, tmp_path: Path, stage: str
) -> None:
    bundle.config["hooks"] = {
        stage: [{"path": "/bin/false"}],
        "poststop": [shell(f"cat > {tmp_path}/hook-state")],
    }
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, "one")
    state = json.loads((tmp_path / "hook-state").read_text())
    assert state["id"] == "one"
    assert state["status"] == "stopped"


@pytest.mark.lacks(crun="does not run them")
def test_poststop_hooks_run_where_no_other_hook_is(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    bundle.config["hooks"] = {"poststop": [shell(f"touch {tmp_path}/ran")]}
    bundle.command("/nope")
    oci.run(bundle, status=None)
    assert (tmp_path / "ran").exists()


def test_a_failing_start_container_hook_fails_start(oci: Oci, bundle: Bundle) -> None:
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    bundle.shell("touch /ran")
    done = oci.run(bundle, status=None)
    assert done.status != 0
    assert not (bundle.rootfs / "ran").exists()


@pytest.mark.lacks(runc="crun's annotations")
@pytest.mark.parametrize("stage", STAGES)
def test_annotations_keep_what_hooks_print(
    oci: Oci, bundle: Bundle, tmp_path: Path, stage: str
) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo out; echo err >&2"]}
    bundle.config["hooks"] = {stage: [hook, hook]}
    (tmp_path / "out").write_text("before\n")
    bundle.config["annotations"] = {
        "run.oci.hooks.stdout": str(tmp_path / "out"),
        "run.oci.hooks.stderr": str(tmp_path / "err"),
    }
    oci.run(bundle)
    assert (tmp_path / "out").read_text() == "before\nout\nout\n"
    assert (tmp_path / "err").read_text() == "err\nerr\n"


def test_a_failing_poststop_hook_does_not_fail_delete(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    bundle.config["hooks"] = {"poststop": [{"path": "/bin/false"}, shell(f"touch {tmp_path}/ran")]}
    oci.create(bundle, "one")
    oci("start", "one")
    oci.wait("one")
    oci("delete", "one")
    assert (tmp_path / "ran").exists() or oci.name == "runc"
    oci.fails("state", "one")


@pytest.mark.lacks(runc="it is an error there in every version")
@pytest.mark.lacks(runc="1.1 runs poststart at create", crun="does not wait for the exec")
def test_poststart_finds_the_program_executed(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["hooks"] = {
        "poststart": [shell(f"cat /proc/$(cat {tmp_path}/pid)/comm > {tmp_path}/comm")]
    }
    # Ten thousand places to look for the program take their time.
    places = [f"/{n}" for n in range(10000)]
    bundle.process["env"] = ["PATH=" + ":".join([*places, "/bin"])]
    bundle.command("sleep", "100")
    oci.create(bundle, "one", "--pid-file", tmp_path / "pid")
    oci("start", "one")
    assert (tmp_path / "comm").read_text() == "sleep\n"


@pytest.mark.lacks(runc="an error there")
def test_a_failing_poststart_hook_is_a_warning(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["hooks"] = {"poststart": [{"path": "/bin/false"}, shell(f"touch {tmp_path}/ran")]}
    bundle.command("sleep", "100")
    oci.create(bundle, "one")
    oci("start", "one")
    assert oci.status() == "running"
    assert (tmp_path / "ran").exists()


@pytest.mark.lacks(crun="a warning there")
def test_a_failing_poststart_hook_fails_run(oci: Oci, bundle: Bundle) -> None:
    bundle.config["hooks"] = {"poststart": [{"path": "/bin/false"}]}
    bundle.command("sleep", "100")
    done = oci.run(bundle, status=None)
    assert done.status != 0
    assert "hook #0" in done.err
    oci.fails("state", "one")


@pytest.mark.lacks(crun="a warning there")
def test_a_failing_poststart_hook_is_told_when_the_program_has_ended(
    oci: Oci, bundle: Bundle
) -> None:
    bundle.config["hooks"] = {"poststart": [shell("sleep 0.3; exit 3")]}
    bundle.write()
    message = oci.fails("run", "--bundle", bundle.path, "one")
    assert "poststart" in message or oci.name == "runc"
    assert "exit status 3" in message


def test_a_hook_beyond_its_timeout_fails_create(oci: Oci, bundle: Bundle) -> None:
    bundle.config["hooks"] = {
        "createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]
    }
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, "one", timeout=20)
    oci.fails("state", "one")


@pytest.mark.lacks(crun="fails with EPIPE")
def test_a_hook_that_reads_nothing_is_fine(oci: Oci, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example": "x" * 200000}
    bundle.config["hooks"] = {"prestart": [{"path": "/bin/true"}]}
    oci.run(bundle)


def test_the_environment_of_a_hook_is_exactly_as_given(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    hook = shell(f"cat /proc/$$/environ > {tmp_path}/env", env=["A=1"])
    hook["args"] = ["sh", "-c", f"/bin/cat /proc/$$/environ > {tmp_path}/env"]
    bundle.config["hooks"] = {"prestart": [hook]}
    oci.run(bundle, env={**os.environ, "SECRET": "1"})
    assert (tmp_path / "env").read_bytes() == b"A=1\0"


@pytest.mark.parametrize("stage", ["prestart", "poststart", "poststop"])
def test_a_hook_without_environment_has_the_runtimes(
    oci: Oci, bundle: Bundle, tmp_path: Path, stage: str
) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $ORIGIN > {tmp_path}/env"]}
    bundle.config["hooks"] = {stage: [hook]}
    bundle.process["env"] = ["PATH=/bin", "ORIGIN=program"]
    oci.run(bundle, env={**os.environ, "ORIGIN": "caller"})
    assert (tmp_path / "env").read_text() == "caller\n"


@pytest.mark.lacks(crun="it has the runtime's")
def test_a_hook_inside_without_environment_has_the_programs(oci: Oci, bundle: Bundle) -> None:
    hook = {"path": "/bin/busybox", "args": ["sh", "-c", "echo $ORIGIN $HOME > /env"]}
    bundle.config["hooks"] = {"startContainer": [hook]}
    bundle.process["env"] = ["PATH=/bin", "ORIGIN=program"]
    oci.run(bundle, env={**os.environ, "ORIGIN": "caller"})
    assert (bundle.rootfs / "env").read_text() == "program /root\n"


def test_an_empty_environment_is_empty(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo x$ORIGIN > {tmp_path}/env"], "env": []}
    bundle.config["hooks"] = {"prestart": [hook]}
    oci.run(bundle, env={**os.environ, "ORIGIN": "caller"})
    assert (tmp_path / "env").read_text() == "x\n"


@pytest.mark.lacks(crun="starts them in the bundle")
def test_create_container_hooks_start_in_the_rootfs(oci: Oci, bundle: Bundle) -> None:
    bundle.config["hooks"] = {"createContainer": [shell("echo here > created-by-hook")]}
    bundle.command("cat", "/created-by-hook")
    assert oci.run(bundle).out == "here\n"


@pytest.mark.lacks(crun="runs them without the filter")
def test_start_container_hooks_run_under_the_filter(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}],
    }
    bundle.config["hooks"] = {"startContainer": [shell("mkdir /tmp/made")]}
    bundle.write()
    for name in ("one", "two"):
        said = oci.fails("run", "--bundle", bundle.path, name)
        assert "error running hook" in said
        assert "bad system call" in said
        assert not (bundle.rootfs / "tmp/made").exists()


@pytest.mark.lacks(crun="passes them on")
def test_hooks_inside_have_the_three_standard_descriptors(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    bundle.config["hooks"] = {"startContainer": [shell("ls /proc/self/fd > /tmp/open")]}
    bundle.write()
    (tmp_path / "secret").write_text("secret")
    script = f'exec 5<{tmp_path}/secret; exec "$@"'
    subprocess.run(
        ["sh", "-c", script, "sh", *oci.argv("run", "--bundle", bundle.path, "one")], check=True
    )
    # 3 is the directory that ls reads.
    assert (bundle.rootfs / "tmp/open").read_text().split() == ["0", "1", "2", "3"]
