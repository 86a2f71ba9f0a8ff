"""The plan as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pycontain.runtime import explain
from pycontain.runtime.launch import LaunchOptions


def make_spec() -> dict[str, Any]:
    return {
        "root": {"path": "/rootfs"},
        "process": {"args": ["sh", "-c", "x"], "cwd": "/", "env": ["A=1"], "noNewPrivileges": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {"destination": "/v", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "uts", "path": "/run/netns/u"}],
            "maskedPaths": ["/proc/kcore"],
        },
    }


def rows() -> list[explain.Row]:
    return explain.rows(make_spec(), LaunchOptions())  # type: ignore[arg-type]


def calls(step: str) -> list[str]:
    return [row.call for row in rows() if row.step == step]


def test_it_starts_with_the_clone_and_ends_with_the_program() -> None:
    found = rows()
    assert found[0].who == "parent"
    assert found[0].call == "clone3(CLONE_VM|CLONE_PIDFD|CLONE_NEWNS)"
    assert found[-1].who == "stub"
    assert '["sh", "-c", "x"]' in found[-1].call


def test_flags_and_paths_are_words() -> None:
    (mount,) = [call for call in calls("mount proc") if call.startswith("mount(")]
    assert mount == 'mount("proc", ".", "proc", MS_NOSUID, NULL)'
    assert "RESOLVE_IN_ROOT" in calls("mount proc")[0]
    assert any("set=MOUNT_ATTR_RDONLY" in call for call in calls("mount bind"))
    assert calls("join namespace") == ["setns(</run/netns/u>, CLONE_NEWUTS)"]


def test_every_row_names_its_place_in_config_json() -> None:
    places = {row.path for row in rows()}
    assert {"mounts[0]", "mounts[1]", "linux.maskedPaths[0]", "process.args", "root.path"} <= places


def test_what_is_tolerated_is_said() -> None:
    (note,) = {row.note for row in rows() if row.path == "linux.maskedPaths[0]" and row.note}
    assert note.startswith("tolerates ENOENT, then goes to ")


def test_nothing_is_opened() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    rows()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
