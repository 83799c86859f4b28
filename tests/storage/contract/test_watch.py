"""What alerting keeps: both engines that keep it must do the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.storage.contract.alerts import alert, delivery, expectation, expected, silence
from tests.storage.contract.builders import DAY, HOUR, NOW, SECOND, SITE, span_id, trace_id
from tests.storage.engines import Engine, in_memory, on_postgres
from wafermonitor.runs.alerts import DeliveryState, ExpectedRun, Origin, Severity, Subject
from wafermonitor.runs.expectations import Expected, ExpectedState
from wafermonitor.runs.records import RunKey
from wafermonitor.storage.errors import CursorRejected, StorageRejected, StorageUnavailable
from wafermonitor.storage.watch import AlertQuery, ExpectedQuery, Outcome

RUN = RunKey(SITE, trace_id(1), span_id(1))


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Each engine that keeps it, empty and new."""
    if request.param == "memory":
        yield in_memory()
        return
    postgres = request.getfixturevalue("postgres")
    dsn = postgres.migrated()
    async with on_postgres(dsn) as store:
        yield store
    postgres.drop(dsn)


async def tick(engine: Engine, **changes: object) -> None:
    async with engine.watch.lead() as lead:
        await lead.expectations()
        await lead.store(Outcome(**changes))


async def alerts(engine: Engine, **wanted: object) -> list[str]:
    return [one.id[-2:] for one in (await engine.watch.alerts(AlertQuery(**wanted))).items]


async def test_what_a_tick_stores_comes_back_whole(engine):
    await engine.watch.save(expectation())
    met = expected(1, subject="L-1", state=ExpectedState.MET, start_ns=NOW, run=RUN, settled=True, changed_ns=NOW)
    open_one = alert(1, subject=Subject(SITE, "lot_yield", RUN, "host-1", "disk /"), cause="why", runbook="r", owner="ann")
    done = alert(2, resolved_ns=NOW, acknowledged_ns=NOW, acknowledged_by="bob", note="seen", evidence='{"n": 1}')
    sent = delivery(2, state=DeliveryState.SENT, attempts=3, answer="250 ok", settled_ns=NOW)
    await tick(
        engine,
        expected=[met, expected(2)],
        alerts=[open_one, done],
        deliveries=[delivery(1, alerts=("a", "b")), sent],
        watched={"nightly": NOW + 5, "gone": NOW},
        notes={"token": "x", "other": "y"},
    )
    await tick(engine, notes={"other": None, "token": "z"})
    await engine.watch.silence(silence())
    async with engine.watch.lead() as lead:
        assert lead.now_ns == NOW
        assert await lead.expectations() == [expectation(watched_ns=NOW + 5)]
        assert await lead.unsettled() == [expected(2)]
        assert await lead.open_alerts() == [open_one]
        assert await lead.silences() == [silence()]
        assert await lead.deliveries(NOW + DAY) == [delivery(1, alerts=("a", "b"))]
        assert await lead.deliveries(NOW) == [delivery(1, alerts=("a", "b")), sent]
        assert await lead.notes() == {"token": "z"}
    assert (await engine.watch.expected_runs(ExpectedQuery())).items == [expected(2), met]
    assert await engine.watch.alert(done.id) == done
    assert await engine.watch.alert("nonsense") is None
    assert await engine.watch.ticked_ns() == NOW


async def test_before_the_first_tick_nobody_has_evaluated(engine):
    assert await engine.watch.ticked_ns() is None


async def test_one_leads_at_a_time_and_the_next_when_the_first_is_done(engine):
    async with engine.watch.lead() as lead:
        assert lead is not None
        async with engine.watch.lead() as another:
            assert another is None
    async with engine.watch.lead() as lead:
        assert lead is not None


