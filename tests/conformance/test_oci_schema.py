"""What the runtime prints and hands to hooks, against the specification's JSON schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from oci_schema import Schema

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root


def test_the_state_is_valid_in_every_status(oci: Oci, bundle: Bundle) -> None:
    schema = Schema("state-schema.json")
    bundle.config["annotations"] = {"org.example": "value"}
    bundle.command("sleep", "100")
    oci.create(bundle, "one")
    seen = [oci.state()]
    oci("start", "one")
    seen.append(oci.state())
    oci("kill", "one", "KILL")
    oci.wait("one")
    seen.append(oci.state())
    assert [state["status"] for state in seen] == ["created", "running", "stopped"]
    assert [schema.faults(state) for state in seen] == [[], [], []]


@pytest.mark.parametrize("stage", ["prestart", "createContainer", "poststart", "poststop"])
def test_the_state_of_hooks_is_valid(oci: Oci, bundle: Bundle, tmp_path: Path, stage: str) -> None:
    schema = Schema("state-schema.json")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"/bin/cat > {tmp_path}/hook-state"]}
    bundle.config["hooks"] = {stage: [hook]}
    bundle.command("sleep", "100")
    oci.create(bundle, "one")
    oci("start", "one")
    oci("delete", "--force", "one")
    assert schema.faults(json.loads((tmp_path / "hook-state").read_text())) == []


@pytest.mark.parametrize("options", [[], ["--rootless"]])
def test_the_config_of_spec_is_valid(oci: Oci, tmp_path: Path, options: list[str]) -> None:
    oci("spec", *options, cwd=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert Schema("config-schema.json").faults(config) == []
