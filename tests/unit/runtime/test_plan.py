"""The plan as data: which calls, in which order, with which arguments."""

from __future__ import annotations

from typing import Any

import pytest

from pycontain.errors import InvalidError, UnsupportedError
from pycontain.runtime import plan
from pycontain.runtime.draft import Inputs
from pycontain.spec.defaults import CAPABILITIES
from pycontain.syscalls import constants as c
from pycontain.syscalls.ops import Op, Program

FILTER = bytes(16)


def make_spec(**process: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.2.0",
        "root": {"path": "/rootfs"},
        "hostname": "box",
        "process": {
            "args": ["true"],
            "cwd": "/",
            "env": ["PATH=/a:/b"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {k: list(CAPABILITIES) for k in ("bounding", "effective", "permitted")},
            **process,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
        ],
        "linux": {
            "namespaces": [{"type": t} for t in ("pid", "mount", "uts")],
            "maskedPaths": ["/proc/kcore", "/proc/acpi", "/secret"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


def inputs(**facts: Any) -> Inputs:
    found = Inputs("/rootfs", "/bundle")
    found.sync = 9
    found.stub = "/stub"
    for name, value in facts.items():
        setattr(found, name, value)
    return found


def program(spec: dict[str, Any], **facts: Any) -> Program:
    return plan.init(spec, inputs(**facts))  # type: ignore[arg-type]


def first(written: Program, call: str, *args: object) -> int:
    """Return the index of the first op `call` whose arguments start with `args`."""
    for index, op in enumerate(written.ops):
        if op.call == call and op.args[: len(args)] == args:
            return index
    raise AssertionError(f"no {call}{args}")


def steps(written: Program) -> list[str]:
    return list(dict.fromkeys(op.step for op in written.ops))


def find(written: Program, step: str) -> list[Op]:
    return [op for op in written.ops if op.step == step]


def test_identity_changes_only_after_the_stub_left_the_parents_memory() -> None:
    written = program(make_spec(user={"uid": 5, "gid": 6}))
    for call in ("setresuid", "setresgid", "setgroups", "capset"):
        assert first(written, call) > written.exec_index
    assert all(op.call != "pivot_root" for op in written.ops[written.exec_index :])


def test_groups_go_before_gid_before_uid() -> None:
    written = program(make_spec(user={"uid": 5, "gid": 6, "additionalGids": [7]}))
    assert first(written, "setgroups", 1) < first(written, "setresgid", 6, 6, 6)
    assert first(written, "setresgid", 6, 6, 6) < first(written, "setresuid", 5, 5, 5)


def test_the_hosts_groups_are_dropped_even_without_groups_of_its_own() -> None:
    assert first(program(make_spec()), "setgroups", 0, None)


def test_the_filter_comes_after_no_new_privileges_and_last_before_the_program() -> None:
    written = program(make_spec(noNewPrivileges=True), seccomp=FILTER)
    position = first(written, "seccomp")
    assert written.ops[position - 1].args[0] == c.PR_SET_NO_NEW_PRIVS
    assert written.ops[position + 1].call == "execve"


def test_without_no_new_privileges_sys_admin_is_held_until_the_filter_is_loaded() -> None:
    written = program(make_spec(), seccomp=FILTER)
    position = first(written, "seccomp")
    held, final = written.ops[position - 1], written.ops[position + 1]
    assert (held.call, final.call) == ("capset", "capset")

    def effective(op: Op) -> int:
        where = op.args[1].offset  # type: ignore[union-attr]
        return int.from_bytes(written.data[where : where + 4], "little")

    assert effective(held) == effective(final) | 1 << 21
    assert not effective(final) >> 21 & 1
    assert written.ops[position + 2].call == "execve"


def test_capabilities_are_dropped_after_every_mount() -> None:
    written = program(make_spec())
    last_mount = max(n for n, op in enumerate(written.ops) if op.call in ("mount", "move_mount"))
    assert last_mount < first(written, "prctl", c.PR_CAPBSET_DROP) < first(written, "capset")


def test_the_bounding_set_loses_exactly_what_is_not_asked_for() -> None:
    drops = [op.args[1] for op in program(make_spec()).ops if op.args[:1] == (c.PR_CAPBSET_DROP,)]
    kept = 0x800405FB
    assert drops == [bit for bit in range(41) if not kept >> bit & 1]


def test_every_descriptor_but_the_preserved_is_closed_by_the_exec() -> None:
    written = program(make_spec(), preserve_fds=2)
    position = first(written, "close_range", 5, c.UINT_MAX, c.CLOSE_RANGE_CLOEXEC)
    opened = [n for n, op in enumerate(written.ops) if op.into is not None and n > position]
    # What is opened later is the report of a program that cannot be run, behind the execve.
    assert all(n > first(written, "execve") for n in opened)


def test_a_session_of_its_own_is_led_without_a_terminal_too() -> None:
    assert first(program(make_spec()), "setsid") < program(make_spec()).exec_index


def test_proc_is_out_of_reach_while_mount_points_are_resolved() -> None:
    spec = make_spec()
    volume = {"destination": "/volume", "type": "bind", "source": "/tmp", "options": ["bind"]}
    meminfo = {"destination": "/proc/meminfo", "type": "bind", "source": "/etc/hostname"}
    spec["mounts"] += [volume, meminfo]
    written = program(spec)
    names = [step for step in steps(written) if step.startswith("mount ")]
    assert names == ["mount rootfs", "mount proc", "mount tmpfs", "mount devpts", "mount bind"]
    moves = [n for n, op in enumerate(written.ops) if op.target == "/proc" and "move" in op.call]
    aside, back = (written.ops[n].args for n in moves)
    assert aside[2:4] == (c.AT_FDCWD, "/")
    assert aside[0] is back[0]
    assert moves[0] < first(written, "open_tree", c.AT_FDCWD, "/tmp") < moves[1]
    # What is listed below /proc is looked up in proc itself.
    inside = [op for op in written.ops if op.call == "openat2" and op.target == "/proc/meminfo"]
    assert [op.args[:2] for op in inside] == [(aside[0], "meminfo")]


@pytest.mark.parametrize("facts", [{"private_parent": "/x"}, {"namespaces": {"mount": 7}}])
def test_nothing_is_mounted_on_a_root_that_others_see(facts: dict[str, Any]) -> None:
    written = program(make_spec(), **facts)
    assert not [op for op in written.ops if op.call == "move_mount" and op.args[3] == "/"]


@pytest.mark.parametrize(
    "destination", ["/proc/sys", "/proc/self/attr", "/proc/../proc/1", "//proc//self", "/proc"]
)
def test_binds_over_proc_are_refused(destination: str) -> None:
    spec = make_spec()
    spec["mounts"].append(
        {"destination": destination, "type": "bind", "source": "/tmp", "options": ["bind"]}
    )
    with pytest.raises(InvalidError, match=r"mounts\[3\]\.destination.*cannot be mounted"):
        program(spec)


def test_lxcfs_may_replace_its_files_of_proc() -> None:
    spec = make_spec()
    spec["mounts"].append(
        {"destination": "/proc/meminfo", "type": "bind", "source": "/etc/hostname",
         "options": ["bind"]}
    )  # fmt: skip
    assert find(program(spec), "mount bind")


def test_no_path_of_the_image_is_followed_out_of_it() -> None:
    spec = make_spec()
    spec["mounts"].append({"destination": "/a/b", "type": "tmpfs", "source": "tmpfs"})
    written = program(spec)
    for op in written.ops[: written.exec_index]:
        if op.call == "openat2":
            where = op.args[2].offset  # type: ignore[union-attr]
            resolve = int.from_bytes(written.data[where + 16 : where + 24], "little")
            assert resolve & c.RESOLVE_IN_ROOT
            assert resolve & c.RESOLVE_NO_MAGICLINKS


def test_a_linked_proc_sys_or_dev_is_not_followed() -> None:
    written = program(make_spec())
    for name in ("proc", "dev"):
        op = written.ops[first(written, "openat2", *written.ops[3].args[:0])]
        opened = [o for o in written.ops if o.call == "openat2" and o.args[1] == name]
        assert opened, op
        for each in opened:
            where = each.args[2].offset  # type: ignore[union-attr]
            resolve = int.from_bytes(written.data[where + 16 : where + 24], "little")
            assert resolve & c.RESOLVE_NO_SYMLINKS


def test_paths_are_masked_after_they_are_made_read_only_and_before_the_root_is_entered() -> None:
    names = steps(program(make_spec()))
    assert names.index("make path read-only") < names.index("mask path") < names.index("pivot root")


def test_a_missing_masked_path_is_no_error_and_an_existing_one_must_succeed() -> None:
    import errno

    for op in find(program(make_spec()), "mask path"):
        assert errno.EPERM not in op.ok
        assert -1 not in op.ok


def test_sysctls_are_written_before_proc_sys_is_read_only() -> None:
    spec = make_spec()
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    written = program(spec)
    names = steps(written)
    assert names.index("set sysctl") < names.index("make path read-only")
    assert find(written, "set sysctl")[0].args[1] == "sys/net/ipv4/ip_forward"


def test_the_cgroup_namespace_is_made_inside_the_cgroup() -> None:
    spec = make_spec()
    spec["linux"]["namespaces"].append({"type": "cgroup"})
    written = program(spec, cgroup_fds=[20, 21])
    assert first(written, "write", 21, "0") < first(written, "unshare", c.CLONE_NEWCGROUP)


def test_a_new_user_namespace_waits_for_its_maps_first() -> None:
    spec = make_spec()
    spec["linux"]["namespaces"].append({"type": "user"})
    written = program(spec, user_namespace=True)
    assert written.ops[0].call == "read"
    assert written.ops[0].minimum == 1
    assert [op.call for op in written.ops[1:3]] == ["setresgid", "setresuid"]


def test_a_user_namespace_gets_its_devices_by_bind() -> None:
    spec = make_spec()
    spec["linux"]["namespaces"].append({"type": "user"})
    written = program(spec, user_namespace=True)
    modes = [op.args[2] for op in written.ops if op.call == "mknodat"]
    assert modes
    assert all(mode & 0o170000 == 0o100000 for mode in modes)  # type: ignore[operator]


def test_parking_comes_before_the_filter_and_after_the_program_was_looked_for() -> None:
    written = program(make_spec(), seccomp=FILTER, park_dir=30, park_name="exec.fifo")
    fifo = first(written, "openat", 30, "exec.fifo")
    assert first(written, "faccessat2") < fifo < first(written, "seccomp")


def test_a_listener_is_handed_over_before_parking() -> None:
    spec = make_spec(noNewPrivileges=True)
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    written = program(spec, seccomp=FILTER, park_dir=30, park_name="exec.fifo")
    assert first(written, "seccomp") < first(written, "openat", 30, "exec.fifo")


def test_the_program_is_tried_along_path() -> None:
    written = program(make_spec())
    tried = [op.args[0] for op in written.ops if op.call == "execve"]
    assert tried == ["/a/true", "/b/true", "/a/true"]


@pytest.mark.parametrize("path", ["PATH=.:/b", "PATH=:/b", "PATH=relative:/b"])
def test_relative_places_in_path_are_not_searched(path: str) -> None:
    written = program(make_spec(env=[path]))
    assert {op.args[0] for op in written.ops if op.call == "execve"} == {"/b/true"}


def test_the_directory_is_entered_without_magic_links() -> None:
    written = program(make_spec(cwd="/proc/self/fd/7"))
    (op,) = [o for o in find(written, "enter working directory") if o.call == "openat2"]
    where = op.args[2].offset  # type: ignore[union-attr]
    resolve = int.from_bytes(written.data[where + 16 : where + 24], "little")
    assert resolve & c.RESOLVE_NO_MAGICLINKS


def test_the_read_only_root_comes_after_the_mount_points() -> None:
    spec = make_spec()
    spec["root"]["readonly"] = True
    names = steps(program(spec))
    assert names.index("make root read-only") > names.index("pivot root")


def test_mounts_of_a_user_namespace_need_a_mount_namespace() -> None:
    spec = make_spec()
    spec["linux"]["namespaces"] = [{"type": "pid"}, {"type": "user"}]
    with pytest.raises(UnsupportedError, match="mount namespace"):
        program(spec)


def test_unknown_words_are_refused_with_their_place() -> None:
    spec = make_spec(rlimits=[{"type": "RLIMIT_X", "soft": 1, "hard": 1}])
    with pytest.raises(InvalidError, match=r"process\.rlimits\[0\]\.type"):
        program(spec)
    spec = make_spec()
    spec["linux"]["rootfsPropagation"] = "sideways"
    with pytest.raises(InvalidError, match=r"linux\.rootfsPropagation"):
        program(spec)


def test_nul_bytes_cannot_reach_the_kernel() -> None:
    from pycontain.syscalls.encode import encode

    for process in ({"args": ["a\0b"]}, {"env": ["A=\0"]}):
        with pytest.raises(ValueError, match="NUL"):
            encode(program(make_spec(**process)))


def test_the_oom_score_is_written_by_the_stub_alone() -> None:
    written = program(make_spec(oomScoreAdj=100))
    writes = [
        n for n, op in enumerate(written.ops) if op.step == "set oom score" and op.call == "write"
    ]
    assert writes
    assert writes[0] > written.exec_index


def test_a_plain_container_needs_few_calls() -> None:
    assert len(program(make_spec()).ops) < 120


def test_a_time_namespace_is_entered_by_the_exec_where_the_kernel_does_that() -> None:
    spec = make_spec()
    spec["linux"]["namespaces"].append({"type": "time"})
    for enters, calls in ((True, ["unshare"]), (False, ["unshare", "setns"])):
        written = program(spec, exec_enters_time=enters)
        time = (c.CLONE_NEWTIME,)
        assert [op.call for op in written.ops if op.args and op.args[-1:] == time] == calls
    assert first(written, "execstub") < first(written, "setns")