async def test_who_failed_in_the_middle_of_a_tick_leads_no_more_and_has_stored_nothing(engine):
    with pytest.raises(ValueError, match="mine"):
        async with engine.watch.lead() as first:
            raise ValueError("mine")
    async with engine.watch.lead() as second:
        assert second is not None
    for late in (first, second):
        with pytest.raises(StorageUnavailable):
            await late.store(Outcome(alerts=[alert()]))
    assert await alerts(engine) == []


async def test_a_second_alert_of_a_fingerprint_is_left_out_by_name_and_the_rest_is_stored(engine, caplog):
    await tick(engine, alerts=[alert(1)])
    await tick(engine, expected=[expected()], notes={"a": "b"}, alerts=[alert(2), alert(1, id="f" * 32), alert(3)])
    async with engine.watch.lead() as lead:
        assert [await lead.unsettled(), await lead.notes()] == [[expected()], {"a": "b"}]
        assert await lead.open_alerts() == [alert(1), alert(2), alert(3)]
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == [
        f"left out of a tick, because it cannot be stored: the alert {'f' * 32!r} of the rule 'missed': 'it did not come'"
    ]


BAD = "a\0b\ud800c"


async def test_text_that_no_column_holds_is_cleaned(engine):
    strange = alert(
        1, rule=BAD, subject=Subject(BAD, BAD, RUN._replace(site=BAD), BAD, BAD), summary=BAD, cause=BAD, runbook=BAD, owner=BAD
    )
    await tick(
        engine,
        expected=[expected(1, subject=BAD), expected(1, subject="abc", settled=True), expected(2, site=BAD, job=BAD)],
        alerts=[strange, alert(2)],
        deliveries=[delivery(1, group=BAD, channel=BAD, answer=BAD, alerts=(BAD,))],
        watched={BAD: NOW},
        notes={BAD: BAD, f"{BAD}2": None},
    )
    clean = strange._replace(
        rule="abc",
        subject=Subject("abc", "abc", RUN._replace(site="abc"), "abc", "abc"),
        **dict.fromkeys(("summary", "cause", "runbook", "owner"), "abc"),
    )
    async with engine.watch.lead() as lead:
        assert await lead.open_alerts() == [clean, alert(2)]
        assert await lead.unsettled() == [expected(2, site="abc", job="abc")]
        assert await lead.deliveries(0) == [delivery(1, group="abc", channel="abc", answer="abc", alerts=("abc",))]
        assert await lead.notes() == {"abc": "abc"}
    assert (await engine.watch.expected_runs(ExpectedQuery(expectation=("nightly",)))).items[1].settled


@pytest.mark.parametrize(
    ("evidence", "kept"),
    [
        ('{"n": 1.50, "s": "\\ud83d\\ude00"}', '{"n": 1.50, "s": "\\ud83d\\ude00"}'),
        ('{"z": NaN, "least": [-Infinity, 1e999, 2]}', '{"z": null, "least": [null, null, 2]}'),
        ('{"a\\u0000b": "\\ud800\\u0000ü"}', '{"ab": "ü"}'),
        ('{"a": "\0\udfff"}', '{"a": ""}'),
        ("it broke\0", '{"text": "it broke"}'),
        ("[" * 200_000, '{"text": "' + "[" * 200_000 + '"}'),
    ],
)
async def test_evidence_is_kept_as_json(engine, evidence, kept):
    await tick(engine, alerts=[alert(1, evidence=evidence), alert(2)])
    assert [one.evidence for one in (await engine.watch.alerts(AlertQuery())).items] == ["{}", kept]


async def test_times_are_bound_to_what_a_column_holds(engine):
    far = Expected(2**70, -(2**70), 2**63, NOW)
    await tick(
        engine,
        expected=[expected(due=far, start_ns=2**64, changed_ns=2**64)],
        alerts=[alert(1, opened_ns=2**80, since_ns=-(2**80))],
        deliveries=[delivery(1, due_ns=2**90, attempts=2**40)],
    )
    most, least = 2**63 - 1, -(2**63)
    async with engine.watch.lead() as lead:
        due = Expected(most, least, most, NOW)
        assert await lead.unsettled() == [expected(due=due, start_ns=most, changed_ns=most)]
        assert await lead.open_alerts() == [alert(1, opened_ns=most, since_ns=least)]
        assert await lead.deliveries(0) == [delivery(1, due_ns=most, attempts=2**31 - 1)]


