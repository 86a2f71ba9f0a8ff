"""Mounts that every made-up config.json has; known to nothing of the project, so any runtime may be
tested with them.
"""

from __future__ import annotations

from typing import Any


def dev_mounts() -> list[dict[str, Any]]:
    """Return /dev and the terminals in it."""
    return [
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
    ]
