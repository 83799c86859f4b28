"""What the pages ask about alerts and expected runs, shared between viewers as everything of `Source`; and what viewers change.

In: a `Source`. Out: models of the read API; UiUnavailable, NotKept where the API keeps no alerts. Called by: pages, acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wafermonitor.query.models import (
    AlertDetail,
    AlertModel,
    AlertPage,
    ExpectationModel,
    ExpectedRunModel,
    ExplainModel,
    PageModel,
    RunModel,
    SilenceModel,
    UsualModel,
)
from wafermonitor.ui.clock import epoch_ms
from wafermonitor.ui.errors import NotKept, UiRejected, UiUnavailable
from wafermonitor.ui.source import SLOW_KEEP_S, Source
from wafermonitor.ui.states import look

FIRING_MOST = 500
NOT_THERE_MOST = 200
EXPECTED_PAGES = 5
JOB_RUNS_MOST = 1_000
_API_PAGE = 1_000
_LOUDNESS = {"critical": 0, "warning": 1, "info": 2}
_LOUDER = ("critical", "warning")


class Watch(NamedTuple):
    """What fires, the most urgent first. `trouble` says why nothing is known; `kept` False: no alerting is set up here.

    `more`: there are more alerts than were read.
    """

    alerts: Sequence[AlertModel] = ()
    more: bool = False
    evaluated_at: str | None = None
    evaluating: bool = False
    server_time: str | None = None
    kept: bool = True
    trouble: str = ""

    @property
    def unattended(self) -> list[AlertModel]:
        """Those that nobody looks after and nobody has silenced."""
        return [alert for alert in self.alerts if not attended(alert)]

    def of_run(self, run: RunModel) -> list[AlertModel]:
        """Those about this run, or about its job."""
        return [
            alert
            for alert in self.alerts
            if alert.run == run.run
            or (alert.run is None and run.job is not None and alert.job == run.job and alert.site in {None, run.site})
        ]

    def of_expected(self, expected: ExpectedRunModel) -> list[AlertModel]:
        """Those about this expected run: their detail is its expectation, its nominal time, and its subject if any."""
        return [
            alert
            for alert in self.alerts
            if (alert.job, alert.site) == (expected.job, expected.site) and _is_about(alert.detail, expected)
        ]


class JobRuns(NamedTuple):
    """Runs of a job, the newest first; `more`: there are older ones in the time asked for."""

    runs: list[RunModel]
    more: bool
    server_time: str


class NotThere(NamedTuple):
    """Expected runs that are late or missed, and how many may be; `more`, `more_unknown`: there are others than were read."""

    runs: Sequence[ExpectedRunModel] = ()
    more: bool = False
    unknown: int = 0
    more_unknown: bool = False


class ExpectedRuns(NamedTuple):
    """Expected runs in order of their time; `more`: not all were read."""

    runs: list[ExpectedRunModel]
    more: bool


def attended(alert: AlertModel) -> bool:
    """Somebody looks after it, or has silenced it."""
    return alert.acknowledged is not None or alert.silenced_until is not None


def _is_about(detail: str, expected: ExpectedRunModel) -> bool:
    name, _, rest = detail.partition(f"{expected.expectation} ")
    nominal, _, subject = rest.partition(" ")
    try:
        return not name and subject == expected.subject and epoch_ms(nominal) == epoch_ms(expected.nominal)
    except ValueError:  # another rule's detail
        return False


def urgency(alert: AlertModel) -> tuple[bool, int, float]:
    """Sorts what fires: nobody's first, the loudest of those first, and what has been so the longest first of those."""
    return attended(alert), _LOUDNESS.get(alert.severity, 0), epoch_ms(alert.since) or 0.0


async def firing(source: Source) -> Watch:
    """What fires now; a Watch that is not `kept` where the API knows no alerts."""
    try:
        page = await _open(source)
    except NotKept as error:
        return Watch(kept=False, trouble=str(error))
    found = {alert.id: alert for alert in page.items}
    if page.cursor is not None:  # a flood of new ones must not hide an old one that is louder
        for louder in await asyncio.gather(*(_open(source, severity=word) for word in _LOUDER)):
            found |= {alert.id: alert for alert in louder.items}
    alerts = sorted(found.values(), key=urgency)
    return Watch(alerts, page.cursor is not None, page.evaluated_at, page.evaluating, page.server_time)


async def firing_of(source: Source, watch: Watch, site: str, job: str) -> Watch:
    """The same of one site or job alone, asked for anew where `watch` is cut; alerts of a job that name no site are of each."""
    alerts, more = watch.alerts, False
    if watch.more:
        page = await _open(source, job=job) if job else await _open(source, site=site)
        alerts, more = sorted(page.items, key=urgency), page.cursor is not None
    of_site = {site, None} if job else {site}
    chosen = [alert for alert in alerts if (not site or alert.site in of_site) and (not job or alert.job == job)]
    return watch._replace(alerts=chosen, more=more)


