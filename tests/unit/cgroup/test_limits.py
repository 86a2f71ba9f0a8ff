"""linux.resources as files of cgroup v2."""

from __future__ import annotations

import pytest

from pycontain.cgroup import limits
from pycontain.errors import InvalidError, UnsupportedError


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({}, []),
        ({"memory": {"limit": 64 << 20}}, [("memory.max", "67108864")]),
        ({"memory": {"limit": 0}}, [("memory.max", "0")]),
        ({"memory": {"limit": -1}}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        (
            {"memory": {"limit": 100, "swap": 300}},
            [("memory.swap.max", "200"), ("memory.max", "100")],
        ),
        (
            {"memory": {"limit": 100, "swap": 100}},
            [("memory.swap.max", "0"), ("memory.max", "100")],
        ),
        (
            {"memory": {"limit": 100, "swap": -1}},
            [("memory.swap.max", "max"), ("memory.max", "100")],
        ),
        (
            {"memory": {"limit": -1, "swap": 0}},
            [("memory.swap.max", "max"), ("memory.max", "max")],
        ),
        ({"memory": {"reservation": 50}}, [("memory.low", "50")]),
        ({"memory": {"kernel": 50, "disableOOMKiller": False}}, []),
        ({"cpu": {"shares": 1024}}, [("cpu.weight", "100")]),
        ({"cpu": {"shares": 0}}, []),
        ({"cpu": {"quota": 50000, "period": 100000}}, [("cpu.max", "50000 100000")]),
        ({"cpu": {"quota": 50000}}, [("cpu.max", "50000")]),
        ({"cpu": {"quota": -1}}, [("cpu.max", "max")]),
        ({"cpu": {"period": 5000}}, [("cpu.max", "max 5000")]),
        ({"cpu": {"burst": 0, "idle": 1}}, [("cpu.idle", "1"), ("cpu.max.burst", "0")]),
        ({"cpu": {"idle": 1, "shares": 1024}}, [("cpu.weight", "100"), ("cpu.idle", "1")]),
        ({"cpu": {"idle": 0, "shares": 1024}}, [("cpu.idle", "0"), ("cpu.weight", "100")]),
        (
            {"cpu": {"cpus": "0-1", "mems": "0"}},
            [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
        ),
        ({"pids": {"limit": 50}}, [("pids.max", "50")]),
        ({"pids": {"limit": 0}}, [("pids.max", "0")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]},
            [("hugetlb.2MB.max", "4096"), ("hugetlb.2MB.rsvd.max", "4096")],
        ),
        (
            {"rdma": {"mlx5_0": {"hcaHandles": 2, "hcaObjects": 10}}},
            [("rdma.max", "mlx5_0 hca_handle=2 hca_object=10")],
        ),
        ({"unified": {"memory.high": "1G"}}, [("memory.high", "1G")]),
    ],
)
def test_each_knob_is_one_write(resources, files):
    assert limits.limit_files(resources) == files


def test_a_new_period_keeps_the_quota():
    assert limits.limit_files({"cpu": {"period": 5000}}, quota="700") == [("cpu.max", "700 5000")]


@pytest.mark.parametrize(
    ("shares", "weight"),
    # Minimum, default and maximum are fixed points; the others by hand: log2 is 9 and 11.
    [(2, 1), (1, 1), (1024, 100), (262144, 10000), (10**7, 10000), (512, 59), (2048, 174)],
)
def test_shares_become_weight_by_the_quadratic(shares, weight):
    assert limits.cpu_weight(shares) == weight


def test_weight_grows_with_shares():
    weights = [limits.cpu_weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert 1 <= weights[0] <= weights[-1] <= 10000


def test_block_weight_takes_the_file_the_kernel_has():
    resources = {
        "blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}
    }
    assert limits.limit_files(resources, lambda name: name == "io.bfq.weight") == [
        ("io.bfq.weight", "500"),
        ("io.bfq.weight", "8:0 10"),
    ]
    assert limits.limit_files(resources, lambda name: False) == [
        ("io.weight", "4950"),
        ("io.weight", "8:0 1"),
    ]


def test_a_device_without_weight_keeps_its_weight():
    resources = {"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}
    assert limits.limit_files(resources) == []


def test_without_limit_for_memory_there_is_none_for_swap_where_swap_is_counted():
    resources = {"memory": {"limit": -1}}
    assert limits.limit_files(resources, lambda name: False) == [("memory.max", "max")]
    assert limits.limit_files({"memory": {"limit": 5, "swap": 5}}, lambda name: False) == [
        ("memory.swap.max", "0"),
        ("memory.max", "5"),
    ]


def test_throttles_of_one_device_share_a_line_and_zero_takes_the_limit_off():
    disk = {"major": 8, "minor": 0}
    resources = {
        "blockIO": {
            "throttleReadBpsDevice": [{**disk, "rate": 1000}],
            "throttleWriteBpsDevice": [{**disk, "rate": 0}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 5}],
            "throttleWriteIOPSDevice": [disk],
        }
    }
    assert limits.limit_files(resources) == [
        ("io.max", "8:0 rbps=1000 wbps=max wiops=max"),
        ("io.max", "8:16 riops=5"),
    ]


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"swappiness": 0}},
        {"memory": {"disableOOMKiller": True}},
        {"memory": {"kernelTCP": 100}},
        {"cpu": {"realtimeRuntime": 100}},
        {"blockIO": {"leafWeight": 100}},
        {"network": {"classID": 1}},
        {"network": {"priorities": [{"name": "eth0", "priority": 1}]}},
    ],
)
def test_what_v2_lacks_is_an_error_not_a_silence(resources):
    with pytest.raises(UnsupportedError):
        limits.limit_files(resources)


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"swap": 100}},
        {"memory": {"limit": 100, "swap": 50}},
        {"hugepageLimits": [{"pageSize": "../x", "limit": 1}]},
        {"unified": {"../memory.max": "1"}},
        {"unified": {"memory/max": "1"}},
        {"unified": {"": "1"}},
        {"unified": {"cgroup.procs": "1"}},
        {"unified": {"max": "1"}},
        {"rdma": {"mlx 5": {"hcaHandles": 1}}},
    ],
)
def test_contradictions_and_stray_names_are_refused(resources):
    with pytest.raises(InvalidError):
        limits.limit_files(resources)


def test_what_is_ignored_is_said():
    assert "kernel" in limits.notes({"memory": {"kernel": 100}})[0]
    assert limits.notes({"memory": {"limit": 100}}) == []
