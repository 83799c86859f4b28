"""Who is told when: grouping, cooldown, escalation, quiet hours, silences, ends, and nothing twice."""

from __future__ import annotations

from datetime import UTC, datetime, time

from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.alerting.notify import Channel, Quiet, Route, Routes, Step, plan
from wafermonitor.alerting.notify.planning import WITHDRAWN, held
from wafermonitor.alerting.notify.routes import Engine
from wafermonitor.alerting.rules import Where
from wafermonitor.runs.alerts import Alert, Delivery, DeliveryState, Finding, Kind, Severity, Silence, Subject, alert_id

SECOND = 1_000_000_000
NOON = int(datetime(2026, 6, 3, 12, tzinfo=UTC).timestamp()) * SECOND
MIDNIGHT = NOON + 12 * 3600 * SECOND
MAIL, PAGER = Channel("mail", "mailto://relay"), Channel("pager", "${env:PAGER}")
CHANNELS = {"mail": MAIL, "pager": PAGER}
SENT, DROPPED = DeliveryState.SENT, DeliveryState.DROPPED


def alert(job="etl", *, at_ns=NOON, site="F1", rule="missed", severity=Severity.WARNING, **fields) -> Alert:
    found = Finding(rule, severity, Subject(site, job), at_ns, f"{job} did not come")
    return Alert(
        alert_id(found.fingerprint, at_ns),
        found.fingerprint,
        rule,
        severity,
        found.subject,
        at_ns,
        at_ns,
        at_ns,
        found.summary,
        "{}",
    )._replace(**fields)


def routes(*found: Route) -> Routes:
    return Routes(CHANNELS, found)


TO_MAIL = Route("all", ("mail",))


def sent(deliveries, state=SENT, answer="ok") -> list[Delivery]:
    return [one._replace(state=state, answer=answer, settled_ns=one.due_ns, attempts=1) for one in deliveries]


def test_an_alert_is_told_once_to_each_channel_of_its_route():
    one = alert()
    first = plan(routes(Route("all", ("mail", "pager"))), now_ns=NOON, opened=[one], open_alerts=[one])
    assert [(row.channel, row.kind, row.alerts, row.due_ns) for row in first] == [
        ("mail", Kind.FIRING, (one.id,), NOON + 30 * SECOND),
        ("pager", Kind.FIRING, (one.id,), NOON + 30 * SECOND),
    ]
    for known in (first, sent(first), sent(first, DROPPED, "gave up")):
        assert (
            plan(routes(Route("all", ("mail", "pager"))), now_ns=NOON + 99 * SECOND, open_alerts=[one], deliveries=known) == []
        )


def test_the_same_tick_made_twice_plans_the_same_rows():
    found = [alert("a"), alert("b", site="F2")]
    assert plan(routes(TO_MAIL), now_ns=NOON, opened=found) == plan(routes(TO_MAIL), now_ns=NOON, opened=found[::-1])


def test_alerts_of_one_site_and_rule_are_one_message():
    rows = plan(routes(TO_MAIL), now_ns=NOON, opened=[alert("a"), alert("b"), alert("c", site="F2"), alert("d", rule="late")])
    assert sorted(len(row.alerts) for row in rows) == [1, 1, 2]


def test_a_later_alert_of_the_group_joins_the_message_that_waits():
    first, later = alert("a"), alert("b", at_ns=NOON + 20 * SECOND)
    rows = plan(routes(TO_MAIL), now_ns=NOON, opened=[first])
    more = plan(routes(TO_MAIL), now_ns=later.opened_ns, opened=[later], open_alerts=[first], deliveries=rows)
    assert [(row.alerts, row.due_ns) for row in more] == [((later.id,), rows[0].due_ns)]


def test_one_after_the_message_waits_for_the_pause():
    first, later = alert("a"), alert("b", at_ns=NOON + 40 * SECOND)
    rows = sent(plan(routes(TO_MAIL._replace(wait_s=0)), now_ns=NOON, opened=[first]))
    more = plan(routes(TO_MAIL._replace(wait_s=0)), now_ns=later.opened_ns, opened=[later], deliveries=rows)
    assert [row.due_ns for row in more] == [NOON + 60 * SECOND]


def test_many_alerts_are_several_messages_of_bounded_size():
    rows = plan(routes(TO_MAIL), now_ns=NOON, opened=[alert(f"job-{number}") for number in range(1200)])
    assert [len(row.alerts) for row in rows] == [500, 500, 200]
    assert len({row.id for row in rows}) == 3


