"""Trials that pass or fail: faults that must stay inside, limits and mounts that must work.

They drive the `pycontain` command as a user would, on the suite's image.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from pycontain.bench.backends.pycontain import Pycontain
from pycontain.bench.model import Kind
from pycontain.errors import PycontainError

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place

Trial = tuple[str, bool, Kind]

KILLED = 137
SEGFAULT = 139
TRIAL_TIMEOUT_S = 60
MEMORY_LIMIT = "16m"
SHARE = 0.25
SHARE_TOLERANCE = 0.10


class Command:
    """The pycontain command on the suite's image, in a store of its own."""

    def __init__(self, image: BenchImage, place: Place, name: str) -> None:
        self._arm = Pycontain("")
        self._arm.prepare(image, place.below(name))

    def run(self, options: list[str], words: list[str]) -> subprocess.CompletedProcess[bytes]:
        """Run `words` of /bin/bench in a container."""
        argv = [
            *self._arm.base,
            "run",
            "--rm",
            *options,
            self._arm.image_name,
            "/bin/bench",
            *words,
        ]
        return subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_TIMEOUT_S,
        )


def _command(image: BenchImage, place: Place, name: str) -> Command | None:
    if Pycontain("").probe():
        return None
    try:
        return Command(image, place, name)
    except PycontainError:
        return None


def faults(data_root: str, image: BenchImage, place: Place) -> list[Trial]:
    """Crash, memory hog and fork bomb beside a neighbour that must go on; a guest's panic."""
    command = _command(image, place, "trial-faults")
    if command is None:
        return []
    found = []
    before = _neighbour(command)
    crashed = command.run([], ["crash"])
    found.append(("a crash ends one container", crashed.returncode == SEGFAULT, Kind.MEASURED))
    hog = command.run(["--memory", MEMORY_LIMIT], ["hog", "256"])
    found.append(("a memory hog is killed alone", hog.returncode == KILLED, Kind.MEASURED))
    bomb = command.run(["--pids-limit", "8"], ["bomb", "64"])
    found.append(
        ("a fork bomb stops at its limit", bomb.stdout.strip() == b"check 7", Kind.MEASURED)
    )
    found.append(("a neighbour goes on", before and _neighbour(command), Kind.MEASURED))
    return found + _guest_panic(image)


def _neighbour(command: Command) -> bool:
    return command.run([], ["start"]).returncode == 0


def _guest_panic(image: BenchImage) -> list[Trial]:
    """A guest whose kernel panics ends; this host, which runs the check, goes on."""
    from pycontain.vm.qemu import accel, boot
    from pycontain.vm.qemu.guest import GuestCommand
    from pycontain.vm.qemu.machine import GuestError, run_guest

    name = "a guest kernel's panic ends one guest"
    try:
        accelerator, _ = accel.choose("auto")
        kind = Kind.EMULATED if accelerator == "tcg" else Kind.MEASURED
        files = boot.prepare(image.rootfs, image.digest, "q35")
        config = files.config(accelerator=accelerator, memory_bytes=256 << 20)
        panic = GuestCommand(argv=("/bin/bench", "panic"))
        run_guest(config, panic, root_type=files.root_type, stdout=len, stderr=len)
    except GuestError as error:
        return [(name, "panic" in error.console, kind)]
    except PycontainError:
        return []
    return [(name, False, kind)]


def limits(data_root: str, image: BenchImage, place: Place) -> list[Trial]:
    """Memory, processes and CPU time as asked for; a shared and a read-only mount."""
    command = _command(image, place, "trial-limits")
    if command is None:
        return []
    shared = place.directory("trial-shared")
    shared.chmod(0o777)
    hog = command.run(["--memory", MEMORY_LIMIT], ["hog", "256"])
    fits = command.run(["--memory", MEMORY_LIMIT], ["hog", "4"])
    bomb = command.run(["--pids-limit", "8"], ["bomb", "64"])
    return [
        ("memory above the limit is refused", hog.returncode == KILLED, Kind.MEASURED),
        ("memory below the limit is given", fits.returncode == 0, Kind.MEASURED),
        ("processes stop at the limit", bomb.stdout.strip() == b"check 7", Kind.MEASURED),
        ("CPU time follows the quota", _quota_holds(command), Kind.MEASURED),
        ("a host directory is shared", _shares(command, shared), Kind.MEASURED),
        ("a read-only mount refuses writing", _refuses(command, shared), Kind.MEASURED),
    ]


def _quota_holds(command: Command) -> bool:
    """Spin for a second of wall time under a quota and compare the CPU time used."""
    done = command.run(["--cpus", str(SHARE)], ["spin", "1000"])
    words = done.stdout.split()
    return len(words) == 3 and abs(float(words[1]) - SHARE) < SHARE_TOLERANCE


def _shares(command: Command, shared: Path) -> bool:
    done = command.run(["-v", f"{shared}:/tmp"], ["leave", "/tmp/word"])
    return done.returncode == 0 and (shared / "word").exists()


def _refuses(command: Command, shared: Path) -> bool:
    done = command.run(["-v", f"{shared}:/tmp:ro"], ["leave", "/tmp/other"])
    return done.returncode != 0 and not os.path.exists(shared / "other")
