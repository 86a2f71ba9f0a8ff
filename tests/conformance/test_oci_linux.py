"""Namespaces, mounts, devices, paths, sysctl, seccomp and the other fields of `linux`."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root

FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt"}


@pytest.mark.parametrize("type", FILES)
def test_a_new_namespace_is_not_the_hosts(oci: Oci, bundle: Bundle, type: str) -> None:
    bundle.command("readlink", f"/proc/self/ns/{FILES[type]}")
    assert oci.output(bundle).strip() != os.readlink(f"/proc/self/ns/{FILES[type]}")


@pytest.mark.parametrize("type", ["network", "ipc", "uts"])
def test_a_namespace_that_is_not_named_is_the_callers(oci: Oci, bundle: Bundle, type: str) -> None:
    bundle.without_namespace(type)
    del bundle.config["hostname"]
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["type"] != "sysfs"]
    bundle.command("readlink", f"/proc/self/ns/{FILES[type]}")
    assert oci.output(bundle).strip() == os.readlink(f"/proc/self/ns/{FILES[type]}")


@pytest.mark.lacks(runc="mounts on the host and leaves it there", crun="not tried")
def test_mounts_in_the_callers_mount_namespace_are_the_containers_alone(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    bundle.without_namespace("mount")
    del bundle.linux["maskedPaths"], bundle.linux["readonlyPaths"]
    bundle.config["root"]["readonly"] = True
    inside = f"test -d {bundle.rootfs}/dev/pts && cat > {tmp_path}/hook"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", inside], "env": ["PATH=/bin:/usr/bin"]}
    bundle.config["hooks"] = {"createContainer": [hook]}
    script = "readlink /proc/self/ns/mnt; touch /x; cd ..; pwd; test -c /dev/pts/ptmx; echo $?"
    bundle.shell(f"{script}; sleep 100")
    before = Path("/proc/self/mountinfo").read_text()
    oci.create(bundle, "one")
    oci("start", "one")
    assert oci.exec("one", "sh", "-c", script).out.splitlines() == [
        os.readlink("/proc/self/ns/mnt"), "/", "0"
    ]  # fmt: skip
    assert Path("/proc/self/mountinfo").read_text() == before
    assert not (bundle.rootfs / "x").exists()
    assert (tmp_path / "hook").exists()


@pytest.mark.parametrize("type", ["network", "ipc", "uts", "pid"])
def test_a_namespace_is_joined_by_path(oci: Oci, bundle: Bundle, type: str) -> None:
    oci.running(bundle, "first")
    pid = oci.state("first")["pid"]
    second = oci.bundle()
    second.namespace(type, f"/proc/{pid}/ns/{FILES[type]}")
    second.command("readlink", f"/proc/self/ns/{FILES[type]}")
    assert oci.output(second, "second").strip() == os.readlink(f"/proc/{pid}/ns/{FILES[type]}")


def test_a_cgroup_namespace(oci: Oci, bundle: Bundle) -> None:
    bundle.namespace("cgroup")
    bundle.command("readlink", "/proc/self/ns/cgroup")
    assert oci.output(bundle).strip() != os.readlink("/proc/self/ns/cgroup")


@pytest.mark.lacks(runc="time namespaces are new in 1.2", crun="1.8 fails without a word")
def test_time_offsets(oci: Oci, bundle: Bundle) -> None:
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 100000, "nanosecs": 5}}
    bundle.command("cat", "/proc/self/timens_offsets")
    assert ["boottime", "100000", "5"] in [li.split() for li in oci.output(bundle).splitlines()]


def test_hostname(oci: Oci, bundle: Bundle) -> None:
    bundle.config["hostname"] = "my-host"
    bundle.command("hostname")
    assert oci.output(bundle).strip() == "my-host"


@pytest.mark.lacks(runc="domainname is new in 1.2")
def test_domainname(oci: Oci, bundle: Bundle) -> None:
    bundle.config["domainname"] = "my.domain"
    bundle.command("cat", "/proc/sys/kernel/domainname")
    assert oci.output(bundle).strip() == "my.domain"


@pytest.mark.parametrize("key", ["net.ipv4.ip_forward", "net/ipv4/ip_forward"])
def test_a_sysctl_of_the_network_namespace(oci: Oci, bundle: Bundle, key: str) -> None:
    bundle.linux["sysctl"] = {key: "1"}
    bundle.command("cat", "/proc/sys/net/ipv4/ip_forward")
    assert oci.output(bundle).strip() == "1"


def test_a_readonly_root(oci: Oci, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = True
    bundle.shell("touch /x; grep ' / ' /proc/self/mounts")
    done = oci.run(bundle)
    assert "Read-only file system" in done.err
    assert not (bundle.rootfs / "x").exists()


def test_a_writable_root(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("touch /x")
    oci.run(bundle)
    assert (bundle.rootfs / "x").exists()


def test_default_devices_are_there(oci: Oci, bundle: Bundle) -> None:
    bundle.shell(
        "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done"
    )
    assert oci.output(bundle).splitlines() == [
        "/dev/null 1:3 666", "/dev/zero 1:5 666", "/dev/full 1:7 666", "/dev/random 1:8 666",
        "/dev/urandom 1:9 666", "/dev/tty 5:0 666",
    ]  # fmt: skip


def test_default_symbolic_links_are_there(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done")
    assert oci.output(bundle).split() == [
        "/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx",
    ]  # fmt: skip


def test_a_device_given_by_bind_stays(oci: Oci, bundle: Bundle) -> None:
    """Podman without root gives a privileged container the host's devices so."""
    for name in ("null", "other", "stdin"):
        bundle.mount(f"/dev/{name}", "bind", "/dev/full", "bind")
    bundle.linux["devices"] = [{"path": "/dev/other", "type": "c", "major": 1, "minor": 5}]
    bundle.shell("cd /dev; for d in null other stdin zero; do stat -c %T $d; done")
    assert oci.output(bundle).split() == ["7", "7", "7", "5"]


