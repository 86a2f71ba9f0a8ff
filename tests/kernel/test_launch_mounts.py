"""What a plan mounts, masks and makes in a real rootfs, seen from inside; with both executors."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from launching import (
    Start,
    bind,
    make_spec,
    sh,
)

from pycontain.errors import (
    CommandNotExecutableError,
    KernelError,
    PycontainError,
)

pytestmark = pytest.mark.root


def test_the_host_is_not_mounted_in(start: Start, rootfs: Path) -> None:
    ended = start(make_spec(rootfs, "cat", "/proc/self/mountinfo"))
    points = {line.split()[4] for line in ended.lines}
    assert {"/", "/proc", "/dev", "/dev/pts", "/sys"} <= points
    assert not any(p.startswith(("/home", "/mnt", "/work", "/tmp")) for p in points)
    assert all(" shared:" not in line and " master:" not in line for line in ended.lines[:1])


def test_mounts_are_made_in_the_listed_order(start: Start, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "fake").write_text("fake")
    spec = make_spec(rootfs, "cat", "/proc/self/mountinfo", "/proc/meminfo")
    spec["mounts"][1:1] = [
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        bind(tmp_path / "fake", "/proc/meminfo"),
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
    ]
    wanted = [mount["destination"] for mount in spec["mounts"]]
    *lines, last = start(spec).lines
    assert last == "fake"
    # Linux 6.8 and newer list mounts by age, older kernels as they were attached.
    points = [line.split()[4] for line in lines]
    assert sorted(wanted, key=points.index) == wanted


def test_a_second_proc_covers_the_first(start: Start, rootfs: Path) -> None:
    spec = sh(rootfs, "grep -c ' /proc ' /proc/self/mountinfo; cat /proc/1/comm; true")
    spec["mounts"].append({**spec["mounts"][0], "options": ["nosuid"]})
    assert start(spec).lines == ["2", "sh"]


def test_masked_and_read_only_paths(start: Start, rootfs: Path) -> None:
    (rootfs / "hidden").write_text("secret")
    (rootfs / "kept").mkdir()
    script = (
        "cat /hidden /proc/keys /proc/timer_list; ls /sys/firmware;"
        "for f in /kept/x /proc/sys/kernel/hostname /proc/sysrq-trigger; do"
        " (echo 1 > $f) 2>/dev/null && echo wrote $f; done; echo end"
    )
    assert start(sh(rootfs, script)).lines == ["end"]


def test_the_root_is_read_only_when_asked(start: Start, rootfs: Path) -> None:
    spec = sh(rootfs, "touch /x || echo refused")
    spec["root"]["readonly"] = True
    assert start(spec).lines[-1] == "refused"
    assert not (rootfs / "x").exists()


def test_standard_devices_and_links(start: Start, rootfs: Path) -> None:
    ended = start(
        sh(rootfs, "cd /dev; ls; echo x > null; readlink fd; readlink ptmx; stat -c %a null tty")
    )
    names = set(ended.lines[:-4])
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "fd"} <= names
    assert ended.lines[-4:] == ["/proc/self/fd", "pts/ptmx", "666", "666"]


def test_devices_of_config_json(start: Start, rootfs: Path) -> None:
    spec = sh(rootfs, "stat -c '%F %t:%T %a %u' /dev/net/tun /pipe")
    spec["linux"]["devices"] = [
        {
            "path": "/dev/net/tun",
            "type": "c",
            "major": 10,
            "minor": 200,
            "fileMode": 0o640,
            "uid": 3,
        },
        {"path": "/pipe", "type": "p", "fileMode": 0o600},
    ]
    assert start(spec).lines == ["character special file a:c8 640 3", "fifo 0:0 600 0"]


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_linked_kernel_directory_is_refused(
    start: Start, rootfs: Path, tmp_path: Path, name: str
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (rootfs / name).symlink_to(canary)
    with pytest.raises(KernelError, match="ELOOP"):
        start(make_spec(rootfs, "id"))
    assert not list(canary.iterdir())


@pytest.mark.parametrize(
    "destination", ["/link/x", "/../../../../..{canary}/x", "/up/x", "/dangling", "/rel/../../x"]
)
def test_no_mount_point_is_made_on_the_host(
    start: Start, rootfs: Path, tmp_path: Path, destination: str
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (rootfs / "link").symlink_to(canary)
    (rootfs / "up").symlink_to("../../canary")
    (rootfs / "dangling").symlink_to(canary / "nothing")
    (rootfs / "rel").mkdir()
    source = tmp_path / "volume"
    source.mkdir()
    spec = make_spec(rootfs, "id")
    spec["mounts"].append(bind(source, destination.format(canary=canary)))
    try:
        start(spec)
    except PycontainError as error:
        assert "ENOENT" in str(error)
    assert not list(canary.iterdir())
    assert not list(source.iterdir())


def test_a_volume_through_a_link_lands_inside(start: Start, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/file").write_text("here")
    (rootfs / "data").mkdir()
    (rootfs / "link").symlink_to("/data")
    spec = make_spec(rootfs, "cat", "/data/file")
    spec["mounts"].append(bind(tmp_path / "volume", "/link"))
    assert start(spec).output == "here"


@pytest.mark.parametrize("name", ["self", "thread-self"])
def test_a_mount_point_linked_into_proc_covers_nothing_of_it(
    start: Start, rootfs: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/exec").write_text("fake")
    (rootfs / "proc").mkdir()
    (rootfs / "attr").symlink_to(f"/proc/{name}/attr")
    spec = sh(rootfs, "ls /proc/self/attr | grep -c . ; cat /proc/self/attr/exec")
    spec["mounts"].append(bind(tmp_path / "fake", "/attr"))
    try:
        assert "fake" not in start(spec).output
    except KernelError as error:
        assert error.number in (2, 40)


def test_a_noexec_mount_is_named(start: Start, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    shutil.copy(rootfs / "bin/busybox", tmp_path / "v/p")
    spec = make_spec(rootfs, "/v/p")
    spec["mounts"].append(bind(tmp_path / "v", "/v", "bind", "noexec"))
    with pytest.raises(CommandNotExecutableError, match="noexec"):
        start(spec)


def test_an_id_mapped_volume(start: Start, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/f").touch()
    spec = make_spec(rootfs, "stat", "-c", "%u:%g", "/v/f")
    mount = bind(tmp_path / "v", "/v", "bind", "idmap")
    mount["uidMappings"] = [{"containerID": 0, "hostID": 5000, "size": 10}]
    mount["gidMappings"] = [{"containerID": 0, "hostID": 6000, "size": 10}]
    spec["mounts"].append(mount)
    try:
        assert start(spec).output == "5000:6000\n"
    except KernelError as error:
        if error.call == "mount_setattr":
            pytest.skip("needs a file system with id-mapped mounts")
        raise


def test_flags_of_a_bind(start: Start, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    spec = sh(rootfs, "grep ' /v ' /proc/self/mountinfo; touch /v/x || echo refused")
    spec["mounts"].append(bind(tmp_path / "v", "/v", "rbind", "ro", "nosuid", "rnodev", "noatime"))
    ended = start(spec)
    flags = set(ended.lines[0].split()[5].split(","))
    assert {"ro", "nosuid", "nodev", "noatime"} <= flags
    assert ended.lines[-1] == "refused"


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_more_mounts_than_descriptors(start: Start, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x\n")
    spec = sh(rootfs, "cat /m/0/f /m/1099/f")
    spec["mounts"] += [bind(tmp_path / "file", f"/m/{n}/f", "bind", "ro") for n in range(1100)]
    assert start(spec).lines == ["x", "x"]


def test_tmpcopyup(start: Start, rootfs: Path) -> None:
    (rootfs / "etc").mkdir()
    (rootfs / "etc/file").write_text("copied\n")
    (rootfs / "etc/file").chmod(0o4711)
    (rootfs / "etc/link").symlink_to("/outside")
    spec = sh(rootfs, "cat /etc/file; stat -c %a /etc/file; readlink /etc/link; touch /etc/x")
    spec["mounts"].append(
        {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}
    )
    assert start(spec).lines == ["copied", "4711", "/outside"]
    assert not (rootfs / "etc/x").exists()


def test_layers_are_mounted_by_the_child_alone(start: Start, rootfs: Path, tmp_path: Path) -> None:
    for name in ("upper", "work", "merged", "top"):
        (tmp_path / name).mkdir()
    (tmp_path / "top/file").write_text("layer\n")
    layers = f"lowerdir={tmp_path}/top:{rootfs},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    spec = sh(tmp_path / "merged", "cat /file; touch /new")
    mount = {"destination": "", "type": "overlay", "source": "overlay", "options": [layers]}
    assert start(spec, rootfs_mounts=[mount]).output == "layer\n"
    assert (tmp_path / "upper/new").exists()
    assert not list((tmp_path / "merged").iterdir())


def test_a_bound_dev_is_left_alone(start: Start, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    spec = make_spec(rootfs, "ls", "/dev")
    spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/dev/pts"]
    spec["mounts"].append(bind(tmp_path / "dev", "/dev"))
    assert start(spec).output == ""
    assert not list((tmp_path / "dev").iterdir())


@pytest.mark.parametrize(
    ("word", "field"),
    [("private", "-"), ("slave", "-"), ("shared", "shared:"), ("unbindable", "u")],
)
def test_propagation_of_the_root(start: Start, rootfs: Path, word: str, field: str) -> None:
    spec = make_spec(rootfs, "cat", "/proc/self/mountinfo")
    spec["linux"]["rootfsPropagation"] = word
    assert start(spec).lines[0].split()[6].startswith(field)


@pytest.mark.parametrize(("word", "shared"), [("rshared", True), ("rslave", False), ("", False)])
def test_a_mount_in_a_volume_reaches_the_host_only_when_shared(
    start: Start, rootfs: Path, tmp_path: Path, word: str, shared: bool
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume], check=True)
    try:
        subprocess.run(["mount", "--make-shared", volume], check=True)
        spec = sh(rootfs, "mkdir /v/sub && mount -t tmpfs x /v/sub && : > /v/sub/seen")
        for names in spec["process"]["capabilities"].values():
            names.append("CAP_SYS_ADMIN")
        spec["linux"]["rootfsPropagation"] = "shared" if shared else "private"
        spec["mounts"].append(bind(volume, "/v", *filter(None, ["rbind", word])))
        assert start(spec).status == 0
        assert (volume / "sub/seen").exists() == shared
        assert f"{rootfs}/" not in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", "-R", "-l", volume], check=True)