def test_a_flapping_alert_is_not_told_again_within_the_cooldown():
    one = alert()
    told = sent(plan(routes(TO_MAIL), now_ns=NOON, opened=[one]))
    again = alert(at_ns=NOON + 300 * SECOND)
    assert again.fingerprint == one.fingerprint
    assert plan(routes(TO_MAIL), now_ns=again.opened_ns, opened=[again], deliveries=told) == []
    after = plan(routes(TO_MAIL), now_ns=NOON + 631 * SECOND, open_alerts=[again], deliveries=told)
    assert [(row.kind, row.alerts) for row in after] == [(Kind.FIRING, (again.id,))]


def test_one_that_came_and_went_untold_has_no_cooldown():
    first, again = alert(), alert(at_ns=NOON + 60 * SECOND)
    dropped = sent(plan(routes(TO_MAIL), now_ns=NOON, opened=[first]), DROPPED, "over before it was told")
    rows = plan(routes(TO_MAIL), now_ns=again.opened_ns, opened=[again], deliveries=dropped)
    assert [(row.kind, row.alerts) for row in rows] == [(Kind.FIRING, (again.id,))]


ESCALATES = Route("all", ("mail",), steps=(Step(600, ("pager",)), Step(1800, ("pager", "mail"))))


def test_what_nobody_acknowledges_is_escalated_step_by_step_once():
    one = alert()
    told = sent(plan(routes(ESCALATES), now_ns=NOON, opened=[one]))
    begin = told[0].due_ns
    seen = []
    for second in range(0, 4000, 100):
        now = begin + second * SECOND
        rows = plan(routes(ESCALATES), now_ns=now, open_alerts=[one], deliveries=told)
        seen += [(second, row.channel, row.kind) for row in rows]
        told += sent(rows)
    assert seen == [(600, "pager", Kind.ESCALATED), (1800, "pager", Kind.ESCALATED), (1800, "mail", Kind.ESCALATED)]


def test_what_somebody_acknowledged_is_not_escalated():
    one = alert(acknowledged_ns=NOON, acknowledged_by="Ida")
    told = sent(plan(routes(ESCALATES), now_ns=NOON, opened=[one]))
    assert plan(routes(ESCALATES), now_ns=NOON + 9999 * SECOND, open_alerts=[one], deliveries=told) == []


def test_nothing_is_escalated_that_nobody_was_told_of():
    one = alert()
    everything = [Silence("s", NOON + 3600 * SECOND, "Ida", "works", NOON)]
    assert plan(routes(ESCALATES), now_ns=NOON + 900 * SECOND, open_alerts=[one], silences=everything) == []


NIGHT = Route("all", ("mail",), quiet=(Quiet(time(22), time(6), "Europe/Berlin"),))


def test_in_quiet_hours_only_critical_ones_are_told():
    rows = plan(routes(NIGHT), now_ns=MIDNIGHT, opened=[alert("a"), alert("b", severity=Severity.CRITICAL)])
    assert [len(row.alerts) for row in rows] == [1]


def test_what_still_holds_in_the_morning_is_told_then():
    one = alert(at_ns=MIDNIGHT)
    six = int(datetime(2026, 6, 4, 4, tzinfo=UTC).timestamp()) * SECOND
    assert plan(routes(NIGHT), now_ns=six - SECOND, open_alerts=[one]) == []
    assert [row.due_ns for row in plan(routes(NIGHT), now_ns=six, open_alerts=[one])] == [six]


def test_one_that_becomes_critical_at_night_is_told_at_once():
    one = alert(at_ns=MIDNIGHT, severity=Severity.CRITICAL)
    assert len(plan(routes(NIGHT), now_ns=MIDNIGHT + SECOND, open_alerts=[one])) == 1


def test_an_end_waits_for_the_morning_too():
    one = alert()
    told = sent(plan(routes(NIGHT), now_ns=NOON, opened=[one]))
    rows = plan(routes(NIGHT), now_ns=MIDNIGHT, resolved=[one], deliveries=told)
    six = int(datetime(2026, 6, 4, 4, tzinfo=UTC).timestamp()) * SECOND
    assert [(row.kind, row.due_ns) for row in rows] == [(Kind.RESOLVED, six)]


def test_quiet_hours_follow_the_change_of_clocks():
    night = Quiet(time(22), time(6), "Europe/Berlin")
    begin = int(datetime(2026, 10, 24, 20, tzinfo=UTC).timestamp()) * SECOND
    end = int(datetime(2026, 10, 25, 5, tzinfo=UTC).timestamp()) * SECOND
    assert night.until_ns(begin - SECOND) is None
    assert night.until_ns(begin) == end
    assert night.until_ns(end - SECOND) == end
    assert night.until_ns(end) is None


