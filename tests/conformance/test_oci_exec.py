"""exec: a further process in a container, its options, its status, its confinement."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root


@pytest.fixture
def one(oci: Oci, bundle: Bundle) -> str:
    return oci.running(bundle)


@pytest.mark.parametrize("status", [0, 1, 42])
def test_the_status_is_the_commands(oci: Oci, one: str, status: int) -> None:
    assert oci.exec(one, "sh", "-c", f"exit {status}", status=None).status == status


def test_a_signal_is_128_and_its_number(oci: Oci, one: str) -> None:
    assert oci.exec(one, "sh", "-c", "kill -9 $$", status=None).status == 137


def test_output_and_input(oci: Oci, one: str) -> None:
    done = oci.exec(one, "sh", "-c", "cat; echo problem >&2", stdin="typed")
    assert done.out == "typed"
    assert done.err == "problem\n"


@pytest.mark.lacks(crun="leaves the host's")
def test_a_null_device_as_input_is_not_the_hosts(oci: Oci, one: str) -> None:
    done = oci.exec(one, "stat", "-L", "-c", "%d", "/proc/self/fd/0")
    assert done.out.strip() != str(os.stat("/dev/null").st_dev)


def test_it_shares_the_containers_namespaces(oci: Oci, one: str) -> None:
    pid = oci.state(one)["pid"]
    for name in ("pid", "mnt", "uts", "ipc", "net"):
        inside = oci.exec(one, "readlink", f"/proc/self/ns/{name}").out.strip()
        assert inside == os.readlink(f"/proc/{pid}/ns/{name}")


def test_it_is_in_the_containers_cgroup(oci: Oci, one: str) -> None:
    pid = oci.state(one)["pid"]
    inside = oci.exec(one, "cat", "/proc/self/cgroup").out
    assert sorted(inside.split()) == sorted(Path(f"/proc/{pid}/cgroup").read_text().split())


@pytest.mark.lacks(crun="--env replaces the environment, PATH too")
def test_cwd_env_and_user(oci: Oci, one: str) -> None:
    options = ["--cwd", "/tmp", "--env", "A=b", "--user", "1000:1001"]
    done = oci("exec", *options, one, "sh", "-c", "pwd; echo $A; id -u; id -g")
    assert done.out.split() == ["/tmp", "b", "1000", "1001"]


def test_it_inherits_the_environment_of_the_config(oci: Oci, one: str) -> None:
    assert "PATH=/bin:/sbin" in oci.exec(one, "env").out.splitlines()


def test_additional_groups(oci: Oci, one: str) -> None:
    if oci.name == "crun":
        pytest.skip("crun: no --additional-gids")
    done = oci("exec", "--user", "1000:1000", "-g", "100", "-g", "65534", one, "id", "-G")
    assert done.out.split() == ["1000", "100", "65534"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["no-such-program"], "not found"),
        (["/bin/no-such-program"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
    ],
)
def test_a_command_that_cannot_run_is_named(
    oci: Oci, one: str, command: list[str], why: str
) -> None:
    done = oci.exec(one, *command, status=None)
    assert done.status != 0
    assert why in done.err.lower()
    if oci.name != "crun":
        assert done.status == 255


def test_an_unknown_container_is_255(oci: Oci) -> None:
    done = oci.exec("never-was", "true", status=None)
    assert done.status == (1 if oci.name == "crun" else 255)


def test_a_process_document(oci: Oci, one: str, tmp_path: Path) -> None:
    document = {
        "args": ["sh", "-c", "id -u; pwd; echo $X; umask"],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "X=y"],
        "user": {"uid": 7, "gid": 8, "umask": 0o77},
    }
    (tmp_path / "process.json").write_text(json.dumps(document))
    done = oci("exec", "--process", tmp_path / "process.json", one)
    assert done.out.split()[:3] == ["7", "/tmp", "y"]
    # runc 1.1 takes the umask of the container's own process.
    assert done.out.split()[3] == "0077" or oci.name == "runc"


def test_a_process_document_from_a_pipe(oci: Oci, one: str) -> None:
    document = json.dumps({"args": ["echo", "piped"], "cwd": "/", "env": ["PATH=/bin"]})
    argv = oci.argv("exec", "--process", "/dev/fd/9", one)
    script = f"exec 9<<'END'\n{document}\nEND\n" + 'exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "sh", *argv], capture_output=True, text=True, check=False
    )
    assert done.stdout == "piped\n", done.stderr


@pytest.mark.parametrize("text", ["", "{}", '{"args": [], "cwd": "/"}', '{"args": ["true"]}'])
def test_a_bad_process_document_is_refused(oci: Oci, one: str, tmp_path: Path, text: str) -> None:
    (tmp_path / "process.json").write_text(text)
    oci.fails("exec", "--process", tmp_path / "process.json", one)


def test_detached_with_a_pid_file(oci: Oci, one: str, tmp_path: Path) -> None:
    oci("exec", "--detach", "--pid-file", tmp_path / "pid", one, "sleep", "50")
    text = (tmp_path / "pid").read_text()
    assert text.isdigit()
    deadline = time.monotonic() + 10
    # crun returns before its execve.
    while b"sleep\00050" not in Path(f"/proc/{text}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert int(text) in json.loads(oci("ps", "--format", "json", one).out)


def test_capabilities_are_those_of_the_config(oci: Oci, one: str) -> None:
    def sets(lines: str) -> dict[str, str]:
        fields = (line.partition(":") for line in lines.splitlines() if line.startswith("Cap"))
        return {name: value.strip() for name, _, value in fields}

    pid = oci.state(one)["pid"]
    inside = sets(oci.exec(one, "cat", "/proc/self/status").out)
    assert inside == sets(Path(f"/proc/{pid}/status").read_text())


def test_a_capability_can_be_added(oci: Oci, one: str) -> None:
    done = oci("exec", "--cap", "CAP_SYS_PTRACE", one, "cat", "/proc/self/status")
    line = next(li for li in done.out.splitlines() if li.startswith("CapBnd"))
    assert int(line.split()[1], 16) & 1 << 19


def test_an_added_capability_is_not_inheritable(oci: Oci, bundle: Bundle) -> None:
    bundle.process["capabilities"] = {}
    oci.running(bundle)
    done = oci("exec", "--cap", "CAP_KILL", "one", "grep", "^Cap", "/proc/self/status")
    sets = dict(line.replace(":", "").split() for line in done.out.splitlines())
    assert {name for name, bits in sets.items() if int(bits, 16)} == {"CapPrm", "CapEff", "CapBnd"}


def test_an_unknown_capability_is_a_warning(oci: Oci, one: str) -> None:
    done = oci("exec", "--cap", "CAP_UNHEARD_OF", one, "echo", "ran")
    assert done.out == "ran\n"


@pytest.mark.lacks(runc="refuses it", crun="refuses it")
def test_a_capability_the_caller_lacks_is_a_warning(oci: Oci, one: str) -> None:
    argv = ["setpriv", "--bounding-set", "-lease", *oci.argv("exec", "--cap", "CAP_LEASE", one)]
    done = subprocess.run([*argv, "echo", "ran"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert "CAP_LEASE" in done.stderr


@pytest.mark.parametrize("options", [["-e", "A=1", "-e", "A=2"], ["-e", "PATH=/none", "-e", "A=2"]])
def test_the_last_of_two_values_counts(oci: Oci, one: str, options: list[str]) -> None:
    lines = oci("exec", *options, one, "/bin/env").out.splitlines()
    names = [line.partition("=")[0] for line in lines]
    assert "A=2" in lines
    assert len(set(names)) == len(names)


@pytest.mark.lacks(crun="drops noNewPrivileges")
def test_no_new_privileges_and_seccomp_hold_for_exec(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    oci.running(bundle)
    done = oci.exec(
        "one", "sh", "-c", "mkdir /tmp/x; grep -e NoNewPrivs -e Seccomp: /proc/self/status"
    )
    assert "Operation not permitted" in done.err
    assert done.out.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]


def test_only_the_three_standard_descriptors_are_open(oci: Oci, one: str) -> None:
    with Path("/etc/hostname").open() as held:
        os.set_inheritable(held.fileno(), True)
        done = oci.exec(one, "sh", "-c", "ls /proc/self/fd | wc -l", close_fds=False)
    assert done.out.strip() == "4"


def test_preserved_descriptors_arrive(oci: Oci, one: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("handed over")
    argv = oci.argv("exec", "--preserve-fds", "1", one, "sh", "-c", "cat <&3")
    done = subprocess.run(
        ["sh", "-c", f'exec 3<{tmp_path}/secret; exec "$@"', "sh", *argv],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "handed over", done.stderr


def test_exec_in_a_created_container(oci: Oci, bundle: Bundle) -> None:
    oci.create(bundle, "one")
    assert oci.exec("one", "echo", "early").out == "early\n"
    assert oci.status("one") == "created"


def test_exec_in_a_stopped_container_is_refused(oci: Oci, bundle: Bundle) -> None:
    oci.create(bundle, "one")
    oci("start", "one")
    oci.wait("one")
    oci.fails("exec", "one", "true")


def test_exec_in_a_paused_container_is_refused(oci: Oci, one: str) -> None:
    oci("pause", one)
    assert "paused" in oci.fails("exec", one, "true")
    oci("resume", one)
    oci.exec(one, "true")


def test_a_terminal_goes_to_the_console_socket(oci: Oci, one: str, tmp_path: Path) -> None:
    path = str(tmp_path / "console")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        server.settimeout(10)
        script = "test -t 0 && echo terminal; sleep 0.3"
        oci("exec", "--tty", "--detach", "--console-socket", path, one, "sh", "-c", script)
        connection, _ = server.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 4)
    output = b""
    while b"terminal" not in output:
        output += os.read(fds[0], 4096)
    os.close(fds[0])


def test_a_terminal_in_the_foreground(oci: Oci, one: str) -> None:
    script = " ".join(oci.argv("exec", "-t", one, "tty"))
    done = subprocess.run(
        ["script", "-qec", script, "/dev/null"], capture_output=True, stdin=subprocess.DEVNULL,
        timeout=20, check=False,
    )  # fmt: skip
    assert b"/dev/pts/" in done.stdout
    assert done.returncode == 0


def test_the_terminal_is_pumped_both_ways(oci: Oci, one: str) -> None:
    import pty

    pid, master = pty.fork()
    if pid == 0:
        argv = oci.argv("exec", "-t", one, "sh", "-c", "read line; echo got:$line; exit 5")
        os.execv(argv[0], argv)
    time.sleep(0.5)
    os.write(master, b"hello\n")
    output = b""
    try:
        while chunk := os.read(master, 4096):
            output += chunk
    except OSError:
        pass
    assert b"got:hello" in output
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


@pytest.mark.lacks(runc="waits for what it has adopted")
def test_background_children_do_not_hold_exec(oci: Oci, one: str) -> None:
    begun = time.monotonic()
    oci.exec(one, "sh", "-c", "sleep 20 & exit 0")
    assert time.monotonic() - begun < 10


def test_a_cgroup_below_the_containers(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    bundle.linux["cgroupsPath"] = path = f"/pycontain-exec/{tmp_path.name}-{os.getpid()}"
    bundle.linux["resources"] = {"pids": {"limit": 50}}
    oci.running(bundle)
    top = Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/pids")
    (top / path[1:] / "below").mkdir()
    entry = "below" if unified else "pids:below"
    done = oci("exec", "--cgroup", entry, "one", "cat", "/proc/self/cgroup")
    assert f"{path}/below" in done.out


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("..", " .. is not a sub cgroup path"),
        ("../other", "is not a sub cgroup path"),
        ("pids:../other", "is not a sub cgroup path"),
        ("not-there", "/not-there/cgroup.procs: no such file"),
        ("whaaat:/", "unknown controller whaaat"),
    ],
)
@pytest.mark.lacks(crun="other words")
def test_a_cgroup_elsewhere_is_refused(oci: Oci, one: str, entry: str, message: str) -> None:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists() and ":" in entry:
        message = ""
    assert message in oci.fails("exec", "--cgroup", entry, one, "true")


@pytest.mark.lacks(runc="execCPUAffinity came with 1.3", crun="not in 1.8")
def test_the_debug_log_names_the_initial_affinity(oci: Oci, bundle: Bundle) -> None:
    bundle.process["execCPUAffinity"] = {"initial": "0"}
    one = oci.running(bundle)
    done = oci("--debug", "exec", one, "true")
    assert 'affinity: 0x1"' in done.err
    assert "affinity" not in oci.exec(one, "true").err
