"""The commands of the instrumentation: run, start, progress, end, status, replay, config.

In: arguments. Out: runs around unchanged programs, shell text, tables or JSON. Called by: `cli`.

`wafer run` must start fast, so each command imports what it needs when it is called.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from wafermonitor.semconv import attributes as names

if TYPE_CHECKING:
    from wafermonitor.instrumentation.script import Remembered

__all__ = ["config", "end", "progress", "replay", "run", "start", "status"]

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_WHOLE: Final = re.compile(r"-?(0|[1-9]\d{0,17})\Z")
_BROKEN: Final = re.compile(r"-?\d+\.\d+\Z")
_TAIL_LIMIT: Final = 262_144


def duration(value: str) -> float:
    """`90`, `30s`, `10m`, `2h`, `1h30m`, `1d` → seconds above 0."""
    if not re.fullmatch(rf"(?:{_SPAN.pattern})+", value):
        raise click.BadParameter(f"{value!r} is no duration: write 30s, 10m, 2h or 1h30m")
    seconds = float(sum(float(number) * _UNITS[unit or "s"] for number, unit in _SPAN.findall(value)))
    if not seconds:
        raise click.BadParameter("a duration above 0 is needed")
    return seconds


def instant(value: str) -> str:
    """RFC 3339; a time without an offset is this host's."""
    try:
        return datetime.fromisoformat(value).astimezone().isoformat()
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time: write 2026-11-22T18:00:00+01:00") from None


def pair(value: str) -> tuple[str, Any]:
    """`key=value`. Whole and decimal numbers become numbers, unless a leading zero says that they are names."""
    key, separator, text = value.partition("=")
    if not key.strip() or not separator:
        raise click.BadParameter(f"{value!r} is not key=value")
    if _WHOLE.match(text):
        return key.strip(), int(text)
    return key.strip(), float(text) if _BROKEN.match(text) else text


