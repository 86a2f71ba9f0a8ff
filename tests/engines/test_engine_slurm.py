"""srun and sbatch drive pycontain-oci on one node, every daemon on a scratch directory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from oci_driver import make_rootfs
from support import BIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

# A network of its own: no port is taken, none can be reached. getaddrinfo's AI_ADDRCONFIG does not
# count 127.0.0.1 as an address, so loopback has a second one, from RFC 5737.
NETWORK = (
    "ip link set lo up && ip addr add 192.0.2.1/32 dev lo && hostname localhost && exec sleep 600"
)

SLURM_CONF = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={at}/munge.sock
CredType=cred/munge
StateSaveLocation={at}/state
SlurmdSpoolDir={at}/spool
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd.pid
SlurmdLogFile={at}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
SchedulerType=sched/builtin
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=1
Prolog={at}/prolog
NodeName=localhost NodeAddr=127.0.0.1 State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES State=UP
"""

# slurmd loads a cgroup plugin whatever it is used for: there is nothing at this mount point.
CGROUP_CONF = "CgroupPlugin=cgroup/v1\nCgroupMountpoint={at}/no-cgroup\n"

# `exec`: with a shell between Slurm and the runtime, what Slurm signals would be the shell.
OCI_CONF = """\
RunTimeQuery="{oci} state %n.%u.%j.%s.%t"
RunTimeRun="exec {oci} run %n.%u.%j.%s.%t -b %b"
RunTimeKill="{oci} kill -a %n.%u.%j.%s.%t"
RunTimeDelete="{oci} delete --force %n.%u.%j.%s.%t"
"""


# The state of each user's containers: the prolog runs as root, the runtime as the job's user.
PROLOG = """\
#!/bin/sh
exec install -d -m 700 -o "$SLURM_JOB_USER" "{at}/containers/$SLURM_JOB_USER"
"""

NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups"]


