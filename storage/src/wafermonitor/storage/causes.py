"""What stands behind an alert: its subject is looked up, and explained as what it is: a run, an expected run, a feed, a job.

In: a Reader, a Watch, a `Subject`, now in ns. Out: an `Explanation`, None where the subject says too little.
Called by: query (`/v1/alerts/{alert}/explain`), alerting (the cause of a finding).

Bounded as `cohort` is. Errors: those of the Reader and the Watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from wafermonitor.runs.absence import (
    Absence,
    Heard,
    Outage,
    explain_absence,
    explain_job,
    explain_outage,
    explain_site,
)
from wafermonitor.runs.alerts import ExpectedRun, Subject
from wafermonitor.runs.explain import Explanation, explain
from wafermonitor.runs.paths import Part
from wafermonitor.runs.records import Feed
from wafermonitor.runs.state import State
from wafermonitor.storage.cohort import RECENT, gather
from wafermonitor.storage.protocol import MAX_PAGE, Reader, RunQuery, StoredRun
from wafermonitor.storage.watch import ExpectedQuery, Watch

LAST = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND_NS = 1000


class Cause(NamedTuple):
    """The explanation, and whether something is larger than what was read."""

    explanation: Explanation
    truncated: bool = False


async def explain_subject(reader: Reader, watch: Watch | None, subject: Subject, now_ns: int) -> Cause | None:
    """Explain the narrowest thing that `subject` names and the store knows."""
    if subject.run is not None:
        stored = await reader.run(subject.run.trace_id, subject.run.span_id, subject.run.site)
        if stored is not None:
            gathered = await gather(reader, stored, now_ns)
            return Cause(explain(gathered.case), gathered.truncated)
    if subject.job is not None:
        expected = None if watch is None else await _expected(watch, subject)
        if watch is not None and expected is not None:
            return Cause(await _absence(reader, watch, expected, now_ns))
        recent = await _runs(reader, subject.site, subject.job, RECENT)
        return Cause(explain_job(subject.job, [one.run for one in recent]))
    if subject.site is None:
        return None
    return await _of_site(reader, subject.site, subject.feed, now_ns)


async def _of_site(reader: Reader, site: str, name: str | None, now_ns: int) -> Cause | None:
    feeds = await _feeds(reader, site)
    limits = await reader.limits()
    if name is None:
        heard = [Heard(app.service, app.last_seen_ns) for app in await reader.apps(site)]
        return Cause(explain_site(site, feeds, heard, now_ns, limits))
    feed = next((one for one in feeds if one.feed == name), None)
    if feed is None:
        return None
    page = await reader.runs(RunQuery(site=(site,), state=(State.UNKNOWN,), limit=MAX_PAGE))
    unknown = sum(one.run.feed == name for one in page.items)
    outage = Outage(feed, [one for one in feeds if one is not feed], unknown, now_ns, limits)
    return Cause(explain_outage(outage), page.cursor is not None)


async def _expected(watch: Watch, subject: Subject) -> ExpectedRun | None:
    """The expected run that the subject's detail names: `<expectation> <nominal time> <what it is about>`."""
    name, _, rest = subject.detail.partition(" ")
    nominal, _, about = rest.partition(" ")
    try:
        elapsed = datetime.fromisoformat(nominal) - _EPOCH
    except (ValueError, TypeError):
        return None
    from_ns = elapsed // timedelta(microseconds=1) * _MICROSECOND_NS
    query = ExpectedQuery(expectation=(name,), from_ns=from_ns, to_ns=from_ns + _MICROSECOND_NS, limit=MAX_PAGE)
    found = (await watch.expected_runs(query)).items
    return next((one for one in found if one.subject == about and one.site in {None, subject.site}), None)


async def _absence(reader: Reader, watch: Watch, expected: ExpectedRun, now_ns: int) -> Explanation:
    last = await _runs(reader, expected.site, expected.job, LAST)
    query = ExpectedQuery(expectation=(expected.expectation,), to_ns=expected.due.nominal_ns, limit=LAST)
    before = [one for one in (await watch.expected_runs(query)).items if one.subject == expected.subject]
    case = Absence(
        expected,
        now_ns,
        await reader.limits(),
        feeds=await _feeds_of(reader, last),
        last=[Part(one.run, one.state) for one in last if one.run.key != expected.run],
        before=before,
        heard=await _programs_of(reader, last),
    )
    return explain_absence(case)


async def _runs(reader: Reader, site: str | None, job: str, limit: int) -> list[StoredRun]:
    """The newest runs of a job; a site of None is every site."""
    return (await reader.runs(RunQuery(site=() if site is None else (site,), job=(job,), limit=limit))).items


async def _feeds(reader: Reader, site: str) -> list[Feed]:
    return next((list(one.feeds) for one in await reader.sites() if one.site == site), [])


async def _feeds_of(reader: Reader, runs: Sequence[StoredRun]) -> list[Feed]:
    wanted = {(one.run.site, one.run.feed) for one in runs}
    return [feed for site in await reader.sites() for feed in site.feeds if (feed.site, feed.feed) in wanted]


async def _programs_of(reader: Reader, runs: Sequence[StoredRun]) -> list[Heard]:
    wanted = {(one.run.site, one.run.service) for one in runs}
    apps = [app for site in sorted({site for site, _ in wanted}) for app in await reader.apps(site)]
    return [Heard(app.service, app.last_seen_ns) for app in apps if (app.site, app.service) in wanted]
