"""Resources: each knob reaches the kernel, `update` changes it, `events` reports it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root

UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
LIMIT = 64 << 20

KNOBS: list[tuple[str, dict[str, Any], tuple[str, str, str], tuple[str, str]]] = [
    # name, resources, (v1 controller, file, content), (v2 file, content)
    (
        "memory", {"memory": {"limit": LIMIT}},
        ("memory", "memory.limit_in_bytes", str(LIMIT)), ("memory.max", str(LIMIT)),
    ),
    (
        "reservation", {"memory": {"reservation": LIMIT}},
        ("memory", "memory.soft_limit_in_bytes", str(LIMIT)), ("memory.low", str(LIMIT)),
    ),
    ("pids", {"pids": {"limit": 20}}, ("pids", "pids.max", "20"), ("pids.max", "20")),
    ("shares", {"cpu": {"shares": 512}}, ("cpu", "cpu.shares", "512"), ("cpu.weight", "")),
    (
        "quota", {"cpu": {"quota": 50000, "period": 100000}},
        ("cpu", "cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"),
    ),
    (
        "period", {"cpu": {"quota": 50000, "period": 200000}},
        ("cpu", "cpu.cfs_period_us", "200000"), ("cpu.max", "50000 200000"),
    ),
    ("cpus", {"cpu": {"cpus": "0"}}, ("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    ("mems", {"cpu": {"mems": "0"}}, ("cpuset", "cpuset.mems", "0"), ("cpuset.mems", "0")),
    ("unlimited pids", {"pids": {"limit": -1}}, ("pids", "pids.max", "max"), ("pids.max", "max")),
]  # fmt: skip


def cgroup_file(path: str, v1: tuple[str, str, str], v2: tuple[str, str]) -> Path:
    if UNIFIED:
        return Path(f"/sys/fs/cgroup{path}/{v2[0]}")
    return Path(f"/sys/fs/cgroup/{v1[0]}{path}/{v1[1]}")


@pytest.fixture
def path(bundle: Bundle, tmp_path: Path) -> str:
    path = f"/pycontain-conformance/{tmp_path.name}-{os.getpid()}"
    bundle.linux["cgroupsPath"] = path
    return path


def as_mounted(place: str) -> str:
    """Return a path of /proc/PID/cgroup below what is mounted: in a container, its own cgroup."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    top = next(line.split()[3] for line in lines if " - cgroup" in line)
    return place.removeprefix(top.rstrip("/"))


