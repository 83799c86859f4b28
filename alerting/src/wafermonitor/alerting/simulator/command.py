"""`wafer simulate`: play a fab of so many sites to an OTLP endpoint.

In: flags, where the endpoint is (`WAFER_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT`). Out: OTLP; a progress bar on a terminal,
a summary, or JSON with `--json`. Called by: people, demonstrations, load tests.
"""

from __future__ import annotations

import json
import math
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from threading import Event

import click

INTERRUPTED = 130
FULL = 1000
"""Steps of the progress bar."""


@click.command(short_help="Play a fab of several sites by OTLP: for demonstrations and load.")
@click.option("--sites", type=click.IntRange(1, 1000), default=3, show_default=True)
@click.option("--hosts", type=click.IntRange(1, 1000), default=2, show_default=True, help="of each site, one feed each")
@click.option("--jobs", type=click.IntRange(1, 100), default=5, show_default=True, help="of each host")
@click.option(
    "--hours", type=click.FloatRange(0.01, 24 * 31), default=4.0, show_default=True, help="how much of the fab's time to play"
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 10_000),
    default=60.0,
    show_default=True,
    help="how many times as fast as life: 60 plays an hour in a minute",
)
@click.option("--seed", type=click.IntRange(0), default=None, help="the same seed plays the same fab; none: another each time")
@click.option("--outages/--no-outages", default=True, show_default=True, help="whether links and hosts fail")
@click.option("--endpoint", default=None, help="OTLP/HTTP base URL; none: as jobs on this host are set up")
@click.option("--json", "as_json", is_flag=True, help="print what was sent as one JSON object")
def simulate(
    *,
    sites: int,
    hosts: int,
    jobs: int,
    hours: float,
    rate: float,
    seed: int | None,
    outages: bool,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Play a fab: jobs that come by schedule and by lot, fail, hang, crash or never start, on hosts whose links fail.

    Times are those of now, so screens show it live: at --rate 60 a job of ten minutes takes ten seconds. Ctrl-C ends it and
    what runs in it. Exit codes: 0 played, 1 the endpoint takes nothing, 130 interrupted.
    """
    from wafermonitor.alerting.errors import AlertingError
    from wafermonitor.alerting.simulator.fab import Size, build
    from wafermonitor.alerting.simulator.live import Teller
    from wafermonitor.alerting.simulator.story import tell
    from wafermonitor.instrumentation.config import Config
    from wafermonitor.instrumentation.endpoint import Endpoint

    seed = secrets.randbelow(1_000_000) if seed is None else seed
    size = Size(sites=sites, hosts=hosts, jobs=jobs, days=hours / 24, outages=4.0 if outages else 0.0)
    target = Endpoint.of(Config.load(), url=endpoint)
    teller = Teller(tell(build(seed, size), salt=secrets.token_hex(4)), target, rate)
    minutes = hours * 60 / rate
    if not as_json:
        click.echo(
            f"seed {seed}: {sites * hosts * jobs} jobs on {sites * hosts} hosts, {minutes:.1f} min, to {target.urls['logs']}",
            err=True,
        )
    try:
        with _stopped_by_signals(teller.stop), _bar(as_json) as told:
            sent = teller.tell(told)
    except AlertingError as error:
        raise click.ClickException(str(error)) from None
    finally:
        target.close()
    if as_json:
        click.echo(json.dumps({"seed": seed, **asdict(sent)}))
    else:
        click.echo(
            f"{sent.runs} runs: {sent.spans} spans, {sent.events} events, {sent.beats} beats in {sent.requests} requests "
            f"({sent.bytes / 1e6:.1f} MB), {sent.retries} sent again, {len(sent.rejected)} rejected, {sent.cancelled} cancelled"
        )
        if sent.behind_s > 1:
            click.echo(
                f"up to {math.ceil(sent.behind_s)} s behind: the endpoint or this machine is slower than --rate {rate:g}",
                err=True,
            )
    if sent.stopped:
        sys.exit(INTERRUPTED)
    if sent.rejected:
        raise click.ClickException(f"rejected: {sent.rejected[0]}")


@contextmanager
def _bar(as_json: bool) -> Iterator[Callable[[float], None]]:
    """What to call with how much is told; a bar on a terminal."""
    if as_json or not sys.stderr.isatty():
        yield lambda _ratio: None
        return
    with click.progressbar(length=FULL, label="playing", file=sys.stderr) as bar:
        yield lambda ratio: bar.update(max(0, min(FULL, round(ratio * FULL)) - bar.pos))


@contextmanager
def _stopped_by_signals(stop: Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the story; a second one is heard as usual."""
    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, known[signal.Signals(number)])

    for number in known:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)