async def test_the_same_tick_again_changes_nothing(engine):
    await engine.watch.save(expectation())
    outcome = {"expected": [expected()], "alerts": [alert()], "deliveries": [delivery()], "notes": {"a": "b"}}
    await tick(engine, **outcome)
    token = (await engine.watch.alert_changes(None)).token
    await tick(engine, **outcome)
    assert (await engine.watch.alert_changes(token)).alerts == []
    async with engine.watch.lead() as lead:
        assert [await lead.unsettled(), await lead.open_alerts()] == [[expected()], [alert()]]


async def test_an_alert_may_open_again_in_the_tick_that_resolves_the_one_before(engine):
    await tick(engine, alerts=[alert(1)])
    again = alert(2, fingerprint=alert(1).fingerprint)
    await tick(engine, alerts=[again, alert(1, resolved_ns=NOW)])
    assert await alerts(engine, open=True) == ["02"]


async def test_an_acknowledgement_made_during_a_tick_stays(engine):
    await tick(engine, alerts=[alert()])
    async with engine.watch.lead() as lead:
        engine.clock.now_ns += SECOND
        acknowledged = await engine.watch.acknowledge(alert().id, "ann", "on it")
        await lead.store(Outcome(alerts=[alert(seen_ns=NOW + SECOND, severity=Severity.CRITICAL)]))
    stored = await engine.watch.alert(alert().id)
    assert acknowledged == alert(acknowledged_ns=NOW + SECOND, acknowledged_by="ann", note="on it")
    assert stored == acknowledged._replace(seen_ns=NOW + SECOND, severity=Severity.CRITICAL)
    engine.clock.now_ns += SECOND
    assert (await engine.watch.acknowledge(alert().id, "bob")).acknowledged_by == "bob"
    assert (await engine.watch.alert(alert().id)).acknowledged_ns == NOW + SECOND
    assert await engine.watch.acknowledge("nonsense", "ann") is None


async def test_declared_expectations_are_those_of_the_file(engine):
    watch = engine.watch
    await watch.save(expectation("proposed", origin=Origin.PROPOSED))
    await watch.save(expectation("by hand"))
    declared = [expectation("b"), expectation("a"), expectation("by hand", spec='{"every": 60}')]
    await watch.declare(declared, NOW + 1)
    await watch.declare(declared, NOW + 2)
    assert [(one.name, one.origin, one.since_ns) for one in await watch.expectations()] == [
        ("a", "declared", NOW + 1),
        ("b", "declared", NOW + 1),
        ("by hand", "declared", NOW + 1),
        ("proposed", "proposed", NOW),
    ]
    await tick(engine, watched={"a": NOW + 7})
    await watch.declare([expectation("a"), expectation("b", job="other")], NOW + 9)
    assert [(one.name, one.since_ns, one.watched_ns) for one in await watch.expectations(Origin.DECLARED)] == [
        ("a", NOW + 1, NOW + 7),
        ("b", NOW + 9, NOW + 9),
    ]
    async with watch.lead() as lead:
        assert [one.name for one in await lead.expectations()] == ["a", "b"]


async def test_what_a_file_declares_is_changed_there_only(engine):
    await engine.watch.declare([expectation("a")])
    with pytest.raises(StorageRejected, match="in a file"):
        await engine.watch.save(expectation("a"))
    with pytest.raises(StorageRejected, match="in a file"):
        await engine.watch.forget("a")


async def test_a_file_without_its_clock_begins_at_the_stores_now(engine):
    await engine.watch.declare([expectation("a", since_ns=0)])
    assert (await engine.watch.expectations())[0].since_ns == NOW