def test_a_device_of_the_config(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["devices"] = [
        {
            "path": "/dev/mine",
            "type": "c",
            "major": 1,
            "minor": 5,
            "fileMode": 0o640,
            "uid": 3,
            "gid": 4,
        },
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/sub/block", "type": "b", "major": 7, "minor": 99},
    ]
    bundle.shell(
        "stat -c '%F %t:%T %a %u %g' /dev/mine; stat -c '%F %a' /dev/pipe;"
        " stat -c '%F %t:%T' /dev/sub/block"
    )
    assert oci.output(bundle).splitlines() == [
        "character special file 1:5 640 3 4", "fifo 600", "block special file 7:63",
    ]  # fmt: skip


def test_masked_paths_show_nothing(oci: Oci, bundle: Bundle) -> None:
    (bundle.rootfs / "secret.d").mkdir()
    (bundle.rootfs / "secret.d/file").write_text("hidden")
    (bundle.rootfs / "secret").write_text("hidden")
    bundle.linux["maskedPaths"] = ["/secret", "/secret.d", "/not/there"]
    bundle.shell("cat /secret; ls /secret.d; touch /secret.d/x; echo end")
    done = oci.run(bundle)
    assert done.out == "end\n"
    assert not (bundle.rootfs / "secret.d/x").exists()


@pytest.mark.parametrize("path", ["/proc/keys", "/secret"])
def test_a_mask_leaves_the_hosts_null_device_alone(oci: Oci, bundle: Bundle, path: str) -> None:
    (bundle.rootfs / "secret").write_text("secret")
    bundle.linux["maskedPaths"] = [path]
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind] = ["CAP_CHOWN", "CAP_FOWNER"]
    stamp = int(time.time()) - 86400
    bundle.shell(f"touch -d @{stamp} {path}; echo lost > {path}; cat {path}")
    assert oci.output(bundle) == ""
    assert int(Path("/dev/null").stat().st_mtime) != stamp


def test_readonly_paths_refuse_writes(oci: Oci, bundle: Bundle) -> None:
    (bundle.rootfs / "ro.d").mkdir()
    (bundle.rootfs / "ro.d/file").write_text("kept")
    bundle.linux["readonlyPaths"] = ["/ro.d", "/not/there", "/proc/sys"]
    bundle.shell(
        "echo lost > /ro.d/file; touch /ro.d/new; echo 1 > /proc/sys/net/ipv4/ip_forward;"
        " cat /ro.d/file"
    )
    done = oci.run(bundle)
    assert done.out == "kept"
    assert done.err.count("Read-only file system") == 3


