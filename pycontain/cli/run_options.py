"""The options of `run` and `create`, in docker's words; the rows that are ours say so."""

from __future__ import annotations

from pycontain.cli.options import Option

LIMITS = (
    Option("memory", "m", "bytes", "BYTES", "memory limit, e.g. 64m"),
    Option(
        "memory-swap",
        "",
        "swap",
        "BYTES",
        "memory plus swap limit; -1 is no limit",
        default="twice the memory",
    ),
    Option("memory-reservation", "", "bytes", "BYTES", "soft memory limit"),
    Option(
        "memory-swappiness", "", "natural", "0-100", "how readily the container's memory is swapped"
    ),
    Option(
        "oom-kill-disable",
        "",
        "flag",
        "",
        "stop instead of killing at the memory limit (cgroup v1)",
    ),
    Option("cpus", "", "cpus", "NUMBER", "number of CPUs, e.g. 0.5"),
    Option("cpu-quota", "", "int", "US", "CPU time per period in microseconds"),
    Option("cpu-period", "", "natural", "US", "length of the CPU period", default="100000"),
    Option("cpu-shares", "c", "natural", "WEIGHT", "relative CPU weight (2 to 262144)"),
    Option("cpuset-cpus", "", "cpulist", "LIST", "CPUs the container may use, e.g. 0-2,5"),
    Option("cpuset-mems", "", "cpulist", "LIST", "memory nodes the container may use"),
    Option(
        "pids-limit",
        "",
        "int",
        "NUMBER",
        "most processes and threads; -1 or 0 is no limit",
        default="2048",
    ),
    Option("blkio-weight", "", "natural", "10-1000", "relative block I/O weight"),
    Option(
        "blkio-weight-device",
        "",
        "weight",
        "DEV:WEIGHT",
        "block I/O weight of one device",
        many=True,
    ),
    Option(
        "device-read-bps", "", "rate", "DEV:BYTES", "read limit of a device per second", many=True
    ),
    Option(
        "device-write-bps", "", "rate", "DEV:BYTES", "write limit of a device per second", many=True
    ),
    Option("device-read-iops", "", "operations", "DEV:N", "read operations per second", many=True),
    Option(
        "device-write-iops", "", "operations", "DEV:N", "write operations per second", many=True
    ),
    Option(
        "ulimit",
        "",
        "ulimit",
        "NAME=SOFT[:HARD]",
        "resource limit, e.g. nofile=1024:2048",
        many=True,
    ),
    Option("oom-score-adj", "", "int", "NUMBER", "bias of the kernel's OOM killer (-1000 to 1000)"),
    Option("shm-size", "", "bytes", "BYTES", "size of /dev/shm", default="64m"),
)

IDENTITY = (
    Option("name", "", "name", "NAME", "name of the container", default="two random words"),
    Option("hostname", "h", "hostname", "NAME", "host name inside", default="the short id"),
    Option("domainname", "", "hostname", "NAME", "NIS domain name inside"),
    Option(
        "user",
        "u",
        "user",
        "USER[:GROUP]",
        "user by name or id in the image",
        default="the image's",
    ),
    Option("group-add", "", "group", "GROUP", "further group of the process", many=True),
    Option("workdir", "w", "text", "DIR", "working directory inside"),
    Option(
        "env",
        "e",
        "variable",
        "NAME[=VALUE]",
        "environment variable; a bare NAME takes the caller's",
        many=True,
    ),
    Option("env-file", "", "text", "FILE", "file of environment variables", many=True),
    Option("label", "l", "pair", "KEY[=VALUE]", "label of the container", many=True),
    Option("label-file", "", "text", "FILE", "file of labels", many=True),
    Option("annotation", "", "setting", "KEY=VALUE", "annotation of config.json", many=True),
    Option(
        "entrypoint", "", "text", "COMMAND", "replaces the image's entry point; empty removes it"
    ),
    Option("init", "", "flag", "", "run a small init that reaps and forwards signals"),
    Option(
        "umask", "", "umask", "OCTAL", "file mode mask of the process", default="0022", ours=True
    ),
)

FILES = (
    Option("volume", "v", "volume", "[SRC:]DST[:OPTS]", "bind a host path or a volume", many=True),
    Option(
        "mount", "", "mount", "type=…,src=…,dst=…", "mount of type bind, volume or tmpfs", many=True
    ),
    Option("tmpfs", "", "tmpfs", "DST[:OPTS]", "mount an empty tmpfs", many=True),
    Option("read-only", "", "flag", "", "the root file system is read-only"),
    Option(
        "device", "", "device", "SRC[:DST][:rwm]", "device of the host to be seen inside", many=True
    ),
    Option(
        "device-cgroup-rule",
        "",
        "device-rule",
        "RULE",
        'device access rule, e.g. "c 10:200 rwm"',
        many=True,
    ),
)