async def test_what_is_forgotten_is_waited_for_no_more_even_by_a_tick_under_way(engine):
    await engine.watch.save(expectation())
    settled = expected(-1, settled=True, state=ExpectedState.MISSED)
    await tick(engine, expected=[expected(1), settled])
    async with engine.watch.lead() as lead:
        await lead.expectations()
        assert await engine.watch.forget("nightly")
        await lead.store(Outcome(expected=[expected(1), expected(2)], watched={"nightly": NOW}))
    assert (await engine.watch.expected_runs(ExpectedQuery())).items == [settled]
    assert not await engine.watch.forget("nightly")


async def test_a_tick_under_way_stores_nothing_for_a_wish_that_changed_meanwhile(engine):
    await engine.watch.save(expectation())
    settled = expected(-1, settled=True, state=ExpectedState.MISSED)
    async with engine.watch.lead() as lead:
        await lead.expectations()
        changed = expectation(spec='{"cron": "0 3 * * *"}', changed_ns=NOW + 5, watched_ns=NOW + 5)
        await engine.watch.save(changed)
        await lead.store(Outcome(expected=[expected(1), settled], watched={"nightly": NOW + 7 * HOUR}))
    assert (await engine.watch.expected_runs(ExpectedQuery())).items == [settled]
    assert await engine.watch.expectations() == [changed]


async def test_what_no_standing_expectation_asks_for_is_kept_all_the_same(engine):
    """Such as runs that say themselves when they should come."""
    await tick(engine, expected=[expected(expectation="said by the run")])
    assert (await engine.watch.expected_runs(ExpectedQuery())).items == [expected(expectation="said by the run")]


async def test_a_changed_wish_waits_no_more_for_what_the_old_one_wanted_later(engine):
    for change in (engine.watch.save, lambda one: engine.watch.declare([one])):
        await change(expectation())
        await tick(engine, expected=[expected(-1), expected(0), expected(1)])
        await change(expectation(spec='{"cron": "0 3 * * *"}'))
        async with engine.watch.lead() as lead:
            assert await lead.unsettled() == [expected(-1)]


async def test_names_are_as_long_as_an_index_holds(engine):
    """A lot may be called anything, and must not stop the tick of all others; an expectation is refused where it is made."""
    await tick(engine, expected=[expected(1, subject="Ä" * 3000), expected(2)])
    stored = (await engine.watch.expected_runs(ExpectedQuery())).items
    assert [one.subject for one in stored] == ["", "Ä" * 500]
    for save in (engine.watch.save, lambda one: engine.watch.declare([one])):
        for name in ("name", "site", "job"):
            with pytest.raises(StorageRejected, match="1000 bytes"):
                await save(expectation(**{name: "x" * 1001}))
    await engine.watch.save(expectation("n" * 1000, site="s" * 1000, job="j" * 1000))
    await tick(engine, expected=[expected(3, expectation="n" * 1000, subject="s" * 1000, job="j" * 1000)])


async def test_expected_runs_are_found_by_everything_and_paged(engine):
    runs = [
        expected(1),
        expected(2, site=None, job="other"),
        expected(2, subject="b", state=ExpectedState.LATE),
        expected(2, subject="a", run=RUN, start_ns=NOW, state=ExpectedState.MET),
        expected(3, expectation="weekly"),
    ]
    await tick(engine, expected=runs)

    async def found(**wanted: object) -> list[ExpectedRun]:
        return (await engine.watch.expected_runs(ExpectedQuery(**wanted))).items

    newest = [runs[4], runs[1], runs[3], runs[2], runs[0]]
    assert await found() == newest
    assert await found(site=(SITE,)) == [one for one in newest if one.site]
    assert await found(job=("other",)) == [runs[1]]
    assert await found(expectation=("weekly", "none")) == [runs[4]]
    assert await found(state=(ExpectedState.LATE, ExpectedState.MET)) == [runs[3], runs[2]]
    assert await found(run=RUN) == [runs[3]]
    assert await found(run=RunKey("elsewhere", *RUN[1:])) == []
    assert await found(from_ns=NOW + 2 * HOUR, to_ns=NOW + 3 * HOUR) == newest[1:4]
    paged: list[ExpectedRun] = []
    cursor = None
    for _ in range(3):
        page = await engine.watch.expected_runs(ExpectedQuery(limit=2, cursor=cursor))
        paged, cursor = paged + page.items, page.cursor
    assert (paged, cursor) == (newest, None)


