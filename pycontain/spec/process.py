"""The process: arguments, environment, user, capabilities, limits. Pure."""

from __future__ import annotations

from pycontain.errors import InvalidError, UsageError, quote
from pycontain.spec import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pycontain.oci.runtime import Capabilities, Process, Rlimit
    from pycontain.spec.host import Host
    from pycontain.spec.options import RunOptions


def build(
    options: RunOptions,
    image: Mapping[str, Any],
    command: Sequence[str],
    host: Host,
    origins: dict[str, str],
) -> Process:
    """Return the process object; raises UsageError or InvalidError (no command, a NUL byte)."""
    given, who = options.given, host.identity
    args, origin = arguments(options, image, command)
    if host.init:
        args = [defaults.INIT, "--", *args]
    origins["process.args"] = origin
    origins["process.user"] = given.get("user", "image" if image.get("User") else "default")
    origins["process.cwd"] = given.get("workdir", "image" if image.get("WorkingDir") else "default")
    origins["process.env"] = given.get("env", "image")
    origins["process.terminal"] = given.get("tty", "default")
    process: Process = {
        "terminal": options.tty,
        "user": {"uid": who.uid, "gid": who.gid},
        "args": args,
        "env": environment(options, image, host),
        "cwd": working_directory(options.workdir or image.get("WorkingDir") or "/"),
        "capabilities": capabilities(options, host, origins),
        "noNewPrivileges": no_new_privileges(options),
    }
    origins["process.noNewPrivileges"] = given.get("security_opt", "default")
    if who.groups:
        process["user"]["additionalGids"] = who.groups
    process["user"]["umask"] = defaults.UMASK if options.umask is None else options.umask
    if options.oom_score_adj is not None:
        if not -1000 <= options.oom_score_adj <= 1000:
            raise UsageError(f"--oom-score-adj {options.oom_score_adj}: expected -1000 to 1000")
        process["oomScoreAdj"] = options.oom_score_adj
        origins["process.oomScoreAdj"] = given.get("oom_score_adj", "")
    if limits := rlimits(options, host):
        process["rlimits"] = limits
        origins["process.rlimits"] = given.get("ulimit", "default")
    _labels(options, process)
    return process


def arguments(
    options: RunOptions, image: Mapping[str, Any], command: Sequence[str]
) -> tuple[list[str], str]:
    """Return argv and where it comes from.

    An entry point given on the command line drops the image's command, as docker.
    """
    if options.entrypoint is None:
        head = list(image.get("Entrypoint") or [])
        tail = list(command) or list(image.get("Cmd") or [])
    else:
        head = [options.entrypoint] if options.entrypoint else []
        tail = list(command)
    argv = head + tail
    if not argv:
        raise UsageError("no command given, and the image has none")
    if not argv[0]:
        raise UsageError("the command is an empty string")
    for word in argv:
        if "\0" in word:
            raise InvalidError(f"command holds a NUL byte: {quote(word)}")
    return argv, "command line" if command or options.entrypoint is not None else "image"


def environment(options: RunOptions, image: Mapping[str, Any], host: Host) -> list[str]:
    """Return the environment: ours, the image's, --env; the last one counts."""
    found: dict[str, str] = {}
    base = [defaults.PATH, *(["TERM=xterm"] if options.tty else [])]
    if options.hostname or host.id:
        base.append("HOSTNAME=" + (options.hostname or host.id[:12]))
    for item in [*base, *(image.get("Env") or [])]:
        _set(found, item, InvalidError)
    for item in options.env:
        if "=" in item:
            _set(found, item, UsageError)
        elif item in host.caller:
            _set(found, f"{item}={host.caller[item]}", UsageError)
        else:
            found.pop(item, None)
    found.setdefault("HOME", host.identity.home)
    return [f"{name}={value}" for name, value in found.items()]


def _set(found: dict[str, str], item: str, error: type[InvalidError | UsageError]) -> None:
    name, equals, value = item.partition("=")
    if "\0" in item:
        raise error(f"environment variable {quote(name)} holds a NUL byte")
    if not name or not equals:
        raise error(f"environment variable {quote(item)}: expected NAME=VALUE")
    found[name] = value


