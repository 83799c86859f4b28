"""The score bites: who watches no watermark cries wolf in outages, who forgets tells twice, who is blind tells nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wafermonitor.alerting.simulator.accelerated import Clock, Played, Trouble, play
from wafermonitor.alerting.simulator.batches import rfc3339
from wafermonitor.alerting.simulator.fab import START_NS, Size, build
from wafermonitor.alerting.simulator.score import Score, Verdict, all_alerts, score
from wafermonitor.alerting.simulator.story import Story, tell
from wafermonitor.alerting.simulator.truth import What
from wafermonitor.runs.alerts import Alert, Severity, Subject, alert_id
from wafermonitor.runs.state import SECOND_NS, Limits
from wafermonitor.storage.memory import Storage
from wafermonitor.storage.protocol import StartsWanted
from wafermonitor.storage.watch import Outcome

pytestmark = pytest.mark.slow

SIZE = Size(sites=1, hosts=2, jobs=2, days=0.2, outages=8.0, never=0.1, late=0.05)
KINDS = {"missed": "missed", "late": "late", "feed-behind": "feed_behind"}
CALM = Trouble(renewed=0, together=0, twice=0, torn=0, away=0)


class Evaluator:
    """Tells of every run that is not there when it should be, by the clock on the wall. `memory`: what it has told."""

    def __init__(self, storage: Storage, story: Story, memory: set[str], *, blind: bool = False) -> None:
        self.storage = storage
        self.story = story
        self.memory = memory
        self.blind = blind

    async def look(self) -> None:
        async with self.storage.watch.lead() as lead:
            if lead is None:
                return
            alerts = []
            for what in (What.LATE, What.MISSED):
                alerts += [] if self.blind else await self._absent(what, lead.now_ns)
            await lead.store(Outcome(alerts=alerts))

    async def _absent(self, what: What, now_ns: int) -> list[Alert]:
        jobs = self.story.fab.jobs
        found = await self.storage.reader.starts([StartsWanted(job.site, job.name, START_NS - 60 * SECOND_NS) for job in jobs])
        starts = {job: [run.start_ns for run in runs] for job, runs in zip(jobs, found, strict=True)}
        alerts = []
        for one in self.story.occasions:
            limit_ns = one.late_ns if what is What.LATE else one.missed_ns
            if now_ns <= limit_ns or any(one.nominal_ns - 10 * SECOND_NS < at <= limit_ns for at in starts[one.job]):
                continue
            nominal = f"{one.nominal_ns / SECOND_NS:.0f}"
            if f"{what} {one.job.key} {nominal}" not in self.memory:
                self.memory.add(f"{what} {one.job.key} {nominal}")
                alerts.append(alert(what, one, now_ns))
        return alerts


def alert(what, one, now_ns):
    detail = f"{one.job.site}/{one.job.name} {rfc3339(one.nominal_ns)}"
    subject = Subject(site=one.job.site, job=one.job.name, detail=detail)
    fingerprint = f"{what} {detail} {now_ns}".encode().hex()[:200]
    return Alert(
        id=alert_id(fingerprint, now_ns),
        fingerprint=fingerprint,
        rule=what.value,
        severity=Severity.WARNING,
        subject=subject,
        opened_ns=now_ns,
        since_ns=now_ns,
        seen_ns=now_ns,
        summary="not there",
        evidence="{}",
        resolved_ns=now_ns,
    )


def played(make: Callable[[Storage, Story], Evaluator], trouble: Trouble = CALM) -> tuple[Score, Played]:
    story, clock, limits = tell(build(4, SIZE)), Clock(), Limits()
    storage = Storage(clock=clock, limits=limits)

    async def main() -> tuple[Score, Played]:
        told = await play(story, storage, clock, lambda shown: make(shown, story).look, limits=limits, trouble=trouble)
        return score(story, told, await all_alerts(storage.watch), KINDS, limits), told

    return asyncio.run(main())


def test_who_looks_at_the_wall_clock_finds_all_and_cries_wolf_in_outages():
    memory: set[str] = set()
    found, _ = played(lambda storage, story: Evaluator(storage, story, memory))
    assert found.false_in_outage[What.MISSED] > 0
    assert found.false_in_outage[What.MISSED] == found.false[What.MISSED]
    assert not found.doubled
    assert found.told[What.MISSED][Verdict.NEVER] == 0
    assert found.told[What.MISSED][Verdict.IN_TIME] > 0
    assert any("missed is false" in words for words in found.wrong)


def test_who_is_blind_finds_nothing_and_no_outage():
    found, told = played(lambda storage, story: Evaluator(storage, story, set(), blind=True))
    assert set(found.told[What.MISSED]) == {Verdict.NEVER}
    assert found.outages.keys() == {0}
    assert not found.false
    assert len(told.looked_ns) == found.ticks > 1000


def test_who_remembers_in_his_head_tells_twice_when_he_is_replaced():
    found, told = played(lambda storage, story: Evaluator(storage, story, set()), CALM._replace(renewed=0.01))
    assert told.renewed
    assert found.doubled[What.MISSED] > 0


def test_who_dies_while_he_stores_leaves_all_or_nothing():
    memory: set[str] = set()
    found, told = played(lambda storage, story: Evaluator(storage, story, memory), CALM._replace(torn=0.6))
    assert told.torn
    # What died before it was stored is forgotten by this evaluator, which believes that it has told it.
    assert found.told[What.MISSED][Verdict.NEVER] > 0