async def test_alerts_are_found_by_everything_and_paged(engine):
    await tick(
        engine,
        alerts=[
            alert(1, severity=Severity.CRITICAL),
            alert(2, rule="late", subject=Subject("f2", None, None, "feed")),
            alert(3, resolved_ns=NOW + 9, subject=Subject(SITE, "lot_yield", RUN)),
            alert(4, acknowledged_ns=NOW, acknowledged_by="ann"),
        ],
    )
    assert await alerts(engine) == ["04", "03", "02", "01"]
    assert await alerts(engine, site=(SITE,)) == ["04", "03", "01"]
    assert await alerts(engine, job=("lot_yield", "x")) == ["04", "03", "01"]
    assert await alerts(engine, rule=("late",)) == ["02"]
    assert await alerts(engine, severity=(Severity.CRITICAL,)) == ["01"]
    assert [await alerts(engine, open=True), await alerts(engine, open=False)] == [["04", "02", "01"], ["03"]]
    assert [await alerts(engine, acknowledged=True), await alerts(engine, acknowledged=False)] == [["04"], ["03", "02", "01"]]
    assert await alerts(engine, run=RUN) == ["03"]
    assert await alerts(engine, from_ns=NOW + 2, to_ns=NOW + 4) == ["03", "02"]
    page = await engine.watch.alerts(AlertQuery(limit=3))
    assert [one.id[-2:] for one in page.items] == ["04", "03", "02"]
    assert await alerts(engine, cursor=page.cursor) == ["01"]
    with pytest.raises(CursorRejected):
        await alerts(engine, cursor="nonsense")


async def test_changes_of_alerts_are_told_since_a_token_and_no_others(engine):
    watch = engine.watch
    await tick(engine, alerts=[alert(1)])
    told = await watch.alert_changes(None)
    assert told.alerts == []
    assert (await watch.alert_changes(told.token)).alerts == []
    await tick(engine, alerts=[alert(2)])
    told = await watch.alert_changes(told.token)
    assert told.alerts == [alert(2)]
    await tick(engine, alerts=[alert(1, seen_ns=NOW + 1), alert(2, seen_ns=NOW + 1)])
    assert (await watch.alert_changes(told.token)).alerts == []
    acknowledged = await watch.acknowledge(alert(1).id, "ann")
    told = await watch.alert_changes(told.token)
    assert told.alerts == [acknowledged]
    await tick(engine, alerts=[alert(2, resolved_ns=NOW)])
    assert [one.resolved_ns for one in (await watch.alert_changes(told.token)).alerts] == [NOW]
    for token in ("nonsense", told.token[:-1] + "9" * 15, "0" * 32 + ".1", "1.1.1/1:1:"):
        with pytest.raises(CursorRejected):
            await watch.alert_changes(token)


async def test_many_changes_are_told_in_parts(engine):
    token = (await engine.watch.alert_changes(None)).token
    for number in range(1, 6):
        await tick(engine, alerts=[alert(number)])
    told: list[str] = []
    for _ in range(3):
        changes = await engine.watch.alert_changes(token, 2)
        told, token = told + [one.id[-2:] for one in changes.alerts], changes.token
    assert told == ["01", "02", "03", "04", "05"]


