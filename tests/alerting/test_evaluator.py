"""One tick after the other: what should be told is told once, whoever ticks, whatever fails; what nobody can know is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.alerting.fabs import HOUR, MINUTE, SECOND, STANDARD, T0, Fab, when
from wafermonitor.alerting import looking, matching
from wafermonitor.alerting.evaluator import FAULT
from wafermonitor.alerting.expecting import After, Wish
from wafermonitor.alerting.notify import Channel, Route, Routes
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.schedule import Every
from wafermonitor.alerting.snapshot import Host
from wafermonitor.runs.alerts import Alert, Expectation, Origin, Severity
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.watch import ExpectedQuery, Outcome

HOURLY = Wish(Every(3600, T0 + HOUR), start_margin_s=300, grace_s=600)


async def states(fab: Fab, name: str = "etch") -> list[tuple[int, str, bool]]:
    """Of each expected run: minutes after T0, state, settled."""
    page = await fab.storage.watch.expected_runs(ExpectedQuery(expectation=(name,), limit=1000))
    return [((one.due.nominal_ns - T0) // MINUTE, one.state.value, one.settled) for one in reversed(page.items)]


async def test_a_run_that_never_comes_is_late_then_missed_then_over_with_the_next():
    fab = Fab()
    await fab.expect(HOURLY)
    evaluator = fab.evaluator()
    await fab.go(evaluator, 2 * HOUR)
    await fab.ran(began=2 * HOUR)
    await fab.go(evaluator, 2 * HOUR + 10 * MINUTE)
    assert when(await fab.alerts("late", "missed")) == [("late", 65, 75), ("missed", 75, 120)]
    assert await states(fab) == [(60, "missed", True), (120, "met", True), (180, "expected", False)]


async def test_whoever_ticks_and_however_often_it_is_told_once():
    fab = Fab()
    await fab.expect(HOURLY)
    while fab.at < 2 * HOUR:
        fab.at += 10 * SECOND
        await fab.beat()
        for evaluator in (fab.evaluator(), fab.evaluator()):
            assert await evaluator.tick() is not None
    assert when(await fab.alerts("late", "missed")) == [("late", 65, 75), ("missed", 75, None)]


async def test_while_another_leads_nothing_is_done():
    fab = Fab()
    async with fab.storage.watch.lead() as lead:
        assert lead is not None
        assert await fab.evaluator().tick() is None
    assert await fab.evaluator().tick() is not None


async def test_who_dies_while_storing_leaves_nothing_or_all():
    fab = Fab()
    await fab.expect(HOURLY)
    fab.at = 66 * MINUTE
    await fab.beat()
    for before in (True, False):
        dying = _Dying(fab.storage.watch, before=before)
        evaluator = fab.evaluator()
        evaluator._watch = dying
        with pytest.raises(StorageUnavailable):
            await evaluator.tick()
        assert len(await fab.alerts("late")) == (0 if before else 1)
        # It lives on, and reads what was stored.
        evaluator._watch = fab.storage.watch
        await fab.go(evaluator, fab.at + 10 * SECOND)
        assert len(await fab.alerts("late")) == 1


async def test_a_cut_link_is_one_alert_and_no_missing_job():
    fab = Fab()
    await fab.expect(HOURLY)
    evaluator = fab.evaluator()
    await fab.ran(began=-HOUR)
    await fab.go(evaluator, 50 * MINUTE)
    fab.linked.clear()
    await fab.go(evaluator, 5 * HOUR)
    assert when(await fab.alerts()) == [("feed-behind", 50, None)]
    assert {state for _, state, _ in await states(fab)} == {"unknown", "expected"}
    # The spool drains: the runs were there all the time, but for that of the third hour.
    for hour in (1, 2, 4):
        await fab.ran(began=hour * HOUR)
    fab.linked.add("h1")
    await fab.go(evaluator, 5 * HOUR + 2 * MINUTE)
    assert when(await fab.alerts("late", "missed")) == [("missed", 300, None)]
    assert [state for minute, state, _ in await states(fab) if minute < 300] == ["met", "met", "missed", "met"]


async def test_every_run_that_was_missed_in_a_long_outage_is_told_after_it():
    fab = Fab()
    fab.at = HOUR
    await fab.beat()
    await fab.expect(Wish(Every(60, T0), early_s=30, start_margin_s=10, grace_s=20))
    fab.linked.clear()
    evaluator = fab.evaluator()
    await fab.go(evaluator, 7 * HOUR, step=2 * HOUR)
    assert not await fab.alerts("missed")
    fab.linked.add("h1")
    await fab.go(evaluator, 7 * HOUR + 2 * MINUTE, step=MINUTE)
    told = {alert.subject.detail for alert in await fab.alerts("missed")}
    assert [state for minute, state, _ in await states(fab) if minute < 420] == ["missed"] * 359
    assert len(told) >= 359


async def test_a_job_is_judged_by_the_feeds_it_runs_on():
    fab = Fab()
    fab.linked = {"h1", "h2"}
    for job, feed in (("etch", "h1"), ("clean", "h2")):
        await fab.expect(HOURLY, job)
        await fab.ran(job, began=-HOUR, feed=feed)
    evaluator = fab.evaluator()
    await fab.go(evaluator, 50 * MINUTE)
    fab.linked = {"h2"}
    await fab.go(evaluator, 70 * MINUTE)
    assert [(one.rule, one.subject.job) for one in await fab.alerts("late", "missed")] == [("late", "clean")]


async def test_a_job_that_never_ran_waits_for_every_feed_of_its_site():
    fab = Fab()
    await fab.expect(HOURLY)
    evaluator = fab.evaluator()
    await fab.go(evaluator, 50 * MINUTE)
    fab.linked.clear()
    await fab.go(evaluator, 2 * HOUR)
    assert not await fab.alerts("late", "missed")


async def test_after_an_absence_of_the_evaluator_everything_is_made_up_for():
    fab = Fab()
    await fab.expect(HOURLY)
    await fab.go(fab.evaluator(), 10 * MINUTE)
    for hour in (1, 3):
        fab.at = hour * HOUR + MINUTE
        await fab.ran(began=hour * HOUR)
    fab.at = 5 * HOUR
    await fab.go(fab.evaluator(), 5 * HOUR + 20 * SECOND)
    missed = await fab.alerts("missed")
    assert sorted(one.subject.detail for one in missed) == ["etch 2026-10-24T20:00:00Z", "etch 2026-10-24T22:00:00Z"]
    assert len(await fab.alerts("evaluator")) == 1


async def test_what_is_too_much_for_one_tick_is_made_up_for_by_the_next_ones(monkeypatch):
    monkeypatch.setattr(matching, "MOST_MADE", 4)
    fab = Fab()
    for job in ("clean", "etch", "measure"):
        await fab.expect(HOURLY, job)
    await fab.go(fab.evaluator(), 10 * MINUTE)
    fab.at = 5 * HOUR
    await fab.beat()
    evaluator = fab.evaluator()
    first = await evaluator.tick()
    assert first is not None
    # Each had made its first one before.
    assert Counter(one.subject.job for one in first.opened if one.rule == "missed") == {"clean": 4, "etch": 1, "measure": 1}
    await fab.go(evaluator, 5 * HOUR + 40 * SECOND)
    missed = Counter(one.subject.job for one in await fab.alerts("missed"))
    assert missed == {"clean": 4, "etch": 4, "measure": 4}


async def test_a_job_that_announces_nothing_is_given_the_time_that_its_runs_take():
    fab = Fab()
    quiet = {"heartbeat_interval_s": None, "took": 20 * MINUTE}
    await fab.expect(HOURLY)
    fab.at = -40 * MINUTE
    await fab.ran(began=-HOUR, **quiet)
    fab.at = 0
    evaluator = fab.evaluator()
    await fab.go(evaluator, 80 * MINUTE)
    await fab.ran(began=HOUR, **quiet)
    await fab.go(evaluator, 150 * MINUTE)
    assert not await fab.alerts("late", "missed")
    await fab.go(evaluator, 3 * HOUR)
    assert [rule for rule, _, _ in when(await fab.alerts("late", "missed"))] == ["late", "missed"]


async def test_a_run_after_another_on_the_same_lot_is_waited_for():
    fab = Fab()
    await fab.expect(Wish(After("etch", 1800), grace_s=600), "measure")
    evaluator = fab.evaluator()
    await fab.go(evaluator, 10 * MINUTE)
    first = await fab.ran("etch", lot_ids=("L1",), end_rank=1)
    await fab.ran("etch", lot_ids=("L2",), result="failure")
    await fab.go(evaluator, 11 * MINUTE)
    await fab.ran("etch", lot_ids=("L3",))
    # The span of the first run follows its end event, and its end is a little later.
    await fab.write(
        int.from_bytes(first.span_id), {"start_ns": T0 + 9 * MINUTE, "end_ns": T0 + 10 * MINUTE + SECOND, "job": "etch",
        "end_rank": 2, "result": "success", "feed": "h1", "lot_ids": ("L1",), "received_ns": fab.now()},
    )  # fmt: skip
    await fab.go(evaluator, 20 * MINUTE)
    await fab.ran("measure", lot_ids=("L1", "L9"))
    await fab.go(evaluator, HOUR)
    page = await fab.storage.watch.expected_runs(ExpectedQuery(expectation=("measure",)))
    assert sorted((one.subject, one.state.value) for one in page.items) == [("L1", "met"), ("L3", "missed")]
    assert when(await fab.alerts("late", "missed")) == [("late", 41, 51), ("missed", 51, None)]


async def test_without_lots_each_run_calls_for_one_however_close_they_end():
    fab = Fab()
    await fab.expect(Wish(After("etch", 600, same_lot=False)), "measure")
    evaluator = fab.evaluator()
    await fab.go(evaluator, MINUTE)
    for took in (30 * SECOND, 20 * SECOND):
        await fab.ran("etch", began=10 * SECOND, took=took)
    await fab.go(evaluator, 2 * MINUTE)
    await fab.ran("measure", began=70 * SECOND)
    await fab.go(evaluator, 15 * MINUTE)
    assert [state for _, state, _ in await states(fab, "measure")] == ["late", "met"]


async def test_a_run_that_ended_while_changes_were_lost_calls_all_the_same():
    fab = Fab()
    await fab.expect(Wish(After("etch", 600)), "measure")
    await fab.go(fab.evaluator(), MINUTE)
    await fab.ran("etch", lot_ids=("L1",))
    await fab.go(fab.evaluator(), 2 * MINUTE)
    async with fab.storage.watch.lead() as lead:
        await lead.store(Outcome(notes={"changes": None}))
    await fab.ran("etch", lot_ids=("L2",))
    await fab.go(fab.evaluator(), 15 * MINUTE)
    page = await fab.storage.watch.expected_runs(ExpectedQuery(expectation=("measure",)))
    assert sorted((one.subject, one.state.value) for one in page.items) == [("L1", "late"), ("L2", "late")]


async def test_what_was_put_off_is_looked_at_by_the_next_ticks(monkeypatch):
    monkeypatch.setattr("wafermonitor.alerting.matching._MOST_LOOKED", 2)
    fab = Fab()
    for job in "abcde":
        await fab.expect(HOURLY, job)
    evaluator = fab.evaluator()
    await fab.go(evaluator, HOUR)
    for job in "abcde":
        await fab.ran(job, began=HOUR, took=0)
    met = []
    for _ in range(4):
        await fab.go(evaluator, fab.at + 10 * SECOND)
        page = await fab.storage.watch.expected_runs(ExpectedQuery(state=(ExpectedState.MET,)))
        met.append(len(page.items))
    assert met == [2, 4, 5, 5]
    await fab.go(evaluator, HOUR + 10 * MINUTE)
    for job in "abcde":
        assert (60, "met", True) in await states(fab, job)
    assert not await fab.alerts("late")


async def test_what_cannot_be_judged_stops_nothing_else_and_is_told():
    fab = Fab()
    await fab.expect(HOURLY)
    await fab.storage.watch.save(Expectation("odd", "f1", "odd", Origin.API, '{"cron":"soon"}', T0, T0, T0))
    broken = Rule("broken", "no_such_kind", Severity.WARNING)
    seldom = Rule("seldom", "no_such_kind", Severity.WARNING, every_s=600)
    evaluator = fab.evaluator(STANDARD._replace(rules=(broken, seldom, *STANDARD.rules)))
    ticks = await fab.go(evaluator, 66 * MINUTE)
    assert set(ticks[-1].faults) >= {"rule broken", "expectation odd"}
    assert [rule for rule, _, _ in when(await fab.alerts("late"))] == ["late"]
    faults = await fab.alerts(FAULT.name)
    assert sorted(one.subject.detail for one in faults) == ["expectation odd", "rule broken", "rule seldom"]
    await fab.storage.watch.forget("odd")
    evaluator.follow(STANDARD)
    await fab.go(evaluator, 67 * MINUTE)
    assert all(one.resolved_ns is not None for one in await fab.alerts(FAULT.name))


async def test_a_rule_that_fails_keeps_its_alerts_open():
    fab = Fab()
    await fab.expect(HOURLY)
    await fab.go(fab.evaluator(), 66 * MINUTE)
    (late,) = await fab.alerts("late")
    failing = tuple(one._replace(kind="no_such_kind") if one.name == "late" else one for one in STANDARD.rules)
    await fab.go(fab.evaluator(STANDARD._replace(rules=failing)), 67 * MINUTE)
    assert (await fab.alerts("late"))[0].resolved_ns is None
    await fab.go(fab.evaluator(), 68 * MINUTE)
    assert [one.id for one in await fab.alerts("late")] == [late.id]


async def test_while_the_runs_store_is_down_only_that_is_told():
    fab = Fab()
    await fab.expect(HOURLY)
    evaluator = fab.evaluator()
    await fab.go(evaluator, 66 * MINUTE)
    reader = fab.storage.reader
    down = _Down()
    evaluator._reader = down
    await fab.go(evaluator, 80 * MINUTE)
    evaluator._reader = reader
    assert when(await fab.alerts()) == [("late", 65, None), ("database", 66, None)]
    await fab.go(evaluator, 81 * MINUTE)
    assert when(await fab.alerts()) == [("late", 65, 80), ("database", 66, 80), ("missed", 80, None)]


async def test_a_disk_that_cannot_be_looked_at_is_told_of():
    fab = Fab()
    evaluator = fab.evaluator(host=lambda: Host(unread=(("/data", "its disk cannot be looked at: gone"),)))
    await fab.go(evaluator, MINUTE, step=MINUTE)
    (fault,) = await fab.alerts(FAULT.name)
    assert fault.summary == "The evaluator cannot follow /data: its disk cannot be looked at: gone"


async def test_where_not_all_open_runs_can_be_read_that_is_told_and_no_alert_is_over_by_it(monkeypatch):
    fab = Fab()
    for job in ("old", "older"):
        await fab.runs(job)
    evaluator = fab.evaluator()
    await fab.go(evaluator, 10 * MINUTE, step=MINUTE)
    lost = await fab.alerts("lost")
    assert sorted(one.subject.job or "" for one in lost) == ["old", "older"]
    monkeypatch.setattr(looking, "MOST_OPEN_PAGES", 1)
    monkeypatch.setattr(looking, "_PAGE", 2)
    for job in ("new", "newer"):
        await fab.runs(job)
    (cut,) = await fab.go(evaluator, 11 * MINUTE, step=MINUTE)
    assert cut.faults == {"open runs": "more than 2 are open; the others are not judged, and their alerts stay"}
    assert not cut.resolved
    assert [one.subject.detail for one in cut.opened if one.rule == FAULT.name] == ["open runs"]
    monkeypatch.undo()
    (whole,) = await fab.go(evaluator, 12 * MINUTE, step=MINUTE)
    assert not whole.faults
    assert [one.rule for one in whole.resolved] == [FAULT.name]


async def test_a_store_that_was_put_back_is_looked_at_anew():
    fab = Fab()
    await fab.expect(HOURLY)
    await fab.go(fab.evaluator(), 10 * MINUTE)
    async with fab.storage.watch.lead() as lead:
        await lead.store(Outcome(notes={"changes": f"{'0' * 32}.7"}))
    await fab.go(fab.evaluator(), 66 * MINUTE)
    assert len(await fab.alerts("late")) == 1


async def test_messages_are_stored_with_the_alerts_and_routes_that_fail_stop_none():
    routes = Routes({"ops": Channel("ops", "json://127.0.0.1")}, (Route("all", ("ops",)),))
    fab = Fab()
    await fab.expect(HOURLY)
    broken = Routes({}, (Route("all", ("ops",), group_by=("no such thing",)),))
    await fab.go(fab.evaluator(STANDARD._replace(routes=broken)), 66 * MINUTE)
    (late,) = await fab.alerts("late")
    assert [one.subject.detail for one in await fab.alerts(FAULT.name)] == ["routes"]
    await fab.go(fab.evaluator(STANDARD._replace(routes=routes)), 67 * MINUTE)
    (message,) = await fab.storage.watch.alert_deliveries(late.id)
    assert message.channel == "ops"


async def test_a_cause_is_looked_for_once_and_may_fail():
    asked: list[str] = []

    async def explain(alert: Alert) -> str | None:
        asked.append(alert.rule)
        if alert.rule == "missed":
            raise ValueError("no idea")
        return "the scheduler stands still"

    fab = Fab()
    await fab.expect(HOURLY)
    await fab.go(fab.evaluator(explain=explain), 80 * MINUTE)
    assert [(one.rule, one.cause) for one in await fab.alerts()] == [
        ("late", "the scheduler stands still"),
        ("missed", None),
    ]
    assert asked == ["late", "missed"]


async def test_a_run_that_ended_is_told_of_once_though_its_span_follows_its_end_event():
    fab = Fab()
    evaluator = fab.evaluator()
    await fab.go(evaluator, MINUTE)
    bad = {"result": "failure", "error_type": "IOError"}
    key = await fab.ran(end_rank=1, **bad)
    await fab.go(evaluator, 2 * MINUTE)
    await fab.ran()
    await fab.go(evaluator, 3 * MINUTE)
    await fab.write(
        int.from_bytes(key.span_id), {"start_ns": T0, "end_ns": T0 + MINUTE, "job": "etch", "end_rank": 2, "feed": "h1",
        "received_ns": fab.now(), **bad},
    )  # fmt: skip
    await fab.go(evaluator, 5 * MINUTE)
    assert when(await fab.alerts("failed")) == [("failed", 1, 2)]


class _Down:
    """A reader of a store that does not answer."""

    def __getattr__(self, name: str) -> object:
        async def fail(*_args: object, **_kwargs: object) -> object:
            raise StorageUnavailable("the database does not answer")

        return fail


class _Dying:
    """A watch under which the evaluator dies when it stores."""

    def __init__(self, watch: object, *, before: bool) -> None:
        self._watch = watch
        self._before = before

    def __getattr__(self, name: str) -> object:
        return getattr(self._watch, name)

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[object]:
        async with self._watch.lead() as lead:  # type: ignore[attr-defined]
            yield _DyingLead(lead, before=self._before)


class _DyingLead:
    def __init__(self, lead: object, *, before: bool) -> None:
        self._lead = lead
        self._before = before

    def __getattr__(self, name: str) -> object:
        return getattr(self._lead, name)

    async def store(self, outcome: Outcome) -> None:
        if not self._before:
            await self._lead.store(outcome)  # type: ignore[attr-defined]
        raise StorageUnavailable("the connection is gone")


async def test_a_run_that_ends_while_a_tick_reads_is_told_of_once():
    fab = Fab()
    evaluator = fab.evaluator()
    await fab.runs(expected_duration_s=60.0, last_sign_ns=T0 + 2 * MINUTE)
    await fab.go(evaluator, 2 * MINUTE)
    evaluator._reader = _Ending(fab)
    await fab.go(evaluator, 4 * MINUTE)
    assert when(await fab.alerts()) == [("overdue", 1, 2)]


class _Ending:
    """A reader; the run 1 ends after the first that a tick reads of runs, before the second."""

    def __init__(self, fab: Fab) -> None:
        self._fab = fab
        self._ended = False

    def __getattr__(self, name: str) -> object:
        asked = getattr(self._fab.storage.reader, name)
        if self._ended or name not in {"runs", "changes"}:
            return asked

        async def asking(*arguments: object) -> object:
            answer = await asked(*arguments)
            if not self._ended:
                self._ended = True
                now = self._fab.now()
                ended = {"end_ns": now, "end_rank": 2, "result": "success", "last_sign_ns": now, "received_ns": now}
                await self._fab.write(1, ended)
            return answer

        return asking
