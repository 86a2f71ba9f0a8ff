"""Profiles: the products the simulator is parameterised like, as data files.

Owns data/profiles/*.toml. A profile names technique preferences, I/O paths and the constants of
its start-up and memory; the numbers stay in data/constants.toml.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pycontain.errors import InvalidError, NotFoundError, UsageError
from pycontain.vm.sim.constants import DATA, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontain.vm.sim.hardware import Hardware

TYPES = {
    "1": "type 1, drivers in the hypervisor",
    "1+dom0": "type 1 with a privileged domain",
    "2": "type 2, hosted",
    "3": "in the host kernel",
    "os": "operating-system level",
}
PATHS = ("native", "nat", "inhyp", "dom0", "hosted", "qemu", "vhost", "pt")
NEEDS = {"HV1": "vt", "HV2": "ept", "HYB": "vt"}
"""What a technique needs of the processor. HYB pages by shadow where there is no EPT."""

TECHNIQUES = ("TE", "BT", "HV1", "HV2", "PV", "PV32", "HYB", "TCG", "OS")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One product: hypervisor type (key of TYPES), techniques in order of preference, paths."""

    name: str
    product: str
    type: str
    techniques: tuple[str, ...]
    paths: tuple[str, ...]
    net_path: str
    disk_path: str
    startup: Mapping[str, str]
    memory: Mapping[str, str]
    userspace: Mapping[str, str]
    migration: str
    assumed: bool
    notes: str
    aliases: tuple[str, ...] = ()

    def technique_on(self, hardware: Hardware, wanted: str | None = None) -> str:
        """Return the technique to use: `wanted` if the processor can, else the first possible.

        UsageError says what the processor lacks.
        """
        for technique in (wanted,) if wanted else self.techniques:
            if technique not in TECHNIQUES:
                raise UsageError(
                    f"no technique {technique}", hint="one of " + ", ".join(TECHNIQUES)
                )
            need = NEEDS.get(technique, "")
            if not need or hardware.has(need):
                return technique
        raise UsageError(f"{hardware.name} cannot run {self.name}: no {need}")

    def path_of(self, kind: str, wanted: str | None = None) -> str:
        """Return the I/O path of `kind` ("net" or "disk"): `wanted` if given, else the default."""
        if wanted is None:
            return self.net_path if kind == "net" else self.disk_path
        if wanted not in PATHS:
            raise UsageError(f"no I/O path {wanted}", hint="one of " + ", ".join(PATHS))
        return wanted


@cache
def profiles() -> dict[str, Profile]:
    """Return every profile by name."""
    files = sorted((DATA / "profiles").glob("*.toml"))
    return {path.stem: _profile(path.stem, read_toml(path)) for path in files}


def profile(name: str) -> Profile:
    """Return one profile by name or alias; an unknown one is NotFoundError."""
    for candidate in profiles().values():
        if name == candidate.name or name in candidate.aliases:
            return candidate
    raise NotFoundError(f"no hypervisor profile {name}", hint="one of " + ", ".join(profiles()))


def anonymous(technique: str, type_: str, net_path: str, disk_path: str) -> Profile:
    """Return a profile for a scenario that names technique, type and path but no product.

    Start-up and memory are borrowed from the closest product of that type.
    """
    like = profile(_CLOSEST[type_] if technique != "OS" else "container")
    return Profile(
        name=f"{technique}/{type_}",
        product=f"unnamed {TYPES[type_]}, {technique}",
        type=type_,
        techniques=(technique,),
        paths=PATHS,
        net_path=net_path or like.net_path,
        disk_path=disk_path or like.disk_path,
        startup=like.startup,
        memory=like.memory,
        userspace=like.userspace,
        migration=like.migration,
        assumed=True,
        notes=f"start-up and memory like {like.name}",
    )


_CLOSEST = {
    "1": "esxi",
    "1+dom0": "xen-hvm",
    "2": "vmware-workstation",
    "3": "kvm-qemu",
    "os": "container",
}


def _profile(name: str, entry: dict[str, Any]) -> Profile:
    try:
        found = Profile(
            name=name,
            techniques=tuple(entry.pop("techniques")),
            paths=tuple(entry.pop("paths")),
            aliases=tuple(entry.pop("aliases", ())),
            userspace=entry.pop("userspace", {}),
            **entry,
        )
    except (KeyError, TypeError) as error:
        raise InvalidError(f"profile {name}: {error}") from error
    if found.type not in TYPES or not set(found.paths) <= set(PATHS):
        raise InvalidError(f"profile {name}: unknown type or path")
    return found
