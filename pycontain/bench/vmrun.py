"""The verb `vm run`: an image of the store in a guest, its standard streams and its exit status."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from pycontain.bench.image import DEFAULT_PATH, from_store
from pycontain.bench.user import user_of
from pycontain.errors import PycontainError, UsageError, quote
from pycontain.vm.qemu import accel, boot
from pycontain.vm.qemu.guest import GuestCommand
from pycontain.vm.qemu.machine import GuestError, GuestRun, run_guest

STDIN, STDOUT, STDERR = 0, 1, 2
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|c)")


@dataclass(frozen=True, kw_only=True)
class VmOptions:
    """The options of `vm run`, as parsed."""

    accel: str = "auto"
    machine: str = "q35"
    memory_bytes: int = 256 << 20
    vcpus: int = 1
    kernel: str = ""
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    interactive: bool = False
    timeout: float = 0.0
    timeline: bool = False


def vm_run(data_root: str, name: str, words: tuple[str, ...], options: VmOptions) -> int:
    """Boot the image, run the command and return its exit status."""
    image = from_store(name, data_root)
    argv = image.argv(words)
    if not argv:
        raise UsageError(f"no command given, and image {name} has none")
    accelerator, warning = accel.choose(options.accel)
    if warning:
        print(f"pycontain: warning: {warning}", file=sys.stderr)
    files = boot.prepare(image.rootfs, image.digest, options.machine, kernel=options.kernel)
    user = user_of(image.rootfs, options.user or image.user)
    command = GuestCommand(
        argv=argv,
        env=_environment(image.env or (DEFAULT_PATH,), options.env, user.home),
        cwd=options.workdir or image.cwd,
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        stdin=options.interactive,
    )
    config = files.config(
        accelerator=accelerator,
        memory_bytes=options.memory_bytes,
        vcpus=options.vcpus,
        verbose=options.timeline,
    )
    try:
        result = run_guest(
            config,
            command,
            root_type=files.root_type,
            stdout=lambda data: _write(STDOUT, data),
            stderr=lambda data: _write(STDERR, data),
            stdin_fd=STDIN,
            timeout_s=options.timeout or None,
        )
    except GuestError as error:
        print(_console_end(error), end="", file=sys.stderr)
        raise
    if options.timeline:
        print(timeline(result, accelerator, options.machine), file=sys.stderr)
    return result.status


def _environment(image: tuple[str, ...], given: tuple[str, ...], home: str) -> tuple[str, ...]:
    values = {"HOME": home}
    for word in (*image, *given):
        key, equals, value = word.partition("=")
        values[key] = value if equals else os.environ.get(key, "")
    return tuple(f"{key}={value}" for key, value in values.items())


def _write(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BrokenPipeError as error:
            raise PycontainError("nobody reads the output any more") from error


def _console_end(error: GuestError) -> str:
    """Return the last lines of the guest's console, safe for this terminal."""
    lines = [quote(_ESCAPES.sub("", line)) for line in error.console.splitlines()]
    return "".join(f"guest console: {line}\n" for line in lines[-10:] if line.strip())


def timeline(result: GuestRun, accelerator: str, machine: str) -> str:
    """Return the stages as text: when each was reached, and how long after the one before."""
    kind = "emulated (TCG): not what hardware would take" if accelerator == "tcg" else "measured"
    lines = [f"stage        at ms   +ms   ({machine}, {accelerator}, {kind}; the host's clock)"]
    before = 0.0
    for mark in result.marks:
        lines.append(f"{mark.name:<10}{mark.at_s * 1000:>8.1f}{(mark.at_s - before) * 1000:>8.1f}")
        before = mark.at_s
    if result.retries:
        lines.append(f"{result.retries} earlier boot did not come up and was tried again")
    return "\n".join(lines)
