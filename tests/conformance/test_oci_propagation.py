"""Mounts and the host's: how they propagate, and paths that are not absolute."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root


@pytest.mark.parametrize("propagation", ["shared", "slave", "private", "unbindable"])
def test_rootfs_propagation(oci: Oci, bundle: Bundle, propagation: str) -> None:
    bundle.linux["rootfsPropagation"] = propagation
    if propagation in ("unbindable", "shared") and oci.name == "runc":
        pytest.skip("runc: leaves a shared root private, cannot bind an unbindable one")
    bundle.command("cat", "/proc/self/mountinfo")
    line = next(li for li in oci.output(bundle).splitlines() if li.split()[4] == "/")
    tags = line.partition(" - ")[0].split()[6:]
    wanted = {"shared": "shared:", "slave": "master:", "unbindable": "unbindable"}.get(propagation)
    if propagation == "private":
        assert tags == []
    elif propagation != "slave":
        # The peer group of the host's mount decides whether there is a master at all.
        assert any(tag.startswith(wanted or "") for tag in tags)


@pytest.mark.lacks(crun="does not follow it")
def test_a_slave_root_follows_the_mount_it_lies_on(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    bundle.linux["rootfsPropagation"] = "rslave"
    bundle.command("cat", "/proc/self/mountinfo")
    bundle.rootfs.rename(tmp_path / "moved")
    bundle.rootfs.mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "moved", bundle.rootfs], check=True)
    try:
        subprocess.run(["mount", "--make-shared", bundle.rootfs], check=True)
        line = next(li for li in oci.output(bundle).splitlines() if li.split()[4] == "/")
    finally:
        subprocess.run(["umount", bundle.rootfs], check=True)
    assert any(tag.startswith("master:") for tag in line.partition(" - ")[0].split()[6:])


@pytest.mark.parametrize(
    "option",
    ["", pytest.param("--no-pivot", marks=pytest.mark.lacks(crun="takes the host's mounts along"))],
)
@pytest.mark.parametrize("kind", ["shared", "rshared", "slave"])
def test_the_mounts_of_a_host_that_shares_them_stay(
    oci: Oci, bundle: Bundle, kind: str, option: str
) -> None:
    bundle.linux["rootfsPropagation"] = kind
    bundle.write()
    script = (
        "mount --make-rshared / && cut -d' ' -f5 /proc/self/mountinfo > before &&"
        ' "$@" && cut -d" " -f5 /proc/self/mountinfo | diff before -'
    )
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    argv += oci.argv("run", "--bundle", bundle.path, *option.split(), "one")
    done = subprocess.run(argv, cwd=bundle.path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_relative_readonly_path_counts_from_the_root(oci: Oci, bundle: Bundle) -> None:
    (bundle.rootfs / "ro.d").mkdir()
    bundle.linux["readonlyPaths"] = ["ro.d", "not/there"]
    bundle.process["cwd"] = "/tmp"
    bundle.shell("touch /ro.d/new")
    done = oci.run(bundle, status=1)
    assert "Read-only file system" in done.err


@pytest.mark.lacks(runc="warns", crun="")
def test_a_relative_destination_is_no_reason_to_warn(oci: Oci, bundle: Bundle) -> None:
    bundle.mount("mnt", "tmpfs", "tmpfs")
    bundle.shell("grep -c ' /mnt tmpfs ' /proc/mounts")
    done = oci.run(bundle)
    assert (done.out, done.err) == ("1\n", "")
