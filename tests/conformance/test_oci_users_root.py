"""Root of a user namespace only, in the host's pid namespace: how podman calls without root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root

MAP = "0 0 65536"


class User:
    """Runs a script of runtime calls as root of a fresh user namespace."""

    def __init__(self, oci: Oci) -> None:
        self.oci = oci
        self.runtime_dir = oci.directory / "user"
        self.runtime_dir.mkdir()

    def __call__(self, script: str, **environ: str) -> str:
        """Return what the script prints; it is given "$R", the runtime, and must not fail."""
        # No PATH, no HOME, no USER: the environment of podman's `start`, `kill` and `delete`.
        env = {"XDG_RUNTIME_DIR": str(self.runtime_dir), "R": str(self.oci.program), **environ}
        out = self.oci.directory / "out"
        with out.open("wb") as stdout:
            process = subprocess.Popen(
                ["/usr/bin/unshare", "--user", "--mount", "/bin/sh", "-euc", f"read go\n{script}"],
                stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.STDOUT, env=env,
            )  # fmt: skip
            own = os.readlink("/proc/self/ns/user")
            while process.poll() is None and os.readlink(f"/proc/{process.pid}/ns/user") == own:
                pass
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{process.pid}/{name}").write_text(MAP)
            process.communicate(b"go\n", timeout=60)
        text = out.read_text()
        assert process.returncode == 0, text
        return text


@pytest.fixture
def user(oci: Oci) -> Iterator[User]:
    user = User(oci)
    yield user
    for state in user.runtime_dir.glob("*/*/"):
        subprocess.run(
            [oci.program, "--root", state.parent, "delete", "--force", state.name], check=False
        )


@pytest.fixture
def container(bundle: Bundle) -> Bundle:
    bundle.command("sleep", "100")
    bundle.write()
    return bundle


def test_exec_joins_a_container(user: User, container: Bundle) -> None:
    out = user(
        f"cd {container.path}\n"
        '"$R" create one </dev/null; "$R" start one\n'
        '"$R" exec one sh -c "readlink /proc/self/ns/pid; readlink /proc/1/ns/pid"\n'
        '"$R" delete --force one'
    )
    assert out
    inside, of_init = out.split()
    assert inside == of_init != os.readlink("/proc/self/ns/pid")


def test_a_pid_namespace_can_be_joined(user: User, container: Bundle, oci: Oci) -> None:
    other = oci.bundle()
    other.without_namespace("pid")
    other.namespace("pid", "/joined")
    other.shell("readlink /proc/self/ns/pid; readlink /proc/1/ns/pid")
    other.write()
    out = user(
        f"cd {container.path}\n"
        '"$R" create --pid-file pid one </dev/null; "$R" start one; read -r pid <pid ||:\n'
        f"/bin/sed -i s,/joined,/proc/$pid/ns/pid, {other.path}/config.json\n"
        f'"$R" run --bundle {other.path} two; "$R" delete --force one'
    )
    inside, of_init = out.split()
    assert inside == of_init != os.readlink("/proc/self/ns/pid")


def test_state_is_in_the_users_directory(user: User, container: Bundle, oci: Oci) -> None:
    user(f'cd {container.path}; "$R" create one </dev/null')
    homes = list(user.runtime_dir.glob("*/one"))
    assert [home.parent.name for home in homes] == [oci.program.name]
    out = user('"$R" start one; "$R" state one; "$R" kill one KILL')
    assert '"running"' in out
    user('"$R" delete --force one')
    assert not homes[0].exists()


@pytest.mark.lacks(runc="says not where its state is", crun="says not where its state is")
def test_roots_own_state_is_elsewhere(oci: Oci, tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    words = [oci.program, "--debug", "state", "none"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert "state in /run/pycontain-oci" in done.stderr
