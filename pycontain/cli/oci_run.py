"""`pycontain-oci run` and `exec`: the verbs that may stay in the foreground."""

# ruff: noqa: A001 - `id`, `all`, `type` are the words of the specification and of runc

from __future__ import annotations

import posix

from pycontain.cli import oci_main as oci
from pycontain.errors import UsageError
from pycontain.runtime import bundle, container, foreground, tolerate
from pycontain.runtime.foreground import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.cli.oci_main import Context
    from pycontain.oci.runtime import Process
    from pycontain.runtime.container import Container
    from pycontain.runtime.launch import Init, LaunchOptions
    from pycontain.runtime.notify import Relay
    from pycontain.runtime.stdpipes import StandardPipes


def run(context: Context, options: Any, words: list[str]) -> int:
    """Create and start a container; in the foreground return the status of its program."""
    loaded = oci.load_bundle(context, options)
    process = loaded.spec["process"]
    launch = oci.launch_options(context, options, process, detached=options.detach)
    oci.place(context, launch, words[0])
    relay = _relay(launch)
    with Foreground() as attention:
        near = _own_terminal(process, launch, options.detach)
        pipes = _own_pipes(process, launch, options.detach)
        made, init = container.run(
            context.root, words[0], loaded.path, loaded.spec, launch,
            manager_kind=context.manager, raw=loaded.raw,
        )  # fmt: skip
        try:
            oci.announce(options, made.pid, made.state.annotations)
            oci.settle_poststart(context, made, made.poststart(), strict=True)
        except BaseException:
            made.delete(force=True)
            raise
        if options.detach:
            if relay:
                oci.relay_ready(context, relay, made.pid, made.pid)
            return 0
        if pipes:
            pipes.started()
        if relay:
            import _thread

            # The manager's main process is this one: it ends with the program's status.
            _thread.start_new_thread(oci.relay_ready, (context, relay, made.pid, posix.getpid()))
        try:
            return attention.attend(
                init.pidfd, _console(near, launch), plain_newlines=True, pipes=pipes
            )
        finally:
            _clean_up(context, made, keep=options.keep)


def _relay(launch: LaunchOptions) -> Relay | None:
    """Return the notify socket of the container, None when no service manager listens."""
    host = posix.environ.get(b"NOTIFY_SOCKET")
    if not host:
        return None
    from pycontain.runtime import notify

    relay = notify.Relay(host)
    launch.notify = relay.prepare
    return relay


def _clean_up(context: Context, made: Container, *, keep: bool) -> None:
    if keep:
        return
    for failure in made.delete(force=True):
        context.log.warning(str(failure))


def exec(context: Context, options: Any, words: list[str]) -> int:
    """Run a process in a container; in the foreground return its status."""
    found = container.load(context.root, words[0])
    process = _process(found, options, words[1:])
    for note in tolerate.drop_capabilities(process, own_user=_own_user(found.pid)):
        context.log.warning(note)
    launch = oci.launch_options(context, options, process, detached=options.detach)
    _choose_cgroup(found, launch, options.cgroup)
    with Foreground() as attention:
        near = _own_terminal(process, launch, options.detach)
        pipes = _own_pipes(process, launch, options.detach)
        init = found.exec(
            process,
            launch,
            ignore_paused=options.ignore_paused,
            paused_hint="use --ignore-paused to override",
        )
        if context.log.debugging:
            _log_affinity(context, process)
        _announce_or_kill(options, init)
        if options.detach:
            return 0
        if pipes:
            pipes.started()
        return attention.attend(
            init.pidfd, _console(near, launch), plain_newlines=True, pipes=pipes
        )


def _own_user(pid: int) -> bool:
    """Return whether the process `pid` is in another user namespace than this one."""
    try:
        there = posix.stat(f"/proc/{pid}/ns/user")
    except OSError:
        # It ended meanwhile: the launch tells that.
        return False
    here = posix.stat("/proc/self/ns/user")
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)


