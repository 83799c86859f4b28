"""`wafer up`, `wafer demo`, `wafer doctor`, `wafer canary`.

In: flags. Out: running services, a URL, JSON, exit codes (0 well, 1 something wrong, 2 wrong usage). Called by: `wafer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wafermonitor.deploy import doctor as examination
from wafermonitor.deploy.addresses import configured_addresses
from wafermonitor.deploy.config import Config
from wafermonitor.deploy.errors import DeployError, DeployRejected
from wafermonitor.deploy.stack import Stack
from wafermonitor.instrumentation.config import Config as InstrumentationConfig
from wafermonitor.instrumentation.service import configure_logging
from wafermonitor.instrumentation.settings import options
from wafermonitor.storage.config import Config as StorageConfig

if TYPE_CHECKING:
    from wafermonitor.deploy.canary import Problem

T = TypeVar("T")
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")
UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def read_duration(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """`90`, `90s`, `10m`, `2h` → seconds."""
    del ctx
    if text is None:
        return None
    found = DURATION.fullmatch(text)
    if found is None or not float(found[1]):
        raise click.BadParameter(f"{text!r} is no duration such as 90s, 10m or 2h", param=parameter)
    return float(found[1]) * UNITS_S[found[2]]


def read_address(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, int] | None:
    """`host:port` → both."""
    del ctx
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) not in range(1, 65_536):
        raise click.BadParameter(f"{text!r} is no host:port, such as 127.0.0.1:9464", param=parameter)
    return host.strip("[]"), int(port)


@click.command(short_help="Run receiver, read API and screens on this host.")
@click.option("--collector/--no-collector", default=False, help="also run a Collector in front of the receiver")
@click.option("--json", "as_json", is_flag=True, help="print the addresses as one JSON object once everything answers")
@options(Config)
def up(collector: bool, as_json: bool, **flags: Any) -> None:
    """Run the services of one site on this host until Ctrl-C: store, receiver, read API, screens.

    Without WAFER_STORAGE_DSN an embedded PostgreSQL keeps the data.
    """
    configure_logging("wafer up")
    config = Config.load(**flags)

    async def main() -> None:
        async with Stack(configured_addresses(), config, collector=collector, show=show_line) as stack:
            if as_json:
                click.echo(json.dumps(asdict(stack.addresses)))
            else:
                click.echo(
                    f"ready: screens http://{stack.addresses.ui}/  API http://{stack.addresses.query}/  Ctrl-C stops everything"
                )
            await asyncio.Event().wait()

    run_until_stopped(main())


@click.command(short_help="Everything on this machine, with real jobs.")
@click.option("--once", is_flag=True, help="run one job, check that everything is true in the store, and end")
@click.option("--json", "as_json", is_flag=True, help="with --once: print one JSON object")
@click.option(
    "--stdf", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="an STDF V4 file instead of a made-up lot"
)
@click.option("--verbose", is_flag=True, help="show what the services print")
@options(Config)
def demo(once: bool, as_json: bool, stdf: Path | None, verbose: bool, **flags: Any) -> None:
    """Start a store, receiver, API, screens and a Collector on free loopback ports and run example jobs through them.

    Data live in a temporary folder and are gone afterwards.
    """
    if as_json and not once:
        raise click.UsageError("--json goes with --once: a demo without end has no result")
    from wafermonitor.deploy import demo as demonstration  # so that `wafer doctor` needs no HTTP client

    configure_logging("wafer demo", None if verbose else "WARNING")
    config = Config.load(**flags)
    show = show_line if verbose else forget_line
    stdf = stdf.resolve() if stdf is not None else None
    if not once:
        run_until_stopped(demonstration.forever(config, stdf=stdf, show=show, ready=show_url))
        return
    summary, problems = run_until_stopped(demonstration.once(config, stdf=stdf, show=show)) or ({}, ["stopped before the end"])
    if as_json:
        click.echo(json.dumps(summary))
    else:
        for name, value in summary.items():
            click.echo(f"{name:24} {value}")
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


@click.command(short_help="Find the broken hop between a job and the screen.")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option("--probe", is_flag=True, help="also send one short run and look for it at the API")
def doctor(as_json: bool, probe: bool) -> None:
    """Check each hop (SDK, Collector, receiver, store, API, screens); say cause and next step. Exit code 1 if any fails."""
    addresses = configured_addresses()
    job = InstrumentationConfig.load()
    findings = []
    checks = examination.examine(
        addresses,
        job=job,
        data_home=StorageConfig.load().data_dir,
    )
    for finding in checks:
        findings.append(finding)
        if not as_json:
            show_finding(finding)
    if probe:
        findings.append(examination.probe(addresses.query, send_probe))
        if not as_json:
            show_finding(findings[-1])
    report = examination.report(findings)
    if as_json:
        click.echo(json.dumps(report))
    sys.exit(0 if report["ok"] else 1)


@click.command(short_help="Write runs, read them back, say what is missing.")
@click.option("--once", is_flag=True, help="one round")
@click.option(
    "--for", "for_s", metavar="DURATION", callback=read_duration, help="how long, such as 10m; without end by default"
)
@click.option(
    "--every", "every_s", metavar="DURATION", default="1s", show_default=True, callback=read_duration, help="between rounds"
)
@click.option(
    "--within",
    "within_s",
    metavar="DURATION",
    default="15s",
    show_default=True,
    callback=read_duration,
    help="until it is missing",
)
@click.option("--api", metavar="URL", help="the read API  [default: that of this host]")
@click.option("--metrics-address", metavar="HOST:PORT", callback=read_address, help="show the result to Prometheus there")
@click.option("--otlp", metavar="URL", help="send the result as metrics there  [default: OTEL_EXPORTER_OTLP_ENDPOINT, if set]")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object at the end")
def canary(
    *,
    once: bool,
    for_s: float | None,
    every_s: float,
    within_s: float,
    api: str | None,
    metrics_address: tuple[str, int] | None,
    otlp: str | None,
    as_json: bool,
) -> None:
    """Write runs where jobs of this host report, read them back by id, search and stream, and compare.

    Exit code 1 if any run was missing or different.
    """
    configure_logging("wafer canary", "WARNING")
    mode = InstrumentationConfig.load().mode
    if mode in {"file", "off"}:
        raise DeployRejected(
            f"the mode is {mode}: jobs of this host send nothing to read back; set WAFER_MODE to sidecar or direct"
        )
    from prometheus_client import start_http_server

    from wafermonitor.deploy import canary as canaries
    from wafermonitor.deploy.measures import Measures, export
    from wafermonitor.query.client import AsyncClient

    plan = canaries.Plan(1 if once else None, for_s, every_s, within_s)
    meter, send_the_last = export(otlp)
    measures = Measures(canaries.CHECKS, meter)
    if metrics_address is not None:
        start_http_server(metrics_address[1], metrics_address[0], measures.registry)
    report = canaries.Report()

    async def main() -> None:
        async with AsyncClient(api or f"http://{configured_addresses().query}") as client:
            await canaries.Canary(client, canaries.write, measures, report).watch(plan, show_problem)

    try:
        run_until_stopped(main())
    finally:
        send_the_last()
    summary = report.summary()
    if as_json:
        click.echo(json.dumps(summary))
    else:
        click.echo(
            f"{summary['found']} of {summary['rounds']} runs found as they were written; by id after "
            f"{summary['visible_median_s']} s (median), {summary['visible_worst_s']} s (worst)"
        )
    sys.exit(0 if report.ok else 1)


def show_problem(problem: Problem) -> None:
    """One line on stderr."""
    click.echo(f"{problem.run} {problem.check}: {problem.text}", err=True)


def send_probe() -> str:
    """A short run of the job `wafer_doctor`; returns its {run}."""
    import wafermonitor.instrumentation as wafer

    with wafer.job("wafer_doctor", trigger="manual") as run:
        return run.id


def show_finding(finding: examination.Finding) -> None:
    """One line, and a second one with cause and next step where something is wrong."""
    click.echo(f"{MARKS[finding.status]}  {finding.hop:<10} {finding.found}")
    if finding.cause:
        click.echo(f"      {'':<10} because {finding.cause}; next: {finding.next}")


def show_line(service: str, line: str) -> None:
    """A service's line with its name in front."""
    click.echo(f"{service:<9} | {line}", err=True)


def forget_line(service: str, line: str) -> None:
    """Lines are remembered for error reports anyway."""


def show_url(url: str) -> None:
    """What a person needs to go on."""
    click.echo(f"WaferMonitor is running: {url}\nCtrl-C stops everything and leaves nothing behind.")


def run_until_stopped(work: Coroutine[Any, Any, T]) -> T | None:
    """Run `work`; Ctrl-C, SIGTERM or the terminal's end cancel it and let it clean up. None when it was stopped."""
    stopping = False

    def stop(task: asyncio.Future[T]) -> None:
        nonlocal stopping
        if stopping:
            return  # once more would cut the cleaning up short
        stopping = True
        with contextlib.suppress(OSError):  # the terminal may be gone
            click.echo("stopping, so that nothing accepted is lost …", err=True)
        task.cancel()

    async def main() -> T | None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop, task)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    try:
        return asyncio.run(main())
    except DeployError as error:
        raise click.ClickException(str(error)) from None
