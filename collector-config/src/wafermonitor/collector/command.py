"""`wafer collector`: run, install, files, validate, render, print, components, status, doctor, beat.

In: the command line and the environment. Out: a supervised Collector, or one answer on stdout. Called by: `wafer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wafermonitor.collector import beat as beats
from wafermonitor.collector import binary, build, fragments, sizing
from wafermonitor.collector.binary import Binary
from wafermonitor.collector.config import Config
from wafermonitor.collector.errors import BinaryRejected, CollectorRejected, ConfigRejected
from wafermonitor.collector.supervise import Supervisor

if TYPE_CHECKING:
    from wafermonitor.collector.condition import Check
    from wafermonitor.collector.findings import Finding

F = TypeVar("F", bound=Callable[..., Any])
_LINE_EVERY_S = 15.0
_WIDTH = 100
_STEP = 24
"""Width of what was looked at: the names of most exporters."""
_OF_FULL = (("managed", "file", "kafka", "zabbix", "prometheus"), ("files", "host", "syslog", "statsd"))
"""Backends and receivers that together need what the larger Collector has and the smaller has not."""


def _chosen(function: F) -> F:
    """The flags that say which files are meant; without them the environment and the defaults do."""
    backend = click.option(
        "--backend", "backends", multiple=True, metavar="NAME", help="A backend, or a YAML file; repeat for more."
    )
    receiver = click.option(
        "--receiver", "receivers", multiple=True, metavar="NAME", help="A receiver, or a YAML file; repeat for more."
    )
    return backend(receiver(function))


_as_json = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object a line.")


@click.group(invoke_without_command=True)
@click.pass_context
def collector(context: click.Context) -> None:
    """Run a stock OpenTelemetry Collector: it takes OTLP, keeps it on disk, passes it on.

    Without a sub-command it runs the Collector.
    """
    if context.invoked_subcommand is None:
        context.invoke(run)


@collector.command()
@_chosen
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="Written (JSON) once the Collector takes data, removed at the stop."
)
@click.option("--queue", "outage", metavar="24h", help="Make each queue large enough for an outage; with --rate.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Items a second of the busiest signal.")
@click.option(
    "--item-bytes",
    type=click.IntRange(min=1),
    default=sizing.ITEM_BYTES,
    show_default=True,
    help="Size of an item, for --queue.",
)
@_as_json
def run(
    backends: tuple[str, ...] = (),
    receivers: tuple[str, ...] = (),
    ready_file: Path | None = None,
    *,
    outage: str | None = None,
    rate: float | None = None,
    item_bytes: int = sizing.ITEM_BYTES,
    as_json: bool = False,
) -> None:
    """Run a Collector until SIGTERM.

    Finds or builds one, starts it again when it dies, sends the feed's beat, ships the file spool. SIGHUP validates the files
    again and reloads them. What our rules find in files of one's own is said.
    """
    config, files = _settings(backends, receivers)
    say = _teller(as_json=as_json)
    if outage is not None or rate is not None:
        config = _sized(config, files, say, outage=outage, rate=rate, item_bytes=item_bytes)
    if not all(path.is_relative_to(fragments.HERE) for path in files):
        for finding in _findings(config, files, needed=False, started=True):
            (record,) = _records([finding])
            record["finding"] = record.pop("text")
            say("finding", f"{'wrong' if finding.wrong else 'may lose data'}: {finding}", **record)
    found = _obtain(config, files)
    asyncio.run(Supervisor(config, found, files, say, ready_file).run())


@collector.command()
@click.option("--full", is_flag=True, help="With the parts of further backends (Kafka, Prometheus, X-Ray …).")
@click.option("--again", is_flag=True, help="Build even if it is built already.")
@click.option("--service", is_flag=True, help="Then write a unit of systemd: the machine's for root, else the user's own.")
@click.option("--account", metavar="NAME", help="Whom the machine's service runs as.  [default: wafer if there is one]")
@click.option("--root", type=click.Path(file_okay=False, path_type=Path), default="/", help="With --service: of an image.")
@_as_json
def install(*, full: bool, again: bool, service: bool, account: str | None, root: Path, as_json: bool) -> None:
    """Get a Collector: find one that fits, else build it.

    WAFER_COLLECTOR_BIN, otelcol-contrib or otelcol on PATH if it is new enough and has the parts; else one built through Go.
    """
    if not service and (account is not None or root != Path("/")):
        raise ConfigRejected("--account and --root are of a service: add --service")
    config, files = _settings(*_OF_FULL) if full else _settings((), ())
    found = None if again else _find(config, files)
    if found is None:
        path = build.install(fragments.MANIFESTS["full" if full else "minimal"], _progress(), again=again)
        found = Binary(path, ".".join(map(str, binary.version_of(path) or ())), "cache")
    written = None
    if service:
        from wafermonitor.collector import service as services

        where = services.places(system=os.geteuid() == 0, root=root)
        written = services.install(found, where, account=account, root=root)
    if as_json:
        unit = {} if written is None else {"service": written._asdict()}
        click.echo(json.dumps(found._asdict() | unit, default=str))
        return
    click.echo(f"Collector {found.version} ({found.source}): {found.path}")
    if written is not None:
        click.echo(f"{written.unit}: runs as {written.account}; its settings: {written.settings}\nnext: {written.next}")


@collector.command()
@_chosen
@click.option("--strict", is_flag=True, help="What works and may lose data counts as an error, too.")
@click.option("--lint", "lint_only", is_flag=True, help="Only our rules: no Collector is needed.")
@_as_json
def validate(backends: tuple[str, ...], receivers: tuple[str, ...], *, strict: bool, lint_only: bool, as_json: bool) -> int:
    """Say what is wrong with the files.

    First by our rules (documented keys, names, ports, queues, secrets), then by the Collector's own.
    """
    findings: list[Finding] = []
    found = None
    try:
        config, files = _settings(backends, receivers)
        findings = _findings(config, files, needed=lint_only)
        wrong = [str(finding) for finding in findings if finding.wrong or strict]
        if wrong:
            raise ConfigRejected("\n".join(wrong))
        if not lint_only:
            found = binary.find(config, files)
    except CollectorRejected as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "problem": str(error), "findings": _records(findings)}))
        return 2
    if as_json:
        collector = None if found is None else found._asdict()
        answer = {"valid": True, "files": [str(path) for path in files], "collector": collector, "findings": _records(findings)}
        click.echo(json.dumps(answer, default=str))
        return 0
    for finding in findings:
        click.echo(f"may lose data: {finding}", err=True)
    whose = "by our rules" if found is None else f"for Collector {found.version}"
    click.echo(f"valid {whose}: {', '.join(path.stem for path in files)}")
    return 0


@collector.command()
@click.argument("integrations", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; else stdout.")
@click.option(
    "--bridge",
    "bridged",
    multiple=True,
    metavar="NAME",
    help="An entry or type that goes by a bridge, or all that have one; repeat.",
)
@click.option(
    "--priorities",
    type=click.Choice(["auto", "failover", "fan-out"]),
    default="auto",
    show_default=True,
    help="Levels by the failover connector, or every backend at once; auto: levels, if the Collector at hand has them.",
)
def render(integrations: Path, output: Path | None, bridged: tuple[str, ...], priorities: str) -> None:
    """Turn the older integrations.json into a Collector's file.

    For `wafer collector run --backend ./FILE`. What is left out or changed stands on top of it and on stderr.
    """
    from wafermonitor.collector import lint, older
    from wafermonitor.collector.render import render as rendered_of

    config = Config.load()
    try:
        text = integrations.read_text(encoding="utf-8")
        rendered = rendered_of(older.read(text), frozenset(bridged), fan_out=priorities == "fan-out")
    except CollectorRejected as error:
        raise ConfigRejected(f"{integrations}: {error}") from None
    except (OSError, UnicodeDecodeError):
        raise ConfigRejected(f"{integrations} cannot be read as UTF-8 text") from None
    result = rendered.text(integrations.name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rendered.yaml"
        path.write_text(result, encoding="utf-8")
        findings = lint.check([fragments.BASE, path], binary.environment(config))
        if rendered.failover and priorities == "auto":
            _failover_at_hand(config, path)
    for line in [*rendered.notes, *map(str, findings)]:
        click.echo(line, err=True)
    if any(finding.wrong for finding in findings):
        raise ConfigRejected("what was rendered would not work: the lines above say why")
    if output is None:
        click.echo(result, nl=False)
        return
    try:
        output.write_text(result, encoding="utf-8")
    except OSError as error:
        raise ConfigRejected(f"{output} cannot be written: {error.strerror}") from None


def _failover_at_hand(config: Config, path: Path) -> None:
    """ConfigRejected names the two ways out where no Collector has the connector that levels of priority need."""
    try:
        binary.find(config, [fragments.BASE, path])
    except BinaryRejected:
        raise ConfigRejected(
            "priorities need the failover connector, which no Collector at hand has. Two ways out: name an otelcol-contrib by "
            "WAFER_COLLECTOR_BIN (--priorities failover renders without looking); or --priorities fan-out, which sends to all "
            "of them at once, each with its own queue on disk"
        ) from None


@collector.command("print")
@_chosen
@_as_json
def print_(backends: tuple[str, ...], receivers: tuple[str, ...], *, as_json: bool) -> None:
    """Show what the files make together; secrets are hidden."""
    config, files = _settings(backends, receivers)
    click.echo(binary.merged(binary.find(config, files).path, files, config, "json" if as_json else "yaml"), nl=False)


@collector.command("files")
@_as_json
def files_(*, as_json: bool) -> None:
    """List the files that come with the package.

    Each with the smallest Collector that has its parts (minimal: `wafer collector install`, full: `install --full`, contrib:
    otelcol-contrib by WAFER_COLLECTOR_BIN), the signals it carries, and what it is for.
    """
    from wafermonitor.collector import catalog

    for row in catalog.rows():
        if as_json:
            click.echo(json.dumps(row._asdict() | {"settings": [one._asdict() for one in row.settings], "hours": row.hours}))
        else:
            click.echo(f"{row.kind + '/' + row.name:<32}{row.build:<10}{', '.join(row.signals)}")
            click.echo(textwrap.fill(row.title, _WIDTH, initial_indent="    ", subsequent_indent="    "))


@collector.command()
@_as_json
def components(*, as_json: bool) -> None:
    """Show which Collector is used, and its parts."""
    found = binary.find(*_settings((), ()))
    parts = binary.components(found.path)
    if as_json:
        click.echo(json.dumps({"collector": found._asdict(), "components": parts}, default=str))
        return
    click.echo(f"Collector {found.version} ({found.source}): {found.path}")
    for section, names in parts.items():
        click.echo(f"{section:<12}{', '.join(names)}")


@collector.command()
@_as_json
def status(*, as_json: bool) -> int:
    """Say how this host's Collector is.

    Its process, whether OTLP is taken, each exporter, disk, spool. The exit code is 0 while it takes data and
    drops none, else 1.
    """
    from wafermonitor.collector import condition

    return _told(condition.status(Config.load()), as_json=as_json)


@collector.command()
@_chosen
@_as_json
def doctor(backends: tuple[str, ...], receivers: tuple[str, ...], *, as_json: bool) -> int:
    """Find what is wrong, why, and what to do next.

    The files by our rules, the Collector that would run with them, its ports; then what `status` says. Exit code as there.
    """
    from wafermonitor.collector import condition

    return _told(condition.doctor(*_settings(backends, receivers)), as_json=as_json)


def _told(checks: Iterable[Check], *, as_json: bool) -> int:
    """Print each check as it comes; the exit code."""
    found = []
    for check in checks:
        found.append(check)
        if as_json:
            continue
        click.echo(f"{check.state:<5} {check.step:<{_STEP}} {check.found}")
        if check.cause:
            click.echo(f"{'':<{_STEP + 6}} because {check.cause}; next: {check.next}")
    well = all(check.well for check in found)
    if as_json:
        click.echo(json.dumps({"ok": well, "checks": [check._asdict() for check in found]}))
    return 0 if well else 1


@collector.command()
@click.option("--once", is_flag=True, help="Send one beat; fails if it is not taken.")
def beat(*, once: bool) -> None:
    """Send the feed's beat beside another Collector.

    Until SIGTERM, to WAFER_OTLP_HTTP, for a Collector that something else runs. A beat waits until the spool of its moment is
    sent: run `wafer replay --watch` as well, or set WAFER_COLLECTOR_REPLAY=0 where no job has a spool.
    """
    config = Config.load()
    if once:
        beats.once(config)
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    beats.keep(config, stop, lambda text: click.echo(text, err=True))


def _settings(backends: tuple[str, ...], receivers: tuple[str, ...]) -> tuple[Config, list[Path]]:
    config = Config.load(backends=backends or None, receivers=receivers or None)
    return config, fragments.choose(config)


def _sized(
    config: Config, files: list[Path], say: Callable[..., None], *, outage: str | None, rate: float | None, item_bytes: int
) -> Config:
    """The same settings with queues for this outage at this rate."""
    if outage is None or rate is None:
        raise ConfigRejected("--queue and --rate belong together: --queue 24h --rate 1000")
    try:
        planned = sizing.plan(config, files, sizing.seconds(outage), rate, item_bytes)
    except ValueError as error:
        raise ConfigRejected(f"--queue {outage}: {error}") from None
    say("queue-size", str(planned), **planned._asdict(), fits=planned.fits)
    return dataclasses.replace(config, queue_bytes=planned.queue_bytes)


def _findings(config: Config, files: list[Path], *, needed: bool, started: bool = False) -> list[Finding]:
    """What our rules find. Without PyYAML that is said, and the Collector is asked alone. `started`: the files run here."""
    try:
        from wafermonitor.collector import lint
    except ModuleNotFoundError as error:
        if needed or error.name != "yaml":
            raise
        click.echo('our rules were not asked: they need the extra "collector": pip install "wafermonitor[collector]"', err=True)
        return []
    environ = binary.environment(config)
    return [*lint.check(files, environ), *(lint.unset(files, environ) if started else ())]


def _records(findings: list[Finding]) -> list[dict[str, object]]:
    return [finding._asdict() | {"path": str(finding.path)} for finding in findings]


def _find(config: Config, files: list[Path]) -> Binary | None:
    """A Collector that fits, or None where one can be built instead."""
    try:
        return binary.find(config, files)
    except BinaryRejected:
        if config.bin or build.go() is None:
            raise
        return None


def _obtain(config: Config, files: list[Path]) -> Binary:
    """Find a Collector, or build the smallest one that fits."""
    for manifest in fragments.MANIFESTS.values():
        found = _find(config, files)
        if found is not None:
            return found
        build.install(manifest, _progress())
    return binary.find(config, files)


def _progress() -> build.Progress:
    """On a terminal one line that is written over; elsewhere a line now and then."""
    terminal = sys.stderr.isatty()
    last_s = -_LINE_EVERY_S

    def show(elapsed_s: float, line: str) -> None:
        nonlocal last_s
        text = f"building a Collector, once, about 4 minutes: {elapsed_s:.0f} s  {line}"
        if terminal:
            click.echo(f"\r\x1b[K{text[:120]}", nl=False, err=True)
        elif elapsed_s - last_s >= _LINE_EVERY_S:
            last_s = elapsed_s
            click.echo(text, err=True)

    return show


def _teller(*, as_json: bool) -> Callable[..., None]:
    def say(event: str, text: str, **fields: object) -> None:
        # Whoever read this may be gone, or the log's disk full: that is no reason to stop a Collector.
        with contextlib.suppress(OSError):
            click.echo(json.dumps({"event": event, "text": text, **fields}) if as_json else text)

    return say