async def _open(source: Source, **filters: str) -> AlertPage:
    key = ("alerts", "open", *filters.items())
    return await source.ask(key, lambda: source.client.alerts(open=True, limit=FIRING_MOST, **filters))


async def glance(source: Source) -> Watch:
    """The same for pages about something else, which are shown even when alerts cannot be read."""
    try:
        return await firing(source)
    except (UiUnavailable, UiRejected) as error:
        return Watch(trouble=str(error))


async def history(source: Source, question: Mapping[str, list[str]], cursor: str, limit: int) -> AlertPage:
    """One page of alerts, the newest first."""
    filters = {"from_" if name == "from" else name: value for name, value in question.items()}
    key = (cursor, limit, *((name, tuple(value)) for name, value in question.items()))
    return await source.ask(("alerts", key), lambda: source.client.alerts(**filters, cursor=cursor or None, limit=limit))


async def alert(source: Source, alert_id: str) -> AlertDetail | None:
    """One alert with the messages about it; None when there is none of this id."""
    try:
        return await source.ask(("alert", alert_id), lambda: source.client.alert(alert_id))
    except NotKept:
        return None


async def explanation(source: Source, alert_id: str) -> ExplainModel | None:
    """What stands behind an alert; None where nothing can be said."""
    try:
        return await source.ask(
            ("explain-alert", alert_id), lambda: source.client.explain_alert(alert_id), keep_s=SLOW_KEEP_S, lasting=True
        )
    except (UiRejected, UiUnavailable):
        return None


async def explanation_of_run(source: Source, run: RunModel) -> ExplainModel | None:
    """Why a run failed, is late or is silent; None for one that is as it should be, or where nothing can be said."""
    if run.job is None or not look(run).failing:
        return None
    key = ("explain", run.run, run.state)
    try:
        return await source.ask(key, lambda: source.client.explain(run.run), keep_s=SLOW_KEEP_S, lasting=True)
    except (UiRejected, UiUnavailable):
        return None


async def silences(source: Source) -> list[SilenceModel]:
    """Those in force, the first to end first; none where the API keeps none."""
    try:
        found = await source.ask(("silences",), source.client.silences)
    except NotKept:
        return []
    return sorted(found, key=lambda silence: epoch_ms(silence.until) or 0.0)


async def not_there(source: Source, site: str = "") -> NotThere:
    """Of the last day; nothing where the API knows none, or cannot say at present."""

    async def read() -> NotThere:
        missing, unknown = [
            await source.client.expected_runs(state=states, site=site or None, from_="-24h", limit=NOT_THERE_MOST)
            for states in (("late", "missed"), ("unknown",))
        ]
        return NotThere(missing.items, missing.cursor is not None, len(unknown.items), unknown.cursor is not None)

    try:
        return await source.ask(("not-there", site), read)
    except (UiRejected, UiUnavailable):
        return NotThere()


async def expected(source: Source, site: str, job: str, begin: str, end: str) -> ExpectedRuns:
    """The expected runs of a job in a stretch of time (RFC 3339), in order; none where the API knows none."""

    async def read() -> ExpectedRuns:
        runs: list[ExpectedRunModel] = []
        cursor: str | None = None
        for _ in range(EXPECTED_PAGES):
            page: PageModel[ExpectedRunModel] = await source.client.expected_runs(
                site=site or None, job=job, from_=begin, to=end, cursor=cursor, limit=_API_PAGE
            )
            runs += page.items
            cursor = page.cursor
            if cursor is None:
                break
        return ExpectedRuns(runs[::-1], cursor is not None)

    try:
        return await source.ask(("expected", site, job, begin, end), read)
    except NotKept:
        return ExpectedRuns([], more=False)


async def expectations(source: Source, site: str, job: str) -> list[ExpectationModel]:
    """What is expected of a job, proposals among it; none where the API knows none."""
    try:
        found = await source.ask(("expectations",), source.client.expectations)
    except NotKept:
        return []
    return [one for one in found if one.job == job and (not site or one.site in {None, site})]


async def usual(source: Source, site: str, job: str, begin: str) -> UsualModel | None:
    """What is usual for a job at a site since `begin`, by which it is judged; None where the API cannot say. Kept for 30 s."""
    try:
        return await source.ask(
            ("usual", site, job, begin),
            lambda: source.client.usual(site, job, from_=begin),
            keep_s=SLOW_KEEP_S,
            lasting=True,
        )
    except (UiRejected, UiUnavailable):
        return None


async def job_runs(source: Source, site: str, job: str, begin: str) -> JobRuns:
    """The newest runs of a job since `begin`, subjobs of that name too. Kept for 30 s: it is a long list."""
    filters = {"job": job, "site": site or None, "subjobs": "any", "from_": begin, "limit": JOB_RUNS_MOST}
    page = await source.ask(
        ("job-runs", site, job, begin), lambda: source.client.jobs(**filters), keep_s=SLOW_KEEP_S, lasting=True
    )
    return JobRuns(page.items, page.cursor is not None, page.server_time)
