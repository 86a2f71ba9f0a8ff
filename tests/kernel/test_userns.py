"""`--userns` of root: a range of ids for each container, layers seen through id-mapped mounts."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hostile import busybox_entries, docker_archive, file, layer
from support import CHECKOUT, Cli, with_subordinate_ids

pytestmark = pytest.mark.root

FIRST, LAST = 0x1000_0000, 0x7000_0000


@pytest.fixture(autouse=True, scope="module")
def _id_mapped_layers(box_roots: Cli) -> None:
    """Skip where the kernel or the file system has no id-mapped layers; the refusal names them."""
    done = box_roots("run", "--rm", "--userns", "auto", "busybox", "true", status=None)
    if done.returncode:
        assert b"Linux 5.19" in done.stderr or b"id-mapped" in done.stderr, done.stderr
        pytest.skip("needs Linux 5.19 and a file system with id-mapped mounts")


@pytest.fixture(scope="module")
def box_roots(loaded_roots: Cli) -> Cli:
    return loaded_roots


@pytest.fixture
def share() -> Iterator[Path]:
    """A directory everybody may reach and write."""
    path = Path(tempfile.mkdtemp(prefix="pc-userns-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def mapped(cli: Cli, *args: str, mode: str = "auto") -> str:
    return cli.text("run", "--rm", "--userns", mode, *args)


def shell(cli: Cli, script: str, *args: str, mode: str = "auto") -> str:
    return mapped(cli, *args, "busybox", "sh", "-c", script, mode=mode)


def uid_map(text: str) -> tuple[int, int, int]:
    inside, outside, size = map(int, text.split()[:3])
    return inside, outside, size


def left(cli: Cli) -> list[Path]:
    places = [cli.data / "containers", cli.data / "names", cli.state / "locks"]
    return [entry for place in places if place.exists() for entry in place.iterdir()]


def test_root_inside_is_nobody_outside(box: Cli) -> None:
    out = shell(box, "id -u; id -g; cat /proc/self/uid_map; cat /proc/self/gid_map").split()
    assert out[:2] == ["0", "0"]
    assert out[2:5] == out[5:8]
    inside, outside, size = map(int, out[2:5])
    assert (inside, size) == (0, 65536)
    assert FIRST <= outside < LAST or outside > 0


def test_the_hosts_ids_are_kept_by_default(box: Cli) -> None:
    whole = "0 0 4294967295"
    assert box.text("run", "--rm", "busybox", "cat", "/proc/self/uid_map").split() == whole.split()
    assert shell(box, "cat /proc/self/uid_map", mode="host").split() == whole.split()


def test_private_is_auto(box: Cli) -> None:
    inside, outside, size = uid_map(shell(box, "cat /proc/self/uid_map", mode="private"))
    assert (inside, size) == (0, 65536)
    assert outside


def test_a_range_that_was_asked_for(box: Cli) -> None:
    script = "cat /proc/self/uid_map /proc/self/gid_map; id -u"
    out = shell(box, script, mode="300000:400000:1000").split()
    assert out == ["0", "300000", "1000", "0", "400000", "1000", "0"]


@pytest.mark.parametrize(
    "mode",
    ["1:2", "a:b:c", "0:0:0", "4294967000:0:65536", "-1:0:1", "nonsense", "1:2:3:4", "²:1:1"],
)
def test_a_range_that_is_none_is_refused(box: Cli, mode: str) -> None:
    done = box("run", "--rm", "--userns", mode, "busybox", "true", status=125)
    assert done.stderr.count(b"\n") == 1
    assert b"--userns" in done.stderr
    assert left(box) == []


@pytest.mark.parametrize("mode", ["keep-id", "nomap"])
def test_modes_of_ordinary_users_are_refused_to_root(box: Cli, mode: str) -> None:
    done = box("run", "--rm", "--userns", mode, "busybox", "true", status=125)
    assert b"ordinary users" in done.stderr


def test_a_user_outside_of_the_range_is_refused(box: Cli) -> None:
    done = box(
        "run", "--rm", "--user", "5000", "--userns", "300000:300000:1000", "busybox", "true",
        status=125,
    )  # fmt: skip
    assert b"outside of its 1000 ids" in done.stderr
    assert left(box) == []


def test_files_of_the_image_belong_to_root_inside(box: Cli) -> None:
    script = "stat -c %u:%g / /etc/passwd /bin /etc/hosts /etc/hostname /etc/resolv.conf"
    assert set(shell(box, script).split()) == {"0:0"}


def test_the_root_file_system_is_writable(box: Cli) -> None:
    script = """
        echo x > /new && mkdir /d && mv /new /d/moved && rm /etc/passwd && ln -s a /l
        chown 5:6 /d/moved && stat -c %u:%g /d/moved && echo y >> /etc/group && tail -n 1 /etc/group
    """
    assert shell(box, script).split() == ["5:6", "y"]


def test_files_on_disk_have_the_ids_they_have_inside(box: Cli) -> None:
    box("run", "--name", "disk", "--userns", "auto", "busybox", "sh", "-c",
        "touch /a; touch /b; chown 7:8 /b")  # fmt: skip
    (upper,) = (box.data / "containers").glob("*/upper")
    for name, owner in (("a", (0, 0)), ("b", (7, 8))):
        status = (upper / name).stat()
        assert (status.st_uid, status.st_gid) == owner
    box("rm", "disk")
    assert left(box) == []


def test_a_bound_directory_shows_the_mapped_owner_on_the_host(box: Cli, share: Path) -> None:
    out = shell(box, "touch /s/f; cat /proc/self/uid_map; stat -c %u /s", "-v", f"{share}:/s")
    _, outside, _ = uid_map(out)
    status = (share / "f").stat()
    assert (status.st_uid, status.st_gid) == (outside, outside)
    # What the user binds stays as it is: the host's root is nobody inside.
    assert out.split()[3] == "65534"
    assert share.stat().st_uid == 0


def test_files_of_the_hosts_root_are_out_of_reach(box: Cli, share: Path) -> None:
    (share / "secret").write_text("x")
    (share / "secret").chmod(0o600)
    script = "cat /s/secret; chmod 777 /s/secret; chown 0 /s/secret; true"
    assert shell(box, script, "-v", f"{share}:/s") == ""
    assert stat.S_IMODE((share / "secret").stat().st_mode) == 0o600


def test_a_new_volume_belongs_to_the_containers_root(box: Cli) -> None:
    out = shell(box, "stat -c %u /v && touch /v/f && cat /proc/self/uid_map", "-v", "mine:/v")
    assert out.split()[0] == "0"
    _, outside, _ = uid_map(out.partition("\n")[2])
    data = box.data / "volumes/mine/_data"
    assert data.stat().st_uid == (data / "f").stat().st_uid == outside


def test_a_new_volume_with_files_of_the_image(box: Cli) -> None:
    out = shell(box, "stat -c %u:%g /etc /etc/passwd; rm /etc/passwd && ls /etc", "-v", "fill:/etc")
    assert out.split()[:2] == ["0:0", "0:0"]
    assert "passwd" not in out.split()[2:]


def test_a_volume_that_is_in_use_is_left_alone(box: Cli) -> None:
    box("run", "--rm", "-v", "used:/v", "busybox", "touch", "/v/f")
    assert shell(box, "stat -c %u /v /v/f", "-v", "used:/v").split() == ["65534", "65534"]
    assert (box.data / "volumes/used/_data/f").stat().st_uid == 0


def test_two_containers_of_one_image_have_ranges_of_their_own(box: Cli) -> None:
    starts = []
    for name in ("one", "two", "three"):
        box("run", "-d", "--name", name, "--userns", "auto", "busybox", "sleep", "60")
        starts.append(uid_map(box.text("exec", name, "cat", "/proc/self/uid_map"))[1])
        assert box.text("exec", name, "stat", "-c", "%u", "/etc/passwd") == "0\n"
    starts.sort()
    assert all(high - low >= 65536 for low, high in pairwise(starts))


def test_exec_joins_the_user_namespace(box: Cli) -> None:
    box("run", "-d", "--name", "back", "--userns", "auto", "busybox", "sleep", "60")
    script = "id -u; readlink /proc/self/ns/user; readlink /proc/1/ns/user; echo > /made"
    out = box.text("exec", "back", "sh", "-c", script).split()
    assert out[0] == "0"
    assert out[1] == out[2] != os.readlink("/proc/self/ns/user")
    assert box.text("exec", "--user", "5:6", "back", "id", "-u") == "5\n"
    assert b"/dev/pts/" in box("exec", "-t", "back", "tty").stdout


def test_a_detached_container_keeps_its_range_when_started_again(box: Cli) -> None:
    script = "cat /proc/self/uid_map; touch /kept; stat -c %u /kept; sleep 60"
    box("run", "-d", "--name", "again", "--userns", "auto", "busybox", "sh", "-c", script)
    before = uid_map(box.text("exec", "again", "cat", "/proc/self/uid_map"))
    box("stop", "-t", "0", "again")
    box("start", "again")
    assert uid_map(box.text("exec", "again", "cat", "/proc/self/uid_map")) == before
    assert box.text("exec", "again", "stat", "-c", "%u", "/kept") == "0\n"
    box("rm", "-f", "again")
    assert left(box) == []


def test_the_log_pipe_can_be_opened_by_its_name(box: Cli) -> None:
    box("run", "-d", "--name", "log", "--userns", "auto", "busybox", "sh", "-c",
        "echo by-name > /dev/stdout; echo also > /dev/stderr")  # fmt: skip
    box("wait", "log")
    assert box.text("logs", "log") == "by-name\n"


def test_a_limit_holds(box: Cli) -> None:
    script = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo made"
    done = box("run", "--rm", "--pids-limit", "10", "--userns", "auto", "busybox", "sh", "-c",
               script, status=None)  # fmt: skip
    assert done.returncode != 0
    assert b"made" not in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ("--pid", "host"), ("--uts", "host"), ("--network", "host"), ("--cgroupns", "host"),
        ("--read-only",), ("--init",), ("--user", "5:6"), ("--device", "/dev/null:/dev/null"),
        ("--tmpfs", "/t"), ("--time-offset", "boottime=1000s"), ("--shm-size", "1m"),
    ],
    ids=lambda options: " ".join(options),
)  # fmt: skip
def test_together_with(box: Cli, options: tuple[str, ...]) -> None:
    _, outside, size = uid_map(mapped(box, *options, "busybox", "cat", "/proc/self/uid_map"))
    assert outside
    assert size == 65536


def test_privileged_is_refused(box: Cli) -> None:
    done = box("run", "--rm", "--privileged", "--userns", "auto", "busybox", "true", status=125)
    assert b"--privileged" in done.stderr


def test_namespaces_of_others_are_refused(box: Cli) -> None:
    box("run", "-d", "--name", "other", "busybox", "sleep", "60")
    for option in ("--network", "--ipc", "--pid"):
        done = box("run", "--rm", "--userns", "auto", option, "container:other", "busybox", "true",
                   status=125)  # fmt: skip
        assert b"another user namespace" in done.stderr


def test_a_device_under_another_path_is_refused(box: Cli) -> None:
    done = box("run", "--rm", "--userns", "auto", "--device", "/dev/null:/dev/other", "busybox",
               "true", status=125)  # fmt: skip
    assert b"--device /dev/null:/dev/other" in done.stderr


def test_another_runtime_is_refused(box: Cli) -> None:
    done = box("run", "--rm", "--userns", "auto", "--runtime", "sh", "busybox", "true", status=125)
    assert b"--userns" in done.stderr


def test_a_failed_start_leaves_nothing(box: Cli, share: Path) -> None:
    box("run", "--rm", "--userns", "auto", "busybox", "nosuch", status=127)
    below_a_file = f"{share}:/etc/passwd/x"
    box("run", "--rm", "--userns", "auto", "-v", below_a_file, "busybox", "true", status=125)
    assert left(box) == []
    assert str(box.data) not in Path("/proc/self/mountinfo").read_text()


def granted(box: Cli, rows: str, *args: str) -> str:
    """Run pycontain where /etc/subuid and /etc/subgid hold `rows`."""
    argv = [*with_subordinate_ids(rows), *box.argv(*args)]
    return subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout.decode()


def test_the_range_granted_to_containers_comes_first(box: Cli) -> None:
    rows = "someone:100000:65536\ncontainers:700000:131072\n"
    starts = []
    for name in ("one", "two", "three"):
        granted(
            box, rows, "run", "-d", "--name", name, "--userns", "auto", "busybox", "sleep", "60"
        )
        starts.append(uid_map(box.text("exec", name, "cat", "/proc/self/uid_map"))[1])
    assert starts[:2] == [700000, 765536]
    assert starts[2] >= FIRST


def test_a_range_that_is_asked_for_is_left_out_by_auto(box: Cli) -> None:
    box("run", "-d", "--name", "asked", "--userns", "700001:700001:5", "busybox", "sleep", "60")
    out = granted(box, "containers:700000:131072\n", "run", "--rm", "--userns", "auto", "busybox",
                  "cat", "/proc/self/uid_map")  # fmt: skip
    assert uid_map(out)[1] == 765536


BECOME = """
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("%d %d\\n", getuid(), geteuid()); fflush(stdout); sleep(60); return 0; }
"""


def test_setuid_in_the_image_gives_the_containers_root_only(
    cli: Cli, tmp_path: Path, compiler: str
) -> None:
    (tmp_path / "become.c").write_text(BECOME)
    built = tmp_path / "become"
    subprocess.run([compiler, "-static", "-o", built, tmp_path / "become.c"], check=True)
    entries = [*busybox_entries(), file("bin/become", built.read_bytes(), mode=0o4755)]
    cli("load", "-i", docker_archive(tmp_path / "image.tar", [layer(entries)]))
    cli("run", "-d", "--name", "suid", "--userns", "500000:600000:65536", "--user", "1000",
        "--security-opt", "no-new-privileges=false", "hostile", "/bin/become")  # fmt: skip
    deadline = time.monotonic() + 10
    while not (told := cli.text("logs", "suid")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert told == "1000 0\n"
    pid = json.loads(cli.text("inspect", "suid"))[0]["State"]["Pid"]
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("Uid:"))
    assert line.split()[1:] == ["501000", "500000", "500000", "500000"]


def test_an_image_of_127_layers(cli: Cli, tmp_path: Path) -> None:
    layers = [layer(busybox_entries())]
    layers += [layer([file(f"f{n}", b"x"), file("last", b"%d" % n)]) for n in range(126)]
    cli("load", "-i", docker_archive(tmp_path / "image.tar", layers))
    script = "cat /last; echo; stat -c %u /f0 /f125 | sort -u; ls / | grep -c ^f"
    out = mapped(cli, "hostile", "sh", "-c", script).split()
    assert out == ["125", "0", "126"]


# the probe


@pytest.fixture(scope="module")
def facts(
    compiler: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[str]]]:
    base = tmp_path_factory.mktemp("probe-userns")
    source = CHECKOUT / "tests/guest/probe.c"
    subprocess.run([compiler, "-static", "-O1", "-o", base / "probe", source], check=True)
    with tarfile.open(base / "rootfs.tar", "w") as tar:
        tar.add(base / "probe", "probe")
        entry, text = tarfile.TarInfo("etc/passwd"), b"root:x:0:0::/root:/bin/sh\n"
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    cli = Cli(base / "data", base / "state")
    cli("import", base / "rootfs.tar", "probe")
    found: dict[str, list[str]] = defaultdict(list)
    for line in mapped(cli, "probe", "/probe").splitlines():
        key, _, value = line.partition(" ")
        found[key].append(value)
    yield found
    cli.remove_all()


def test_the_probe_finds_the_same_bounds(facts: dict[str, list[str]]) -> None:
    assert facts["end"] == ["ok"]
    assert int(facts["status.CapBnd"][0], 16) == 0x800405FB
    assert int(facts["status.CapInh"][0], 16) == int(facts["status.CapAmb"][0], 16) == 0
    assert facts["status.Seccomp"] == ["2"]
    assert facts["status.NoNewPrivs"] == ["1"]
    assert facts["pid"] == ["1"]


def test_the_probe_gets_no_further_by_calls(facts: dict[str, list[str]]) -> None:
    calls = [key for key in facts if key.startswith("call.")]
    assert len(calls) > 20
    allowed = [key for key in calls if facts[key] in (["ok"], ["0"])]
    assert allowed == ["call.personality-query"]


def test_the_probe_writes_nothing_of_the_kernels(facts: dict[str, list[str]]) -> None:
    for tree in ("proc-sys", "proc-irq", "proc-bus", "sys"):
        assert facts.get(f"writable.{tree}", []) == []
    assert [k for k, v in facts.items() if k.startswith("masked.") and v == ["readable"]] == []
    assert [k for k, v in facts.items() if k.startswith("node.") and v == ["opened"]] == []
    assert [k for k in facts if k.startswith("fd.")] == []


def test_the_probe_sees_the_standard_devices(facts: dict[str, list[str]]) -> None:
    standard = "null zero full random urandom tty ptmx fd stdin stdout stderr shm mqueue pts"
    assert set(facts["dev"]) - {"core", "console"} == set(standard.split())