async def test_a_silence_is_in_force_until_it_ends_or_is_ended(engine):
    watch = engine.watch
    await watch.silence(silence(why="first"))
    await watch.silence(silence())
    await watch.silence(silence(id="s2", created_ns=NOW + 1, until_ns=NOW + 2 * HOUR, job="j", rule="r"))
    assert await watch.silences() == [silence()]
    engine.clock.now_ns += SECOND
    assert [one.id for one in await watch.silences()] == ["s1", "s2"]
    assert await watch.unsilence("s2")
    assert not await watch.unsilence("s2")
    assert not await watch.unsilence("none")
    engine.clock.now_ns = NOW + HOUR
    assert await watch.silences() == []


async def test_a_message_is_given_to_one_sender_until_its_lease_ends(engine):
    watch = engine.watch
    await tick(engine, deliveries=[delivery(2), delivery(1), delivery(3, due_ns=NOW + HOUR)])
    claims = await asyncio.gather(*(watch.claim_deliveries(1) for _ in range(4)))
    assert sorted(one.id for claim in claims for one in claim) == ["d1", "d2"]
    assert {one.attempts for claim in claims for one in claim} == {1}
    engine.clock.now_ns += 61 * SECOND
    assert [(one.id, one.attempts) for one in await watch.claim_deliveries()] == [("d1", 2), ("d2", 2)]
    engine.clock.now_ns += HOUR
    assert [one.id for one in await watch.claim_deliveries(2)] == ["d1", "d2"]
    assert [one.id for one in await watch.claim_deliveries(2)] == ["d3"]


async def test_what_became_of_a_message_is_kept(engine):
    watch = engine.watch
    await tick(engine, deliveries=[delivery(1), delivery(2), delivery(3)])
    await watch.claim_deliveries()
    await watch.settle_delivery("d1", 1, DeliveryState.SENT, "250 ok")
    await watch.settle_delivery("d2", 1, DeliveryState.WAITING, "451 \0later", retry_s=30)
    await watch.settle_delivery("d3", 1, DeliveryState.DROPPED, "550 no such user")
    await watch.settle_delivery("none", 1, DeliveryState.SENT, "")
    async with watch.lead() as lead:
        assert await lead.deliveries(NOW) == [
            delivery(1, state=DeliveryState.SENT, attempts=1, answer="250 ok", settled_ns=NOW),
            delivery(2, attempts=1, answer="451 later", due_ns=NOW + 30 * SECOND),
            delivery(3, state=DeliveryState.DROPPED, attempts=1, answer="550 no such user", settled_ns=NOW),
        ]
    engine.clock.now_ns += 30 * SECOND
    assert [one.id for one in await watch.claim_deliveries()] == ["d2"]
    assert [one.id for one in await watch.alert_deliveries(alert(2).id)] == ["d2"]


async def test_who_outlived_his_lease_settles_nothing_that_another_sends(engine):
    watch = engine.watch
    await tick(engine, deliveries=[delivery(1), delivery(2)])
    await watch.claim_deliveries()
    engine.clock.now_ns += 61 * SECOND
    assert [one.attempts for one in await watch.claim_deliveries()] == [2, 2]
    await watch.settle_delivery("d1", 1, DeliveryState.WAITING, "no answer", retry_s=0)
    await watch.settle_delivery("d2", 1, DeliveryState.DROPPED, "gave up")
    assert await watch.claim_deliveries() == []
    async with watch.lead() as lead:
        assert await lead.deliveries(NOW) == [delivery(1, attempts=2), delivery(2, attempts=2)]
    await watch.settle_delivery("d1", 1, DeliveryState.SENT, "late: 250 ok")
    await watch.settle_delivery("d1", 2, DeliveryState.WAITING, "no answer", retry_s=0)
    await watch.settle_delivery("d2", 2, DeliveryState.WAITING, "later", retry_s=0)
    async with watch.lead() as lead:
        assert [(one.state, one.answer) for one in await lead.deliveries(NOW)] == [
            ("sent", "late: 250 ok"),
            ("waiting", "later"),
        ]


