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
