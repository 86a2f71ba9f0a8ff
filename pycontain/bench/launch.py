"""Starting one command under the stopwatch (native/bench_launch.c) and reading its report.

Owns the child's descriptors: standard output and error go to files in memory, so that no pipe has
to be emptied while the clock runs. Which command, is the arm's business.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from io import FileIO
from typing import TYPE_CHECKING

from pycontain.errors import PycontainError
from pycontain.vm.qemu.toolchain import launcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPORT_WORDS = 12


class LaunchError(PycontainError):
    """The stopwatch itself failed, or the time ran out."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One finished run: clock readings in ns of CLOCK_MONOTONIC, times in µs, memory in kB."""

    start_ns: int
    end_ns: int
    status: int
    user_us: int
    system_us: int
    minor_faults: int
    major_faults: int
    voluntary_switches: int
    involuntary_switches: int
    max_rss_kib: int
    blocks_in: int
    blocks_out: int
    events: tuple[int, ...]
    stdout: bytes
    stderr: bytes

    @property
    def wall_s(self) -> float:
        """Seconds from before the start to after the end."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and as whom a command runs; the arms that bring their own isolation leave it empty."""

    root: str = ""
    cwd: str = ""
    uid: int | None = None
    gid: int | None = None
    cpuset: str = ""
    join: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    unified_cgroups: bool = False
    user_namespace: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


def launch_argv(setting: Setting, argv: Sequence[str], report_fd: int | str = "") -> list[str]:
    """Return the command line of the stopwatch; without `report_fd` it only starts and waits."""
    options: list[str] = ["-2"] if setting.unified_cgroups else []
    for flag, value in (("-c", setting.cpuset), ("-r", setting.root), ("-d", setting.cwd)):
        options += [flag, value] if value else []
    if setting.user_namespace:
        # After -r, whose directory it fills; it holds one identity, so -u has nothing to choose.
        options.append("-U")
    elif setting.uid is not None:
        options += ["-u", f"{setting.uid}:{setting.gid or 0}"]
    for flag, values in (("-p", setting.join), ("-e", setting.events)):
        for value in values:
            options += [flag, value]
    report = ["-o", str(report_fd)] if report_fd != "" else []
    return [str(launcher()), *options, *report, "--", *argv]


def launch(argv: Sequence[str], setting: Setting, timeout_s: float) -> Launch:
    """Run `argv` to its end. Raises LaunchError when the time is up or there is no report."""
    with (
        memory("in") as empty,
        memory("out") as out,
        memory("err") as err,
        memory("report") as report,
    ):
        try:
            process = subprocess.Popen(
                launch_argv(setting, argv, report.fileno()),
                env=dict(setting.env),
                stdin=empty,
                stdout=out,
                stderr=err,
                pass_fds=(report.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"start the stopwatch: {error.strerror}: {error.filename}") from error
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise LaunchError(f"{argv[0]}: not done within {timeout_s:g} s") from error
        finally:
            _end(process)
        words = _content(report).split()
        if code != 0 or len(words) < REPORT_WORDS:
            raise LaunchError(f"{argv[0]}: {_last_line(_content(err)) or 'no report'}")
        return _parse([int(word) for word in words], _content(out), _content(err))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the command's whole session if the stopwatch is still waiting for it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def memory(name: str) -> FileIO:
    """Return a file in memory for a standard stream.

    Not the null device: runsc gives the descriptors it is started with to nobody.
    """
    return FileIO(os.memfd_create(f"bench-{name}"), "w+b")


def _content(file: FileIO) -> bytes:
    file.seek(0)
    return file.read()


def _last_line(text: bytes) -> str:
    return (text.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


def _parse(words: list[int], stdout: bytes, stderr: bytes) -> Launch:
    status = os.waitstatus_to_exitcode(words[2])
    return Launch(
        start_ns=words[0],
        end_ns=words[1],
        status=status if status >= 0 else 128 - status,
        user_us=words[3],
        system_us=words[4],
        minor_faults=words[5],
        major_faults=words[6],
        voluntary_switches=words[7],
        involuntary_switches=words[8],
        max_rss_kib=words[9],
        blocks_in=words[10],
        blocks_out=words[11],
        events=tuple(words[REPORT_WORDS:]),
        stdout=stdout,
        stderr=stderr,
    )
