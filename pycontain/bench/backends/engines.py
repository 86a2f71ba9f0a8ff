"""podman and docker: engines with their own store; the root directory is imported once."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pycontain.bench.backend import Outcome, environment, outcome_of
from pycontain.bench.hold import held
from pycontain.bench.launch import Setting, launch
from pycontain.bench.model import Kind, Limits, Workload
from pycontain.errors import UnsupportedError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place

PROBE_TIMEOUT_S = 20
IMPORT_TIMEOUT_S = 300
ENGINE_FAILED = 125


class Engine:
    """What both have in common: `run --rm`, and options of the same names.

    Their store, and for docker a daemon of its own where none runs, live in the comparison's place.
    """

    name = ""
    kind = Kind.MEASURED
    includes = "the engine's client, its layer, container, removal"
    repeats = True

    def __init__(self) -> None:
        self._base: list[str] = [self.name]
        self._tag = ""

    def probe(self) -> str:
        if shutil.which(self.name) is None:
            return f"{self.name} is not installed"
        return "" if os.geteuid() == 0 else "needs root (rootless engines are another comparison)"

    def begin(self, place: Place) -> list[str]:
        """Return the command line up to the verb, after starting whatever the engine needs."""
        raise UnsupportedError(f"{self.name} has no command line")

    def run_options(self) -> tuple[str, ...]:
        """Return further options of `run`."""
        return ()

    def prepare(self, image: BenchImage, place: Place) -> None:
        self._image = image
        self._volume = volume(place, self.name)
        self._base = self.begin(place)
        tag = "localhost/pycontain-bench:latest"
        tar = ["tar", "-C", str(image.rootfs), "--numeric-owner", "-c", "."]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as source:
            done = _run([*self._base, "import", "-", tag], IMPORT_TIMEOUT_S, source.stdout)
        if done.returncode != 0:
            raise UnsupportedError(f"{self.name} import: {_last_line(done.stderr)}")
        self._tag = tag

    def command_line(self, workload: Workload) -> list[str]:
        env = environment(self._image, workload)
        return [
            *(*self._base, "run", "--rm", "--network=none", "--log-driver=none"),
            *(*self.run_options(), *limit_options(workload.limits)),
            *volume_options(self._volume, workload),
            *("--user", f"{workload.uid}:{workload.gid}", "--workdir", workload.cwd),
            *("--entrypoint", workload.argv[0]),
            *(word for key, value in env.items() for word in ("--env", f"{key}={value}")),
            *(self._tag, *workload.argv[1:]),
        ]

    def run(self, workload: Workload) -> Outcome:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = launch(self.command_line(workload), Setting(env=kept), workload.timeout_s)
        if done.status == ENGINE_FAILED:
            raise UnsupportedError(f"{self.name} run: {_last_line(done.stderr)}")
        return outcome_of(done, whole_tree=False)

    def hold(self, workload: Workload) -> AbstractContextManager[None]:
        return held(self.command_line(workload), os.environ)

    def close(self) -> None:
        """Remove what an interrupted run left behind, then the image."""
        if not self._tag:
            return
        left = _run([*self._base, "ps", "-aq", f"--filter=ancestor={self._tag}"], PROBE_TIMEOUT_S)
        if names := left.stdout.decode().split():
            _run([*self._base, "rm", "--force", *names], PROBE_TIMEOUT_S)
        _run([*self._base, "rmi", "--force", self._tag], PROBE_TIMEOUT_S)
        self._tag = ""


class Podman(Engine):
    """podman: no daemon; conmon watches the container."""

    name = "podman"

    def begin(self, place: Place) -> list[str]:
        roots = [
            f"--root={place.directory('podman')}",
            f"--runroot={place.directory('podman-run')}",
        ]
        # crun, podman's first choice, refuses hosts that mount both versions of cgroups.
        runtime = ["--runtime=runc"] if _hybrid() and shutil.which("runc") else []
        return ["podman", *roots, "--cgroup-manager=cgroupfs", "--events-backend=none", *runtime]

    def run_options(self) -> tuple[str, ...]:
        # podman raises these limits to a fixed number, which a host with lower ones refuses.
        names = (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
        return tuple(
            f"--ulimit={name}={min(resource.getrlimit(which)[1], 1024)}" for name, which in names
        )

    def close(self) -> None:
        if self._tag:
            super().close()
            # Unmounts its store as well, which a removed directory would leave mounted.
            _run([*self._base, "unmount", "--all", "--force"], PROBE_TIMEOUT_S)


class Docker(Engine):
    """docker: a client, a daemon, containerd, a shim and runc."""

    name = "docker"

    def __init__(self) -> None:
        super().__init__()
        self._daemon: subprocess.Popen[bytes] | None = None

    def probe(self) -> str:
        reason = super().probe()
        if reason or _answers(["docker"]):
            return reason
        missing = [name for name in ("dockerd", "containerd", "unshare") if not shutil.which(name)]
        return f"no daemon answers, and {missing[0]} is not installed" if missing else ""

    def begin(self, place: Place) -> list[str]:
        if _answers(["docker"]):
            return ["docker"]
        base = place.directory("docker")
        self._daemon = subprocess.Popen(
            _daemon_argv(base),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        client = ["docker", "-H", f"unix://{base}/docker.sock"]
        deadline = time.monotonic() + PROBE_TIMEOUT_S
        while not _answers(client):
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise UnsupportedError("a private dockerd did not start")
            time.sleep(0.1)
        return client

    def close(self) -> None:
        super().close()
        if self._daemon is not None:
            self._daemon.terminate()
            try:
                self._daemon.wait(PROBE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            self._daemon = None


def _daemon_argv(base: Path) -> list[str]:
    """A daemon that leaves this host's network alone and keeps all its files below `base`."""
    return [
        *("unshare", "--net", "dockerd", f"--data-root={base}/data", f"--exec-root={base}/exec"),
        *(f"--host=unix://{base}/docker.sock", f"--pidfile={base}/pid", "--bridge=none"),
        *("--iptables=false", "--exec-opt=native.cgroupdriver=cgroupfs"),
        "--default-ulimit=nofile=1024:1024",
    ]


