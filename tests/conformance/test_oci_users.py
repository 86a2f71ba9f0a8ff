"""User namespaces: id maps, joined ones, devices and mounts inside, who owns the others."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root

MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def open_to_others(bundle: Bundle) -> None:
    """Let who is nobody on the host reach the bundle."""
    for parent in (bundle.path, *bundle.path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)


def give_away(bundle: Bundle) -> None:
    subprocess.run(["chown", "-R", "100000:100000", bundle.rootfs], check=True)


def map_ids(bundle: Bundle) -> None:
    bundle.namespace("user")
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = MAPPING


def join_another(oci: Oci, bundle: Bundle) -> None:
    """Start a container with a user namespace, and name it as that of `bundle`."""
    other = oci.bundle()
    map_ids(other)
    give_away(other)
    oci.running(other, "other")
    bundle.namespace("user", f"/proc/{oci.state('other')['pid']}/ns/user")


@pytest.fixture
def mapped(bundle: Bundle) -> Bundle:
    """A bundle with a user namespace, its root file system owned by the root in it."""
    map_ids(bundle)
    subprocess.run(["chown", "-hR", "100000:100000", bundle.rootfs], check=True)
    for place in (bundle.path, *bundle.path.parents):
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode | 0o055 != mode:
            place.chmod(mode | 0o055)
    return bundle


@pytest.mark.lacks(
    runc="binds the host's device of that path", crun="leaves a default device as it is"
)
def test_a_device_in_a_user_namespace_is_as_asked(oci: Oci, mapped: Bundle) -> None:
    device = {"type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 10, "gid": 11}
    mapped.linux["devices"] = [
        {**device, "path": "/dev/not-the-hosts"},
        {**device, "path": "/dev/null"},
        {"path": "/mnt/queue", "type": "p"},
    ]
    mapped.shell(
        "stat -c '%F %t:%T %a %u:%g' /dev/not-the-hosts /dev/null /mnt/queue;"
        "head -c 3 /dev/not-the-hosts | wc -c"
    )
    kind = "character special file 1:5 644 10:11"
    assert oci.output(mapped).splitlines() == [kind, kind, "fifo 0:0 666 0:0", "3"]


def test_a_device_of_an_owner_nobody_maps_is_the_hosts(oci: Oci, mapped: Bundle) -> None:
    mapped.linux["devices"] = [
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "uid": 70000}
    ]
    mapped.command("stat", "-c", "%t:%T", "/dev/zero")
    assert oci.output(mapped) == "1:5\n"


def test_a_user_namespace_maps_ids(oci: Oci, mapped: Bundle) -> None:
    mapped.shell("id -u; cat /proc/self/uid_map; cat /proc/self/gid_map")
    words = oci.output(mapped).split()
    assert words == ["0", "0", "100000", "65536", "0", "100000", "65536"]


@pytest.mark.lacks(runc="not in 1.1", crun="not in 1.8")
@pytest.mark.parametrize("joined", [False, True])
def test_an_id_mapped_mount_of_the_bundles(oci: Oci, bundle: Bundle, joined: bool) -> None:
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").touch()
    bundle.path.chmod(0o755)
    open_to_others(bundle)
    if joined:
        join_another(oci, bundle)
        give_away(bundle)
        bundle.mount("/mnt", "bind", "data", "bind", "idmap")
    else:
        bundle.mount("/mnt", "bind", "data", "bind")
        bundle.config["mounts"][-1]["uidMappings"] = MAPPING
        bundle.config["mounts"][-1]["gidMappings"] = MAPPING
    bundle.command("stat", "-c", "%u:%g", "/mnt/file")
    bundle.write()
    done = oci("run", "--bundle", bundle.path, "one", status=None)
    if "may not support id-mapped" in done.err:
        pytest.skip("needs a file system with id-mapped mounts")
    assert done.out == ("0:0\n" if joined else "100000:100000\n"), done.err


@pytest.mark.lacks(runc="later than 1.4", crun="fails")
def test_a_user_namespace_without_a_root(oci: Oci, bundle: Bundle) -> None:
    subprocess.run(["chown", "-R", "100000:200000", bundle.rootfs], check=True)
    open_to_others(bundle)
    bundle.namespace("user")
    bundle.linux["uidMappings"] = [{"containerID": 1000, "hostID": 100000, "size": 1}]
    bundle.linux["gidMappings"] = [{"containerID": 1000, "hostID": 200000, "size": 1}]
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    points = next(m for m in bundle.config["mounts"] if m["destination"] == "/dev/pts")
    points["options"].remove("gid=5")
    show = ("sh", "-c", "id -u; id -g; cat /proc/self/uid_map")
    bundle.command("sleep", "100")
    oci.running(bundle)
    assert oci.exec("one", *show).out.split() == ["1000", "1000", "1000", "100000", "1"]


@pytest.mark.lacks(runc="1.1 wants mappings beside the path", crun="not run as root here")
def test_a_joined_user_namespace_may_deny_setgroups(oci: Oci, bundle: Bundle) -> None:
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "sh", "-c", "echo; sleep 100"],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout
    with holder, holder.stdout:
        try:
            holder.stdout.readline()
            bundle.namespace("user", f"/proc/{holder.pid}/ns/user")
            points = next(m for m in bundle.config["mounts"] if m["destination"] == "/dev/pts")
            points["options"].remove("gid=5")
            bundle.command("sleep", "100")
            oci.running(bundle)
            assert oci.exec("one", "cat", "/proc/self/setgroups").out == "deny\n"
            oci("delete", "--force", "one")
            bundle.process["user"] = {"uid": 0, "gid": 0, "additionalGids": [5]}
            bundle.write()
            assert "setgroups" in oci.fails("run", "--bundle", bundle.path, "one")
        finally:
            holder.kill()


@pytest.mark.lacks(runc="1.1 wants mappings beside the path", crun="not run as root here")
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("kind", ["network", "ipc", "uts"])
def test_a_user_namespace_needs_not_own_the_other_ones(
    oci: Oci, bundle: Bundle, kind: str, joined: bool
) -> None:
    open_to_others(bundle)
    give_away(bundle)
    if joined:
        join_another(oci, bundle)
    else:
        map_ids(bundle)
    file = f"/proc/self/ns/{'net' if kind == 'network' else kind}"
    with subprocess.Popen(["unshare", "-niu", "sleep", "100"]) as owner:
        time.sleep(0.2)
        path = file.replace("self", str(owner.pid))
        try:
            bundle.namespace(kind, path)
            bundle.config["mounts"] = [
                m
                for m in bundle.config["mounts"]
                if m["destination"] not in ("/sys", "/dev/mqueue")
            ]
            bundle.config.pop("hostname", None)
            bundle.command("sleep", "100")
            oci.running(bundle)
            assert oci.exec("one", "readlink", file).out.strip() == os.readlink(path)
            assert os.readlink(file) != os.readlink(path)
        finally:
            owner.kill()


def test_what_stops_a_child_before_its_id_maps_is_told(oci: Oci, mapped: Bundle) -> None:
    with subprocess.Popen(["unshare", "-m", "sleep", "100"]) as owner:
        time.sleep(0.2)
        try:
            mapped.without_namespace("mount")
            mapped.namespace("mount", f"/proc/{owner.pid}/ns/mnt")
            mapped.write()
            message = oci.fails("run", "--bundle", mapped.path, "one")
        finally:
            owner.kill()
    assert "internal error" not in message
