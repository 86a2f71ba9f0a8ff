"""A container without a cgroup: fine until it needs one."""

from __future__ import annotations

import pytest

from pycontain.cgroup import manager
from pycontain.cgroup.group import Cgroup
from pycontain.cgroup.hierarchy import Hierarchy
from pycontain.errors import KernelError, UnsupportedError


@pytest.mark.parametrize("cgroup", [manager.open("disabled", id="x"), manager.attach({})])
def test_nothing_to_make_join_or_remove(cgroup):
    cgroup.create()
    cgroup.apply({})
    cgroup.apply({"devices": [{"allow": False}]})
    assert (cgroup.paths(), cgroup.join_files(), cgroup.fd_for_clone()) == ({}, [], -1)
    assert (cgroup.procs(), cgroup.frozen(), cgroup.oom()) == ([], False, (False, -1, 0))
    cgroup.thaw()
    cgroup.kill()
    cgroup.remove()


def test_a_limit_is_an_error_that_says_what_to_do():
    cgroup = manager.open("disabled", id="x")
    cgroup.create()
    with pytest.raises(UnsupportedError, match=r"linux.resources.memory.*disabled.*delegate"):
        cgroup.apply({"memory": {"limit": 1 << 20}})


def test_pause_is_an_error():
    with pytest.raises(UnsupportedError, match="pause"):
        manager.open("disabled", id="x").freeze()


def tree_of(tmp_path) -> Cgroup:
    """A directory of files that stands for a v2 hierarchy; no controller is enabled in it."""
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    (tmp_path / "cgroup.subtree_control").write_text("pids")
    return Cgroup(Hierarchy({}, str(tmp_path)), "/box")


def test_a_missing_file_is_never_made_and_the_error_names_the_cure(tmp_path):
    cgroup = tree_of(tmp_path)
    (tmp_path / "box").mkdir()
    with pytest.raises(KernelError) as caught:
        cgroup.apply({"memory": {"limit": 1 << 20}})
    assert "controller memory" in str(caught.value)
    assert f"{tmp_path}/box/memory.max" in str(caught.value)
    assert "cgroup.subtree_control" in str(caught.value)
    assert list((tmp_path / "box").iterdir()) == []


def test_a_controller_the_kernel_lacks_is_said(tmp_path):
    cgroup = tree_of(tmp_path)
    (tmp_path / "box").mkdir()
    with pytest.raises(KernelError, match="controller `cpuset` is not available"):
        cgroup.apply({"cpu": {"cpus": "0"}})


def test_a_value_the_kernel_changed_is_an_error(tmp_path):
    cgroup = tree_of(tmp_path)
    box = tmp_path / "box"
    box.mkdir()
    (box / "cpu.weight").symlink_to("/dev/null")
    (box / "pids.max").write_text("")
    cgroup.apply({"pids": {"limit": 5}})
    assert (box / "pids.max").read_text() == "5"
    assert cgroup.applied({"pids": {"limit": 5}}) == [
        {"file": f"{box}/pids.max", "asked": "5", "got": "5"}
    ]


def test_a_refused_cgroup_is_not_ours_to_kill_or_remove(tmp_path):
    cgroup = tree_of(tmp_path)
    (tmp_path / "box").mkdir()
    cgroup.kill()
    cgroup.remove()
    assert (tmp_path / "box").exists()