def pattern(value: str) -> re.Pattern[bytes]:
    """A regular expression that says something about progress."""
    from wafermonitor.instrumentation.output import compile_pattern

    try:
        return compile_pattern(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def described(function: F) -> F:
    """The options that say what a run is, the same for `wafer run` and `wafer start`; they arrive as `attributes`."""
    options = [
        click.option("--run-id", help="Name of this run, for people and searches.  [default: made up]"),
        click.option("--lot", multiple=True, metavar="ID", help="Lot; repeatable."),
        click.option("--substrate", multiple=True, metavar="ID", help="Wafer; repeatable."),
        click.option("--equipment", metavar="ID", help="Tool that made or measured the data."),
        click.option("--recipe", metavar="NAME", help="Recipe."),
        click.option("--product", metavar="ID", help="Product."),
        click.option("--owner", help="Who is asked about it."),
        click.option("--attempt", type=click.IntRange(min=1), help="1 for the first try of this run id, 2 for the next …"),
        click.option("--trigger", type=click.Choice(names.WAFER_JOB_TRIGGER_VALUES), help="Why it runs."),
        click.option("--nominal-time", type=instant, help="When it should have begun."),
        click.option("--expected-duration", type=duration, help="Longer than this is overdue, for example 10m."),
        click.option("--deadline", type=instant, help="Later than this is overdue."),
        click.option("--attr", type=pair, metavar="KEY=VALUE", multiple=True, help="Any attribute; repeatable."),
        click.option(
            "--param",
            type=pair,
            metavar="KEY=VALUE",
            multiple=True,
            help=f"Parameter, sent as {names.WAFER_PARAM}.<key>; repeatable.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def start_attributes(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `described` as attributes; takes them out of `options`, all but the run id."""
    take = options.pop
    params = {f"{names.WAFER_PARAM}.{key}": value for key, value in take("param")}
    given = {
        **dict(take("attr")),
        names.WAFER_JOB_ATTEMPT: take("attempt"),
        names.WAFER_JOB_TRIGGER: take("trigger"),
        names.WAFER_JOB_NOMINAL_TIME: take("nominal_time"),
        names.WAFER_JOB_EXPECTED_DURATION: take("expected_duration"),
        names.WAFER_JOB_DEADLINE: take("deadline"),
        names.WAFER_JOB_OWNER: take("owner"),
        names.WAFER_LOT_IDS: list(take("lot")) or None,
        names.WAFER_SUBSTRATE_IDS: list(take("substrate")) or None,
        names.WAFER_EQUIPMENT_ID: take("equipment"),
        names.WAFER_RECIPE_NAME: take("recipe"),
        names.WAFER_PRODUCT_ID: take("product"),
        **params,
    }
    return {key: value for key, value in given.items() if value is not None}


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--job", help="Name of the job.  [default: the command's name]")
@described
@click.option("--timeout", type=duration, help="Stop the command after this long: TERM, then KILL.")
@click.option("--kill-after", type=duration, default="10s", show_default=True, help="From TERM to KILL.")
@click.option("--heartbeat", type=duration, help="Interval of the signs of life.  [default: 30s]")
@click.option("--progress-regex", type=pattern, help="Finds progress in the output: groups done and total, ratio, or percent.")
@click.option("--tail-bytes", type=click.IntRange(0, _TAIL_LIMIT), default=0, help="Send the end of the output when it fails.")
@click.option("--spool", type=click.Path(path_type=Path), help="Folder for what no endpoint took.")
@click.option(
    "--mode", type=click.Choice(["sidecar", "direct", "file", "off"]), help="Where telemetry goes.  [default: sidecar]"
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: Sequence[str], **options: Any) -> int:
    """Run a command unchanged, and report it as one run.

    The command keeps its input, output, signals and exit code, whatever becomes of the telemetry. Its arguments and
    environment are not sent. It finds its place in the trace in TRACEPARENT, and may write lines like `3/25 third wafer` to
    the file whose number is in WAFER_PROGRESS_FD.
    """
    from wafermonitor.instrumentation.wrap import Order
    from wafermonitor.instrumentation.wrap import run as run_wrapped

    order = Order(
        command=command,
        attributes=start_attributes(options),
        job=options["job"] or os.path.basename(command[0]) or command[0],  # noqa: PTH119 - keeps what Path would normalise
        run_id=options["run_id"],
        timeout_s=options["timeout"],
        grace_s=options["kill_after"],
        heartbeat_s=options["heartbeat"],
        pattern=options["progress_regex"],
        tail_bytes=options["tail_bytes"],
        spool_dir=options["spool"],
        mode=options["mode"],
    )
    return run_wrapped(order, os.environ)


@click.command()
@click.argument("job")
@described
@click.option("--json", "as_json", is_flag=True, help="Print the ids as JSON instead of shell text.")
def start(job: str, as_json: bool, **options: Any) -> None:
    """Begin a run that `wafer end` ends: eval "$(wafer start NAME --run-id X)".

    Prints `export` lines for the shell. From another shell the run is found again by name, run id and attempt.
    """
    from wafermonitor.instrumentation import script

    attempt = options["attempt"]
    begun = script.begin(job, options["run_id"], attempt, start_attributes(options))
    if as_json:
        _print_json(
            {
                "run": f"{begun.trace_id}-{begun.span_id}",
                "run_id": begun.run_id,
                "job": job,
                "environment": script.exports(begun),
            }
        )
    else:
        click.echo(script.shell_text(script.exports(begun)))


def _named(function: F) -> F:
    """The options that name a run begun elsewhere."""
    options = [
        click.option("--job", help="Name of the job, when WAFER_RUN is not set."),
        click.option("--run-id", help="Its run id."),
        click.option("--attempt", type=click.IntRange(min=1), help="Its attempt.  [default: 1]"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _found(job: str | None, run_id: str | None, attempt: int | None) -> Remembered | None:
    """The run meant. A script must not die of its monitoring, so none is only a warning."""
    from wafermonitor.instrumentation import script

    if (job is None) != (run_id is None):
        raise click.UsageError("give both --job and --run-id, or neither (then WAFER_RUN says which run)")
    found = script.find(job, run_id, attempt)
    if found is None:
        click.echo('Warning: no run: WAFER_RUN is not set. Begin with: eval "$(wafer start NAME)"', err=True)
    return found


@click.command()
@click.argument("done")
@click.argument("message", default="")
@_named
def progress(done: str, message: str, job: str | None, run_id: str | None, attempt: int | None) -> None:
    """Say how far the run is: 3/25, 0.12 or 12%, and a message.

    Inside `wafer run` it tells that run; else the one that `wafer start` began.
    """
    from wafermonitor.instrumentation import script
    from wafermonitor.instrumentation.announce import progress_of

    line = f"{done} {message}".strip()
    told = progress_of(line)
    if told is None:
        raise click.BadParameter(f"{done!r} is no progress: write 3/25, 0.12 or 12%", param_hint="DONE")
    if job is None and script.tell_wrapper(line):
        return
    found = _found(job, run_id, attempt)
    if found is not None:
        script.tell(found, told)


@click.command()
@_named
@click.option("--result", type=click.Choice(names.WAFER_JOB_RESULT_VALUES), help="How it ended.  [default: by --exit-code]")
@click.option("--exit-code", type=int, help="The program's exit code, for example $?; not 0 is a failure.")
@click.option("--error-type", help="What kind of error it was, one of a few words.")
@click.option("--message", default="", help="What happened.")
def end(job: str | None, run_id: str | None, attempt: int | None, **options: Any) -> None:
    """End a run that `wafer start` began."""
    from wafermonitor.instrumentation import script

    found = _found(job, run_id, attempt)
    if found is None:
        return
    if found.start_ns is None:
        click.echo("Warning: nobody here knows when this run began; only its end is reported", err=True)
    script.finish(found, script.ending(**options))


@click.command()
@click.argument("spool", type=click.Path(path_type=Path), required=False)
@click.option("--watch", is_flag=True, help="Go on until stopped.")
@click.option("--interval", type=duration, default="2s", show_default=True, help="With --watch: time between two looks.")
@click.option("--patience", type=duration, default="10s", show_default=True, help="How long the endpoint may stay away.")
@click.option("--endpoint", metavar="URL", help="Base URL that takes OTLP over HTTP.  [default: as the settings say]")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def replay(spool: Path | None, as_json: bool, **options: Any) -> None:
    """Send what the spool holds; remove what is sent.

    SPOOL defaults to this user's own. Files of programs that still write are sent as far as they go and kept. What the
    endpoint refuses for good is moved to the folder `rejected`, with the reason.
    """
    from wafermonitor.instrumentation.config import Config
    from wafermonitor.instrumentation.shipping import ship

    settings = Config.load()
    ship(spool or settings.spool_dir, settings, as_json=as_json, **options)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> int:
    """Say whether what jobs on this host tell is arriving. Then each step: endpoint, Collector, spool.

    The exit code is 0 when it is, else 1.
    """
    from wafermonitor.instrumentation.config import Config
    from wafermonitor.instrumentation.survey import YES, survey

    found = survey(Config.load())
    if as_json:
        _print_json(found)
    else:
        width = max(map(len, found))
        for key, value in found.items():
            shown = ", ".join(f"{name} {item}" for name, item in value.items()) if isinstance(value, dict) else value
            click.echo(f"{key:<{width}}  {shown}")
    return 0 if found["arriving"] == YES else 1


@click.group(invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show the settings of every component."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@config.command()
@click.argument("component", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(component: str | None = None, as_json: bool = False) -> None:
    """Every setting, its value and where that came from; secrets are masked."""
    from wafermonitor.instrumentation.shown import settings, table

    found = settings(component)
    if as_json:
        _print_json(found)
    else:
        click.echo(table(found))
    if any("error" in part for part in found.values()):
        click.get_current_context().exit(2)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the file that WAFER_SDK_CONFIG names, with the backends installed here."""
    from wafermonitor.instrumentation.sdk_schema import schema as made

    _print_json(made())


def _print_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2))
