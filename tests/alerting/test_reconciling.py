"""Findings become alerts: once, brought up to date, over when they are over."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.alerting.reconciling import dumps, loads, reconcile
from wafermonitor.alerting.rules import Rule
from wafermonitor.runs.alerts import Alert, Finding, Severity, Subject

SECOND = 1_000_000_000
T0 = 1_792_864_800 * SECOND
RULE = Rule("late", "late", Severity.WARNING)
RULES = {"late": RULE, "lost": Rule("lost", "lost", Severity.CRITICAL)}


def finding(job: str = "a", rule: str = "late", **fields: object) -> Finding:
    return Finding(rule, Severity.WARNING, Subject(site="f1", job=job), T0, "it is late")._replace(**fields)


def opened(*findings: Finding, at: int = T0) -> list[Alert]:
    return reconcile(RULES, {one.rule: findings for one in findings}, [], {}, at).opened


def test_a_finding_opens_one_alert_whose_id_follows_from_it():
    (alert,) = opened(finding(), finding(severity=Severity.CRITICAL))
    assert (alert.severity, alert.opened_ns, alert.resolved_ns) == (Severity.CRITICAL, T0, None)
    assert opened(finding(), finding(severity=Severity.CRITICAL)) == [alert]
    assert opened(finding(), at=T0 + 1)[0].id != alert.id


def test_what_holds_on_is_not_written_again_at_each_tick():
    alerts = opened(finding())
    soon = reconcile(RULES, {"late": [finding(summary="later")]}, alerts, {}, T0 + 10 * SECOND)
    assert (soon.stored, soon.open_alerts) == ([], alerts)
    later = reconcile(RULES, {"late": [finding(summary="later")]}, alerts, {}, T0 + 60 * SECOND)
    assert [(one.summary, one.seen_ns) for one in later.updated] == [("later", T0 + 60 * SECOND)]


def test_more_severe_is_written_at_once_and_stays():
    alerts = opened(finding())
    worse = reconcile(RULES, {"late": [finding(severity=Severity.CRITICAL)]}, alerts, {}, T0 + SECOND)
    assert [one.severity for one in worse.updated] == [Severity.CRITICAL]
    better = reconcile(RULES, {"late": [finding()]}, worse.open_alerts, {}, T0 + 120 * SECOND)
    assert [one.severity for one in better.open_alerts] == [Severity.CRITICAL]


def test_what_is_not_found_again_is_over():
    over = reconcile(RULES, {"late": []}, opened(finding()), {}, T0 + SECOND)
    assert [one.resolved_ns for one in over.resolved] == [T0 + SECOND]
    assert not over.open_alerts


def test_nobody_can_know_keeps_open_and_opens_nothing():
    alerts = opened(finding())
    unsure = reconcile(RULES, {"late": [finding(sure=False), finding("b", sure=False)]}, alerts, {}, T0 + 600 * SECOND)
    assert (unsure.stored, unsure.open_alerts) == ([], alerts)


def test_a_rule_that_was_not_asked_keeps_what_it_has_and_one_that_is_gone_does_not():
    alerts = opened(finding()) + opened(finding(rule="gone"))
    after = reconcile(RULES, {"lost": []}, alerts, {}, T0 + SECOND)
    assert [one.rule for one in after.open_alerts] == ["late"]
    assert [one.rule for one in after.resolved] == ["gone"]


def test_a_finding_waits_for_as_long_as_its_rule_wants():
    rules = {"late": RULE._replace(hold_s=60)}
    first = reconcile(rules, {"late": [finding()]}, [], {}, T0)
    assert not first.opened
    gone = reconcile(rules, {"late": []}, [], first.holding, T0 + 30 * SECOND)
    assert not gone.holding
    kept = loads(dumps(first.holding))
    assert kept == first.holding
    unsure = reconcile(rules, {"late": [finding(sure=False)]}, [], kept, T0 + 30 * SECOND)
    unasked = reconcile(rules, {}, [], unsure.holding, T0 + 40 * SECOND)
    held = reconcile(rules, {"late": [finding(since_ns=T0 + 60 * SECOND)]}, [], unasked.holding, T0 + 60 * SECOND)
    assert len(held.opened) == 1
    assert not held.holding


def test_what_began_long_ago_waits_from_when_it_is_found():
    rules = {"late": RULE._replace(hold_s=60)}
    first = reconcile(rules, {"late": [finding(since_ns=T0 - 3600 * SECOND)]}, [], {}, T0)
    assert not first.opened
    (alert,) = reconcile(rules, {"late": [finding(since_ns=T0 - 3600 * SECOND)]}, [], first.holding, T0 + 60 * SECOND).opened
    assert alert.since_ns == T0 - 3600 * SECOND


def test_what_a_rule_that_is_gone_waited_for_is_forgotten():
    assert not reconcile(RULES, {}, [], {"aa": ("gone", T0)}, T0 + SECOND).holding


def test_no_note_is_nothing_held():
    assert loads(None) == {}
    assert json.loads(dumps({})) == {}


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=4), max_size=12))
def test_a_tick_made_twice_changes_nothing_and_no_subject_has_two_open_alerts(story):
    alerts: list[Alert] = []
    for number, tick in enumerate(story):
        now = T0 + number * 10 * SECOND
        found = {"late": [finding(job, sure=sure) for job, sure in tick]}
        once = reconcile(RULES, found, alerts, {}, now)
        assert reconcile(RULES, found, alerts, {}, now) == once
        again = reconcile(RULES, found, once.open_alerts, {}, now)
        assert (again.opened, again.resolved) == ([], [])
        alerts = once.open_alerts
        assert len({one.fingerprint for one in alerts}) == len(alerts)
        sure = {job for job, sure in tick if sure}
        assert sure <= {one.subject.job for one in alerts} <= {job for job, _ in tick}


def test_fields_of_an_alert_come_from_its_finding():
    (alert,) = opened(finding(cause="disk full", runbook="https://runbooks/late", owner="night", evidence='{"late_s":1}'))
    assert (alert.cause, alert.runbook, alert.owner, alert.evidence) == (
        "disk full",
        "https://runbooks/late",
        "night",
        '{"late_s":1}',
    )
