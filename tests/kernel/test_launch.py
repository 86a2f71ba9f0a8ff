"""What a plan makes of a process in a real rootfs, seen from inside; with both executors."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from launching import (
    Start,
    bind,
    make_spec,
    sh,
)

from pycontain.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    InvalidError,
    KernelError,
    NotFoundError,
    PycontainError,
)
from pycontain.runtime import launch

pytestmark = pytest.mark.root


def test_a_container_has_a_world_of_its_own(start: Start, rootfs: Path) -> None:
    ended = start(sh(rootfs, "hostname; echo $$; ls /proc/net/dev >/dev/null && cat /proc/net/dev"))
    assert ended.lines[:2] == ["box", "1"]
    assert [line.split(":")[0].strip() for line in ended.lines[4:]] == ["lo"]


def test_status_of_the_program_is_kept(start: Start, rootfs: Path) -> None:
    assert start(sh(rootfs, "exit 7")).status == 7


def test_capabilities_are_those_of_config_json(start: Start, rootfs: Path) -> None:
    ended = start(sh(rootfs, "grep -E '^(Cap|NoNew)' /proc/self/status"))
    found = dict(line.split(":\t") for line in ended.lines)
    mask = "00000000800405fb"
    assert found == {
        "CapInh": "0" * 16,
        "CapPrm": mask,
        "CapEff": mask,
        "CapBnd": mask,
        "CapAmb": "0" * 16,
        "NoNewPrivs": "1",
    }


def test_a_user_has_ids_groups_and_no_capability(start: Start, rootfs: Path) -> None:
    user = {"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o27}
    ended = start(sh(rootfs, "id; umask; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status", user=user))
    assert ended.lines[:2] == ["uid=1000 gid=1001 groups=7,8", "0027"]
    assert all(line.endswith("\t" + "0" * 16) for line in ended.lines[2:])


def test_ambient_capabilities_reach_a_user(start: Start, rootfs: Path) -> None:
    spec = sh(rootfs, "grep CapEff /proc/self/status", user={"uid": 5, "gid": 5})
    for name in ("effective", "permitted", "inheritable", "ambient"):
        spec["process"]["capabilities"][name] = ["CAP_NET_BIND_SERVICE"]
    assert start(spec).output.endswith("0000000000000400\n")


def test_no_descriptor_but_the_standard_ones(start: Start, rootfs: Path) -> None:
    leaked = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        # The directory listing itself is one more.
        assert start(make_spec(rootfs, "ls", "/proc/self/fd")).lines == ["0", "1", "2", "3"]
    finally:
        os.close(leaked)


@pytest.mark.parametrize("number", range(3, 15))
def test_the_directory_is_never_outside(start: Start, rootfs: Path, number: int) -> None:
    with pytest.raises(KernelError, match="working directory"):
        start(make_spec(rootfs, "pwd", cwd=f"/proc/self/fd/{number}"))


def test_a_climbing_directory_stays_inside(start: Start, rootfs: Path) -> None:
    assert start(make_spec(rootfs, "pwd", cwd="/../../tmp")).output == "/tmp\n"


def test_a_missing_directory_is_made(start: Start, rootfs: Path) -> None:
    assert start(make_spec(rootfs, "pwd", cwd="/a/b")).output == "/a/b\n"
    assert (rootfs / "a/b").is_dir()


FAILURES = {
    "#!/bin/none\n": (CommandNotFoundError, "interpreter '/bin/none' is missing"),
    "#!/bin/sh\r\n": (CommandNotFoundError, "CR LF"),
    "#!\n": (CommandNotExecutableError, "names no interpreter"),
    "junk": (CommandNotExecutableError, "neither an ELF program nor a script"),
    "": (CommandNotExecutableError, "empty"),
    "arm": (CommandNotExecutableError, "built for aarch64"),
    "dynamic": (CommandNotFoundError, "its loader '/lib64/ld-linux-x86-64.so.2' is missing"),
}


@pytest.mark.parametrize("content", FAILURES)
def test_a_program_that_cannot_run_is_explained(start: Start, rootfs: Path, content: str) -> None:
    program = rootfs / "p"
    elf = Path("/bin/ls").read_bytes()
    if content == "arm":
        program.write_bytes(elf[:18] + b"\xb7\x00" + elf[20:])
    elif content == "dynamic":
        program.write_bytes(elf)
    else:
        program.write_bytes(content.encode())
    program.chmod(0o755)
    kind, text = FAILURES[content]
    with pytest.raises(kind, match=text):
        start(make_spec(rootfs, "/p"))


def test_missing_and_forbidden_programs(start: Start, rootfs: Path) -> None:
    with pytest.raises(CommandNotFoundError, match=r"executable file not found in \$PATH"):
        start(make_spec(rootfs, "nothing"))
    with pytest.raises(CommandNotFoundError, match="no such file or directory"):
        start(make_spec(rootfs, "/nothing"))
    with pytest.raises(CommandNotExecutableError, match="permission denied: it is a directory"):
        start(make_spec(rootfs, "/bin"))
    (rootfs / "plain").write_text("#!/bin/sh\n")
    with pytest.raises(CommandNotExecutableError, match="permission denied"):
        start(make_spec(rootfs, "/plain"))
    (rootfs / "roots").write_text("#!/bin/sh\n")
    (rootfs / "roots").chmod(0o700)
    with pytest.raises(CommandNotExecutableError, match="permission denied"):
        start(make_spec(rootfs, "/roots", user={"uid": 5, "gid": 5}, capabilities={}))


@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("uid", [0, 1000])
def test_a_filter_is_in_force(
    start: Start, rootfs: Path, no_new_privileges: bool, uid: int
) -> None:
    spec = sh(
        rootfs, "mkdir /tmp/d; grep -E 'Seccomp:|CapPrm' /proc/self/status",
        noNewPrivileges=no_new_privileges, user={"uid": uid, "gid": uid},
    )  # fmt: skip
    (rootfs / "tmp").chmod(0o777)
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    ended = start(spec)
    assert "Input/output error" in ended.lines[0]
    assert ended.lines[2] == "Seccomp:\t2"
    # CAP_SYS_ADMIN, which loading the filter may take, is gone.
    assert not int(ended.lines[1].split()[1], 16) >> 21 & 1


def test_a_listener_reaches_its_agent(start: Start, rootfs: Path, tmp_path: Path) -> None:
    import array
    import json

    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = tmp_path / "agent"
    agent.bind(str(path))
    agent.listen()
    spec = make_spec(rootfs, "id")
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "listenerMetadata": "hello",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    assert start(spec, id="c1").status == 0
    connection, _ = agent.accept()
    data, ancillary, _, _ = connection.recvmsg(65536, 64)
    fds = array.array("i", ancillary[0][2])
    assert len(fds) == 1
    os.close(fds[0])
    message = json.loads(data)
    assert message["metadata"] == "hello"
    assert message["fds"] == ["seccompFd"]
    assert message["state"]["id"] == "c1"
    connection.close()
    agent.close()


def test_limits_priorities_and_names(start: Start, rootfs: Path) -> None:
    spec = sh(
        rootfs, "cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; ulimit -n; ulimit -Hn",
        oomScoreAdj=321, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
    )  # fmt: skip
    own = Path("/proc/self/oom_score_adj").read_text()
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    assert start(spec).lines == ["321", "1", "100", "200"]
    assert Path("/proc/self/oom_score_adj").read_text() == own


def test_scheduling(start: Start, rootfs: Path) -> None:
    spec = sh(
        rootfs, "cat /proc/1/stat; grep Cpus_allowed_list /proc/1/status",
        scheduler={"policy": "SCHED_BATCH", "nice": 5},
        ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 0},
        execCPUAffinity={"final": "0"},
    )  # fmt: skip
    ended = start(spec)
    assert ended.lines[-1].split() == ["Cpus_allowed_list:", "0"]
    fields = ended.lines[0].rpartition(")")[2].split()
    assert (fields[16], fields[38]) == ("5", "3")


def test_a_time_namespace(start: Start, rootfs: Path) -> None:
    if not Path("/proc/self/ns/time").exists():
        pytest.skip("needs time namespaces")
    spec = make_spec(rootfs, "cat", "/proc/uptime")
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 5}}
    host = float(Path("/proc/uptime").read_text().split()[0])
    assert float(start(spec).output.split()[0]) - host > 999999


def test_a_user_namespace(start: Start, rootfs: Path) -> None:
    os.chown(rootfs, 100000, 100000)
    spec = sh(rootfs, "id -u; cat /proc/self/uid_map; touch /x; echo x > /dev/null; ls /dev/zero")
    spec["linux"]["namespaces"].append({"type": "user"})
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = maps
    ended = start(spec)
    assert ended.lines[0] == "0"
    assert ended.lines[1].split() == ["0", "100000", "1000"]
    assert ended.lines[2:] == ["/dev/zero"]
    assert (rootfs / "x").stat().st_uid == 100000


def test_a_terminal(start: Start, rootfs: Path) -> None:
    near, far = socket.socketpair()
    spec = sh(
        rootfs, "tty; ls -l /dev/console | cut -c1; exit 3",
        terminal=True, consoleSize={"height": 33, "width": 77},
    )  # fmt: skip
    options = launch.LaunchOptions()
    options.executor = start.executor
    options.console = far.fileno()
    init = launch.launch_init(spec, options)  # type: ignore[arg-type]
    _, fds, _, _ = socket.recv_fds(near, 64, 1)
    size = os.get_terminal_size(fds[0])
    output = b""
    while True:
        try:
            output += os.read(fds[0], 4096)
        except OSError:
            break
    result = os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    for fd in (init.pidfd, fds[0]):
        os.close(fd)
    near.close()
    far.close()
    assert (size.lines, size.columns) == (33, 77)
    assert output.split()[0] == b"/dev/pts/0"
    assert result is not None
    assert result.si_status == 3


def test_a_terminal_is_opened_inside_where_dev_is_bound(
    start: Start, rootfs: Path, tmp_path: Path
) -> None:
    near, far = socket.socketpair()
    (tmp_path / "dev/pts").mkdir(parents=True)
    spec = make_spec(rootfs, "id", terminal=True)
    spec["mounts"].append(bind(tmp_path / "dev", "/dev"))
    with near, far, pytest.raises(KernelError, match=r"pts/ptmx.*ENOENT"):
        start(spec, console=far.fileno())


def test_the_callers_terminal_is_not_the_containers(start: Start, rootfs: Path) -> None:
    import fcntl
    import pty

    master, slave = pty.openpty()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(slave, 0x540E, 0)
        try:
            # /dev/tty names the controlling terminal: without one it does not open.
            spec = sh(rootfs, "sh -c ': < /dev/tty' 2>/dev/null && exit 9; exit 4")
            options = launch.LaunchOptions()
            options.executor = start.executor
            options.stdio = (slave, 1, 2)
            init = launch.launch_init(spec, options)  # type: ignore[arg-type]
            result = os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
            assert result is not None
            os._exit(result.si_status)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    os.close(slave)
    assert os.waitstatus_to_exitcode(status) == 4


def test_hooks_run_while_the_mounts_are_there_and_the_old_root_too(
    start: Start, rootfs: Path
) -> None:
    seen = []

    def hook(stage: str, pid: int) -> None:
        table = Path(f"/proc/{pid}/mountinfo").read_text()
        seen.append((stage, f" {rootfs}/proc " in table, os.readlink(f"/proc/{pid}/root")))

    assert start(make_spec(rootfs, "id"), hooks=hook).status == 0
    assert seen == [(s, True, "/") for s in ("prestart", "createRuntime", "createContainer")]


def test_a_failing_hook_or_network_leaves_nothing(start: Start, rootfs: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        start(make_spec(rootfs, "touch", "/x"), hooks=fail)
    with pytest.raises(RuntimeError):
        start(make_spec(rootfs, "touch", "/x"), network=fail)
    assert not (rootfs / "x").exists()


def test_a_parked_process_waits_for_release(start: Start, rootfs: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "exec.fifo"
    os.mkfifo(fifo)
    output = os.memfd_create("output")
    options = start.options(output)
    options.park = str(fifo)
    init = launch.launch_init(make_spec(rootfs, "hostname"), options)  # type: ignore[arg-type]
    os.close(options.stdio[0])
    assert not os.pread(output, 10, 0)
    assert os.readlink(f"/proc/{init.pid}/exe").endswith(("/", "stub"))
    assert fifo.read_bytes()
    os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    assert os.pread(output, 10, 0) == b"box\n"
    os.close(output)
    os.close(init.pidfd)


def test_a_missing_program_is_found_before_parking(
    start: Start, rootfs: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "exec.fifo")
    with pytest.raises(CommandNotFoundError, match=r"not found in \$PATH"):
        start(make_spec(rootfs, "nothing"), park=str(tmp_path / "exec.fifo"))
    with pytest.raises(CommandNotExecutableError, match="directory"):
        start(make_spec(rootfs, "/bin"), park=str(tmp_path / "exec.fifo"))


def test_namespaces_by_path_are_joined_and_checked(start: Start, rootfs: Path) -> None:
    holder = subprocess.Popen(["unshare", "-un", "sh", "-c", "hostname joined; read x"], stdin=-1)
    try:
        while os.readlink(f"/proc/{holder.pid}/ns/uts") == os.readlink("/proc/self/ns/uts"):
            pass
        spec = make_spec(rootfs, "readlink", "/proc/self/ns/net")
        del spec["hostname"]
        spec["linux"]["namespaces"] = [
            *({"type": t} for t in ("mount", "pid")),
            {"type": "uts", "path": f"/proc/{holder.pid}/ns/uts"},
            {"type": "network", "path": f"/proc/{holder.pid}/ns/net"},
        ]
        assert start(spec).output.strip() == os.readlink(f"/proc/{holder.pid}/ns/net")
        spec["linux"]["namespaces"][-1]["path"] = f"/proc/{holder.pid}/ns/uts"
        with pytest.raises(InvalidError, match="is a uts namespace, not network"):
            start(spec)
    finally:
        holder.communicate(b"\n")


def test_a_user_namespace_by_path_owns_what_is_made(start: Start, rootfs: Path) -> None:
    os.chown(rootfs, 100000, 100000)
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    spec = make_spec(rootfs, "sleep", "60")
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = maps
    options = launch.LaunchOptions()
    options.executor = start.executor
    holder = launch.launch_init(spec, options)  # type: ignore[arg-type]
    try:
        spec = sh(rootfs, "id -u; readlink /proc/self/ns/user; touch /mine")
        spec["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{holder.pid}/ns/user"})
        ended = start(spec)
        assert ended.lines == ["0", os.readlink(f"/proc/{holder.pid}/ns/user")]
        assert (rootfs / "mine").stat().st_uid == 100000
    finally:
        os.kill(holder.pid, 9)
        os.waitid(os.P_PIDFD, holder.pidfd, os.WEXITED)
        os.close(holder.pidfd)


def test_signals_are_as_a_shell_expects_them(start: Start, rootfs: Path) -> None:
    ended = start(make_spec(rootfs, "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"))
    assert [line.split()[1] for line in ended.lines] == ["0" * 16, "0" * 16]


def test_the_environment_is_the_specs(start: Start, rootfs: Path) -> None:
    assert sorted(start(make_spec(rootfs, "env")).lines) == ["HOME=/", "PATH=/bin"]


def test_the_interpreter_is_out_of_reach(start: Start, rootfs: Path) -> None:
    # A program that is its own interpreter's script: execve of /proc/self/exe names the stub.
    (rootfs / "evil").write_text("#!/proc/self/exe\n")
    (rootfs / "evil").chmod(0o755)
    try:
        start(make_spec(rootfs, "/evil"))
    except PycontainError as error:
        assert "execute" in str(error)
    assert start(make_spec(rootfs, "/proc/self/exe")).status == 126


def test_home_is_looked_up_inside(start: Start, rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "etc").mkdir()
    (rootfs / "etc/passwd").write_text("x:x:5:5::/home/x:/bin/sh\n")
    spec = make_spec(rootfs, "env", user={"uid": 5, "gid": 5}, env=["PATH=/bin"])
    assert "HOME=/home/x" in start(spec).lines
    (tmp_path / "passwd").write_text("x:x:5:5::/stolen:/bin/sh\n")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to(tmp_path / "passwd")
    spec = make_spec(rootfs, "env", user={"uid": 5, "gid": 5}, env=["PATH=/bin"])
    assert "HOME=/" in start(spec).lines
    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    spec = make_spec(rootfs, "env", user={"uid": 5, "gid": 5}, env=["PATH=/bin"])
    assert "HOME=/" in start(spec).lines


def test_a_nul_byte_is_refused(start: Start, rootfs: Path) -> None:
    with pytest.raises(InvalidError, match="NUL"):
        start(make_spec(rootfs, "id\0x"))


def test_a_network_device_moves_in_with_its_addresses(start: Start, rootfs: Path) -> None:
    made = subprocess.run(["ip", "link", "add", "pcdev0", "type", "veth"], capture_output=True)
    if made.returncode:
        pytest.skip("needs ip and veth devices")
    subprocess.run(["ip", "addr", "add", "10.99.1.2/24", "dev", "pcdev0"], check=True)
    spec = sh(rootfs, "cat /proc/net/dev | grep -c pc0; cat /proc/net/fib_trie | grep 10.99.1.2")
    spec["linux"]["netDevices"] = {"pcdev0": {"name": "pc0"}}
    try:
        ended = start(spec)
    finally:
        subprocess.run(["ip", "link", "del", "pcdev0"], capture_output=True)
    assert ended.lines[0] == "1"
    assert "10.99.1.2" in ended.output
    with pytest.raises(NotFoundError, match="no network device 'pcdev0'"):
        start(spec)
