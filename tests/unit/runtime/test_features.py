"""What is supported, and the refusal of what this host lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pycontain.cli import oci_spec
from pycontain.errors import UnsupportedError
from pycontain.runtime import capabilities, features, hostmounts, tolerate


def config(**linux: object) -> Any:
    document: Any = oci_spec.default(rootless=False)
    document["linux"].update(linux)
    document["root"]["path"] = "/"
    return document


def test_the_default_config_is_not_refused() -> None:
    features.refuse(config())


@pytest.mark.parametrize(("field", "value"), [("mountLabel", "system_u:x"), ("intelRdt", {})])
def test_what_is_missing_is_refused_by_name(field: str, value: object) -> None:
    if field == "mountLabel" and features.has_selinux():
        pytest.skip("SELinux is enabled here")
    if field == "intelRdt" and hostmounts.first_of_type("resctrl"):
        pytest.skip("resctrl is mounted here")
    with pytest.raises(UnsupportedError, match=f"linux.{field}"):
        features.refuse(config(**{field: value}))


@pytest.mark.parametrize(
    ("field", "has"),
    [("apparmorProfile", features.has_apparmor), ("selinuxLabel", features.has_selinux)],
)
def test_a_security_label_needs_its_module(field: str, has: Any) -> None:
    if has():
        pytest.skip(f"{field} can be set here")
    document = config()
    document["process"][field] = "x"
    with pytest.raises(UnsupportedError, match=f"process.{field}"):
        features.refuse(document)


def test_the_features_document_has_the_shape_of_the_specification() -> None:
    found: Any = features.features()
    assert found["ociVersionMin"] == "1.0.0"
    assert found["ociVersionMax"] == "1.3.0"
    assert found["hooks"] == [
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
    ]  # fmt: skip
    assert {"ro", "rbind", "rro", "idmap", "tmpcopyup"} <= set(found["mountOptions"])
    linux = found["linux"]
    assert {"mount", "pid", "user", "network"} <= set(linux["namespaces"])
    assert "CAP_SYS_ADMIN" in linux["capabilities"]
    assert "SCMP_ACT_NOTIFY" in linux["seccomp"]["actions"]
    assert linux["intelRdt"] == {"enabled": True, "schemata": True, "monitoring": True}
    assert linux["cgroup"]["v1"] is linux["cgroup"]["v2"] is True


def with_users() -> dict[str, Any]:
    """A user namespace gives every capability, whoever runs the tests."""
    document = config()
    document["linux"]["namespaces"].append({"type": "user"})
    return document


def test_unknown_capabilities_are_dropped_with_a_warning() -> None:
    document = with_users()
    document["process"]["capabilities"] = {"bounding": ["CAP_KILL", "CAP_NEW"], "ambient": []}
    notes = tolerate.adjust(document)
    assert document["process"]["capabilities"]["bounding"] == ["CAP_KILL"]
    assert len(notes) == 1
    assert "CAP_NEW" in notes[0]


def test_capabilities_that_we_lack_are_dropped_with_a_warning() -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(li for li in lines if li.startswith("CapPrm"))
    held = capabilities.names(int(line.split()[1], 16))
    lacking = [name for name in capabilities.NAMES if name not in held]
    document = config()
    document["process"]["capabilities"] = {"bounding": list(capabilities.NAMES), "permitted": held}
    notes = tolerate.adjust(document)
    assert document["process"]["capabilities"] == {"bounding": held, "permitted": held}
    assert [str(lacking) in note for note in notes] == [True] * bool(lacking)


def test_ambient_capabilities_that_cannot_be_are_dropped() -> None:
    document = with_users()
    sets = {"permitted": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"]}
    document["process"]["capabilities"] = {**sets, "ambient": ["CAP_KILL", "CAP_CHOWN"]}
    assert ["CAP_CHOWN" in note for note in tolerate.adjust(document)] == [True]
    assert document["process"]["capabilities"]["ambient"] == ["CAP_KILL"]


def test_a_relative_destination_counts_from_the_root() -> None:
    document = config()
    document["mounts"].append({"destination": "a/b", "type": "tmpfs", "source": "tmpfs"})
    assert tolerate.adjust(document) == []
    assert document["mounts"][-1]["destination"] == "/a/b"


def test_standard_devices_follow_the_rules_of_the_config() -> None:
    document = config()
    tolerate.adjust(document)
    rules = document["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[1:] == tolerate.STANDARD_DEVICES


def test_a_limit_of_zero_is_no_limit() -> None:
    disk = [{"major": 8, "minor": 0, "rate": 0}]
    resources = {
        "memory": {"limit": 64, "swap": 0, "reservation": 0, "swappiness": 0},
        "pids": {"limit": 0},
        "cpu": {"shares": 0, "cpus": "", "burst": 0, "idle": 0},
        "blockIO": {"weight": 0, "throttleReadBpsDevice": disk},
        "unified": {"memory.swap.max": "0"},
    }
    document = config(resources=resources)
    document["ociVersion"] = "1.2.1"
    tolerate.adjust(document)
    found = document["linux"]["resources"]
    del found["devices"]
    assert found == {
        "memory": {"limit": 64, "swappiness": 0},
        "cpu": {"burst": 0, "idle": 0},
        "blockIO": {"throttleReadBpsDevice": disk},
        "unified": {"memory.swap.max": "0"},
    }


def test_a_config_that_allows_all_devices_is_left_alone() -> None:
    rules = [{"allow": True, "access": "rwm"}]
    document = config(resources={"devices": rules})
    tolerate.adjust(document)
    assert document["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_annotations_that_reach_beyond_the_container_are_named() -> None:
    assert {"org.systemd.property.", "run.oci."} == set(
        features.features()["potentiallyUnsafeConfigAnnotations"]
    )