def cgroups_of(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {as_mounted(line.split(":", 2)[2]) for line in lines}


@pytest.mark.parametrize(("name", "resources", "v1", "v2"), KNOBS)
def test_a_limit_reaches_the_kernel(
    oci: Oci, bundle: Bundle, path: str, name: str, resources: dict, v1: tuple, v2: tuple
) -> None:
    bundle.linux["resources"] = resources
    oci.running(bundle)
    wanted = v2[1] if UNIFIED else v1[2]
    found = cgroup_file(path, v1, v2).read_text().strip()
    assert found == wanted or not wanted


def test_an_absolute_cgroups_path_is_that_path(oci: Oci, bundle: Bundle, path: str) -> None:
    oci.running(bundle)
    found = cgroups_of(oci.state()["pid"])
    assert path in found


def test_a_relative_cgroups_path_ends_the_path(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    path = f"pycontain-relative/{tmp_path.name}-{os.getpid()}"
    bundle.linux["cgroupsPath"] = path
    oci.running(bundle)
    found = cgroups_of(oci.state()["pid"])
    assert any(p.endswith(path) for p in found)
    if oci.name == "pycontain-oci":
        # Below a place of our own: its name may be one of the host's.
        assert f"/pycontain/{path}" in found


def test_the_default_path_ends_in_the_id(oci: Oci, bundle: Bundle) -> None:
    del bundle.linux["cgroupsPath"]
    name = f"default-path-{os.getpid()}"
    oci.running(bundle, name)
    assert any(p.endswith("/" + name) for p in cgroups_of(oci.state(name)["pid"]))


@pytest.mark.lacks(runc="new in 1.2", crun="only with --all")
def test_kill_without_a_pid_namespace_ends_every_process(
    oci: Oci, bundle: Bundle, path: str
) -> None:
    bundle.without_namespace("pid")
    bundle.shell("sleep 50 & sleep 50 & wait")
    oci.running(bundle)
    pids = json.loads(oci("ps", "--format", "json", "one").out)
    oci("kill", "one", "KILL")
    oci.wait("one")
    deadline = time.monotonic() + 5
    while any(_command(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_containers_without_path_do_not_share(oci: Oci, bundle: Bundle) -> None:
    other = oci.bundle()
    del bundle.linux["cgroupsPath"], other.linux["cgroupsPath"]
    names = [f"first-{os.getpid()}", f"second-{os.getpid()}"]
    oci.running(bundle, names[0])
    oci.running(other, names[1])
    first, second = [cgroups_of(oci.state(name)["pid"]) for name in names]
    assert not {p for p in first & second if str(os.getpid()) in p}


def test_the_cgroup_is_gone_after_delete(oci: Oci, bundle: Bundle, path: str) -> None:
    oci.running(bundle)
    oci("delete", "--force", "one")
    assert list(Path("/sys/fs/cgroup").glob(f"*{path}" if not UNIFIED else path[1:])) == []


def test_the_cgroup_is_gone_after_a_failed_create(oci: Oci, bundle: Bundle, path: str) -> None:
    bundle.command("no-such-program")
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, "one")
    assert list(Path("/sys/fs/cgroup").glob(f"*{path}" if not UNIFIED else path[1:])) == []


def test_devices_that_are_not_allowed_do_not_open(oci: Oci, bundle: Bundle) -> None:
    caps = [*bundle.process["capabilities"]["bounding"], "CAP_MKNOD"]
    for which in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][which] = caps
    bundle.linux["resources"] = {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "m"},
        ]
    }
    bundle.config["mounts"] = [
        {**m, "options": [o for o in m.get("options", []) if o != "nodev"]}
        for m in bundle.config["mounts"]
    ]
    bundle.shell(
        "mknod /dev/mem2 c 1 1 && head -c 1 /dev/mem2; mknod /dev/kmsg2 c 1 11;"
        " head -c 1 /dev/kmsg2; head -c 1 /dev/zero | wc -c; echo x > /dev/null && echo fine"
    )
    done = oci.run(bundle, status=None)
    assert done.out.split() == ["1", "fine"]
    assert done.err.lower().count("operation not permitted") >= 1


@pytest.mark.parametrize("first", [[], [{"allow": True, "access": "rwm"}]])
def test_a_list_that_only_allows_denies_the_rest(
    oci: Oci, bundle: Bundle, first: list[dict[str, Any]]
) -> None:
    for which in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][which] = ["CAP_MKNOD"]
    fuse = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    bundle.linux["resources"] = {"devices": [*first, fuse]}
    # Opened for writing alone the kernel's log asks for no capability.
    bundle.shell("mknod /dev/log c 1 11; (: > /dev/log) 2> /dev/null && echo opened")
    done = oci.run(bundle, status=None)
    assert done.out == ("opened\n" if first else "")


def test_a_device_that_is_allowed_opens(oci: Oci, bundle: Bundle) -> None:
    if "fuse" not in Path("/proc/misc").read_text():
        pytest.skip("no fuse in this kernel")
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 10, "minor": 229}]
    bundle.linux["resources"] = {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        ]
    }
    bundle.shell("exec 3< /dev/mine && echo opened")
    assert oci.output(bundle) == "opened\n"