def test_quiet_days_in_a_row_are_one_stretch():
    weekend = Route("all", ("mail",), quiet=(Quiet(time(0), time(0), "UTC", frozenset({5, 6})),))
    saturday = int(datetime(2026, 6, 6, 9, tzinfo=UTC).timestamp()) * SECOND
    monday = int(datetime(2026, 6, 8, tzinfo=UTC).timestamp()) * SECOND
    assert weekend.quiet_until_ns(Severity.WARNING, saturday) == monday
    assert weekend.quiet_until_ns(Severity.CRITICAL, saturday) is None


def test_a_silenced_alert_is_told_when_the_silence_ends_and_it_still_holds():
    one = alert()
    works = Silence("s", NOON + 3600 * SECOND, "Ida", "works at F1", NOON, site="F1")
    assert plan(routes(TO_MAIL), now_ns=NOON, opened=[one], silences=[works]) == []
    later = plan(routes(TO_MAIL), now_ns=works.until_ns, open_alerts=[one], silences=[works])
    assert [(row.kind, row.due_ns) for row in later] == [(Kind.FIRING, works.until_ns)]


def test_a_message_withdrawn_because_of_a_silence_is_planned_anew_after_it():
    one = alert()
    first = plan(routes(TO_MAIL), now_ns=NOON, opened=[one])
    withdrawn = sent(first, DROPPED, WITHDRAWN + "silenced by Ida")
    again = plan(routes(TO_MAIL), now_ns=NOON + 3600 * SECOND, open_alerts=[one], deliveries=withdrawn)
    assert [row.kind for row in again] == [Kind.FIRING]
    assert again[0].id != first[0].id
    assert plan(routes(TO_MAIL), now_ns=NOON + 3700 * SECOND, open_alerts=[one], deliveries=[*withdrawn, *sent(again)]) == []


def test_an_end_is_told_only_where_the_beginning_was():
    one, other = alert("a"), alert("b")
    told = sent(plan(routes(TO_MAIL), now_ns=NOON, opened=[one]))
    rows = plan(routes(TO_MAIL), now_ns=NOON + 99 * SECOND, resolved=[one, other], deliveries=told)
    assert [(row.channel, row.kind, row.alerts) for row in rows] == [("mail", Kind.RESOLVED, (one.id,))]
    assert plan(routes(TO_MAIL), now_ns=NOON + 99 * SECOND, resolved=[one], deliveries=[*told, *sent(rows)]) == []
    gave_up = sent(told, DROPPED, "gave up")
    assert plan(routes(TO_MAIL), now_ns=NOON + 99 * SECOND, resolved=[one], deliveries=gave_up) == []


def test_an_end_is_told_where_it_was_escalated_to_as_well():
    one = alert()
    told = sent(plan(routes(ESCALATES), now_ns=NOON, opened=[one]))
    told += sent(plan(routes(ESCALATES), now_ns=NOON + 700 * SECOND, open_alerts=[one], deliveries=told))
    rows = plan(routes(ESCALATES), now_ns=NOON + 800 * SECOND, resolved=[one], deliveries=told)
    assert sorted(row.channel for row in rows) == ["mail", "pager"]


def test_a_channel_may_want_no_ends():
    one = alert()
    quietly = Routes({"mail": MAIL._replace(resolved=False)}, (TO_MAIL,))
    told = sent(plan(quietly, now_ns=NOON, opened=[one]))
    assert plan(quietly, now_ns=NOON + 99 * SECOND, resolved=[one], deliveries=told) == []


def test_the_first_route_that_takes_an_alert_has_it_unless_it_goes_on():
    loud = Route("loud", ("pager",), severity=Severity.CRITICAL)
    critical, warning = alert("a", severity=Severity.CRITICAL), alert("b")
    wanted = {"a": ["pager"], "b": ["mail"]}
    for one in (critical, warning):
        rows = plan(routes(loud, TO_MAIL), now_ns=NOON, opened=[one])
        assert [row.channel for row in rows] == wanted[one.subject.job]
    both = plan(routes(loud._replace(goes_on=True), TO_MAIL), now_ns=NOON, opened=[critical])
    assert [row.channel for row in both] == ["pager", "mail"]


def test_routes_take_alerts_by_site_job_owner_and_rule():
    route = Route("r", ("mail",), where=Where(("F*",), ("etl",), ("ida",)), rules=("mis*",))
    mine = alert(owner="ida")
    assert route.takes(mine)
    for other in (
        alert(owner="bob"),
        alert("other", owner="ida"),
        alert(site="G1", owner="ida"),
        alert(rule="late", owner="ida"),
    ):
        assert not route.takes(other)


