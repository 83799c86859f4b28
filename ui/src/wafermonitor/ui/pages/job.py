"""Job: one job over time. How long its runs take, how many end well, why others do not, and whether they come when they should.

In: `Job`, the viewer's zone. Out: `Page`. Called by: pages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from wafermonitor.query.models import BandModel, ExpectationModel, ExpectedRunModel, RunModel
from wafermonitor.ui import calendar, history, watched
from wafermonitor.ui.address import Alerts, Job, Run, Runs, url
from wafermonitor.ui.clock import duration, epoch_ms
from wafermonitor.ui.pages.page import Page
from wafermonitor.ui.render import plain, render
from wafermonitor.ui.source import Source
from wafermonitor.ui.states import look_of_expected
from wafermonitor.ui.watched import JobRuns

_DAYS = {"7d": 7, "30d": 30, "90d": 90}
_ROWS_MOST = 300


class Row(NamedTuple):
    """One expected run of the chosen day, in words."""

    expected: ExpectedRunModel
    words: str
    run_url: str


async def load(source: Source, address: Job, zone: tzinfo) -> Page:
    """The page; one that says what to do where the address names no job."""
    server_time = await source.server_time()
    if not address.job:
        return _nameless(server_time)
    now = datetime.fromisoformat(server_time).astimezone(zone)
    chosen = address.day[:7] if address.day and not address.month else address.month
    month = calendar.month_of(chosen, now.date())
    found, expected, wishes, watch = await asyncio.gather(
        watched.job_runs(source, address.site, address.job, f"-{address.span}"),
        watched.expected(source, address.site, address.job, *calendar.bounds(month, zone)),
        watched.expectations(source, address.site, address.job),
        watched.glance(source),
    )
    site = _one_site(found, address)
    judged = await watched.usual(source, site, address.job, f"-{address.span}") if site else None
    alerts = (await watched.firing_of(source, watch, address.site, address.job)).alerts
    month_runs = [run for run in expected.runs if calendar.day_of(run, zone).month == month.month]
    html = render(
        "job.html",
        address=address,
        sites=sorted({run.site for run in found.runs}),
        watch=watch,
        alerts=alerts,
        alerts_url=url(Alerts(site=address.site, job=address.job)),
        runs_url=url(Runs(job=address.job, site=address.site, level="all")),
        open=[run for run in found.runs if run.state != "ended"],
        figures=figures(found),
        wishes=wishes,
        wish_words=wish_words,
        calendar_known=bool(wishes or expected.runs),
        calendar_cut=expected.more,
        watched_since=watched_since(wishes) if not month_runs else None,
        weeks=calendar.weeks(expected.runs, month, zone, now.date()),
        month=f"{month:%B} {month.year}",
        months=[f"{calendar.next_month(month, by):%Y-%m}" for by in (-1, 1)],
        tally=calendar.tally(month_runs),
        rows=[row(run) for run in expected.runs if calendar.day_of(run, zone).isoformat() == address.day][:_ROWS_MOST],
        shift=judged.shift if judged else None,
        limits=judged.bands[-1] if judged and judged.bands else None,
        **_over_time(found, now, address, zone, judged.bands if judged else []),
    )
    busy = any(run.state != "ended" for run in found.runs)
    return Page(html, f"{address.job} over time · WaferMonitor", "/runs", epoch_ms(server_time) or 0.0, busy=busy)


class Figures(NamedTuple):
    """The numbers at the top; None where nothing is known."""

    runs: int
    more: bool
    ended: int
    failed: int
    success: float | None
    usual: history.Usual | None
    last: RunModel | None


def figures(found: JobRuns) -> Figures:
    """What the runs that were read come to."""
    ended = history.ended(found.runs)
    failed = sum(map(history.failed, ended))
    success = 1 - failed / len(ended) if ended else None
    return Figures(
        len(found.runs), found.more, len(ended), failed, success, history.usual(found.runs), next(iter(found.runs), None)
    )


def row(expected: ExpectedRunModel) -> Row:
    """An expected run with when it came against when it should have."""
    late_s = expected.late_s
    words = look_of_expected(expected).help
    if late_s is not None:
        side = "after" if late_s > 0 else "before"
        words = "on the second" if abs(late_s) < 1 else f"{duration(abs(late_s))} {side} its time"
    return Row(expected, words, url(Run(run=expected.run)) if expected.run else "")


def watched_since(wishes: Sequence[ExpectationModel]) -> str | None:
    """Since when runs are expected; None where all that there is are proposals, which wait for nothing."""
    return min(
        (wish.since for wish in wishes if wish.origin != "proposed"), key=lambda since: epoch_ms(since) or 0.0, default=None
    )


def wish_words(wish: ExpectationModel) -> str:
    """What an expectation waits for, in one line."""
    spec = wish.spec
    if "cron" in spec:
        when = f"at {spec['cron']} ({spec.get('zone', 'UTC')})"
    elif "every_s" in spec:
        when = f"every {duration(_seconds(spec, 'every_s'))}"
    elif "after" in spec:
        when = f"within {duration(_seconds(spec, 'within_s'))} after {spec['after']} {spec.get('on', 'end')}s"
        when += ", same lot" if spec.get("same_lot", True) else ""
    else:
        when = plain(spec)
    limits = (("start_margin_s", "late after"), ("grace_s", "missed after another"), ("max_duration_s", "at most"))
    return ", ".join([when, *(f"{words} {duration(_seconds(spec, name))}" for name, words in limits if name in spec)])


def _seconds(spec: Mapping[str, Any], name: str) -> float | None:
    value = spec.get(name)
    return float(value) if isinstance(value, int | float) else None


def _one_site(found: JobRuns, address: Job) -> str:
    """The site, since what is usual is known for each by itself; empty where there are several."""
    sites = {run.site for run in found.runs}
    return address.site or (sites.pop() if len(sites) == 1 else "")


def _over_time(found: JobRuns, now: datetime, address: Job, zone: tzinfo, judged: Sequence[BandModel]) -> dict[str, Any]:
    end_ms = now.timestamp() * 1_000
    begin_ms = (now - timedelta(days=_DAYS[address.span])).timestamp() * 1_000
    if found.more and found.runs:
        begin_ms = max(begin_ms, epoch_ms(found.runs[-1].start) or begin_ms)
    days = history.by_day(found.runs, begin_ms, end_ms, zone)
    return {
        "chart": history.chart(found.runs, begin_ms, end_ms, zone, judged),
        "days": [(day, _day_url(address, day.date, zone)) for day in days],
        "reasons": history.reasons(found.runs),
        "groups": history.groups(found.runs, address.by),
        "since": datetime.fromtimestamp(begin_ms / 1_000, zone).isoformat(),
    }


def _day_url(address: Job, date: str, zone: tzinfo) -> str:
    begin = datetime.fromisoformat(date).replace(tzinfo=zone)
    after, before = begin.isoformat(), (begin + timedelta(days=1)).isoformat()
    return url(Runs(job=address.job, site=address.site, level="all", after=after, before=before))


def _nameless(server_time: str) -> Page:
    html = render(
        "problem.html",
        heading="No job is named",
        words="A job over time is opened from one of its runs.",
        href="/runs",
        action="All runs",
        retry=False,
    )
    return Page(html, "No job · WaferMonitor", "/runs", epoch_ms(server_time) or 0.0)
