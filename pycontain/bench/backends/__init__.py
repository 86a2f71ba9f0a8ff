"""The arms, one module each; `arms` is the list of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.bench.backends.bwrap import Bwrap
from pycontain.bench.backends.engines import Docker, Podman
from pycontain.bench.backends.native import Native
from pycontain.bench.backends.oci import Crun, Gvisor, Runc
from pycontain.bench.backends.pycontain import Pycontain
from pycontain.bench.backends.qemu import Qemu
from pycontain.bench.backends.simulated import Simulated, profile_names
from pycontain.errors import UsageError

if TYPE_CHECKING:
    from pycontain.bench.backend import Backend

NATIVE_AGAIN = "native-again"
SIM = "sim:"
NOT_BY_DEFAULT = "qemu-microvm"
"""A second guest would double the time of a comparison; it is there for the asking."""
DEFAULT_SIMULATED = ("kvm-qemu", "xen-pv", "esxi", "vmware-workstation", "firecracker")


def arms(data_root: str) -> dict[str, Backend]:
    """Return every arm by name, simulated ones included, whether it can run here or not."""
    native = Native()
    real: list[Backend] = [
        native,
        Native(NATIVE_AGAIN),
        Pycontain(data_root),
        Runc(),
        Crun(),
        Bwrap(),
        Podman(),
        Docker(),
        Gvisor(),
        Qemu(),
        Qemu(machine="microvm"),
    ]
    simulated: list[Backend] = [Simulated(name, native) for name in profile_names()]
    return {arm.name: arm for arm in [*real, *simulated]}


def choose(known: dict[str, Backend], asked: str) -> list[Backend]:
    """Return the arms of a comma-separated list; "" means the real ones and five simulated.

    `sim:*` stands for every profile. native and its twin always run: they are the base of every
    ratio and the noise floor.
    """
    words = [word.strip() for word in asked.split(",") if word.strip()]
    if not words:
        simulated = [SIM + name for name in DEFAULT_SIMULATED]
        words = [name for name in known if not name.startswith((SIM, NOT_BY_DEFAULT))] + simulated
    names = ["native", NATIVE_AGAIN]
    for word in words:
        matches = [name for name in known if name.startswith(SIM)] if word == "sim:*" else [word]
        for name in matches:
            if name not in known:
                raise UsageError(f"no arm {name}", hint="pycontain bench arms lists them")
            if name not in names:
                names.append(name)
    return [known[name] for name in names]