def test_the_memory_limit_kills(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    # By doubling: read from a pipe, as much takes an emulated guest with busy neighbours a minute.
    bundle.command(
        "awk", 'BEGIN { x = "x"; while (length(x) < 100000000) x = x x; print "survived" }'
    )
    done = oci.run(bundle, status=None)
    assert (done.status, done.out) == (137, "")


def test_the_pids_limit_stops_forks(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["resources"] = {"pids": {"limit": 5}}
    bundle.shell("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait; echo end")
    assert "fork" in oci.run(bundle, status=None).err


@pytest.mark.parametrize(("name", "resources", "v1", "v2"), KNOBS[:6])
def test_update_changes_a_limit(
    oci: Oci, bundle: Bundle, path: str, name: str, resources: dict, v1: tuple, v2: tuple
) -> None:
    oci.running(bundle)
    oci("update", "--resources", "-", "one", stdin=json.dumps(resources))
    wanted = v2[1] if UNIFIED else v1[2]
    found = cgroup_file(path, v1, v2).read_text().strip()
    assert found == wanted or not wanted


def test_update_by_single_flags(oci: Oci, bundle: Bundle, path: str) -> None:
    oci.running(bundle)
    oci("update", "--memory", "33554432", "--pids-limit", "10", "one")
    assert cgroup_file(path, *KNOBS[0][2:]).read_text().strip() == "33554432"
    assert cgroup_file(path, *KNOBS[2][2:]).read_text().strip() == "10"


NO_LIMIT = 1 << 62
"""More than any limit that was set; v1 writes "none" as the largest number of whole pages."""


def limit_in(file: Path) -> int:
    text = file.read_text().strip()
    return NO_LIMIT if text == "max" else min(int(text), NO_LIMIT)


@pytest.mark.parametrize(
    ("memory", "limit"),
    [
        ({"limit": LIMIT, "swap": 0, "reservation": 0}, LIMIT),
        ({"limit": 0}, NO_LIMIT),
        ({"limit": 0, "swap": -1}, NO_LIMIT),
    ],
)
@pytest.mark.lacks(crun="writes the zeros")
def test_a_limit_of_zero_is_no_limit(
    oci: Oci, bundle: Bundle, path: str, memory: dict[str, int], limit: int
) -> None:
    bundle.linux["resources"] = {"memory": memory, "pids": {"limit": 0}}
    oci.running(bundle)
    assert limit_in(cgroup_file(path, *KNOBS[0][2:])) == limit
    assert limit_in(cgroup_file(path, *KNOBS[2][2:])) == NO_LIMIT


@pytest.mark.lacks(crun="wants memory and swap together")
def test_a_memory_limit_taken_off_takes_that_of_swap_with_it(
    oci: Oci, bundle: Bundle, path: str
) -> None:
    swap = ("memory", "memory.memsw.limit_in_bytes", ""), ("memory.swap.max", "")
    bundle.linux["resources"] = {"memory": {"limit": LIMIT}}
    oci.running(bundle)
    file = cgroup_file(path, *swap)
    if not file.exists():
        pytest.skip("this kernel does not limit swap")
    both = {"memory": {"limit": LIMIT, "swap": 2 * LIMIT}}
    oci("update", "--resources", "-", "one", stdin=json.dumps(both))
    assert limit_in(file) == (LIMIT if UNIFIED else 2 * LIMIT)
    oci("update", "--memory", "-1", "one")
    assert limit_in(file) == NO_LIMIT


RATE = [pytest.mark.lacks(runc="writes the zero, which v2 refuses")] if UNIFIED else []


@pytest.mark.lacks(crun="writes the zeros")
@pytest.mark.parametrize(
    "field", [pytest.param("throttleReadBpsDevice", marks=RATE), "weightDevice"]
)
def test_a_device_without_rate_or_weight_has_no_limit(oci: Oci, bundle: Bundle, field: str) -> None:
    disks = sorted(Path("/sys/block").glob("*/dev"))
    if not disks:
        pytest.skip("no block device")
    major, minor = map(int, disks[0].read_text().split(":"))
    bundle.linux["resources"] = {"blockIO": {field: [{"major": major, "minor": minor}]}}
    oci.run(bundle)


@pytest.mark.lacks(crun="writes the zeros")
def test_update_by_flags_leaves_alone_what_is_zero(oci: Oci, bundle: Bundle, path: str) -> None:
    bundle.linux["resources"] = {
        "memory": {"limit": LIMIT},
        "pids": {"limit": 20},
        "cpu": {"quota": 50000, "period": 100000},
    }
    oci.running(bundle)
    oci("update", "--memory", "0", "--memory-swap", "0", "--memory-reservation", "0", "one")
    oci("update", "--cpu-quota", "0", "one")
    assert cgroup_file(path, *KNOBS[0][2:]).read_text().strip() == str(LIMIT)
    assert cgroup_file(path, *KNOBS[2][2:]).read_text().strip() == "20"
    assert cgroup_file(path, *KNOBS[4][2:]).read_text().strip() == KNOBS[4][3 if UNIFIED else 2][-1]


@pytest.mark.lacks(runc="1.4 on", crun="writes the zero")
def test_no_process_more_is_a_limit_of_one(oci: Oci, bundle: Bundle, path: str) -> None:
    bundle.config["ociVersion"] = "1.3.0"
    bundle.linux["resources"] = {"pids": {"limit": 0}}
    oci.running(bundle)
    assert cgroup_file(path, *KNOBS[2][2:]).read_text().strip() == "1"
    oci("update", "--pids-limit", "-1", "one")
    oci("update", "--pids-limit", "0", "one")
    assert cgroup_file(path, *KNOBS[2][2:]).read_text().strip() == "1"


@pytest.mark.lacks(crun="writes the zeros")
def test_update_leaves_alone_what_it_does_not_name(oci: Oci, bundle: Bundle, path: str) -> None:
    bundle.linux["resources"] = {"memory": {"limit": LIMIT}, "pids": {"limit": 20}}
    oci.running(bundle)
    zeros = {
        "memory": {"limit": 0},
        "cpu": {"shares": 0, "quota": 0, "cpus": ""},
        "pids": {"limit": 30},
    }
    oci("update", "--resources", "-", "one", stdin=json.dumps(zeros))
    assert cgroup_file(path, *KNOBS[0][2:]).read_text().strip() == str(LIMIT)
    assert cgroup_file(path, *KNOBS[2][2:]).read_text().strip() == "30"


@pytest.mark.lacks(crun="takes an array")
def test_update_refuses_nonsense(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    oci.fails("update", "--resources", "-", "one", stdin="[]")
    oci.fails("update", "--memory", "lots", "one")


def test_pause_stops_every_process(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("i=0; while :; do i=$((i + 1)); echo $i > /now; sleep 0.02; done")
    oci.running(bundle)
    time.sleep(0.3)
    oci("pause", "one")
    before = (bundle.rootfs / "now").read_text()
    time.sleep(0.3)
    assert (bundle.rootfs / "now").read_text() == before
    oci("resume", "one")
    time.sleep(0.3)
    assert (bundle.rootfs / "now").read_text() != before


def test_kill_all_reaches_every_process(oci: Oci, bundle: Bundle) -> None:
    if oci.name == "runc":
        pytest.skip("runc: freezes first, and signals only init with a pid namespace")
    bundle.shell("sleep 50 & sleep 50 & wait")
    oci.running(bundle)
    oci("kill", "--all", "one", "KILL")
    oci.wait("one")


def test_events_stats_are_one_json_line(oci: Oci, bundle: Bundle) -> None:
    if oci.name == "crun":
        pytest.skip("crun: no events")
    bundle.linux["resources"] = {"memory": {"limit": LIMIT}, "pids": {"limit": 20}}
    oci.running(bundle)
    line = oci("events", "--stats", "one").out
    assert line.startswith('{"type":"stats","id":"one",')
    data = json.loads(line)["data"]
    assert data["memory"]["usage"]["limit"] == LIMIT
    assert data["pids"] == {"current": 1, "limit": 20}
    assert data["cpu"]["usage"]["total"] > 0


def test_delete_ends_processes_that_outlive_init(oci: Oci, bundle: Bundle, path: str) -> None:
    bundle.without_namespace("pid")
    bundle.shell("sleep 50 & exec sleep 0.5")
    oci.create(bundle, "one")
    oci("start", "one")
    oci.wait("one")
    oci("delete", "--force", "one")
    assert list(Path("/sys/fs/cgroup").glob(f"*{path}" if not UNIFIED else path[1:])) == []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.skipif(not UNIFIED, reason="linux.resources.unified is for pure cgroup v2")
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("nosuch.max", "controller `nosuch` is not available"),
        ("NOSUCH", "has not the form controller.value `nosuch`"),
        ("memory.nosuch", "no such file or directory"),
    ],
)
@pytest.mark.lacks(runc="other words")
def test_a_raw_limit_that_does_not_exist_is_named(
    oci: Oci, bundle: Bundle, key: str, words: str
) -> None:
    bundle.linux["resources"] = {"unified": {key: "5"}}
    bundle.write()
    assert words in oci.fails("create", "--bundle", bundle.path, "one").lower()


def test_a_cgroup_that_was_named_is_joined_in_every_hierarchy(
    oci: Oci, bundle: Bundle, path: str
) -> None:
    oci.running(bundle)
    mounted = Path("/proc/self/mountinfo").read_text()
    joined = Path(f"/proc/{oci.state()['pid']}/cgroup").read_text().splitlines()
    for line in joined:
        _, controllers, place = line.split(":", 2)
        if controllers.split(",")[0] in mounted or "cgroup2" in mounted:
            assert as_mounted(place) == path, line
    assert oci("exec", "one", "cat", "/proc/self/cgroup").out.splitlines() == joined


@pytest.mark.lacks(runc="a warning before 1.2", crun="shares it")
def test_a_cgroup_with_processes_is_refused(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    other = oci.bundle()
    other.linux["cgroupsPath"] = bundle.linux["cgroupsPath"]
    other.write()
    said = oci.fails("create", "--bundle", other.path, "two")
    assert "container's cgroup is not empty" in said
    assert oci.state()["status"] == "running"


@pytest.mark.lacks(crun="waits")
def test_a_frozen_cgroup_is_refused_and_stays(oci: Oci, bundle: Bundle, path: str) -> None:
    home = Path("/sys/fs/cgroup" if UNIFIED else "/sys/fs/cgroup/freezer") / path[1:]
    home.mkdir(parents=True)
    try:
        (home / ("cgroup.freeze" if UNIFIED else "freezer.state")).write_text(
            "1" if UNIFIED else "FROZEN"
        )
        bundle.write()
        for name in ("one", "two"):
            said = oci.fails("create", "--bundle", bundle.path, name)
            assert "container's cgroup unexpectedly frozen" in said
        found = Path("/sys/fs/cgroup").glob("*" + path)
        assert UNIFIED or list(found) == [home]
    finally:
        home.rmdir()


@pytest.mark.skipif(UNIFIED, reason="needs the memory controller of cgroup v1")
def test_a_file_of_v2_for_a_controller_of_v1_is_refused(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["resources"] = {"unified": {"memory.min": "131072"}}
    bundle.write()
    said = oci.fails("create", "--bundle", bundle.path, "one")
    assert "invalid configuration" in said


@pytest.mark.lacks(crun="always names one")
def test_spec_names_a_cgroup_namespace_on_v2_only(oci: Oci, tmp_path: Path) -> None:
    oci("spec", "--bundle", tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    assert ({"type": "cgroup"} in document["linux"]["namespaces"]) == UNIFIED


@pytest.mark.skipif(UNIFIED, reason="a cpuset of cgroup v2 is never empty")
def test_a_parent_with_an_empty_cpuset_is_filled(oci: Oci, bundle: Bundle, path: str) -> None:
    pod = Path("/sys/fs/cgroup/cpuset") / path[1:]
    pod.mkdir(parents=True)
    try:
        bundle.linux["cgroupsPath"] = f"{path}/one"
        oci.running(bundle)
        oci("delete", "--force", "one")
    finally:
        for top in Path("/sys/fs/cgroup").glob("*" + path):
            top.rmdir()


@pytest.mark.lacks(crun="refuses it")
def test_an_access_of_a_is_ignored(oci: Oci, bundle: Bundle) -> None:
    rule = {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwa"}
    bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}, rule]}
    bundle.command("echo", "ran")
    assert oci.output(bundle).strip() == "ran"