def options_of(oci: Oci, bundle: Bundle, destination: str) -> set[str]:
    """The mount's options and super block options as the container sees them."""
    bundle.command("cat", "/proc/self/mountinfo")
    for line in oci.output(bundle).splitlines():
        fields = line.split()
        if fields[4] == destination:
            return {*fields[5].split(","), *fields[-1].split(",")}
    raise AssertionError(f"{destination} is not mounted")


def test_tmpfs_options(oci: Oci, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "size=1m", "mode=0710")
    found = options_of(oci, bundle, "/mnt")
    assert {"nosuid", "nodev", "noexec", "size=1024k", "mode=710"} <= found


@pytest.mark.lacks(crun="1777")
def test_a_tmpfs_takes_the_mode_of_its_directory(oci: Oci, bundle: Bundle) -> None:
    (bundle.rootfs / "mnt").chmod(0o1711)
    bundle.mount("/mnt", "tmpfs", "tmpfs", "nosuid")
    bundle.command("stat", "-c", "%a", "/mnt")
    assert oci.output(bundle).strip() == "1711"


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"])
def test_bind_mount_options(oci: Oci, bundle: Bundle, tmp_path: Path, option: str) -> None:
    (tmp_path / "source").mkdir()
    bundle.mount("/mnt", "bind", str(tmp_path / "source"), "rbind", option)
    assert option in options_of(oci, bundle, "/mnt")


# What is asked of a bind, and what the mount has that was read-only, nosuid, noexec and noatime.
REMOUNTED = {
    "rbind": {"ro", "nosuid", "noexec", "noatime"},
    "rbind ro": {"ro", "noatime"},
    "rbind exec": {"noatime"},
    "rbind nodev rw": {"nodev", "noatime"},
    "rbind atime": {"noatime"},
    "rbind nosuid relatime": {"nosuid", "relatime"},
    "rbind nosuid nodiratime": {"nosuid", "nodiratime", "relatime"},
    "rbind nosuid strictatime": {"nosuid"},
}


@pytest.mark.lacks(runc="1.2 on: a word that switches off does nothing before")
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(w, marks=pytest.mark.lacks(crun="names all but for rbind"))
        if w == "rbind"
        else w
        for w in REMOUNTED
    ],
)
def test_one_flag_of_a_bind_mount_names_them_all(
    oci: Oci, bundle: Bundle, tmp_path: Path, words: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["mount", "--bind", source, source], check=True)
    flags = "remount,ro,nosuid,noexec,noatime"
    subprocess.run(["mount", "--bind", "-o", flags, source, source], check=True)
    try:
        bundle.mount("/mnt", "bind", str(source), *words.split())
        every = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"}
        assert options_of(oci, bundle, "/mnt") & every == REMOUNTED[words]
    finally:
        subprocess.run(["umount", source], check=True)


def test_a_bind_mount_of_a_file_makes_its_target(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bound")
    bundle.mount("/deep/er/target", "bind", str(tmp_path / "file"), "bind", "ro")
    bundle.command("cat", "/deep/er/target")
    assert oci.output(bundle) == "bound"


def test_a_relative_bind_source_is_in_the_bundle(oci: Oci, bundle: Bundle) -> None:
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").write_text("relative")
    bundle.mount("/mnt", "bind", "data", "bind")
    bundle.command("cat", "/mnt/file")
    assert oci.output(bundle) == "relative"


def test_mounts_stack_in_order(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
        bundle.mount("/mnt", "bind", str(tmp_path / name), "bind")
    bundle.command("cat", "/mnt/name")
    assert oci.output(bundle) == "two"


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("private", ""),
        ("slave", "master:"),
        ("shared", "shared:"),
        pytest.param("unbindable", "unbindable", marks=pytest.mark.lacks(crun="does not set it")),
    ],
)
def test_mount_propagation(
    oci: Oci, bundle: Bundle, tmp_path: Path, option: str, shown: str
) -> None:
    (tmp_path / "source").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "source"], check=True)
    subprocess.run(["mount", "--make-shared", tmp_path / "source"], check=True)
    try:
        bundle.mount("/mnt", "bind", str(tmp_path / "source"), "bind", option)
        if option in ("shared", "slave"):
            bundle.linux["rootfsPropagation"] = option
        bundle.command("cat", "/proc/self/mountinfo")
        line = next(li for li in oci.output(bundle).splitlines() if li.split()[4] == "/mnt")
    finally:
        subprocess.run(["umount", tmp_path / "source"], check=True)
    tags = line.partition(" - ")[0].split()[6:]
    assert any(tag.startswith(shown) for tag in tags) if shown else tags == []


