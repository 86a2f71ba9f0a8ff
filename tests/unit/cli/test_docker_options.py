"""Every option of `docker run`: ours too, or refused by name with what to do instead."""

from __future__ import annotations

import pytest

from pycontain.cli import main, refused
from pycontain.cli.fast import lookup
from pycontain.cli.options import CONVERTERS
from pycontain.cli.run_options import CREATE, RUN
from pycontain.errors import PycontainError, UnsupportedError, UsageError

# `docker run --help` of 20.10, and what later versions added.
DOCKER = """
add-host attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile
cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus
cpuset-mems detach detach-keys device device-cgroup-rule device-read-bps device-read-iops
device-write-bps device-write-iops disable-content-trust dns dns-opt dns-option dns-search
domainname entrypoint env env-file expose gpus group-add health-cmd health-interval health-retries
health-start-period health-timeout hostname init interactive io-maxbandwidth io-maxiops ip ip6 ipc
isolation kernel-memory label label-file link link-local-ip log-driver log-opt mac-address memory
memory-reservation memory-swap memory-swappiness mount name net net-alias network network-alias
no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform privileged publish
publish-all pull read-only restart rm runtime security-opt shm-size sig-proxy stop-signal
stop-timeout storage-opt sysctl tmpfs tty ulimit user userns uts volume volume-driver volumes-from
workdir
annotation health-start-interval quiet use-api-socket
""".split()
DOCKER_SHORT = "a c d e h i l m p P q t u v w".split()
ONLY_RUN = {"detach", "detach-keys", "sig-proxy"}


@pytest.mark.parametrize("name", DOCKER)
def test_an_option_is_known_or_refused_and_never_both(name: str) -> None:
    assert ("--" + name in lookup(RUN)) != (name in refused.RUN)
    if name not in ONLY_RUN:
        assert ("--" + name in lookup(CREATE)) != (name in refused.RUN)


@pytest.mark.parametrize("letter", DOCKER_SHORT)
def test_a_short_option_is_known_or_refused(letter: str) -> None:
    assert ("-" + letter in lookup(RUN)) != ("-" + letter in refused.SHORT)


@pytest.mark.parametrize("verb", ["run", "create"])
@pytest.mark.parametrize("name", sorted(refused.RUN))
def test_the_refusal_names_the_option_and_what_to_do(verb: str, name: str) -> None:
    for words in ([f"--{name}=1"], [f"--{name}", "1"], [f"--{name}"]):
        with pytest.raises(UnsupportedError) as caught:
            main.run([verb, *words, "busybox", "true"])
        assert caught.value.message == f"--{name} is not supported"
        assert caught.value.hint == refused.RUN[name]


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "-a", "stdout", "busybox"],
        ["run", "-itastdin", "busybox"],
        ["exec", "--detach-keys", "ctrl-a", "web", "sh"],
        ["attach", "--detach-keys=ctrl-a", "web"],
    ],
    ids=" ".join,
)
def test_short_options_and_other_verbs_are_refused_by_name(argv: list[str]) -> None:
    with pytest.raises(UnsupportedError, match=r"^--(attach|detach-keys) is not supported"):
        main.run(argv)


def test_what_docker_does_not_know_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="no such option"):
        main.run(["run", "--nosuch", "busybox"])
    with pytest.raises(UsageError, match="no such option"):
        main.run(["exec", "--gpus", "all", "web", "sh"])


@pytest.mark.parametrize(
    ("kind", "text"),
    [("pull", "always"), ("pull", "sometimes"), ("pull", ""), ("ports", "abc"), ("ports", "0"),
     ("ports", "65536"), ("ports", "80-70"), ("ports", "80/icmp"), ("ports", "80-")],
)  # fmt: skip
def test_a_value_that_means_nothing_is_refused(kind: str, text: str) -> None:
    with pytest.raises(PycontainError, match="--x"):
        CONVERTERS[kind](text, "--x")
