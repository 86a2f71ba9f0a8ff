"""`--runtime PATH`: the bundle handed to another OCI runtime (runc, crun), and taken back.

The bundle is the one our own runtime would be given; only the root file system is mounted here, in
the host's namespace, since no other runtime knows our mounts. Undone in reverse.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

from pycontain.engine import removal
from pycontain.engine.engine import Engine, Outcome, exit_of
from pycontain.errors import KernelError, NotFoundError, PycontainError, UsageError
from pycontain.oci import codec
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontain.engine.draft import Draft
    from pycontain.oci.runtime import Linux
    from pycontain.spec.options import RunOptions

MNT_DETACH = 2
_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def run(engine: Engine, options: RunOptions, image: str, command: Sequence[str]) -> int:
    """Run a container in the foreground by another runtime; return its exit status."""
    if options.detach:
        raise UsageError(
            "--runtime takes no -d", hint="use the other runtime under an engine of its own"
        )
    if options.userns not in ("", "host") and os.geteuid() == 0:
        raise UsageError(
            "--runtime takes no --userns", hint="no other runtime mounts our layers id-mapped"
        )
    program = shutil.which(options.runtime)
    if not program:
        raise NotFoundError(f"runtime {options.runtime}: not found")
    removal.reconcile(engine.store)
    draft = engine.maker.make(options, image, command)
    started = time.time()
    try:
        _mount(draft)
        status = _run(program, draft, engine.store.state + "/foreign")
    finally:
        _unmount(draft)
        if options.rm:
            removal.remove(engine.store, draft.record, draft.lock, volumes=True)
    if not options.rm:
        engine.store.save_exit(draft.record.id, exit_of(Outcome(status), started))
        draft.lock.release()
    return status


def _mount(draft: Draft) -> None:
    target = draft.directory + "/rootfs"
    here = os.getcwd()
    for mount in draft.rootfs_mounts:
        try:
            # Relative lower directories count from there.
            os.chdir(mount.get("cwd", "/"))
            if mount["type"] == "bind":
                kernel.mount(mount["source"], target, "", 0x1000 | 0x4000, "")
            else:
                text = ",".join(mount["options"])
                kernel.mount(mount["source"], target, mount["type"], 0, text)
        except OSError as error:
            raise KernelError("mount rootfs", target, error, call="mount") from None
        finally:
            os.chdir(here)


def _unmount(draft: Draft) -> None:
    target = draft.directory + "/rootfs"
    if os.path.ismount(target):
        kernel.umount2(target, MNT_DETACH)


def known(program: str, linux: Linux) -> Linux:
    """Return `linux` without a time namespace where the runtime has none (runc before 1.2).

    One that was asked for by its offsets stays: then it is for the runtime to refuse.
    """
    if linux.get("timeOffsets") or "time" in _namespaces(program):
        return linux
    found: Linux = {**linux}
    found["namespaces"] = [space for space in linux["namespaces"] if space["type"] != "time"]
    return found


def _namespaces(program: str) -> list[str]:
    """Return the namespaces that the runtime's `features` names; [] where it has no such verb."""
    try:
        told = subprocess.run([program, "features"], capture_output=True, check=True, timeout=10)
        document: Any = codec.load_object(told.stdout, program)
        return list(document["linux"]["namespaces"])
    except (OSError, subprocess.SubprocessError, PycontainError, KeyError, TypeError):
        return []


def _run(program: str, draft: Draft, state_root: str) -> int:
    spec = {**draft.spec, "ociVersion": "1.0.2", "linux": known(program, draft.spec["linux"])}
    with open(draft.directory + "/config.json", "wb") as file:
        file.write(codec.dumps(spec))
    os.makedirs(state_root, mode=0o700, exist_ok=True)
    manager = ["--cgroup-manager=disabled"] if draft.record.cgroup_manager == "disabled" else []
    argv = [
        program,
        "--root",
        state_root,
        *manager,
        "run",
        "--bundle",
        draft.directory,
        draft.record.id,
    ]
    stdin = None if draft.record.open_stdin else subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=stdin) as child:
        for number in _FORWARDED:
            signal.signal(number, lambda caught, _: child.send_signal(caught))
        status = child.wait()
    return status if status >= 0 else 128 - status