@pytest.mark.lacks(runc="recursive attributes are new in 1.2")
@pytest.mark.parametrize("option", ["rro", "rnosuid", "rnodev", "rnoexec"])
def test_recursive_mount_options(oci: Oci, bundle: Bundle, tmp_path: Path, option: str) -> None:
    (tmp_path / "source/inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "source/inner"], check=True)
    try:
        bundle.mount("/mnt", "bind", str(tmp_path / "source"), "rbind", option)
        assert option[1:] in options_of(oci, bundle, "/mnt/inner")
    finally:
        subprocess.run(["umount", tmp_path / "source/inner"], check=True)


@pytest.mark.parametrize("destination", ["/../../../../escape", "/link/escape", "/dangling/escape"])
def test_a_mount_destination_never_leaves_the_root(
    oci: Oci, bundle: Bundle, tmp_path: Path, destination: str
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (bundle.rootfs / "link").symlink_to(canary)
    (bundle.rootfs / "dangling").symlink_to(canary / "not-there")
    bundle.mount(destination, "tmpfs", "tmpfs")
    oci.run(bundle, status=None)
    assert list(canary.iterdir()) == []
    assert not Path("/escape").exists()


@pytest.mark.lacks(crun="takes it")
@pytest.mark.parametrize("destination", ["/proc", "/proc/sys", "/proc/self/attr", "/proc/1"])
def test_a_bind_mount_over_proc_is_refused(
    oci: Oci, bundle: Bundle, tmp_path: Path, destination: str
) -> None:
    (tmp_path / "fake").mkdir()
    bundle.mount(destination, "bind", str(tmp_path / "fake"), "bind")
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, "one")
    oci.fails("state", "one")


def seccomp(action: str, names: list[str], **more: object) -> dict[str, object]:
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": names, "action": action, **more}],
    }


def test_a_system_call_nobody_knows_is_left_out(oci: Oci, bundle: Bundle) -> None:
    """Buildah's tests expect the words of runc and crun."""
    bundle.linux["seccomp"] = seccomp("SCMP_ACT_ERRNO", ["mkdir", "no-such-call"])
    bundle.write()
    assert oci.run(bundle, "one").err == ""
    done = oci("--debug", "run", "--bundle", bundle.path, "two")
    lines = [line for line in done.err.splitlines() if "unknown seccomp syscall" in line]
    assert ["no-such-call" in line for line in lines] == [True]