def _choose_cgroup(found: Container, launch: LaunchOptions, wanted: list[str]) -> None:
    if wanted:
        from pycontain.cgroup import manager
        from pycontain.runtime import subcgroup

        launch.sub_cgroup = ",".join(wanted)
        launch.cgroup = manager.attach(subcgroup.below(found.state.cgroup, wanted))


def _log_affinity(context: Context, process: Process) -> None:
    """Say on which CPUs the process joined the cgroup: it may run on others by now."""
    cpus = process.get("execCPUAffinity", {}).get("initial")
    if cpus:
        from pycontain.runtime import scheduling

        mask = scheduling.bits(cpus, "process.execCPUAffinity.initial")
        context.log.debug(f"initial CPU affinity: {int.from_bytes(mask, 'little'):#x}")


def _announce_or_kill(options: Any, init: Init) -> None:
    try:
        oci.announce(options, init.pid)
    except BaseException:
        import _signal  # type: ignore[import-not-found]

        _signal.pidfd_send_signal(init.pidfd, _signal.SIGKILL)
        raise


def _own_terminal(process: Process, launch: LaunchOptions, detached: bool) -> int:
    """Where the process wants a terminal and we stay: be the receiver of its master ourselves."""
    if detached or not process.get("terminal"):
        return -1
    near, launch.console = foreground.console_pair()
    launch.plain_newlines = True
    return near


def _own_pipes(process: Process, launch: LaunchOptions, detached: bool) -> StandardPipes | None:
    """Where the process wants no terminal and we stay: keep the caller's from it."""
    if detached or process.get("terminal"):
        return None
    terminals = [number for number in (0, 1, 2) if posix.isatty(number)]
    if not terminals:
        return None
    from pycontain.runtime import stdpipes

    pipes = stdpipes.StandardPipes(terminals)
    launch.stdio = pipes.stdio
    return pipes


def _console(near: int, launch: LaunchOptions) -> int:
    if near < 0:
        return -1
    return foreground.receive_console(near)


def _process(found: Container, options: Any, command: list[str]) -> Process:
    if options.process:
        return bundle.load_process(options.process)
    if not command:
        raise UsageError("process args cannot be empty", hint="exec ID COMMAND, or --process FILE")
    process = found.config()["process"]
    process["args"] = command
    process["terminal"] = options.tty
    process.pop("consoleSize", None)
    if options.cwd:
        process["cwd"] = _absolute(options.cwd)
    process["env"] = process.get("env", []) + [_entry(e) for e in options.env]
    if "no_new_privs" in options.given:
        process["noNewPrivileges"] = options.no_new_privs
    if options.apparmor:
        process["apparmorProfile"] = options.apparmor
    if options.process_label:
        process["selinuxLabel"] = options.process_label
    _set_user(process, options)
    _add_capabilities(process, options.cap)
    return process


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"--cwd: {path!r} is not an absolute path")
    return path


def _entry(text: str) -> str:
    if text.find("=") < 1:
        raise UsageError(f"--env: {text!r} is not NAME=VALUE")
    return text


def _set_user(process: Process, options: Any) -> None:
    user = process.setdefault("user", {"uid": 0, "gid": 0})
    if options.user:
        uid, colon, gid = options.user.partition(":")
        user["uid"] = _user_id("--user", uid)
        if colon:
            user["gid"] = _user_id("--user", gid)
    groups = [_user_id("--additional-gids", gid) for gid in options.additional_gids]
    if groups:
        user["additionalGids"] = user.get("additionalGids", []) + groups


def _user_id(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) < (1 << 32) - 1):
        raise UsageError(f"{option}: {text!r} is no user or group number")
    return int(text)


def _add_capabilities(process: Process, names: list[str]) -> None:
    if not names:
        return
    sets: dict[str, list[str]] = process.setdefault("capabilities", {})  # type: ignore[assignment]
    # Never inheritable: a program with file capabilities would gain them (CVE-2022-29162).
    for which in ("bounding", "effective", "permitted", "ambient"):
        held = sets.setdefault(which, [])
        held.extend(name.upper() for name in names if name.upper() not in held)
