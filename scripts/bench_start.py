"""Time start-up of `true` in a container: pycontain beside runc, crun, bwrap, podman and docker.

Every arm gets the same root file system, the same limits and the same seccomp profile. Arms are
visited in a new random order each round; the first rounds are dropped. Each figure is the wall time
of one command, from fork to wait, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).resolve().parent.parent
LIMITS = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"]
ULIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
WARM_UP = 3
Command = Callable[[], None]


def run(*argv: str | Path, **how: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, **how)  # type: ignore[call-overload,no-any-return]


def quiet(*argv: str | Path) -> Command:
    """Return a function that runs argv to its end, by the cheapest way there is."""
    args = [str(a) for a in argv]
    path = shutil.which(args[0]) or args[0]
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]

    def call() -> None:
        pid = os.posix_spawn(path, args, os.environ, file_actions=null)
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"bench-start: {' '.join(args)}: status {status}")

    return call


class Setup:
    """Roots of every arm in one scratch directory; all of it is undone on exit."""

    def __init__(self, scratch: Path, undo: ExitStack) -> None:
        self.scratch = scratch
        self.undo = undo
        self.pycontain = [
            BIN / "pycontain",
            "--root",
            scratch / "data",
            "--state",
            scratch / "state",
        ]
        archive = CHECKOUT / "images/out/busybox.tar"
        if not archive.exists():
            run(CHECKOUT / "scripts/build-images", "busybox")
        run(*self.pycontain, "load", "-i", archive)
        self.bundle = self.make_bundle()

    def make_bundle(self) -> Path:
        """The bundle pycontain would hand to runc, with a plain directory as its root."""
        bundle = self.scratch / "bundle"
        bundle.mkdir()
        name = "bench-bundle"
        run(
            *self.pycontain,
            "create",
            "--name",
            name,
            "--net",
            "none",
            *LIMITS,
            "busybox",
            "/bin/true",
        )
        config = next((self.scratch / "data/containers").glob("*/config.json"))
        spec = json.loads(config.read_bytes())
        self.export(bundle / "rootfs")
        spec["root"]["path"] = "rootfs"
        spec["linux"].pop("cgroupsPath", None)
        spec["mounts"] = [m for m in spec["mounts"] if not m["destination"].startswith("/etc/")]
        spec["linux"]["namespaces"] = [
            n for n in spec["linux"]["namespaces"] if n["type"] != "time"
        ]
        (bundle / "config.json").write_text(json.dumps(spec))
        run(*self.pycontain, "rm", "-f", name)
        return bundle

    def export(self, target: Path) -> None:
        target.mkdir()
        for layer in sorted((self.scratch / "data/snapshots").glob("*/diff")):
            run("cp", "-a", f"{layer}/.", target)

    def rootfs_tar(self) -> Path:
        tar = self.scratch / "rootfs.tar"
        if not tar.exists():
            run("tar", "-C", self.bundle / "rootfs", "-cf", tar, ".")
        return tar

    def arms(self) -> dict[str, Callable[[], Command]]:
        return {
            "python3 -I -S -c pass": self.python,
            "pycontain run": self.pycontain_run,
            "runc run": lambda: self.oci("runc"),
            "pycontain-oci run": lambda: self.oci(str(BIN / "pycontain-oci")),
            "runc create+start+delete": lambda: self.steps("runc"),
            "pycontain-oci create+start+delete": lambda: self.steps(str(BIN / "pycontain-oci")),
            "runc exec": lambda: self.exec("runc"),
            "pycontain-oci exec": lambda: self.exec(str(BIN / "pycontain-oci")),
            "bwrap": self.bwrap,
            "podman run": self.podman,
            "docker run": self.docker,
        }

    def python(self) -> Command:
        return quiet(os.path.realpath(sys.executable), "-I", "-S", "-c", "pass")

    def pycontain_run(self) -> Command:
        return quiet(
            *self.pycontain, "run", "--rm", "--net", "none", *LIMITS, "busybox", "/bin/true"
        )

    def oci(self, runtime: str) -> Command:
        state = self.scratch / ("oci-" + Path(runtime).name)
        return quiet(runtime, "--root", state, "run", "--bundle", self.bundle, "bench")

    def steps(self, runtime: str) -> Command:
        base = [runtime, "--root", self.scratch / ("steps-" + Path(runtime).name)]
        create = quiet(*base, "create", "--bundle", self.bundle, "bench-steps")
        start = quiet(*base, "start", "bench-steps")
        delete = quiet(*base, "delete", "--force", "bench-steps")

        def call() -> None:
            create()
            start()
            delete()

        return call

    def exec(self, runtime: str) -> Command:
        name = Path(runtime).name
        bundle = self.scratch / f"exec-{name}"
        bundle.mkdir()
        spec = json.loads((self.bundle / "config.json").read_bytes())
        spec["process"]["args"] = ["sleep", "1000"]
        spec["root"]["path"] = str(self.bundle / "rootfs")
        (bundle / "config.json").write_text(json.dumps(spec))
        base = [runtime, "--root", self.scratch / f"exec-state-{name}"]
        subprocess.run(
            [str(a) for a in [*base, "run", "--detach", "--bundle", bundle, f"bench-{name}"]],
            check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.undo.callback(quiet(*base, "delete", "--force", f"bench-{name}"))
        return quiet(*base, "exec", f"bench-{name}", "/bin/true")

    def bwrap(self) -> Command:
        return quiet(
            "bwrap", "--ro-bind", self.bundle / "rootfs", "/", "--proc", "/proc", "--dev", "/dev",
            "--unshare-all", "/bin/true",
        )  # fmt: skip

    def podman(self) -> Command:
        base: list[str | Path] = [
            "podman", "--root", self.scratch / "podman",
            "--runroot", self.scratch / "podman-run",
            "--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime", "runc",
        ]  # fmt: skip
        run(*base, "import", self.rootfs_tar(), "bench")
        self.undo.callback(run, *base, "rmi", "--all", "--force")
        return quiet(
            *base, "run", "--rm", "--network", "none", *ULIMITS, *LIMITS, "bench", "/bin/true"
        )

    def docker(self) -> Command:
        socket = f"unix://{self.scratch}/docker.sock"
        pidfile = self.scratch / "docker.pid"
        log = (self.scratch / "docker.log").open("wb")
        daemon = subprocess.Popen(
            [
                "unshare", "--net", "dockerd", "--data-root", str(self.scratch / "docker"),
                "--exec-root", str(self.scratch / "docker-exec"), "-H", socket,
                "--pidfile", str(pidfile),
                "--bridge=none", "--iptables=false", "--exec-opt", "native.cgroupdriver=cgroupfs",
                "--default-ulimit", "nofile=1024:1024",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        self.undo.callback(stop, daemon)
        for _ in range(100):
            if (
                subprocess.run(
                    ["docker", "-H", socket, "info"], capture_output=True, check=False
                ).returncode
                == 0
            ):
                break
            time.sleep(0.2)
        run("docker", "-H", socket, "import", self.rootfs_tar(), "bench")
        return quiet(
            "docker",
            "-H",
            socket,
            "run",
            "--rm",
            "--network",
            "none",
            *LIMITS,
            "bench",
            "/bin/true",
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def measure(commands: dict[str, Command], runs: int) -> dict[str, list[float]]:
    """Return milliseconds of each arm, `runs` each, in rounds of random order."""
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + WARM_UP):
        for name in random.sample(list(commands), len(commands)):
            begin = time.perf_counter()
            commands[name]()
            if turn >= WARM_UP:
                samples[name].append((time.perf_counter() - begin) * 1000)
    return samples


def in_process(setup: Setup, count: int) -> tuple[float, float]:
    """Return (median ms per container, containers per second) of pycontain.run back to back."""
    import pycontain

    times = []
    begin = time.perf_counter()
    for _ in range(count):
        start = time.perf_counter()
        result = pycontain.run(
            "busybox", ["/bin/true"],
            root=str(setup.scratch / "data"), state=str(setup.scratch / "state"),
            memory="64m", cpus=0.5, pids_limit=50,
        )  # fmt: skip
        times.append((time.perf_counter() - start) * 1000)
        if result.exit_status:
            raise SystemExit(f"bench-start: pycontain.run: status {result.exit_status}")
    return statistics.median(times), count / (time.perf_counter() - begin)


def table(samples: dict[str, list[float]]) -> str:
    lines = ["| arm | n | min ms | median ms | p90 ms |", "|---|---|---|---|---|"]
    for name, values in sorted(samples.items(), key=lambda item: statistics.median(item[1])):
        p90 = sorted(values)[int(len(values) * 0.9)]
        row = [f"{figure:.1f}" for figure in (min(values), statistics.median(values), p90)]
        lines.append(f"| {name} | {len(values)} | {' | '.join(row)} |")
    return "\n".join(lines)


RATIOS = [
    ("pycontain run", "runc run", 0.45),
    ("pycontain run", "podman run", 0.12),
    ("pycontain run", "docker run", 0.07),
    ("pycontain-oci create+start+delete", "runc create+start+delete", 0.45),
    ("pycontain-oci exec", "runc exec", 0.35),
]


def ratios(samples: dict[str, list[float]]) -> str:
    lines = ["| ratio of medians | | goal |", "|---|---|---|"]
    for ours, theirs, goal in RATIOS:
        if ours in samples and theirs in samples:
            ratio = statistics.median(samples[ours]) / statistics.median(samples[theirs])
            lines.append(f"| {ours} / {theirs} | {ratio:.3f} | {goal} |")
    base = "python3 -I -S -c pass"
    if base in samples and "pycontain run" in samples:
        over = statistics.median(samples["pycontain run"]) - statistics.median(samples[base])
        lines.append(f"| pycontain run - {base} | {over:.1f} ms | 5 ms |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument(
        "--arms", default="", help="comma-separated parts of arm names; default all"
    )
    parser.add_argument(
        "--in-process", type=int, default=200, help="containers of the API row; 0: none"
    )
    options = parser.parse_args()
    wanted = [w for w in options.arms.split(",") if w]
    with tempfile.TemporaryDirectory(prefix="pycontain-bench-") as scratch, ExitStack() as undo:
        setup = Setup(Path(scratch), undo)
        commands: dict[str, Command] = {}
        for name, prepare in setup.arms().items():
            if wanted and not any(w in name for w in wanted):
                continue
            program = name.split()[0]
            if program not in ("python3", "pycontain", "pycontain-oci") and not shutil.which(
                program
            ):
                print(f"not installed, left out: {name}")
                continue
            commands[name] = prepare()
        samples = measure(commands, options.runs)
        load = os.getloadavg()[0]
        print(
            f"{os.cpu_count()} CPUs, load {load:.1f}, {os.uname().sysname} {os.uname().release}\n"
        )
        print(table(samples) + "\n\n" + ratios(samples))
        if options.in_process and (not wanted or "pycontain run" in commands):
            median, rate = in_process(setup, options.in_process)
            print(
                f"\nin-process API: {median:.2f} ms a container (median), {rate:.0f} containers/s"
            )


if __name__ == "__main__":
    main()
