"""Word lists for the features document; imported by the `features` verb alone."""

from __future__ import annotations

from pycontain.runtime import validate

HOOKS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)


def mount_options() -> list[str]:
    """Return every mount option that means something to us, sorted."""
    from pycontain.runtime import mountoptions

    return sorted(set(mountoptions.KNOWN))


def capabilities() -> list[str]:
    """Return the names of the capabilities we know, sorted by name."""
    from pycontain.runtime.capabilities import NAMES

    return sorted(NAMES)


def memory_policy() -> dict[str, object]:
    """Return the part of the features document on memory policies."""
    return {"modes": list(validate.MEMORY_MODES), "flags": list(validate.MEMORY_FLAGS)}


def seccomp() -> dict[str, object]:
    """Return the part of the features document on seccomp."""
    return {
        "enabled": True,
        "actions": sorted(validate.ACTIONS),
        "operators": sorted(validate.OPERATORS),
        "archs": sorted(validate.ARCHITECTURES),
        "knownFlags": list(validate.SECCOMP_FLAGS),
        "supportedFlags": list(validate.SECCOMP_FLAGS),
    }