def test_seccomp_answers_with_the_errno_asked_for(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["seccomp"] = seccomp("SCMP_ACT_ERRNO", ["mkdir", "mkdirat"], errnoRet=5)
    bundle.shell("mkdir /tmp/x; echo $?")
    done = oci.run(bundle)
    assert "Input/output error" in done.err
    assert done.out.strip() == "1"


def test_seccomp_answers_eperm_by_default(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["seccomp"] = seccomp("SCMP_ACT_ERRNO", ["mkdir", "mkdirat"])
    bundle.shell("mkdir /tmp/x")
    assert "Operation not permitted" in oci.run(bundle, status=None).err


def test_seccomp_kills(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["seccomp"] = seccomp("SCMP_ACT_KILL_PROCESS", ["mkdir", "mkdirat"])
    bundle.shell("mkdir /tmp/x; echo $?")
    assert oci.run(bundle).out.strip() == "159"


def test_seccomp_looks_at_arguments(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["seccomp"] = seccomp(
        "SCMP_ACT_ERRNO", ["kill"], errnoRet=16,
        args=[{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}],
    )  # fmt: skip
    bundle.shell("kill -10 $$ && echo no; kill -0 $$ && echo yes")
    assert oci.run(bundle).out == "yes\n"


def test_seccomp_tolerates_unknown_names(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["seccomp"] = seccomp("SCMP_ACT_ERRNO", ["not_invented_yet", "mkdir", "mkdirat"])
    bundle.shell("mkdir /tmp/x; echo $?")
    assert oci.run(bundle).out.strip() == "1"


def test_personality(oci: Oci, bundle: Bundle) -> None:
    if oci.name == "runc":
        pytest.skip("runc: personality is new in 1.2")
    bundle.linux["personality"] = {"domain": "LINUX32"}
    bundle.command("uname", "-m")
    assert oci.output(bundle).strip() == "i686"


def test_no_pivot_works_too(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("echo inside; ls /work 2>/dev/null; true")
    bundle.write()
    assert oci("run", "--no-pivot", "--bundle", bundle.path, "one").out == "inside\n"


def test_no_pivot_leaves_no_whole_proc_behind(oci: Oci, bundle: Bundle) -> None:
    for kind in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][kind] = ["CAP_SETFCAP"]
    bundle.linux["readonlyPaths"] = bundle.linux["maskedPaths"] = ["/proc/sys", "/proc/scsi"]
    bundle.command("unshare", "-mrpf", "mount", "-t", "proc", "none", "/proc")
    bundle.write()
    said = oci.fails("run", "--no-pivot", "--bundle", bundle.path, "one")
    assert "permission denied" in said


def test_host_mounts_are_not_seen(oci: Oci, bundle: Bundle) -> None:
    bundle.command("cat", "/proc/self/mountinfo")
    places = {line.split()[4] for line in oci.output(bundle).splitlines()}
    assert places <= {
        "/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/sys", "/proc/kcore", "/proc/sys",
    } | {f"/dev/{n}" for n in ("null", "zero", "full", "random", "urandom", "tty")}  # fmt: skip


@pytest.mark.lacks(crun="an error there")
@pytest.mark.parametrize("link", ["/run/deep/er/file", "../run/deep/er/file", "/jump/er/file"])
@pytest.mark.parametrize("kind", ["file", "directory", "tmpfs"])
def test_a_mount_point_behind_a_dangling_link_is_made(
    oci: Oci, bundle: Bundle, tmp_path: Path, link: str, kind: str
) -> None:
    (bundle.rootfs / "etc/target").symlink_to(link)
    (bundle.rootfs / "jump").symlink_to("run/deep")
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("bound")
    if kind == "tmpfs":
        bundle.mount("/etc/target", "tmpfs", "tmpfs")
    else:
        path = source / "file" if kind == "file" else source
        bundle.mount("/etc/target", "bind", str(path), "bind")
    bundle.shell("cd /; cat /proc/self/mountinfo | cut -d' ' -f5 | grep ^/run")
    assert oci.output(bundle) == "/run/deep/er/file\n"
    assert (bundle.rootfs / "run/deep/er/file").is_dir() == (kind != "file")
    assert not Path("/run/deep").exists()


@pytest.mark.lacks(crun="other words")
def test_a_mount_point_behind_links_in_a_circle_is_an_error(oci: Oci, bundle: Bundle) -> None:
    (bundle.rootfs / "one").symlink_to("two")
    (bundle.rootfs / "two").symlink_to("one")
    bundle.mount("/one/deep", "tmpfs", "tmpfs")
    bundle.write()
    assert "/one" in oci.fails("run", "--bundle", bundle.path, "one")


@pytest.mark.lacks(runc="takes what is there", crun="takes what is there")
@pytest.mark.parametrize("there", ["file", "other device", "link"])
def test_something_else_at_the_path_of_a_device_is_an_error(
    oci: Oci, bundle: Bundle, there: str
) -> None:
    (bundle.rootfs / "data").mkdir()
    place = bundle.rootfs / "data/null"
    if there == "file":
        place.write_text("precious")
    elif there == "link":
        place.symlink_to("/dev/null")
    else:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    bundle.linux["devices"] = [{"path": "/data/null", "type": "c", "major": 1, "minor": 3}]
    bundle.write()
    message = oci.fails("run", "--bundle", bundle.path, "one")
    wrong = "incorrect major:minor: 1:5" if there == "other device" else "incorrect ftype"
    assert f"/data/null has {wrong}" in message
    if there == "file":
        assert place.read_text() == "precious"


def test_a_device_that_is_there_already_is_taken(oci: Oci, bundle: Bundle) -> None:
    (bundle.rootfs / "data").mkdir()
    os.mknod(bundle.rootfs / "data/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    bundle.linux["devices"] = [{"path": "/data/null", "type": "c", "major": 1, "minor": 3}]
    bundle.command("stat", "-c", "%t:%T", "/data/null")
    assert oci.output(bundle) == "1:3\n"