ISOLATION = (
    Option("pid", "", "text", "MODE", "process namespace: host, container:ID or ns:PATH"),
    Option("ipc", "", "text", "MODE", "IPC namespace: private, host, container:ID or ns:PATH"),
    Option("uts", "", "text", "MODE", "host name namespace: host or ns:PATH"),
    Option(
        "network",
        "",
        "text",
        "MODE",
        "none, host, container:ID or ns:PATH",
        aliases=("net",),
        default="none",
    ),
    Option("userns", "", "text", "MODE", "user namespace: host, auto, keep-id or UID:GID:SIZE"),
    Option("cgroupns", "", "text", "MODE", "cgroup namespace: private or host", default="private"),
    Option(
        "time-offset",
        "",
        "offset",
        "CLOCK=TIME",
        "time namespace: shift monotonic or boottime",
        many=True,
        ours=True,
    ),
    Option("cap-add", "", "capability", "CAP", "add a capability; ALL for every one", many=True),
    Option("cap-drop", "", "capability", "CAP", "drop a capability; ALL for every one", many=True),
    Option(
        "privileged",
        "",
        "flag",
        "",
        "every capability and device, no filter: no isolation from root",
    ),
    Option(
        "security-opt",
        "",
        "text",
        "OPT",
        "no-new-privileges[=BOOL], seccomp=FILE|unconfined, apparmor=, label=",
        many=True,
    ),
    Option(
        "sysctl",
        "",
        "setting",
        "KEY=VALUE",
        "kernel parameter of the container's namespaces",
        many=True,
    ),
    Option(
        "cgroup-parent",
        "",
        "text",
        "PATH",
        "parent of the container's cgroup",
        default="/",
    ),
    Option("cgroup-manager", "", "manager", "MANAGER", "cgroupfs, systemd or disabled", ours=True),
    Option("add-host", "", "host", "NAME:IP", "line of /etc/hosts", many=True),
    Option("dns", "", "address", "IP", "name server of /etc/resolv.conf", many=True),
    Option("dns-search", "", "domain", "DOMAIN", "search domain of /etc/resolv.conf", many=True),
    Option(
        "dns-option",
        "",
        "resolver",
        "OPTION",
        "option of /etc/resolv.conf",
        many=True,
        aliases=("dns-opt",),
    ),
    Option("publish", "p", "text", "[IP:]PORT:PORT", "not yet: needs a bridge network", many=True),
    Option("publish-all", "P", "flag", "", "not yet: needs a bridge network"),
    Option("expose", "", "ports", "PORT", "documents a port; changes nothing", many=True),
    Option("ip", "", "text", "IP", "not yet: needs a bridge network"),
)

TERMINAL = (
    Option("interactive", "i", "flag", "", "connect standard input"),
    Option("tty", "t", "flag", "", "give the container a terminal"),
    Option("sig-proxy", "", "flag", "", "forward signals; false: they end the run", default="true"),
    Option("rm", "", "flag", "", "remove the container when it ends"),
    Option(
        "stop-signal",
        "",
        "signal",
        "SIGNAL",
        "signal that stop sends",
        default="the image's, or TERM",
    ),
    Option(
        "stop-timeout",
        "",
        "int",
        "SECONDS",
        "how long stop waits before it kills; -1 for ever",
        default="10",
    ),
    Option(
        "restart",
        "",
        "restart",
        "POLICY",
        "no, always, unless-stopped or on-failure[:N]",
        default="no",
    ),
    Option("cidfile", "", "text", "FILE", "write the container's id to FILE"),
    Option("log-driver", "", "driver", "DRIVER", "json-file or none", default="json-file"),
    Option("log-opt", "", "log-option", "KEY=VALUE", "max-size or max-file of the log", many=True),
    Option("pull", "", "pull", "POLICY", "missing or never; images are loaded", default="never"),
    Option(
        "platform", "", "platform", "OS/ARCH", "platform of the image", default="this machine's"
    ),
    Option("quiet", "q", "flag", "", "accepted; there is no pull output"),
    Option("no-healthcheck", "", "flag", "", "accepted; there are no health checks"),
)

INSIGHT = (
    Option(
        "explain",
        "",
        "flag",
        "",
        "print the plan and where each part comes from; run nothing",
        ours=True,
    ),
    Option(
        "timeline",
        "",
        "flag",
        "",
        "after the run, print each phase and system call with its time",
        ours=True,
    ),
    Option(
        "format",
        "",
        "format",
        "FORMAT",
        "of --explain and --timeline: table or json",
        default="table",
        ours=True,
    ),
    Option(
        "runtime",
        "",
        "text",
        "PATH",
        "hand the bundle to another OCI runtime, e.g. runc",
        ours=True,
    ),
)

CREATE = (*LIMITS, *IDENTITY, *FILES, *ISOLATION, *TERMINAL, *INSIGHT)

RUN = (
    *CREATE,
    Option("detach", "d", "flag", "", "run in the background and print the id"),
)
