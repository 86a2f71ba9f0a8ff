"""The systemd manager's names, and what it says where systemd does not run."""

from __future__ import annotations

import os

import pytest

from pycontain.cgroup import manager
from pycontain.errors import InvalidError, UnsupportedError


@pytest.mark.parametrize("path", ["/a/b", "a:b", "a:b:c:d", "a.slice:b:", "a/b.slice:c:d"])
def test_another_form_than_slice_prefix_name_is_refused(path):
    with pytest.raises(InvalidError, match="SLICE:PREFIX:NAME"):
        manager.open("systemd", path, id="x")


@pytest.mark.skipif(os.path.exists("/run/systemd/system"), reason="systemd runs here")
def test_without_systemd_the_error_names_the_other_manager():
    with pytest.raises(UnsupportedError, match="cgroupfs"):
        manager.open("systemd", "", id="x")


@pytest.mark.skipif(not os.path.exists("/run/systemd/system"), reason="systemd does not run here")
def test_the_unit_is_named_by_prefix_and_name():
    scope = manager.open("systemd", "system.slice:pycontain:x")
    assert (scope.unit, scope.slice) == ("pycontain-x.scope", "system.slice")
