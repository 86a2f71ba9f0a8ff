"""Hostile images handed to the command: loaded or refused, and what runs in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import (
    busybox_entries,
    docker_archive,
    layer,
)
from support import Cli

from pycontain.engine import unpack
from pycontain.errors import PycontainError
from pycontain.image.store import ImageStore

SECONDS = 20
BASE = layer(busybox_entries())


def refused(cli: Cli, archive: Path) -> str:
    """Load what must not load; return the one line that says why.

    In this process, through the function behind `load`: there are hundreds of cases.
    """
    with pytest.raises(PycontainError) as caught:
        unpack.load(str(cli.data), str(archive))
    message = str(caught.value)
    assert message.isprintable(), message
    assert ImageStore(str(cli.data)).images() == []
    return message


def load(cli: Cli, tmp_path: Path, *layers: bytes, config: dict[str, Any] | None = None) -> bool:
    """Load layers on top of busybox; return whether they were taken."""
    archive = docker_archive(tmp_path / "image.tar", [BASE, *layers], config)
    done = cli("load", "-i", archive, status=None, timeout=SECONDS)
    if done.returncode != 0:
        assert done.returncode == 125
        assert done.stderr.count(b"\n") == 1, done.stderr
        assert b"internal error" not in done.stderr, done.stderr
    return done.returncode == 0


def shell(cli: Cli, script: str, *options: str) -> bytes:
    """Run a script in the loaded image; return what it printed."""
    done = cli("run", "--rm", *options, "hostile", "sh", "-c", script, timeout=SECONDS, status=None)
    assert b"internal error" not in done.stderr, done.stderr
    return done.stdout
