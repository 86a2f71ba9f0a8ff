"""`--runtime PATH`: the bundle handed to another OCI runtime (runc, crun), and taken back.

The bundle is the one our own runtime would be given; only the root file system is mounted here, in
the host's namespace, since no other runtime knows our mounts. Undone in reverse.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import time

from pycontain.engine import removal
from pycontain.engine.engine import SIGKILL, Engine, Outcome, exit_of
from pycontain.errors import (
    ConflictError,
    KernelError,
    NotFoundError,
    PycontainError,
    UsageError,
)
from pycontain.oci import codec
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontain.engine.draft import Draft
    from pycontain.engine.record import Record
    from pycontain.engine.store import Store
    from pycontain.oci.runtime import Linux
    from pycontain.spec.options import RunOptions

DELETE_WAIT_S = 30
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
    if not options.sig_proxy:
        raise UsageError("--runtime takes no --sig-proxy=false")
    program = shutil.which(options.runtime)
    if not program:
        raise NotFoundError(f"runtime {options.runtime}: not found")
    removal.reconcile(engine.store)
    options.runtime = os.path.abspath(program)
    draft = engine.maker.make(options, image, command)
    started = time.time()
    try:
        _mount(draft)
        status = _run(draft, _state_root(engine.store))
    except BaseException as error:
        stop(engine.store, draft.record)
        engine.abandon(draft, error)
        raise
    removal.unmount(draft.directory)
    if options.rm:
        removal.remove_files(engine.store, draft.record.id, draft.record.name, draft.record)
    else:
        engine.store.save_exit(draft.record.id, exit_of(Outcome(status), started))
    draft.lock.release()
    return status


def stop(store: Store, record: Record) -> None:
    """Kill what the other runtime runs of a container, let it forget it, unmount the rootfs.

    A runtime that is gone or fails leaves the killing to the container's cgroup (`stop_lost`).
    """
    _call(store, record, "delete", "--force", record.id)
    removal.stop_lost(store, record.id, record)
    removal.unmount(store.directory(record.id))


def kill(store: Store, record: Record, signal: int) -> None:
    """Send a signal to the init of a container; raises ConflictError when it does not run."""
    if not _call(store, record, "kill", record.id, str(signal)):
        raise ConflictError(f"container {record.name} is not running")


def end(store: Store, record: Record, seconds: int | None, signal: int | None) -> None:
    """Ask a container to end, wait, then kill it; its owner clears up behind it."""
    limit = record.stop_timeout if seconds is None else seconds
    try:
        kill(store, record, signal or record.stop_signal)
        if _ended(store, record, limit if limit >= 0 else math.inf):
            return
        kill(store, record, SIGKILL)
    except ConflictError:
        # It ended between two of the steps.
        pass
    if not _ended(store, record, DELETE_WAIT_S):
        raise ConflictError(f"container {record.name} is in use by another command")


def _ended(store: Store, record: Record, seconds: float) -> bool:
    """Wait until the command that runs the container has recorded its end."""
    limit = time.monotonic() + seconds
    while store.is_locked(record.id):
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def _call(store: Store, record: Record, *words: str) -> bool:
    """Call a verb of the other runtime; return whether it did it."""
    argv = [record.runtime, "--root", _state_root(store), *words]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=DELETE_WAIT_S
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _state_root(store: Store) -> str:
    return store.state + "/foreign"


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


def _run(draft: Draft, state_root: str) -> int:
    program = draft.record.runtime
    linux = {**known(program, draft.spec["linux"])}
    if os.geteuid() == 0 and draft.record.cgroup_manager == "cgroupfs":
        # Where `removal.stop_lost` looks for it.
        linux.setdefault("cgroupsPath", f"/pycontain-{draft.record.id}")
    spec = {**draft.spec, "ociVersion": "1.0.2", "linux": linux}
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
