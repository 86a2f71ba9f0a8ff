"""The standard workloads: the operations of images/bench, and macro programs where installed."""

from __future__ import annotations

import shutil

from pycontain.bench.model import Workload
from pycontain.errors import UsageError

PROGRAM = "/bin/bench"

OPERATIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("integer", "cpu", "one xorshift step", ("integer",)),
    ("float", "cpu", "one multiply-add", ("float",)),
    ("copy", "cpu", "memcpy of 4 MiB", ("copy",)),
    ("chase", "cpu", "dependent load over 32 MiB", ("random-access",)),
    ("syscall", "ops", "getppid", ("syscall",)),
    ("clock", "ops", "clock_gettime", ("integer",)),
    ("read", "ops", "read of 1 byte of /dev/zero", ("syscall",)),
    ("fault", "ops", "first touch of an anonymous page", ("fault",)),
    ("mmap", "ops", "mmap, touch, munmap of 64 KiB", ("fault", "syscall")),
    ("fork", "ops", "fork, exit, wait", ("process",)),
    ("exec", "ops", "vfork, execve, exit, wait", ("process",)),
    ("pipe", "ops", "round trip over two pipes", ("switch",)),
    ("write", "io", "write of 4 KiB", ("file", "copy")),
    (
        "fdatasync",
        "io",
        "write of 4 KiB and fdatasync",
        ("file", "idle"),
    ),
    ("tcp", "net", "round trip of 1 byte over loopback", ("network", "switch")),
    ("stream", "net", "64 KiB over loopback", ("network", "copy")),
    ("server", "net", "request to a server with 8 clients", ("network", "switch")),
)
"""Operation, group, what it is, class tags."""

DURABLE = ("fdatasync", "fio")

MACRO: tuple[tuple[str, str, tuple[str, ...], str, tuple[str, ...]], ...] = (
    (
        "sysbench",
        "cpu",
        ("sysbench", "cpu", "--events=500", "--time=0", "--threads=1", "run"),
        "500 events of sysbench's prime numbers",
        ("integer",),
    ),
    (
        "stress-ng",
        "ops",
        ("stress-ng", "--switch", "1", "--switch-ops", "20000", "--temp-path", "/tmp", "-q"),
        "20000 context switches of stress-ng",
        ("switch",),
    ),
    (
        "fio",
        "io",
        (
            *("fio", "--name=bench", "--directory=/tmp", "--rw=randwrite", "--bs=4k"),
            *("--size=4m", "--ioengine=psync", "--fsync=64", "--unlink=1"),
        ),
        "4 MiB of random 4 KiB writes by fio, an fsync every 64",
        ("file", "idle"),
    ),
)
"""Program, group, command, what it is, class tags: fixed work, so that elapsed time compares."""

GROUPS = ("startup", "ops", "cpu", "io", "net", "memory", "density")


def workloads(group: str) -> list[Workload]:
    """Return the workloads of a group, or of all; memory and density are measured otherwise."""
    if group not in (*GROUPS, "all"):
        raise UsageError(f"no suite {group}", hint=f"one of {' '.join(GROUPS)} all")
    found = [startup()] if group in ("startup", "all") else []
    found += [_operation(*entry) for entry in OPERATIONS if group in (entry[1], "all")]
    return found


def macro_workloads(group: str) -> list[Workload]:
    """Return the macro workloads of a group whose program is installed on this host."""
    return [
        Workload(
            name=name,
            group=of,
            argv=argv,
            same_output=False,
            durable=name in DURABLE,
            class_tags=tags,
            text=text,
        )
        for name, of, argv, text, tags in MACRO
        if group in (of, "all") and shutil.which(name)
    ]


def startup() -> Workload:
    """Return the start-up workload: it prints the clock at its first instruction and ends."""
    return Workload(
        name="startup",
        group="startup",
        argv=(PROGRAM, "start"),
        metric="to_command",
        class_tags=("process",),
        text="a process that says when it began, and ends",
    )


def _operation(name: str, group: str, text: str, tags: tuple[str, ...]) -> Workload:
    return Workload(
        name=name,
        group=group,
        argv=(PROGRAM, name),
        metric=name,
        durable=name in DURABLE,
        class_tags=tags,
        text=text,
    )


def hold(mebibytes: int = 1) -> Workload:
    """Return the workload that touches so much memory and waits: what memory is measured with."""
    return Workload(
        name="hold",
        group="memory",
        argv=(PROGRAM, "touch", str(mebibytes)),
        metric="pss",
        text=f"a process that holds {mebibytes} MiB and waits",
    )
