"""What a default container may see and do, told from inside by tests/guest/probe.c."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import CHECKOUT, Cli

pytestmark = pytest.mark.root

DOCKER_CAPABILITIES = 0xA80425FB
PODMAN_CAPABILITIES = 0x800405FB
Facts = dict[str, list[str]]


@pytest.fixture(scope="module")
def probe_cli(
    compiler: str, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cli]:
    base = tmp_path_factory.mktemp("probe")
    binary = base / "probe"
    source = CHECKOUT / "tests/guest/probe.c"
    subprocess.run([compiler, "-static", "-O1", "-Wall", "-o", binary, source], check=True)
    rootfs = base / "rootfs.tar"
    with tarfile.open(rootfs, "w") as tar:
        tar.add(binary, "probe")
        passwd = tarfile.TarInfo("etc/passwd")
        content = b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"
        passwd.size = len(content)
        tar.addfile(passwd, io.BytesIO(content))
    cli = Cli(base / "data", base / "state", {"PROBE_SECRET": "leak"})
    cli("import", rootfs, "probe")
    yield cli
    cli.remove_all()


def facts_of(output: bytes) -> Facts:
    facts: Facts = defaultdict(list)
    for line in output.decode().splitlines():
        key, _, value = line.partition(" ")
        facts[key].append(value)
    assert facts["end"] == ["ok"], "the probe did not come to its end"
    return facts


@pytest.fixture(scope="module")
def facts(probe_cli: Cli) -> Facts:
    """Facts of a default container; the caller holds extra descriptors open."""
    leak = os.open("/etc/passwd", os.O_RDONLY)
    os.dup2(leak, 77)
    os.set_inheritable(77, True)
    try:
        argv = probe_cli.argv("run", "--rm", "probe", "/probe")
        done = subprocess.run(
            argv,
            capture_output=True,
            timeout=60,
            pass_fds=[77],
            env={**os.environ, **probe_cli.env},
        )
    finally:
        os.close(leak)
        os.close(77)
    assert done.returncode == 0, done.stderr
    return facts_of(done.stdout)


@pytest.fixture(scope="module")
def user_facts(probe_cli: Cli) -> Facts:
    return facts_of(probe_cli("run", "--rm", "--user", "1000", "probe", "/probe").stdout)


def capability_set(facts: Facts, name: str) -> int:
    return int(facts[f"status.Cap{name}"][0], 16)


def test_bounding_set_is_within_podmans_eleven(facts: Facts) -> None:
    bounding = capability_set(facts, "Bnd")
    assert bounding & ~DOCKER_CAPABILITIES == 0
    assert bounding & ~PODMAN_CAPABILITIES == 0


def test_effective_and_permitted_lie_within_bounding(facts: Facts) -> None:
    bounding = capability_set(facts, "Bnd")
    assert capability_set(facts, "Eff") & ~bounding == 0
    assert capability_set(facts, "Prm") & ~bounding == 0
    assert capability_set(facts, "Eff") != 0


def test_inheritable_and_ambient_are_empty(facts: Facts) -> None:
    assert capability_set(facts, "Inh") == 0
    assert capability_set(facts, "Amb") == 0


def test_an_ordinary_user_has_no_capability(user_facts: Facts) -> None:
    for name in ("Prm", "Eff", "Inh", "Amb"):
        assert capability_set(user_facts, name) == 0


def test_seccomp_filter_and_no_new_privileges_are_on(facts: Facts) -> None:
    assert facts["status.Seccomp"] == ["2"]
    assert facts["status.NoNewPrivs"] == ["1"]


REFUSED = """
unshare-user clone-user unshare-ns mount umount2 pivot_root open_tree fsopen move_mount
mount_setattr init_module finit_module delete_module kexec_load reboot swapon swapoff add_key keyctl
request_key bpf perf_event_open userfaultfd open_by_handle_at io_uring_setup settimeofday
sethostname syslog acct quotactl mbind kcmp fanotify_init personality-addr iopl ioperm""".split()


@pytest.mark.parametrize("call", REFUSED)
def test_refused(facts: Facts, call: str) -> None:
    assert facts[f"call.{call}"] in ([str(errno.EPERM)], [str(errno.ENOSYS)])


def test_the_x32_table_is_foreign(facts: Facts) -> None:
    assert facts["call.x32-mount"] in (["signal-31"], [str(errno.EPERM)], [str(errno.ENOSYS)])


def test_clone3_is_unknown_so_that_libc_falls_back(facts: Facts) -> None:
    assert facts["call.clone3"] == [str(errno.ENOSYS)]


def test_a_call_newer_than_the_profile_is_unknown(facts: Facts) -> None:
    assert facts["call.future"] == [str(errno.ENOSYS)]


def test_the_i386_table_is_filtered(facts: Facts) -> None:
    if "i386.signal" in facts:
        return
    refused = {str(-errno.EPERM), str(-errno.ENOSYS)}
    assert facts["i386.mount"][0] in refused
    assert facts["i386.unshare-user"][0] in refused


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        ("statx", "ok"),
        ("openat2", "ok"),
        ("faccessat2", "ok"),
        ("close_range", "ok"),
        ("memfd_create", "ok"),
        ("pidfd_open", "ok"),
        ("landlock", "ok"),
        ("futex_waitv", str(errno.EINVAL)),
        ("epoll_pwait2", str(errno.EBADF)),
        ("fchmodat2", str(errno.ENOENT)),
        ("chown", "ok"),
        ("chroot", "ok"),
        ("setgroups", "ok"),
    ],
)
def test_not_over_blocked(facts: Facts, call: str, allowed: str) -> None:
    if facts[f"good.{call}"][0] == str(errno.EOPNOTSUPP):
        pytest.skip(f"this kernel has no {call}")
    assert facts[f"good.{call}"] in ([allowed], [str(errno.EINVAL)])


def test_socket_families(facts: Facts) -> None:
    assert facts["socket.alg"][0] not in ("ok",)
    assert facts["socket.vsock"][0] not in ("ok",)
    assert facts["socket.inet"] == ["ok"]
    assert facts["socket.raw"] == [str(errno.EPERM)]


def test_masked_paths_read_empty(facts: Facts) -> None:
    readable = [
        key for key, value in facts.items() if key.startswith("masked.") and value == ["readable"]
    ]
    assert readable == []


@pytest.mark.parametrize("tree", ["proc-sys", "proc-irq", "proc-bus", "sys"])
def test_nothing_in_the_tree_is_writable(facts: Facts, tree: str) -> None:
    assert facts.get(f"writable.{tree}", []) == []
    assert facts["open.sysrq-trigger"] != ["ok"]


@pytest.mark.parametrize("name", "disk sda loop mem kmsg fuse kvm tun".split())
def test_a_self_made_device_node_does_not_open(facts: Facts, name: str) -> None:
    assert facts[f"node.{name}"] != ["opened"]


def test_mounts_are_the_containers_own(facts: Facts) -> None:
    points: dict[str, tuple[str, str, str]] = {}
    for line in facts["mount"]:
        left, _, right = line.partition(" - ")
        fields = left.split()
        points[fields[4]] = (right.split()[0], fields[5], right.split()[1])
    assert points["/proc"][0] == "proc"
    assert {"nosuid", "nodev", "noexec"} <= set(points["/proc"][1].split(","))
    allowed = {
        "overlay",
        "proc",
        "tmpfs",
        "devpts",
        "sysfs",
        "mqueue",
        "cgroup",
        "cgroup2",
        "devtmpfs",
    }
    foreign = {
        point
        for point, (kind, _, _) in points.items()
        if kind not in allowed and point not in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    }
    assert foreign == set()


def test_devices_are_the_standard_ones(facts: Facts) -> None:
    standard = set(
        "null zero full random urandom tty ptmx fd stdin stdout stderr shm mqueue pts".split()
    )
    assert set(facts["dev"]) - {"core", "console"} == standard


def test_only_its_own_processes_are_visible(facts: Facts) -> None:
    assert facts["pid"] == ["1"]


def test_no_descriptor_and_no_environment_leaks(facts: Facts) -> None:
    assert [key for key in facts if key.startswith("fd.")] == []
    names = {entry.partition("=")[0] for entry in facts["env"]}
    assert names == {"PATH", "HOSTNAME", "HOME"}


def test_no_signal_is_ignored_or_blocked(facts: Facts) -> None:
    assert "ignored" not in facts
    assert int(facts["status.SigBlk"][0], 16) == 0
    assert int(facts["status.SigIgn"][0], 16) == 0


def test_the_hostname_is_not_the_hosts(facts: Facts) -> None:
    assert facts["hostname"][0] != os.uname().nodename
    assert len(facts["hostname"][0]) == 12


def test_exec_holds_the_same_bounds(probe_cli: Cli, facts: Facts) -> None:
    identity = probe_cli.text("run", "-d", "probe", "/probe", "wait").strip()
    inside = facts_of(probe_cli("exec", identity, "/probe").stdout)
    for name in ("Bnd", "Eff", "Prm", "Inh", "Amb"):
        assert capability_set(inside, name) == capability_set(facts, name)
    assert inside["status.Seccomp"] == ["2"]
    assert [key for key in inside if key.startswith("fd.")] == []
    assert inside["call.unshare-user"] in ([str(errno.EPERM)], [str(errno.ENOSYS)])
