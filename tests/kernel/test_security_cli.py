"""Hostile words on the command line: refused with one line, contained, or shown escaped."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostcheck import Canary, settled
from support import Cli

pytestmark = pytest.mark.root

SECONDS = 20


@pytest.fixture(autouse=True)
def nothing_is_left(box: Cli) -> Iterator[None]:
    yield
    box.remove_all()
    assert settled(box.data, box.state) == []


def refused(box: Cli, *words: str) -> str:
    """Run what must be refused: 125 and one line; return the line."""
    done = box(*words, status=None, timeout=SECONDS)
    assert done.returncode == 125, (words, done)
    assert done.stderr.count(b"\n") == 1, (words, done.stderr)
    assert b"internal error" not in done.stderr, (words, done.stderr)
    assert not any(byte < 32 and byte != 10 for byte in done.stderr), (words, done.stderr)
    return done.stderr.decode()


REFUSED = r"""
--user=:5 --user=: --user=0:0:0 --user=nosuch:0 --user=1e3 --user=0x10 --user=-0 --user=4294967295
--user=00 --workdir=relative --workdir=/proc/self/cwd --workdir=/proc/1/root --workdir=/etc/passwd
--hostname=\x1b[31m --hostname= --hostname=-x --hostname=../x --hostname=a\nb --env==x --env=
--env-file=/tmp --env-file=/dev/zero --env-file=/nosuch --label==x --label-file=/dev/zero
--memory=-1 --memory=1 --memory=1e3 --memory=99999999999999999999g --memory=٣m --memory=0x10m
--memory=nan --cpus=-1 --cpus=nan --cpus=inf --cpus=1e400 --cpus=0.0001 --pids-limit=x
--pids-limit=99999999999999999999 --cpuset-cpus=99 --cpuset-cpus=0-999999999 --cpuset-cpus=x
--ulimit=nofile=10:5 --ulimit=nosuch=1 --ulimit=nofile --ulimit=nofile=999999999999999999999
--shm-size=-1 --shm-size=99999999999999999999999 --oom-score-adj=1001 --umask=999 --umask=7777
--sysctl=kernel.panic=1 --sysctl=vm.swappiness=1 --sysctl=../../x=1 --sysctl==1 --sysctl=a
--sysctl=net/../../kernel/panic=1 --sysctl=net.ipv4.conf/../../../kernel/panic=1
--sysctl=kernel.hostname=x --device=/dev/nosuch --device=/etc/passwd --device=/dev
--device=relative --device=/dev/null:relative --device=/dev/null:/x:q --device=/dev/null:/proc/x
--device=/dev/null:/ --device=: --device-cgroup-rule=x --device-cgroup-rule= --cap-add=NOSUCH
--cap-drop=NOSUCH --cap-add= --security-opt=seccomp=/nosuch --security-opt=seccomp=/dev/zero
--security-opt=seccomp=/tmp --security-opt=x --security-opt=no-new-privileges=maybe
--network=nosuch --network=container:nosuch --network=ns:/nosuch --network=ns:/etc/passwd
--network=ns:/proc/self/ns/uts --network=ns: --pid=container:nosuch --pid=ns:/dev/zero --pid=x
--ipc=x --uts=x --userns=x --userns=0:0:0 --cgroupns=x --time-offset=monotonic=x
--time-offset=boottime=99999999999999999999 --cgroup-parent=../../x --cgroup-parent=/../..
--add-host=x --add-host=a:b --add-host=a\nb:1.2.3.4 --dns=x --dns=1.1.1.1\n2
--stop-signal=0 --stop-signal=SIGNOPE --stop-signal=65 --restart=x
--restart=on-failure:-1 --stop-timeout=x --log-driver=x --log-opt=x --runtime=/nosuch
--runtime=/etc/passwd --cidfile=/tmp --cidfile=/nosuch/x --group-add=x --group-add=-1
--group-add=4294967296 --annotation=x --name=a/b --name=.. --name=-x --name=a\nb --name=a\x1b
--name=é --name=.x --volume=/tmp:/proc --volume=/tmp:/proc/sys --volume=/tmp:/proc/self
--volume=/tmp:/ --volume=/tmp:/x:nosuch --volume=/tmp:: --volume=:: --volume=/
--volume=relative --volume=/x:/y:/z --tmpfs=/proc --tmpfs=/proc/sys --tmpfs=/ --tmpfs=relative
--tmpfs=/x:size=-1 --tmpfs=/x:nosuch --mount=type=bind --mount=type=x,dst=/x
--mount=type=tmpfs,dst=/proc --mount=type=bind,src=/tmp,dst=/x,nosuch --mount=
--mount=type=volume,src=../x,dst=/y --mount=type=bind,src=/,dst=/x,type=tmpfs
--mount=type=bind,src=relative,dst=/x --nosuch
--platform=x --platform=linux/arm64 --platform=windows/amd64 --platform=linux/amd64/v1/x
--log-opt=max-file=0 --log-opt=max-size=-1 --log-opt=max-size=0 --log-opt=nosuch=1
--dns-search=a\x20b --dns-search=a\nnameserver --dns-search=-x --dns-search= --cpus=4097
--dns-option=a\nnameserver --dns-option=
""".split()


def test_options_that_are_refused(box: Cli) -> None:
    for word in REFUSED:
        word = word.encode("latin-1", "backslashreplace").decode("unicode_escape")
        refused(box, "run", "--rm", word, "busybox", "true")
    assert box.text("ps", "-a", "-q") == ""


def test_an_option_is_refused_under_its_own_name(box: Cli) -> None:
    assert "--cgroupns x:" in refused(box, "run", "--cgroupns", "x", "busybox", "true")


def test_a_platform_that_the_image_is_for(box: Cli) -> None:
    machine = os.uname().machine
    for words in (machine, f"linux/{machine}", "linux"):
        box("run", "--rm", "--platform", words, "busybox", "true")


def test_a_file_of_variables_as_an_editor_writes_it(box: Cli, tmp_path: Path) -> None:
    settings = tmp_path / "env"
    settings.write_bytes(b"\xef\xbb\xbfA=1\r\n# B=2\n  C=3\n")
    lines = box.text("run", "--rm", "--env-file", str(settings), "busybox", "env").split("\n")
    assert {"A=1", "C=3"} < set(lines)
    for text in ("A B=1", "A =1", "A\tB=1", "=1"):
        settings.write_text(text)
        refused(box, "run", "--rm", "--env-file", str(settings), "busybox", "env")


def test_a_fifo_without_a_writer_is_given_up(
    box: Cli, busybox_archive: Path, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "a fifo that nothing wrote to" in refused(box, "load", "-i", str(fifo))
    with subprocess.Popen(["cp", busybox_archive, fifo]):
        box("load", "-i", fifo)


def test_a_terminal_without_i_takes_no_input(box: Cli) -> None:
    """`run -t` in the background of a shell must not eat what is typed to the shell."""
    reader, writer = os.pipe()
    os.write(writer, b"not for you\n")
    script = "read -t 1 line; echo got:$line"
    done = subprocess.run(
        box.argv("run", "--rm", "-t", "busybox", "sh", "-c", script),
        stdin=reader, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.stdout == b"got:\r\n"
    assert os.read(reader, 100) == b"not for you\n"
    os.close(reader)
    os.close(writer)


def test_a_real_time_caller_is_told_why_no_cgroup_takes_it(box: Cli) -> None:
    def real_time() -> None:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

    try:
        done = subprocess.run(
            box.argv("run", "--rm", "--cpus", "0.5", "busybox", "true"),
            capture_output=True, preexec_fn=real_time, timeout=SECONDS,
        )  # fmt: skip
    except subprocess.SubprocessError:
        pytest.skip("no real-time policy is to be had in this cgroup")
    if done.returncode:
        assert b"chrt --other" in done.stderr
        assert done.stderr.count(b"\n") == 1


NOT_HOST = "test ! -e /proc/1/root/lost+found; echo 1 > /proc/sys/kernel/printk_ratelimit"


@pytest.mark.parametrize(
    "option",
    [
        "--volume=/proc:/p", "--volume=/sys", "--volume=/etc", "--tmpfs=/sys", "--tmpfs=/etc",
        "--tmpfs=/../../tmp/x", "--volume={tmp}:/../../x", "--volume={tmp}:/sys/fs/cgroup",
        "--cap-add=all", "--workdir=/proc/self/fd/3/../..", "--cap-drop=ALL",
        "--volume={tmp}:/new\nline", "--shm-size=0", "--umask=0777", "--security-opt=seccomp=",
    ],
)  # fmt: skip
def test_options_that_leave_proc_read_only(box: Cli, tmp_path: Path, option: str) -> None:
    option = option.format(tmp=tmp_path)
    script = f"grep -q '^Seccomp:.2' /proc/self/status && echo filtered; {NOT_HOST}"
    done = box("run", "--rm", option, "busybox", "sh", "-c", script, status=1, timeout=SECONDS)
    assert done.stdout == b"filtered\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([""], 125), (["/"], 126), ([".."], 126), (["."], 126), (["/bin"], 126), (["nosuch"], 127),
        (["/etc/passwd"], 126), (["/etc/passwd/x"], 127), (["x" * 300], 126),
            (["/proc/self/fd/3"], 127), (["/proc/self/exe"], 126),
            (["/proc/thread-self/exe", "x"], 126), (["/proc/1/exe", "0"], 126),
        (["/dev/null"], 126), (["sh", "-c", "exit 300"], 44), (["sh", "-c", "kill -9 $$"], 0),
        ([b"\xff\xfe"], 127),
    ],
)  # fmt: skip
def test_commands(box: Cli, words: list[str], status: int) -> None:
    done = box("run", "--rm", "busybox", *words, status=None, timeout=SECONDS)
    assert done.returncode == status or words == ["x" * 300], done
    if status >= 125:
        assert done.stderr.count(b"\n") == 1


def test_arguments_too_long_for_the_kernel(box: Cli, tmp_path: Path) -> None:
    """More than exec takes, by a way that is not bounded by our own exec: a file."""
    options = []
    for number in range(6):
        settings = tmp_path / str(number)
        settings.write_text("".join(f"V{number}{n}={'x' * 100_000}\n" for n in range(9)))
        options += ["--env-file", str(settings)]
    done = box("run", "--rm", *options, "busybox", "/bin/true", status=None, timeout=SECONDS)
    assert done.returncode in (125, 126)
    assert done.stderr.count(b"\n") == 1
    assert len(done.stderr) < 5000
    assert b"too long" in done.stderr


@pytest.mark.parametrize(
    "options",
    [["--user", "nosuch"], ["--user", "-1"], ["--user", "4294967296"], ["--user", "root:nosuch"],
     ["-w", "relative"], ["-w", "/proc/self/fd/7"], ["-w", "/proc/1/cwd"], ["-w", "/etc/passwd"],
     ["-e", "=x"], ["--env-file", "/dev/zero"]],
)  # fmt: skip
def test_exec_refuses_as_run_does(box: Cli, options: list[str]) -> None:
    box("run", "-d", "--name", "there", "busybox", "sleep", "100")
    refused(box, "exec", *options, "there", "id")
    assert box("exec", "there", "true").returncode == 0


def test_verbs_in_the_wrong_state(box: Cli) -> None:
    box("create", "--name", "made", "busybox", "true")
    box("run", "-d", "--name", "done", "busybox", "true")
    box("wait", "done")
    for name in ("made", "done"):
        for words in (["exec", name, "true"], ["pause", name], ["unpause", name], ["kill", name],
                      ["top", name]):  # fmt: skip
            refused(box, *words)
    box("run", "-d", "--name", "live", "busybox", "sleep", "100")
    box("pause", "live")
    for words in (["exec", "live", "true"], ["pause", "live"], ["rm", "live"]):
        refused(box, *words)
    for word in ("", "../live", "*", "li", "l/ive", "nosuch", "\x1b[2J", "0" * 64):
        for verb in (["exec", word, "true"], ["stop", word], ["rm", word], ["logs", word],
                     ["rename", word, "new"], ["inspect", word]):  # fmt: skip
            refused(box, *verb)
    for name in ("-x", "b/c", "live", "", "a\nb", "done"):
        refused(box, "rename", "--", "live", name)


def test_no_listing_prints_what_a_terminal_obeys(box: Cli) -> None:
    evil = "\x1b]0;owned\x07\x1b[31m\x9b2J\r\n\x7f\u202e"
    box(
        "run", "-d", "--name", "evil", "--label", f"a{evil}=b{evil}", "-e", f"X={evil}",
        "--annotation", f"k{evil}=v", "busybox", "sh", "-c", f"# {evil}\nsleep 100",
    )  # fmt: skip
    for words in (
        ["ps", "-a"], ["ps", "-a", "--no-trunc"], ["ps", "-a", "--format", "json"], ["inspect",
            "evil"],
        ["top", "evil"], ["stats", "--no-stream", "evil"], ["images"], ["history", "busybox"],
        ["info"],
    ):  # fmt: skip
        shown = box(*words).stdout.decode()
        for letter in "\x1b\x07\x9b\r\x7f\u202e":
            assert letter not in shown, (words, letter)


def test_files_that_exist_are_not_overwritten(box: Cli, tmp_path: Path) -> None:
    canary = Canary(tmp_path / "canary")
    (tmp_path / "link").symlink_to(canary.path / "new")
    (tmp_path / "full").symlink_to(canary.path / "victim")
    for place in (tmp_path / "link", tmp_path / "full", canary.path / "victim", "/dev/full"):
        refused(box, "run", "--rm", "--cidfile", str(place), "busybox", "true")
    assert canary.untouched()


def test_profiles_with_wrong_values(box: Cli, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    os.mkfifo(tmp_path / "fifo")
    refused(box, "run", "--rm", "--security-opt", f"seccomp={tmp_path}/fifo", "busybox", "true")
    rule = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"%s"%s}]}'
    for text in (
        "", "[]", "{", "[" * 100_000, '{"defaultAction":1}', '{"defaultAction":"X"}', "{}",
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":5}',
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[5]}',
        '{"defaultAction":"SCMP_ACT_ALLOW","archMap":[1]}',
        '{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_NOPE"]}',
        '{"defaultAction":"SCMP_ACT_NOTIFY"}', rule % ("SCMP_ACT_NOTIFY", ""),
        rule % ("SCMP_ACT_ERRNO", ',"args":[{"index":9,"value":1,"op":"SCMP_CMP_EQ"}]'),
        rule % ("SCMP_ACT_ERRNO", ',"args":[{"index":0,"value":-1,"op":"SCMP_CMP_EQ"}]'),
        rule % ("SCMP_ACT_ERRNO", ',"errnoRet":70000'), rule % ("SCMP_ACT_ERRNO", ',"includes":5'),
        rule % ("SCMP_ACT_ERRNO", ',"includes":{"minKernel":"x.y"}'),
    ):  # fmt: skip
        profile.write_text(text)
        refused(box, "run", "--rm", "--security-opt", f"seccomp={profile}", "busybox", "true")


def test_a_terminal_of_the_caller_takes_no_input_from_inside(box: Cli) -> None:
    """TIOCSTI on an inherited terminal would type into the caller's shell (CVE-2017-5226)."""
    import pty

    leader, follower = pty.openpty()
    subprocess.run(
        box.argv("run", "--rm", "-i", "busybox", "sh", "-c", "exec 3<>/dev/tty; echo $?"),
        stdin=follower, capture_output=True, timeout=SECONDS,
        start_new_session=True,
    )  # fmt: skip
    # The container has a session of its own: the terminal is not its controlling one.
    done = subprocess.run(
        box.argv("run", "--rm", "-i", "busybox", "sh", "-c", "cat /dev/tty"),
        stdin=follower, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode != 0
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize("where", ["deleted", "unreadable", "root"])
def test_odd_working_directories_of_the_caller(box: Cli, tmp_path: Path, where: str) -> None:
    place = tmp_path / "cwd"
    place.mkdir()

    def move() -> None:
        os.chdir("/" if where == "root" else place)
        if where == "deleted":
            place.rmdir()
        elif where == "unreadable":
            place.chmod(0)
        os.umask(0o777)

    for words in (["run", "--rm", "busybox", "sh", "-c", "pwd; umask"], ["ps", "-a"], ["images"]):
        done = subprocess.run(
            box.argv(*words), capture_output=True, preexec_fn=move if place.exists() else None,
            timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done
        if words[0] == "run":
            assert done.stdout == b"/\n0022\n"


def test_an_empty_or_hostile_environment(box: Cli, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('taken over')\n")
    (tmp_path / "pycontain.py").write_text("raise SystemExit('taken over')\n")
    evil = {name: str(tmp_path) for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "HOME")}
    evil |= {"PYTHONINSPECT": "1", "PYTHONWARNINGS": "error", "LC_ALL": "C", "TZ": "../../x"}
    for environment in ({}, {"PATH": ""}, evil):
        done = subprocess.run(
            box.argv("run", "--rm", "busybox", "env"), env=environment, cwd=tmp_path,
            capture_output=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done
        assert b"PYTHON" not in done.stdout
        assert str(tmp_path).encode() not in done.stdout
