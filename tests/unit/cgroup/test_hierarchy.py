"""Which hierarchies a host has, from its mountinfo."""

from __future__ import annotations

import pytest

from pycontain.cgroup import manager
from pycontain.cgroup.hierarchy import parse_mounts, parse_own
from pycontain.errors import InvalidError, UsageError

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_pure_v2():
    hierarchy = parse_mounts(V2)
    assert hierarchy.pure_v2
    assert (hierarchy.v1, hierarchy.unified) == ({}, "/sys/fs/cgroup")


def test_hybrid_names_each_controllers_place():
    hierarchy = parse_mounts(HYBRID)
    assert not hierarchy.pure_v2
    assert hierarchy.unified == "/sys/fs/cgroup/unified"
    assert hierarchy.v1 == {
        "devices": "/sys/fs/cgroup/devices",
        "memory": "/sys/fs/cgroup/memory",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
    }


def test_no_cgroups_at_all():
    hierarchy = parse_mounts("1 2 0:3 / / rw - ext4 /dev/sda rw\n")
    assert (hierarchy.v1, hierarchy.unified, hierarchy.pure_v2) == ({}, "", False)


def test_a_space_in_a_mount_point_is_unescaped():
    line = "30 23 0:26 / /mnt/a\\040b rw - cgroup2 none rw\n"
    assert parse_mounts(line).unified == "/mnt/a b"


def test_own_cgroups():
    assert parse_own("2:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c:d\n") == {
        "cpu": "/a", "cpuacct": "/a", "name=systemd": "/b", "": "/c:d",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "result"), [("a", "/a"), ("/a//b/", "/a/b"), ("./a", "/a")])
def test_paths_are_made_absolute(path, result):
    assert manager.checked(path) == result


@pytest.mark.parametrize("path", ["..", "/a/../../b", "/", ".", "a\0b", "a\nb"])
def test_paths_that_leave_their_place_are_refused(path):
    with pytest.raises(InvalidError):
        manager.checked(path)


def test_unknown_manager_and_systemds_form_for_cgroupfs_are_refused():
    with pytest.raises(UsageError):
        manager.open("docker", "", id="x")
    with pytest.raises(InvalidError, match="systemd"):
        manager.open("cgroupfs", "system.slice:a:b", id="x")


def test_state_of_another_hierarchy_is_refused():
    with pytest.raises(InvalidError):
        manager.attach({"memory": "/etc/passwd"})
    with pytest.raises(InvalidError):
        manager.attach({"": "/sys/fs/cgroup/../../etc"})
