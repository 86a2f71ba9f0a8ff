"""Options of docker that are refused, and why: the one place for them.

Neither parser knows them; `main` asks here when click meets an option it does not know, so an
ordinary command pays nothing for this table.
"""

from __future__ import annotations

from pycontain.errors import UnsupportedError

BRIDGE = "it needs a bridge network, a later issue; use --network none, host or container:ID"
HEALTH = "health checks are not made; look from outside, with pycontain exec"
WINDOWS = "docker has it on Windows only"
REAL_TIME = "real-time bandwidth is cgroup v1's; --ulimit rtprio=N allows real-time scheduling"
DETACHING = "nothing detaches from a terminal; use run -d, logs -f and exec -it"

RUN = {
    "attach": "output is always attached, and -i attaches the input: leave it out",
    "cpu-count": WINDOWS,
    "cpu-percent": WINDOWS,
    "cpu-rt-period": REAL_TIME,
    "cpu-rt-runtime": REAL_TIME,
    "detach-keys": DETACHING,
    "disable-content-trust": "images are loaded, and verified by digest: leave it out",
    "gpus": "name the device nodes with --device and the driver's files with --volume",
    "health-cmd": HEALTH,
    "health-interval": HEALTH,
    "health-retries": HEALTH,
    "health-start-interval": HEALTH,
    "health-start-period": HEALTH,
    "health-timeout": HEALTH,
    "io-maxbandwidth": WINDOWS,
    "io-maxiops": WINDOWS,
    "ip6": BRIDGE,
    "isolation": WINDOWS,
    "kernel-memory": "Linux has no such limit any more: --memory counts kernel memory, too",
    "link": BRIDGE,
    "link-local-ip": BRIDGE,
    "mac-address": BRIDGE,
    "network-alias": BRIDGE,
    "net-alias": BRIDGE,
    "storage-opt": "the writable layer has no limit of its own; --tmpfs PATH:size=N has",
    "use-api-socket": "there is no daemon, and no socket of one",
    "volume-driver": "local is the only driver: leave it out",
    "volumes-from": "name the volumes with --volume NAME:PATH; inspect shows a container's",
}
"""Option of `run` and `create` to what to do instead."""

ATTACHED = {"detach-keys": DETACHING}
SHORT = {"-a": "attach"}

VERBS = {"run": RUN, "create": RUN, "exec": ATTACHED, "start": ATTACHED, "attach": ATTACHED}


def check(verb: str, word: str) -> None:
    """Raise UnsupportedError when docker knows the option `word` of `verb` and we refuse it."""
    name = SHORT.get(word, word.removeprefix("--"))
    why = VERBS.get(verb, {}).get(name)
    if why:
        raise UnsupportedError(f"--{name} is not supported", hint=why)