class Slurm:
    """munged, slurmctld and slurmd in the foreground, in a network namespace of their own."""

    def __init__(self, at: Path, runtime: Path) -> None:
        self.at = at
        self.bundle = at / "bundle"
        self.states = at / "containers"
        self.runtime = runtime
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.inside: list[str] = []

    def configure(self) -> None:
        for name in ("state", "spool", "containers", "bundle"):
            (self.at / name).mkdir()
        (self.at / "key").write_bytes(os.urandom(1024))
        (self.at / "key").chmod(0o600)
        (self.at / "slurm.conf").write_text(SLURM_CONF.format(at=self.at))
        (self.at / "cgroup.conf").write_text(CGROUP_CONF.format(at=self.at))
        (self.at / "oci.conf").write_text(
            OCI_CONF.format(oci=f"{self.runtime} --root={self.states}/%u")
        )
        (self.at / "prolog").write_text(PROLOG.format(at=self.at))
        (self.at / "prolog").chmod(0o755)
        self.at.chmod(0o755)
        make_rootfs(self.bundle / "rootfs")
        subprocess.run([self.runtime, "spec", "--bundle", self.bundle], check=True, timeout=30)

    def start(self) -> None:
        holder = self.daemon("unshare", "--net", "--uts", "sh", "-c", NETWORK)
        self.until("sleep\n", Path(f"/proc/{holder.pid}/comm").read_text)
        self.inside = ["nsenter", "-t", str(holder.pid), "--net", "--uts"]
        at = self.at
        self.daemon(
            "munged", "--foreground", "--force", "--socket", at / "munge.sock",
            "--key-file", at / "key", "--pid-file", at / "munged.pid",
            "--log-file", at / "munged.log", "--seed-file", at / "seed",
        )  # fmt: skip
        self.until(True, (at / "munge.sock").exists)
        self.daemon("slurmctld", "-D", "-f", at / "slurm.conf")
        self.daemon("slurmd", "-D", "-f", at / "slurm.conf")
        self.until("idle\n", lambda: self("sinfo", "-h", "-o", "%T", status=None))

    def daemon(self, *argv: object) -> subprocess.Popen[bytes]:
        with (self.at / f"{argv[0]}.out").open("wb") as log:
            process = subprocess.Popen(
                [*self.inside, *map(str, argv)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.daemons.append(process)
        return process

    def until(self, wanted: object, look: Callable[[], object], seconds: float = 40) -> None:
        """Wait until `look()` gives what is wanted; a daemon that ended is told at once."""
        deadline = time.monotonic() + seconds
        while (found := look()) != wanted:
            assert all(daemon.poll() is None for daemon in self.daemons), self.log()
            assert time.monotonic() < deadline, (found, self.log())
            time.sleep(0.1)

    def log(self) -> str:
        return "\n".join(p.read_text()[-1500:] for p in self.at.glob("*.out"))

    def __call__(self, *args: object, status: int | None = 0) -> str:
        done = subprocess.run(
            [*self.inside, *map(str, args)],
            capture_output=True, text=True, timeout=40, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "SLURM_CONF": f"{self.at}/slurm.conf"},
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def run(self, *args: object, status: int = 0) -> str:
        return self("srun", "--quiet", "--container", self.bundle, *args, status=status)

    def containers(self) -> list[dict[str, Any]]:
        """What the runtime says of each container; none while one is being made."""
        argvs = [self.oci(path, "state") for path in self.states.glob("*/*")]
        done = [
            subprocess.run(argv, capture_output=True, timeout=30, check=False) for argv in argvs
        ]
        return [json.loads(one.stdout) for one in done if one.returncode == 0]

    def oci(self, state: Path, *verb: str) -> list[str]:
        return [str(self.runtime), f"--root={state.parent}", *verb, state.name]

    def idle(self) -> None:
        """Wait until no job is left, not even one that is completing."""
        self.until("", lambda: self("squeue", "-h"))

    def stop(self) -> None:
        for state in list(self.states.glob("*/*")):
            subprocess.run(self.oci(state, "delete", "--force"), check=False, timeout=30)
        for daemon in reversed(self.daemons[1:]):
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
        # slurmstepd outlives slurmd, on purpose; what is left is known by its network namespace.
        own = os.readlink(f"/proc/{self.daemons[0].pid}/ns/net")
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(process / "ns/net") == own:
                    os.kill(int(process.name), signal.SIGKILL)
        for daemon in self.daemons:
            daemon.wait(10)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    for program in ("munged", "slurmctld", "slurmd", "srun", "ip", "nsenter"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    at = Path(tempfile.mkdtemp(prefix="pc-s-"))
    slurm = Slurm(at, BIN / "pycontain-oci")
    try:
        slurm.configure()
        slurm.start()
        yield slurm
    finally:
        if slurm.daemons:
            slurm.stop()
        shutil.rmtree(at, ignore_errors=True)


def command_line(pid: int) -> str:
    """Return the words of a process, "" when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_srun_prints_from_inside_the_container(slurm: Slurm) -> None:
    script = "hostname; echo pid $$; ls /; readlink /proc/self/ns/pid"
    *lines, namespace = slurm.run("sh", "-c", script).splitlines()
    assert lines[:2] == ["pycontain", "pid 1"]
    assert lines[2:] == sorted(p.name for p in (slurm.bundle / "rootfs").iterdir())
    assert namespace != os.readlink("/proc/self/ns/pid")


def test_srun_gives_the_status(slurm: Slurm) -> None:
    slurm.run("sh", "-c", "exit 3", status=3)


def test_what_slurm_says_about_the_job_arrives(slurm: Slurm) -> None:
    script = 'echo "$SLURM_JOB_NAME $SLURM_NNODES"'
    assert slurm.run("--job-name", "one", "sh", "-c", script) == "one 1\n"


def test_an_ordinary_users_job_is_root_inside_only(slurm: Slurm) -> None:
    bundle = slurm.at / "rootless"
    bundle.mkdir()
    (bundle / "rootfs").symlink_to(slurm.bundle / "rootfs")
    shutil.chown(bundle, "nobody")
    slurm(*NOBODY, slurm.runtime, "spec", "--rootless", "--bundle", bundle)
    script = "id -u; hostname; cat /proc/self/uid_map"
    lines = slurm(*NOBODY, "srun", "--quiet", "--container", bundle, "sh", "-c", script)
    assert lines.split() == ["0", "pycontain", "0", "65534", "1"]


def test_a_missing_program_fails_the_step(slurm: Slurm) -> None:
    slurm.run("no-such-program", status=1)


def test_sbatch_runs_its_script_inside(slurm: Slurm) -> None:
    script = slurm.at / "script"
    script.write_text("#!/bin/sh\necho batch $(hostname) $$\nexit 4\n")
    output = slurm.at / "batch.out"
    slurm("sbatch", "--wait", "-o", output, "--container", slurm.bundle, script, status=4)
    assert output.read_text().splitlines()[0] == "batch pycontain 1"


def test_a_cancelled_job_leaves_nothing(slurm: Slurm) -> None:
    slurm.idle()
    # The container's init has no handler for SIGTERM: only SIGKILL ends it.
    job = subprocess.Popen(
        [*slurm.inside, "srun", "--quiet", "--job-name", "long", "--container", slurm.bundle,
         "sleep", "300"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "SLURM_CONF": f"{slurm.at}/slurm.conf"},
    )  # fmt: skip
    slurm.until(["running"], lambda: [state["status"] for state in slurm.containers()])
    init = slurm.containers()[0]["pid"]
    slurm("scancel", "--name", "long")
    job.wait(20)
    slurm.idle()
    assert list(slurm.states.glob("*/*")) == []
    # Who inherits a dead init may take its time to reap it.
    slurm.until("", lambda: command_line(init))