def _answers(client: list[str]) -> bool:
    return _run([*client, "version"], PROBE_TIMEOUT_S).returncode == 0


def _hybrid() -> bool:
    return Path("/sys/fs/cgroup/unified").is_dir()


def limit_options(limits: Limits) -> list[str]:
    """Return the limits as options docker, podman and pycontain share."""
    values = {
        "--memory": limits.memory_bytes,
        "--cpus": limits.cpus,
        "--pids-limit": limits.pids,
        "--cpuset-cpus": limits.cpuset or None,
    }
    return [
        word for flag, value in values.items() if value is not None for word in (flag, str(value))
    ]


def volume(place: Place, name: str) -> Path:
    """Return a directory of the host for what an arm's workload must get onto a disk."""
    path = place.directory(f"{name}-volume")
    path.chmod(0o1777)
    return path


def volume_options(path: Path, workload: Workload) -> list[str]:
    """Return the options that put `path` at /tmp of a durable workload.

    `run --rm` keeps a container's own files on a volatile overlay, which never syncs; data that
    must last is kept in a volume there as anywhere.
    """
    return ["--volume", f"{path}:/tmp"] if workload.durable else []


def _run(
    argv: list[str], timeout_s: float, stdin: IO[bytes] | None = None
) -> subprocess.CompletedProcess[bytes]:
    source = subprocess.DEVNULL if stdin is None else stdin
    try:
        return subprocess.run(
            argv, check=False, stdin=source, capture_output=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        message = f"no answer within {timeout_s:g} s".encode()
        return subprocess.CompletedProcess(argv, ENGINE_FAILED, b"", message)


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "failed without a message"
