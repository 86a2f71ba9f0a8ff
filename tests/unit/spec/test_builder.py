"""Options and image configuration to a Spec: the defaults, what changes them, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pycontain.errors import InvalidError, PycontainError, UsageError
from pycontain.oci.runtime import Spec
from pycontain.runtime import capabilities, validate
from pycontain.spec import builder, defaults
from pycontain.spec.files import device, mount, volume
from pycontain.spec.host import Host, Identity
from pycontain.spec.options import RunOptions

NEW = {"mount": "", "pid": "", "ipc": "", "uts": "", "network": "", "cgroup": ""}


def host(uid: int = 0, **changes: Any) -> Host:
    found = Host("a" * 64, "/rootfs", Identity(uid, uid, [], "/home/x", ""))
    found.capabilities = capabilities.known()
    found.namespaces = dict(NEW)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def build(image: dict[str, Any] | None = None, uid: int = 0, **options: Any) -> Spec:
    return builder.build(RunOptions(options), image or {"Cmd": ["true"]}, [], host(uid))[0]


def test_the_default_spec_is_valid() -> None:
    validate.validate(build())


def test_root_has_podmans_eleven_capabilities_and_nothing_inheritable() -> None:
    sets = build()["process"]["capabilities"]
    assert len(defaults.CAPABILITIES) == 11
    assert set(sets["bounding"]) == set(defaults.CAPABILITIES)
    assert sets["permitted"] == sets["effective"] == sets["bounding"]
    assert sets["inheritable"] == sets["ambient"] == []


def test_another_user_has_no_capability_at_all() -> None:
    assert not any(build(uid=1000)["process"]["capabilities"].values())


def test_a_capability_added_for_another_user_takes_effect() -> None:
    sets = build(uid=1000, cap_add=["CAP_NET_BIND_SERVICE"])["process"]["capabilities"]
    assert sets["ambient"] == sets["effective"] == ["CAP_NET_BIND_SERVICE"]


@pytest.mark.parametrize(
    ("add", "drop", "held"),
    [
        ([], ["ALL"], set()),
        (["CAP_NET_RAW"], ["ALL"], {"CAP_NET_RAW"}),
        (["ALL"], ["CAP_SYS_ADMIN"], set(capabilities.known()) - {"CAP_SYS_ADMIN"}),
        (["CAP_NET_RAW"], ["CAP_NET_RAW"], set(defaults.CAPABILITIES)),
    ],
)
def test_adding_and_dropping_follow_docker(add: list[str], drop: list[str], held: set[str]) -> None:
    assert set(build(cap_add=add, cap_drop=drop)["process"]["capabilities"]["bounding"]) == held


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(UsageError, match="CAP_NOSUCH"):
        build(cap_add=["CAP_NOSUCH"])


def test_new_privileges_are_forbidden_unless_allowed() -> None:
    assert build()["process"]["noNewPrivileges"] is True
    allowed = build(security_opt=["no-new-privileges=false"])
    assert allowed["process"]["noNewPrivileges"] is False


@pytest.mark.parametrize("text", ["nosuch=1", "no-new-privileges=maybe", "seccompx=1"])
def test_an_unknown_security_option_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        build(security_opt=[text])


def test_processes_are_limited_unless_said_otherwise() -> None:
    assert build()["linux"]["resources"]["pids"] == {"limit": defaults.PIDS_LIMIT}
    assert build(pids_limit=50)["linux"]["resources"]["pids"] == {"limit": 50}
    assert "pids" not in build(pids_limit=-1)["linux"]["resources"]


def test_cpus_are_a_quota_of_the_period() -> None:
    assert build(cpus=500_000_000)["linux"]["resources"]["cpu"] == {
        "quota": 50000,
        "period": 100000,
    }


def test_swap_is_twice_the_memory_unless_said() -> None:
    assert build(memory=64 << 20)["linux"]["resources"]["memory"] == {
        "limit": 64 << 20,
        "swap": 128 << 20,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 1 << 20},
        {"memory_swap": 1 << 30},
        {"memory": 1 << 30, "memory_swap": 1 << 29},
        {"memory": 1 << 30, "memory_reservation": 2 << 30},
        {"cpus": 10**9, "cpu_quota": 5000},
        {"cpus": 1},
        {"cpu_period": 10},
        {"cpu_shares": 1},
        {"blkio_weight": 5},
        {"oom_score_adj": 2000},
        {"sysctl": [("kernel.core_pattern", "|/x")]},
        {"sysctl": [("vm.swappiness", "1")]},
    ],
)
def test_limits_that_contradict_or_leave_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build(**options)


def test_only_the_standard_devices_open() -> None:
    rules = build()["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    opened = {(r["type"], r["major"]) for r in rules[1:] if r["access"] != "m"}
    assert opened == {("c", 1), ("c", 5), ("c", 136)}


def test_a_device_asked_for_opens() -> None:
    node: Any = {"path": "/dev/x", "type": "b", "major": 8, "minor": 0}
    facts = host(devices=[(node, "r")])
    options = RunOptions({"device": [device("/dev/sda:/dev/x:r", "--device")]})
    spec, _ = builder.build(options, {"Cmd": ["x"]}, [], facts)
    assert spec["linux"]["resources"]["devices"][-1] == {
        "allow": True,
        "type": "b",
        "major": 8,
        "minor": 0,
        "access": "r",
    }


def test_every_sensitive_path_is_covered() -> None:
    linux = build()["linux"]
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/timer_list"} <= set(
        linux["maskedPaths"]
    )
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(linux["readonlyPaths"])


def test_privileged_means_no_mask_and_every_device() -> None:
    linux = build(privileged=True)["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


@pytest.mark.parametrize(
    ("image", "entrypoint", "command", "argv"),
    [
        ({"Cmd": ["a", "b"]}, None, [], ["a", "b"]),
        ({"Cmd": ["a"], "Entrypoint": ["e"]}, None, [], ["e", "a"]),
        ({"Cmd": ["a"], "Entrypoint": ["e"]}, None, ["x"], ["e", "x"]),
        ({"Cmd": ["a"], "Entrypoint": ["e"]}, "n", [], ["n"]),
        ({"Cmd": ["a"], "Entrypoint": ["e"]}, "", ["x"], ["x"]),
    ],
)
def test_entry_point_and_command_combine_as_in_docker(
    image: dict[str, Any], entrypoint: str | None, command: list[str], argv: list[str]
) -> None:
    options = RunOptions({} if entrypoint is None else {"entrypoint": entrypoint})
    spec, _ = builder.build(options, image, command, host())
    assert spec["process"]["args"] == argv


@pytest.mark.parametrize(
    "image",
    [
        {"Cmd": ["a\0b"]},
        {"Cmd": []},
        {"Cmd": [""]},
        {"Cmd": ["a"], "Env": ["A=\0"]},
        {"Cmd": ["a"], "Env": ["=x"]},
        {"Cmd": ["a"], "WorkingDir": "relative"},
        {"Cmd": ["a"], "WorkingDir": "/a\0b"},
    ],
)
def test_an_image_that_asks_for_nonsense_is_refused(image: dict[str, Any]) -> None:
    with pytest.raises(PycontainError):
        build(image)


def test_a_working_directory_cannot_climb() -> None:
    spec = build({"Cmd": ["a"], "WorkingDir": "/../../../etc/x/.."})
    assert spec["process"]["cwd"] == "/etc"


def test_the_callers_environment_stays_outside_unless_named() -> None:
    facts = host(caller={"SECRET": "1", "WANTED": "2"})
    options = RunOptions({"env": ["WANTED", "ABSENT", "A=b"]})
    spec, _ = builder.build(options, {"Cmd": ["x"], "Env": ["A=image", "B=c"]}, [], facts)
    env = dict(item.split("=", 1) for item in spec["process"]["env"])
    assert env["WANTED"] == "2"
    assert (env["A"], env["B"]) == ("b", "c")
    assert "SECRET" not in env
    assert "ABSENT" not in env


def test_a_mount_of_the_user_replaces_ours_and_parents_come_first() -> None:
    facts = host(
        mounts=[
            (
                {"destination": "/data/deep", "type": "bind", "source": "/b", "options": ["rbind"]},
                "v",
            ),
            ({"destination": "/data", "type": "bind", "source": "/a", "options": ["rbind"]}, "v"),
            ({"destination": "/dev/shm", "type": "tmpfs", "source": "t", "options": []}, "v"),
        ],
        files=[("/etc/hosts", "/x/hosts")],
    )
    spec, origins = builder.build(RunOptions({}), {"Cmd": ["x"]}, [], facts)
    places = [entry["destination"] for entry in spec["mounts"]]
    assert places.index("/data") < places.index("/data/deep")
    assert places.count("/dev/shm") == 1
    assert origins[f"mounts[{places.index('/data')}]"] == "v"


def test_origins_name_the_flag_or_the_default() -> None:
    options = RunOptions({"memory": 64 << 20}, {"memory": "--memory 64m"})
    _, origins = builder.build(options, {"Cmd": ["x"], "User": "app"}, [], host())
    assert origins["linux.resources.memory.limit"] == "--memory 64m"
    assert origins["process.user"] == "image"
    assert origins["linux.resources.pids.limit"] == "default"


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UsageError, match="nosuch"):
        RunOptions({"nosuch": 1})


def test_the_hosts_own_host_name_is_not_changed() -> None:
    facts = host(namespaces={"mount": "", "pid": ""})
    with pytest.raises(UsageError):
        builder.build(RunOptions({"hostname": "x"}), {"Cmd": ["x"]}, [], facts)
    assert "hostname" not in builder.build(RunOptions({}), {"Cmd": ["x"]}, [], facts)[0]


def test_mount_options_of_the_user_are_kept() -> None:
    assert volume("/a:/b:ro", "-v").options == ["ro"]
    assert mount("type=bind,src=/a,dst=/b,ro", "--mount").options == ["ro"]


def test_a_nul_byte_is_invalid_in_the_command() -> None:
    with pytest.raises(InvalidError):
        builder.build(RunOptions({}), {}, ["a\0b"], host())


def test_the_hosts_ipc_shows_its_shared_memory_and_its_queues() -> None:
    facts = host(namespaces={"mount": "", "pid": "", "network": ""})
    mounts = builder.build(RunOptions({}), {"Cmd": ["x"]}, [], facts)[0]["mounts"]
    kinds = {entry["destination"]: entry["type"] for entry in mounts}
    assert (kinds["/dev/shm"], kinds["/dev/mqueue"]) == ("bind", "mqueue")


def test_what_a_user_may_not_mount_is_bound() -> None:
    rows: Any = [{"containerID": 0, "hostID": 1000, "size": 1}]
    facts = host(namespaces={"mount": "", "user": ""}, uid_maps=rows, gid_maps=rows)
    mounts = builder.build(RunOptions({}), {"Cmd": ["x"]}, [], facts)[0]["mounts"]
    kinds = {entry["destination"]: entry["type"] for entry in mounts}
    assert (kinds["/proc"], kinds["/sys"], kinds["/dev/shm"]) == ("bind", "bind", "bind")
    assert "/dev/mqueue" not in kinds
    assert not any("gid=5" in entry.get("options", []) for entry in mounts)
