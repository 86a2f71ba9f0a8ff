"""The verbs on containers (run, start, exec, stop, rm …): parse, call the engine, print."""

from __future__ import annotations

from pycontain.cli import context, output
from pycontain.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.cli.options import Parsed

SIGKILL = 9


def run(parsed: Parsed) -> int:
    """`pycontain run`."""
    engine, options = context.engine(parsed), context.run_options(parsed)
    image, command = parsed.arguments[0], parsed.arguments[1:]
    if options.explain:
        return _explain(parsed)
    if options.detach and options.rm and options.tty and options.interactive:
        raise UsageError("-d with -it: nobody would sit at the terminal")
    if options.runtime:
        from pycontain.engine import foreign

        return foreign.run(engine, options, image, command)
    if options.detach:
        from pycontain.engine import detached

        output.line(detached.run(engine, options, image, command).id)
        return 0
    if options.timeline:
        from pycontain.cli import insight

        return insight.timeline(engine, options, image, command)
    record, outcome = engine.run(options, image, command)
    if outcome.oom:
        output.warning(outcome.report(record.name))
    return outcome.status


def _explain(parsed: Parsed) -> int:
    from pycontain.cli import insight

    options = context.run_options(parsed)
    return insight.explain(
        context.engine(parsed), options, parsed.arguments[0], parsed.arguments[1:]
    )


def create(parsed: Parsed) -> int:
    """`pycontain create`: prints the id."""
    options = context.run_options(parsed)
    if options.explain:
        return _explain(parsed)
    record = context.engine(parsed).create(options, parsed.arguments[0], parsed.arguments[1:])
    output.line(record.id)
    return 0


def start(parsed: Parsed) -> int:
    """`pycontain start`: in the background, or attached and with its exit status."""
    from pycontain.engine import detached

    engine = context.engine(parsed)
    if parsed.flag("attach") or parsed.flag("interactive"):
        if len(parsed.arguments) > 1:
            raise UsageError("start --attach takes one container")
        record, outcome = detached.start_attached(
            engine, parsed.arguments[0], interactive=parsed.flag("interactive")
        )
        if outcome.oom:
            output.warning(outcome.report(record.name))
        return outcome.status
    return _each(parsed, lambda word: detached.start(engine, word))


def restart(parsed: Parsed) -> int:
    """`pycontain restart`."""
    from pycontain.engine import detached

    engine = context.engine(parsed)
    seconds = parsed.values.get("time")

    def again(word: str) -> None:
        engine.stop(word, seconds if isinstance(seconds, int) else None)
        detached.start(engine, word)

    return _each(parsed, again)


def exec_(parsed: Parsed) -> int:
    """`pycontain exec`."""
    from pycontain.engine import execs

    values = dict(parsed.values)
    if "env_file" in values:
        values["env"] = context.environment_lines(parsed)
    return execs.run(context.engine(parsed), parsed.arguments[0], parsed.arguments[1:], values)


def stop(parsed: Parsed) -> int:
    """`pycontain stop`."""
    engine = context.engine(parsed)
    seconds, signal = parsed.values.get("time"), parsed.values.get("signal")
    return _each(
        parsed,
        lambda word: engine.stop(
            word,
            seconds if isinstance(seconds, int) else None,
            signal if isinstance(signal, int) else None,
        ),
    )


def kill(parsed: Parsed) -> int:
    """`pycontain kill`."""
    engine = context.engine(parsed)
    signal = parsed.values.get("signal", SIGKILL)
    return _each(
        parsed, lambda word: engine.kill(word, signal if isinstance(signal, int) else SIGKILL)
    )


def remove(parsed: Parsed) -> int:
    """`pycontain rm`: with --force a missing one is told and no failure, as in docker."""
    engine = context.engine(parsed)
    force, volumes = parsed.flag("force"), parsed.flag("volumes")
    return _each(
        parsed,
        lambda word: engine.remove(word, force=force, volumes=volumes),
        missing_ok=force,
    )


def wait(parsed: Parsed) -> int:
    """`pycontain wait`: prints the exit status of each."""
    engine = context.engine(parsed)
    return _each(parsed, lambda word: output.line(str(engine.wait(word))), echo=False)


def pause(parsed: Parsed) -> int:
    """`pycontain pause`."""
    return _each(parsed, context.engine(parsed).pause)


def unpause(parsed: Parsed) -> int:
    """`pycontain unpause`."""
    return _each(parsed, context.engine(parsed).unpause)


def rename(parsed: Parsed) -> int:
    """`pycontain rename`."""
    from pycontain.spec.values import container_name

    word, name = parsed.arguments
    context.engine(parsed).rename(word, container_name(name, "name"))
    return 0


def _each(
    parsed: Parsed, act: Callable[[str], object], *, echo: bool = True, missing_ok: bool = False
) -> int:
    """Act on every container named and print its name, as docker does."""

    def act_and_say(word: str) -> None:
        act(word)
        if echo:
            output.line(word)

    return context.each(parsed, act_and_say, missing_ok=missing_ok)
