"""The process object: identity, environment, limits, capabilities, terminal, what is refused."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root


def status_of(oci: Oci, bundle: Bundle) -> dict[str, str]:
    """What /proc/self/status says inside."""
    bundle.command("cat", "/proc/self/status")
    lines = [line.partition(":") for line in oci.output(bundle).splitlines()]
    return {name: value.strip() for name, _, value in lines}


def test_user_and_groups(oci: Oci, bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 7]}
    bundle.shell("id -u; id -g; id -G")
    assert oci.output(bundle).splitlines() == ["1000", "1001", "1001 5 7"]


def test_a_user_that_no_file_names(oci: Oci, bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 4294967, "gid": 4294966}
    bundle.shell("id -u; id -g")
    assert oci.output(bundle).split() == ["4294967", "4294966"]


@pytest.mark.parametrize(("umask", "shown"), [(0o77, "0077"), (0, "0000"), (0o27, "0027")])
def test_umask(oci: Oci, bundle: Bundle, umask: int, shown: str) -> None:
    bundle.process["user"]["umask"] = umask
    bundle.shell("umask")
    assert oci.output(bundle).strip() == shown


def test_the_umask_is_022_by_default(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("umask")
    before = os.umask(0o77)
    try:
        assert oci.output(bundle).strip() == "0022"
    finally:
        os.umask(before)


def test_arguments_arrive_byte_for_byte(oci: Oci, bundle: Bundle) -> None:
    bundle.command("printf", "[%s]", "", "a b", "$HOME", "é\n", "'\"")
    assert oci.output(bundle) == "[][a b][$HOME][é\n]['\"]"


def test_the_environment_is_what_was_asked(oci: Oci, bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin", "A=b=c", "EMPTY=", "HOME=/x"]
    bundle.command("env")
    assert sorted(oci.output(bundle).splitlines()) == ["A=b=c", "EMPTY=", "HOME=/x", "PATH=/bin"]


def test_home_comes_from_passwd_when_unset(oci: Oci, bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin"]
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.shell("echo $HOME")
    assert oci.output(bundle).strip() == "/home/user"


def test_the_working_directory(oci: Oci, bundle: Bundle) -> None:
    bundle.process["cwd"] = "/tmp"
    bundle.command("pwd")
    assert oci.output(bundle).strip() == "/tmp"


def test_a_missing_working_directory_is_made_or_refused(oci: Oci, bundle: Bundle) -> None:
    bundle.process["cwd"] = "/not/there"
    bundle.command("pwd")
    done = oci.run(bundle, status=None)
    assert done.out.strip() == "/not/there" if done.status == 0 else done.err


def test_a_null_device_as_input_is_not_the_hosts(oci: Oci, bundle: Bundle) -> None:
    bundle.command("stat", "-L", "-c", "%d", "/proc/self/fd/0")
    assert oci.output(bundle).strip() != str(os.stat("/dev/null").st_dev)


def test_path_lookup_uses_the_containers_path(oci: Oci, bundle: Bundle) -> None:
    (bundle.rootfs / "opt").mkdir()
    (bundle.rootfs / "opt/hello").write_text("#!/bin/sh\necho found\n")
    (bundle.rootfs / "opt/hello").chmod(0o755)
    bundle.process["env"] = ["PATH=/opt:/bin"]
    bundle.command("hello")
    assert oci.output(bundle) == "found\n"


@pytest.mark.lacks(crun="other words")
@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["no-such-program"], "executable file not found in $PATH"),
        (["/bin/no-such-program"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
    ],
)
def test_what_cannot_be_executed_is_said_as_engines_expect(
    oci: Oci, bundle: Bundle, args: list[str], why: str
) -> None:
    bundle.command(*args)
    done = oci.run(bundle, status=None)
    assert done.status not in (0, None)
    assert why in done.err
    oci.fails("state", "one")


def test_create_refuses_a_missing_program(oci: Oci, bundle: Bundle) -> None:
    bundle.command("no-such-program")
    bundle.write()
    assert "not found" in oci.fails("create", "--bundle", bundle.path, "one")
    oci.fails("state", "one")


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("RLIMIT_NOFILE", "Max open files"),
        ("RLIMIT_CORE", "Max core file size"),
        ("RLIMIT_STACK", "Max stack size"),
        ("RLIMIT_CPU", "Max cpu time"),
        ("RLIMIT_FSIZE", "Max file size"),
    ],
)
def test_rlimits(oci: Oci, bundle: Bundle, name: str, file_name: str) -> None:
    import resource

    current = resource.getrlimit(getattr(resource, name))[1]
    hard = 1 << 23 if current < 0 else min(current, 1 << 23)
    soft = hard // 8
    bundle.process["rlimits"] = [{"type": name, "soft": soft, "hard": hard}]
    bundle.command("cat", "/proc/self/limits")
    line = next(li for li in oci.output(bundle).splitlines() if li.startswith(file_name))
    assert line.removeprefix(file_name).split()[:2] == [str(soft), str(hard)]


def test_capability_sets(oci: Oci, bundle: Bundle) -> None:
    bundle.process["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": [],
        "ambient": [],
    }
    bundle.process["user"] = {"uid": 0, "gid": 0}
    found = status_of(oci, bundle)
    # execve gives root its bounding set; without noNewPrivileges that is capabilities(7).
    assert int(found["CapBnd"], 16) == 1 << 0 | 1 << 5 | 1 << 18
    assert int(found["CapEff"], 16) & ~int(found["CapBnd"], 16) == 0
    assert int(found["CapInh"], 16) == 0


@pytest.mark.parametrize("which", ["inheritable", "effective"])
def test_capabilities_that_cannot_be_set_fail_the_create(
    oci: Oci, bundle: Bundle, which: str
) -> None:
    limit = {"inheritable": "bounding", "effective": "permitted"}[which]
    sets = {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], which: ["CAP_KILL"]}
    bundle.process["capabilities"] = {**sets, limit: []}
    bundle.write()
    message = oci.fails("create", "--bundle", bundle.path, "one")
    assert "operation not permitted" in message.lower()


def test_ambient_capabilities_survive_the_exec_of_a_user(oci: Oci, bundle: Bundle) -> None:
    caps = ["CAP_NET_BIND_SERVICE"]
    names = ("bounding", "permitted", "effective", "inheritable", "ambient")
    bundle.process["capabilities"] = dict.fromkeys(names, caps)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = status_of(oci, bundle)
    assert {int(found[c], 16) for c in ("CapAmb", "CapEff", "CapPrm", "CapInh")} == {1 << 10}


@pytest.mark.lacks(runc="1.1: an error", crun="1.8: an error")
def test_a_capability_that_the_caller_lacks_is_a_warning(oci: Oci, bundle: Bundle) -> None:
    for which in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][which] = ["CAP_KILL", "CAP_WAKE_ALARM"]
    bundle.command("grep", "CapEff", "/proc/self/status")
    kill, wake_alarm = 1 << 5, 1 << 35
    for own_user, shown in ((False, kill), (True, kill | wake_alarm)):
        if own_user:
            # Who makes a user namespace has every capability in it.
            bundle.namespace("user")
            for key in ("uidMappings", "gidMappings"):
                bundle.linux[key] = [{"containerID": 0, "hostID": 0, "size": 1000}]
        bundle.write()
        argv = oci.argv("run", "--bundle", bundle.path, "one")
        less = ["setpriv", "--bounding-set=-wake_alarm", "--inh-caps=-wake_alarm"]
        done = subprocess.run([*less, *argv], capture_output=True, text=True, timeout=60)
        assert int(done.stdout.split()[1], 16) == shown, done
        assert ("CAP_WAKE_ALARM" in done.stderr) != own_user


def test_a_user_without_ambient_set_has_no_capability(oci: Oci, bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = status_of(oci, bundle)
    assert {int(found[c], 16) for c in ("CapAmb", "CapEff", "CapPrm", "CapInh")} == {0}


def test_no_capabilities_object_means_none(oci: Oci, bundle: Bundle) -> None:
    bundle.process["capabilities"] = {}
    found = status_of(oci, bundle)
    assert {int(found[c], 16) for c in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(oci: Oci, bundle: Bundle, wanted: bool) -> None:
    bundle.process["noNewPrivileges"] = wanted
    assert status_of(oci, bundle)["NoNewPrivs"] == str(int(wanted))


@pytest.mark.parametrize("score", [0, 100, 1000])
def test_oom_score_adj(oci: Oci, bundle: Bundle, score: int) -> None:
    bundle.process["oomScoreAdj"] = score
    bundle.command("cat", "/proc/self/oom_score_adj")
    assert oci.output(bundle).strip() == str(score)


@pytest.mark.lacks(runc="scheduler is new in 1.2", crun="not in 1.8")
def test_scheduler(oci: Oci, bundle: Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    bundle.command("cat", "/proc/self/stat")
    fields = oci.output(bundle).rpartition(")")[2].split()
    assert fields[16] == "5"
    assert fields[38] == "3"


@pytest.mark.lacks(runc="ioPriority is new in 1.2", crun="not in 1.8")
def test_io_priority(oci: Oci, bundle: Bundle) -> None:
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    bundle.command("ionice", "-p", "1")
    assert "idle" in oci.output(bundle)


def test_signals_are_neither_ignored_nor_blocked(oci: Oci, bundle: Bundle) -> None:
    found = status_of(oci, bundle)
    assert int(found["SigIgn"], 16) == 0
    assert int(found["SigBlk"], 16) == 0


def test_only_the_three_standard_descriptors_are_open(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("ls /proc/self/fd | wc -l; ls -l /proc/self/fd")
    with Path("/etc/hostname").open() as held:
        os.set_inheritable(held.fileno(), True)
        bundle.write()
        done = oci("run", "--bundle", bundle.path, "one", close_fds=False)
    assert "/etc/hostname" not in done.out
    # ls itself has the directory open.
    assert done.out.split()[0] == "4"


def test_preserved_descriptors_arrive(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("handed over")
    bundle.shell("cat <&3")
    bundle.write()
    argv = oci.argv("run", "--preserve-fds", "1", "--bundle", bundle.path, "one")
    done = subprocess.run(
        ["sh", "-c", f'exec 3<{secret}; exec "$@"', "sh", *argv],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "handed over", done.stderr


@pytest.mark.lacks(runc="1.1 takes a descriptor of its own for it", crun="takes it for a bound")
def test_one_descriptor_that_is_not_there_is_an_error(oci: Oci, bundle: Bundle) -> None:
    bundle.write()
    assert "preserved-fd" in oci.fails("run", "--preserve-fds", "1", "--bundle", bundle.path, "one")


@pytest.mark.lacks(runc="refuses it")
def test_descriptors_that_are_not_there_are_not_made_up(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("ls /proc/self/fd | wc -l")
    bundle.write()
    done = oci("run", "--preserve-fds", "100", "--bundle", bundle.path, "one")
    assert done.out.strip() == "4"


@pytest.mark.lacks(crun="sets no LISTEN_PID")
def test_socket_activation_hands_descriptors_on(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("activated")
    bundle.shell("cat <&3; echo $LISTEN_FDS $LISTEN_PID")
    bundle.write()
    script = f'exec 3<{secret}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *oci.argv("run", "--bundle", bundle.path, "one")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "activated1 1\n", done.stderr


def test_a_terminal_goes_to_the_console_socket(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    bundle.process["terminal"] = True
    bundle.process["consoleSize"] = {"width": 111, "height": 33}
    bundle.shell("test -t 0 && test -t 1 && test -t 2 && tty && stty size; sleep 0.2")
    bundle.write()
    path = str(tmp_path / "console")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        server.settimeout(10)
        oci("create", "--bundle", bundle.path, "--console-socket", path, "one")
        connection, _ = server.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 4)
    assert len(fds) == 1
    oci("start", "one")
    output = b""
    while b"33 111" not in output:
        output += os.read(fds[0], 4096)
    assert b"/dev/pts/0" in output or b"/dev/console" in output
    os.close(fds[0])


@pytest.mark.lacks(runc="wants a terminal of its own", crun="wants a terminal of its own")
def test_a_terminal_in_the_foreground(oci: Oci, bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    bundle.process["user"] = {"uid": 1000, "gid": 100}
    bundle.shell("for n in 0 1 2; do readlink /proc/self/fd/$n; done; stat -c %u:%g $(tty)")
    words = oci.run(bundle).out.split()
    assert words[0].startswith("/dev/pts/")
    assert words[:3] == [words[0]] * 3
    assert words[3] == "1000:5"


def test_a_terminal_on_a_read_only_dev(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    next(m for m in bundle.config["mounts"] if m["destination"] == "/dev")["options"].append("ro")
    bundle.process["terminal"] = True
    bundle.shell("echo $(tty) > /tmp/tty; touch /dev/new || echo read-only > /tmp/dev")
    bundle.write()
    path = str(tmp_path / "console")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        oci("run", "--detach", "--console-socket", path, "--bundle", bundle.path, "one")
        oci.wait("one")
    assert (bundle.rootfs / "tmp/dev").read_text() == "read-only\n"
    assert (bundle.rootfs / "tmp/tty").read_text() != "not a tty\n"


def test_a_terminal_without_console_socket_is_refused(oci: Oci, bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, "one")
    oci.fails("state", "one")


def test_a_console_socket_without_terminal_is_refused(oci: Oci, bundle: Bundle) -> None:
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, "--console-socket", "/tmp/none", "one")


def test_stdin_reaches_the_program(oci: Oci, bundle: Bundle) -> None:
    bundle.command("cat")
    bundle.write()
    assert oci("run", "--bundle", bundle.path, "one", stdin="typed").out == "typed"


def test_dev_null_as_stdio_keeps_its_owner(oci: Oci, bundle: Bundle) -> None:
    before = os.stat("/dev/null")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    oci.run(bundle)
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


@pytest.mark.parametrize("number", range(3, 12))
def test_a_working_directory_behind_a_descriptor_is_never_the_host(
    oci: Oci, bundle: Bundle, number: int
) -> None:
    bundle.process["cwd"] = f"/proc/self/fd/{number}"
    bundle.shell("pwd -P; ls ../../../../../../..")
    done = oci.run(bundle, status=None)
    assert "work" not in done.out.split()
    assert "boot" not in done.out.split()


@pytest.mark.lacks(runc="refuses it", crun="sets no LISTEN_PID")
def test_socket_activation_without_descriptors_still_runs(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | wc -l")
    done = oci.run(bundle, env={**os.environ, "LISTEN_FDS": "1"})
    assert done.out.split() == ["1", "1", "4"]


@pytest.mark.lacks(runc="an annotation of crun")
@pytest.mark.parametrize(("value", "kept"), [("1", "0 7 8"), ("0", "0")])
def test_an_annotation_keeps_the_callers_groups(
    oci: Oci, bundle: Bundle, value: str, kept: str
) -> None:
    bundle.config["annotations"] = {"run.oci.keep_original_groups": value}
    bundle.command("id", "-G")
    assert oci.run(bundle, extra_groups=[7, 8]).out.strip() == kept


@pytest.mark.parametrize("name", ["A", "PATH"])
def test_the_last_of_two_values_counts(oci: Oci, bundle: Bundle, name: str) -> None:
    bundle.process["env"] = [f"{name}=/none", "PATH=/bin", "A=last"]
    bundle.command("env")
    lines = oci.output(bundle).splitlines()
    assert {"PATH=/bin", "A=last"} <= set(lines)
    assert len({line.partition("=")[0] for line in lines}) == len(lines)


@pytest.mark.lacks(crun="keeps it empty")
def test_an_empty_home_is_looked_up(oci: Oci, bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin", "HOME=/kept", "HOME="]
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.command("env")
    assert oci.output(bundle).splitlines().count("HOME=/home/user") == 1
    bundle.process["env"] = ["PATH=/bin", "HOME=", "HOME=/kept"]
    bundle.command("env")
    assert "HOME=/kept" in oci.output(bundle).splitlines()


@pytest.mark.lacks(runc="1.1 says nothing", crun="fails")
def test_an_impossible_ambient_capability_is_a_warning(oci: Oci, bundle: Bundle) -> None:
    sets = bundle.process["capabilities"]
    sets["inheritable"], sets["ambient"] = ["CAP_KILL"], ["CAP_KILL", "CAP_AUDIT_WRITE"]
    bundle.command("grep", "CapAmb", "/proc/self/status")
    done = oci.run(bundle)
    assert done.out.split() == ["CapAmb:", f"{1 << 5:016x}"]
    assert "can't raise ambient capability CAP_AUDIT_WRITE" in done.err


@pytest.mark.lacks(crun="fails")
def test_one_list_in_every_set_but_inheritable_is_no_warning(oci: Oci, bundle: Bundle) -> None:
    """Buildah 1.28 writes it so, and its user sees what the runtime says."""
    sets = bundle.process["capabilities"]
    sets["inheritable"], sets["ambient"] = [], sets["permitted"]
    assert sets["ambient"]
    bundle.command("grep", "CapAmb", "/proc/self/status")
    done = oci.run(bundle)
    assert done.out.split() == ["CapAmb:", f"{0:016x}"]
    assert done.err == ""


@pytest.mark.lacks(runc="wants a terminal of its own", crun="wants a terminal of its own")
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_line_feed_on_a_terminal_stays_one(oci: Oci, bundle: Bundle, verb: str) -> None:
    if verb == "run":
        bundle.process["terminal"] = True
        bundle.command("echo", "one")
        assert oci.output(bundle) == "one\n"
    else:
        oci.running(bundle)
        assert oci.exec("--tty", "one", "echo", "one").out == "one\n"


@pytest.mark.lacks(runc="1.3 on", crun="1.11 on")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU only")
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_callers_cpu_affinity_is_not_the_containers(
    oci: Oci, bundle: Bundle, verb: str
) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    show = ("grep", "Cpus_allowed:", "/proc/self/status")

    def pin() -> None:
        os.sched_setaffinity(0, cpus[:1])

    if verb == "run":
        bundle.command(*show)
        out = oci.run(bundle, preexec_fn=pin).out
    else:
        oci.running(bundle)
        out = oci("exec", "one", *show, preexec_fn=pin).out
    assert int(out.split()[1].replace(",", ""), 16) == sum(1 << cpu for cpu in cpus)


@pytest.mark.lacks(crun="holds them")
def test_created_processes_do_not_hold_the_callers_files(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    with (tmp_path / "callers").open("w") as file:
        oci.create(bundle, "one", pass_fds=(file.fileno(),))
    links = Path(f"/proc/{oci.state()['pid']}/fd").iterdir()
    assert str(tmp_path / "callers") not in [os.readlink(link) for link in links]
    oci("start", "one")


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_missing_interpreter_is_told_in_one_line(oci: Oci, bundle: Bundle, verb: str) -> None:
    script = bundle.rootfs / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    if verb == "run":
        bundle.command("/script")
        bundle.write()
        message = oci.fails("run", "--bundle", bundle.path, "one")
    else:
        oci.running(bundle)
        message = oci.fails("exec", "one", "/script")
    assert "exec /script: no such file or directory" in message or oci.name == "crun"
    assert message.count("\n") == 1 or oci.name != "own"


MEMORY_POLICIES = {
    "no mode": ({}, "invalid memory policy mode"),
    "mode": ({"mode": "INTERLEAVE"}, "invalid memory policy mode"),
    "flag": ({"mode": "MPOL_PREFERRED", "flags": ["bad"]}, "invalid memory policy flag"),
    "nodes": ({"mode": "MPOL_BIND", "nodes": "0-9876543210"}, "invalid memory policy node"),
    "needless": ({"mode": "MPOL_DEFAULT", "nodes": "0-7"}, "mode requires 0 nodes but got 8"),
}


@pytest.mark.lacks(runc="not in 1.1", crun="not in 1.8")
@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="a kernel without NUMA")
@pytest.mark.parametrize("name", MEMORY_POLICIES)
def test_a_wrong_memory_policy_is_refused(oci: Oci, bundle: Bundle, name: str) -> None:
    bundle.linux["memoryPolicy"], expected = MEMORY_POLICIES[name]
    bundle.write()
    assert expected in oci.fails("run", "--bundle", bundle.path, "one")


def on_terminal(argv: list[str], typed: bytes = b"") -> tuple[int, list[str]]:
    """Run `argv` on a terminal of its own, type, and return its status and what it printed."""
    master, slave = os.openpty()
    running = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    os.write(master, typed)
    printed = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 65536):
            printed += chunk
    os.close(master)
    return running.wait(60), printed.decode().replace("\r", "").split("\n")


@pytest.mark.lacks(crun="hands the caller's on")
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_process_without_a_terminal_does_not_get_the_callers(
    oci: Oci, bundle: Bundle, verb: str
) -> None:
    script = "for n in 0 1 2; do test -p /proc/self/fd/$n && echo pipe $n; done; cat; tty; "
    script += "head -c 300000 /dev/zero | tr '\\0' x; echo; exit 7"
    if verb == "run":
        bundle.shell(script)
        bundle.write()
        argv = oci.argv("run", "--bundle", bundle.path, "one")
    else:
        argv = oci.argv("exec", oci.running(bundle), "sh", "-c", script)
    status, lines = on_terminal(argv, b"typed\n\4")
    assert status == 7
    assert {"pipe 0", "pipe 1", "pipe 2", "typed", "not a tty", "x" * 300000} <= set(lines)


def test_what_is_no_terminal_is_handed_on_as_it_is(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    if oci.name != "own":
        pytest.skip("the others relay all three")
    bundle.shell("readlink /proc/self/fd/1")
    bundle.write()
    output = tmp_path / "output"
    argv = ["sh", "-c", 'exec "$@" > ' + str(output), "sh"]
    on_terminal([*argv, *oci.argv("run", "--bundle", bundle.path, "one")])
    assert output.read_text().endswith("/output\n")