def working_directory(path: str) -> str:
    """Return the working directory, cleaned; it must be absolute."""
    from pycontain.spec.files import clean_path

    if "\0" in path or not path.startswith("/"):
        raise InvalidError(f"working directory {quote(path)}: expected an absolute path")
    return clean_path(path)


def capabilities(options: RunOptions, host: Host, origins: dict[str, str]) -> Capabilities:
    """Return the five sets.

    Root has the default set, with what was added and dropped. Another user has none, but for those
    added by name: they become ambient, since a set without effect would be a silent no.
    """
    words = [
        options.given[key] for key in ("cap_add", "cap_drop", "privileged") if key in options.given
    ]
    origins["process.capabilities"] = " ".join(words) or "default"
    bounding = root_capabilities(options, host)
    if host.identity.uid == 0:
        return {
            "bounding": bounding,
            "permitted": bounding,
            "effective": bounding,
            "inheritable": [],
            "ambient": [],
        }
    added = [name for name in bounding if name in options.cap_add or "ALL" in options.cap_add]
    # Without no_new_privs a setuid program may still need what the bounding set holds.
    kept = added if no_new_privileges(options) else bounding
    return {
        "bounding": kept,
        "permitted": added,
        "effective": added,
        "inheritable": added,
        "ambient": added,
    }


def root_capabilities(options: RunOptions, host: Host) -> list[str]:
    """Return what root has in the container, whoever its init runs as."""
    base = list(host.capabilities) if options.privileged else list(defaults.CAPABILITIES)
    return capability_set(base, options.cap_add, options.cap_drop, host.capabilities)


def capability_set(
    base: list[str], add: Sequence[str], drop: Sequence[str], known: Sequence[str]
) -> list[str]:
    """Return `base` changed by docker's rules: ALL first, then names; drop has the last word.

    Raises UsageError for a name the kernel does not know.
    """
    for name in (*add, *drop):
        if name != "ALL" and name not in known:
            raise UsageError(f"unknown capability {quote(name)}")
    chosen = set(known) if "ALL" in add else set() if "ALL" in drop else set(base)
    if "ALL" in add and "ALL" in drop:
        raise UsageError("--cap-add ALL and --cap-drop ALL together mean nothing")
    chosen |= set(add) - {"ALL"}
    chosen -= set(drop)
    return [name for name in known if name in chosen]


def rlimits(options: RunOptions, host: Host) -> list[Rlimit]:
    """Return the resource limits that were asked for."""
    return [
        {"type": "RLIMIT_" + name.upper(), "soft": soft, "hard": hard}
        for name, soft, hard in options.ulimit
    ]


def security(options: RunOptions) -> dict[str, str]:
    """Return --security-opt as a dict; raises UsageError for what is not known."""
    found: dict[str, str] = {}
    for item in options.security_opt:
        key = item.partition("=")[0].partition(":")[0]
        if key not in _SECURITY:
            raise UsageError(f"--security-opt {item}: expected one of " + " ".join(_SECURITY))
        found[key] = item[len(key) + 1 :]
    return found


_SECURITY = ("no-new-privileges", "seccomp", "apparmor", "label")


def no_new_privileges(options: RunOptions) -> bool:
    """Return whether setuid programs and file capabilities are without effect: yes by default."""
    value = security(options).get("no-new-privileges")
    if value is None:
        return not options.privileged
    if value not in ("", "true", "false"):
        raise UsageError(f"--security-opt no-new-privileges={value}: expected true or false")
    return value != "false"


def _labels(options: RunOptions, process: Process) -> None:
    chosen = security(options)
    if chosen.get("apparmor", "unconfined") != "unconfined":
        process["apparmorProfile"] = chosen["apparmor"]
    label = chosen.get("label", "disable")
    if label.startswith(("user:", "role:", "type:", "level:")):
        raise UsageError("--security-opt label: give the whole SELinux label, or disable")
    if label not in ("", "disable"):
        process["selinuxLabel"] = label
