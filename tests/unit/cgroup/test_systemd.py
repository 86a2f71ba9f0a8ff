"""The systemd manager's names, and what it says where systemd does not run."""

from __future__ import annotations

import os

import pytest

from pycontain.cgroup import manager, systemd
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


def test_limits_become_properties_of_the_unit():
    resources = {
        "memory": {"limit": 64 << 20, "reservation": 1 << 20, "swap": 96 << 20},
        "cpu": {"quota": 1500, "period": 100000, "shares": 1024, "cpus": "0,2-3,9"},
        "pids": {"limit": -1},
        "unified": {"memory.high": "max", "hugetlb.2MB.max": "0"},
    }
    found = {name: words for name, *words in systemd.properties(resources)}
    assert found == {
        "MemoryMax": ["t", str(64 << 20)],
        "MemoryLow": ["t", str(1 << 20)],
        "MemorySwapMax": ["t", str(32 << 20)],
        "MemoryHigh": ["t", systemd.INFINITY],
        "TasksMax": ["t", systemd.INFINITY],
        "CPUWeight": ["t", "100"],
        "CPUQuotaPerSecUSec": ["t", "20000"],
        "CPUQuotaPeriodUSec": ["t", "100000"],
        "AllowedCPUs": ["ay", "2", str(0b1101), "2"],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("true", ("b", "true")),
        ("'two words'", ("s", "two words")),
        ("uint64 7000000", ("t", "7000000")),
        ("-15", ("i", "-15")),
        ("['a.service', 'b.service']", ("as", "2", "a.service", "b.service")),
    ],
)
def test_an_annotation_is_a_property(text, words):
    assert systemd.annotated("org.systemd.property.Name", text) == ("Name", *words)


def test_an_annotation_out_of_form_is_refused():
    with pytest.raises(InvalidError, match="GVariant"):
        systemd.annotated("org.systemd.property.Name", "two words")
