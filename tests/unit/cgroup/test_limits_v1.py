"""linux.resources as files of cgroup v1."""

from __future__ import annotations

import pytest

from pycontain.cgroup import limits_v1
from pycontain.errors import InvalidError, UnsupportedError


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({}, []),
        (
            {"memory": {"limit": 100, "swap": 200, "reservation": 50}},
            [
                ("memory.limit_in_bytes", "100"),
                ("memory.memsw.limit_in_bytes", "200"),
                ("memory.soft_limit_in_bytes", "50"),
            ],
        ),
        ({"memory": {"limit": 0}}, [("memory.limit_in_bytes", "0")]),
        ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, [("rdma.max", "mlx5_1 hca_handle=3")]),
        (
            {"memory": {"limit": -1}},
            [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")],
        ),
        ({"memory": {"swappiness": 0}}, [("memory.swappiness", "0")]),
        ({"memory": {"disableOOMKiller": True}}, [("memory.oom_control", "1")]),
        ({"memory": {"kernelTCP": 9}}, [("memory.kmem.tcp.limit_in_bytes", "9")]),
        ({"memory": {"kernel": 9}}, []),
        (
            {"cpu": {"shares": 512, "period": 1000, "quota": 500, "burst": 1}},
            [
                ("cpu.shares", "512"),
                ("cpu.cfs_period_us", "1000"),
                ("cpu.cfs_quota_us", "500"),
                ("cpu.cfs_burst_us", "1"),
            ],
        ),
        ({"cpu": {"shares": 1}}, [("cpu.shares", "2")]),
        ({"cpu": {"shares": 2, "idle": 1}}, [("cpu.shares", "2"), ("cpu.idle", "1")]),
        ({"cpu": {"quota": -1}}, [("cpu.cfs_quota_us", "-1")]),
        (
            {"cpu": {"realtimePeriod": 1000, "realtimeRuntime": 100}},
            [("cpu.rt_period_us", "1000"), ("cpu.rt_runtime_us", "100")],
        ),
        ({"cpu": {"cpus": "0"}}, [("cpuset.cpus", "0")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"network": {"classID": 1048577}}, [("net_cls.classid", "1048577")]),
        (
            {"network": {"priorities": [{"name": "lo", "priority": 3}]}},
            [("net_prio.ifpriomap", "lo 3")],
        ),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 9}]}},
            [("blkio.throttle.read_bps_device", "8:1 9")],
        ),
        (
            {"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 1}]}},
            [("blkio.throttle.write_iops_device", "8:1 0")],
        ),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 1}]}}, []),
    ],
)
def test_each_knob_is_its_writes_in_order(resources, files):
    assert limits_v1.limit_files(resources) == files


def test_device_rules_keep_their_order():
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": True, "type": "c", "major": 136, "access": "rw"},
        {"allow": False, "type": "b", "major": -1, "minor": -1},
    ]
    assert limits_v1.limit_files({"devices": rules}) == [
        ("devices.deny", "a"),
        ("devices.allow", "c 1:3 rwm"),
        ("devices.allow", "c 136:* rw"),
        ("devices.deny", "b *:* rwm"),
    ]


@pytest.mark.parametrize("rule", [{"type": "x"}, {"access": "rx"}, {"type": "c", "access": "a\n"}])
def test_a_device_rule_out_of_form_is_refused(rule):
    with pytest.raises(InvalidError):
        limits_v1.device_file(rule)


def test_block_weight_takes_the_name_the_kernel_has():
    resources = {"blockIO": {"weight": 100}}
    assert limits_v1.limit_files(resources, lambda name: False) == [("blkio.bfq.weight", "100")]
    assert limits_v1.limit_files(resources, lambda name: True) == [("blkio.weight", "100")]


def test_leaf_weight_without_its_file_is_an_error():
    with pytest.raises(UnsupportedError):
        limits_v1.limit_files({"blockIO": {"leafWeight": 100}}, lambda name: False)


@pytest.mark.parametrize("memory", [{"limit": 100, "swap": 50}, {"limit": -1, "swap": 50}])
def test_memory_and_swap_below_memory_is_refused(memory):
    with pytest.raises(InvalidError):
        limits_v1.limit_files({"memory": memory})