def test_an_alert_that_grows_louder_reaches_the_channels_of_its_new_severity():
    loud = Route("loud", ("pager",), severity=Severity.CRITICAL)
    one = alert()
    told = sent(plan(routes(loud, TO_MAIL), now_ns=NOON, opened=[one]))
    worse = one._replace(severity=Severity.CRITICAL)
    rows = plan(routes(loud, TO_MAIL), now_ns=NOON + 60 * SECOND, open_alerts=[worse], deliveries=told)
    assert [(row.channel, row.kind) for row in rows] == [("pager", Kind.FIRING)]


def test_an_end_is_not_told_to_people_who_hear_of_something_worse_instead():
    late, missed = alert(rule="late"), alert(at_ns=NOON + 60 * SECOND, rule="missed", severity=Severity.CRITICAL)
    assert late.subject == missed.subject
    hook = Channel("hook", "http://here", Engine.WEBHOOK)
    both = Routes({"mail": MAIL, "hook": hook}, (Route("all", ("mail", "hook")),))
    told = sent(plan(both, now_ns=NOON, opened=[late]))
    rows = plan(both, now_ns=missed.opened_ns, opened=[missed], resolved=[late], deliveries=told)
    assert [(row.channel, row.kind, row.alerts) for row in rows] == [
        ("mail", Kind.FIRING, (missed.id,)),
        ("hook", Kind.FIRING, (missed.id,)),
        ("hook", Kind.RESOLVED, (late.id,)),
    ]
    only_late = Routes({"mail": MAIL}, (Route("late", ("mail",), rules=("late",)),))
    rows = plan(only_late, now_ns=missed.opened_ns, opened=[missed], resolved=[late], deliveries=told[:1])
    assert [(row.kind, row.alerts) for row in rows] == [(Kind.RESOLVED, (late.id,))]
    rows = plan(both, now_ns=missed.opened_ns + SECOND, resolved=[missed], deliveries=[*told, *sent(rows)])
    assert rows == []


def test_why_nobody_is_told_can_be_asked():
    one, works = alert(), Silence("s", NOON + 3600 * SECOND, "Ida", "works", NOON)
    assert held(routes(TO_MAIL), one, [], NOON) is None
    assert held(routes(), one, [], NOON) == "no route takes it"
    assert held(routes(NIGHT), one, [], MIDNIGHT) == "quiet hours until 2026-06-04T04:00:00Z"
    assert held(routes(NIGHT._replace(goes_on=True), TO_MAIL), one, [], MIDNIGHT) is None
    assert held(routes(TO_MAIL), one, [works], NOON) == "silenced by Ida until 2026-06-03T13:00:00Z: works"
    assert held(routes(), one._replace(resolved_ns=NOON), [works], NOON) is None


STEPS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(1, 400), st.sampled_from(["open", "resolve", "ack", "silence"])), max_size=40
)


@given(STEPS, st.randoms(use_true_random=False))
def test_whatever_happens_and_however_often_a_tick_is_lost_nobody_is_told_twice(story, random):
    table = routes(ESCALATES._replace(quiet=(Quiet(time(22), time(23)),)))
    now, alive, book, silences = NOON, {}, {}, []
    for number, pause_s, act in story:
        now += pause_s * SECOND
        job = f"job-{number}"
        opened, resolved = [], []
        if act == "open" and job not in alive:
            opened = [alert(job, at_ns=now)]
        elif act == "resolve" and job in alive:
            resolved = [alive[job]]
        elif act == "ack" and job in alive:
            alive[job] = alive[job]._replace(acknowledged_ns=now)
        elif act == "silence":
            silences.append(Silence(f"s{now}", now + 500 * SECOND, "Ida", "", now, job=job))
        after = {**alive, **{one.subject.job: one for one in opened}}
        for one in resolved:
            del after[one.subject.job]
        rows = plan(
            table, now_ns=now, opened=opened, resolved=resolved, open_alerts=list(after.values()),
            deliveries=list(book.values()), silences=silences,
        )  # fmt: skip
        assert len({row.id for row in rows}) == len(rows)
        if random.random() < 0.3:
            continue  # the tick was not stored: the next begins where this one did
        alive = after
        for row in rows:
            assert row.id not in book
            book[row.id] = row if random.random() < 0.5 else sent([row])[0]
    told = [(one, row.channel, row.kind, row.group) for row in book.values() for one in row.alerts]
    assert len(told) == len(set(told))
    firing = {(one, channel) for one, channel, kind, _ in told if kind is not Kind.RESOLVED}
    assert {(one, channel) for one, channel, kind, _ in told if kind is Kind.RESOLVED} <= firing