async def test_what_was_sent_stays_sent(engine):
    watch = engine.watch
    await tick(engine, deliveries=[delivery(1), delivery(2)])
    await watch.claim_deliveries()
    await watch.settle_delivery("d1", 1, DeliveryState.SENT, "ok")
    await tick(engine, deliveries=[delivery(1), delivery(2, state=DeliveryState.DROPPED, settled_ns=NOW)])
    await watch.settle_delivery("d1", 1, DeliveryState.WAITING, "late", retry_s=0)
    await watch.settle_delivery("d2", 1, DeliveryState.WAITING, "late", retry_s=0)
    async with watch.lead() as lead:
        states = {one.id: (one.state, one.attempts) for one in await lead.deliveries(NOW)}
        assert states == {"d1": ("sent", 1), "d2": ("dropped", 1)}
        await watch.settle_delivery("d2", 1, DeliveryState.SENT, "it was already on its way")
        assert {one.state for one in await lead.deliveries(NOW)} == {"sent"}


async def test_only_what_is_over_is_pruned(engine):
    watch = engine.watch
    old = {"settled": True, "changed_ns": NOW - 5 * DAY}
    await tick(
        engine,
        expected=[expected(-60), expected(-100, **old), expected(-30, **old), expected(-200, settled=True, changed_ns=NOW)],
        alerts=[alert(1, opened_ns=NOW - 9 * DAY), alert(2, resolved_ns=NOW - 3 * DAY), alert(3, resolved_ns=NOW)],
        deliveries=[
            delivery(1, created_ns=NOW - 9 * DAY),
            delivery(2, created_ns=NOW - 9 * DAY, state=DeliveryState.SENT, settled_ns=NOW - 3 * DAY),
            delivery(3, created_ns=NOW - 9 * DAY, state=DeliveryState.DROPPED),
            delivery(4, created_ns=NOW - 9 * DAY, state=DeliveryState.SENT, settled_ns=NOW),
            delivery(5, created_ns=NOW - 9 * DAY, state=DeliveryState.SENT, alerts=(alert(9).id, alert(1).id)),
        ],
    )
    await watch.silence(silence(until_ns=NOW - 3 * DAY))
    assert await watch.prune(NOW - 2 * DAY) == 5
    kept = (await watch.expected_runs(ExpectedQuery())).items
    assert [one.due.nominal_ns for one in kept] == [NOW - 30 * HOUR, NOW - 60 * HOUR, NOW - 200 * HOUR]
    assert await alerts(engine) == ["03", "01"]
    async with watch.lead() as lead:
        assert [one.id for one in await lead.deliveries(0)] == ["d1", "d4", "d5"]
        assert [one.id for one in await lead.deliveries(NOW)] == ["d1", "d5"]
    assert await watch.prune(NOW - 2 * DAY) == 0


async def test_expected_runs_that_came_go_sooner(engine):
    met = {"settled": True, "state": ExpectedState.MET, "changed_ns": NOW - 9 * DAY}
    missed = {"settled": True, "state": ExpectedState.MISSED, "changed_ns": NOW - 9 * DAY}
    runs = [expected(-100, **met), expected(-100, subject="L", **missed), expected(-20, **met), expected(-300, **missed)]
    await tick(engine, expected=[*runs, expected(-101, state=ExpectedState.MET), expected(-102, **met | {"changed_ns": NOW})])
    assert await engine.watch.prune(NOW - 6 * DAY, NOW - 2 * DAY) == 2
    kept = (await engine.watch.expected_runs(ExpectedQuery())).items
    assert [one.due.nominal_ns - NOW for one in kept] == [-20 * HOUR, -100 * HOUR, -101 * HOUR, -102 * HOUR]
    assert kept[1].subject == "L"


async def test_ten_thousand_expected_runs_are_one_tick(engine):
    runs = [expected(number % 100, expectation=f"e{number:05d}", subject=f"L-{number}") for number in range(10_000)]
    await tick(engine, expected=runs)
    async with engine.watch.lead() as lead:
        assert await lead.unsettled() == runs
        await lead.store(Outcome(expected=[one._replace(settled=True) for one in runs]))
        assert await lead.unsettled() == []
