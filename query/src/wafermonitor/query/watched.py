"""What alerting keeps becomes answers: alerts, messages, expectations, expected runs, silences, explanations, as models.

In: records of `runs.alerts` and `runs.explain`, silences in force, now in ns. Out: models.  Called by: routes, alert_feed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from wafermonitor.query.answers import instant, mapping, moment
from wafermonitor.query.models import (
    AlertModel,
    DeliveryModel,
    ExpectationModel,
    ExpectedRunModel,
    ExplainModel,
    ReasonModel,
    SeverityWord,
    SilenceModel,
)
from wafermonitor.runs.alerts import Alert, Delivery, Expectation, ExpectedRun, Silence
from wafermonitor.runs.explain import Explanation
from wafermonitor.runs.records import RunKey
from wafermonitor.runs.state import SECOND_NS

DEAD_AFTER_S = 60.0
"""When no rule has been judged for so long, nobody looks any more: four ticks of the evaluator."""


def alert_fields(alert: Alert, silences: Sequence[Silence], now_ns: int) -> dict[str, Any]:
    """The fields of `AlertModel`."""
    subject = alert.subject
    return {
        "id": alert.id,
        "fingerprint": alert.fingerprint,
        "rule": alert.rule,
        "severity": cast("SeverityWord", alert.severity.word),
        "site": subject.site,
        "job": subject.job,
        "run": None if subject.run is None else subject.run.id,
        "feed": subject.feed,
        "detail": subject.detail,
        "opened": instant(alert.opened_ns),
        "since": instant(alert.since_ns),
        "seen": instant(alert.seen_ns),
        "resolved": moment(alert.resolved_ns),
        "summary": alert.summary,
        "evidence": mapping(alert.evidence),
        "cause": alert.cause,
        "runbook": alert.runbook,
        "owner": alert.owner,
        "acknowledged": moment(alert.acknowledged_ns),
        "acknowledged_by": alert.acknowledged_by,
        "note": alert.note,
        "silenced_until": moment(silenced_until(alert, silences, now_ns)),
    }


def alert_model(alert: Alert, silences: Sequence[Silence], now_ns: int) -> AlertModel:
    """One alert as lists and streams show it."""
    return AlertModel(**alert_fields(alert, silences, now_ns))


def silenced_until(alert: Alert, silences: Sequence[Silence], now_ns: int) -> int | None:
    """When the last silence that covers an open alert ends, ns."""
    if alert.resolved_ns is not None:
        return None
    return max((one.until_ns for one in silences if one.covers(alert.rule, alert.subject, now_ns)), default=None)


def delivery_model(delivery: Delivery) -> DeliveryModel:
    """One message."""
    return DeliveryModel(
        id=delivery.id,
        channel=delivery.channel,
        kind=delivery.kind.value,
        group=delivery.group,
        alerts=list(delivery.alerts),
        created=instant(delivery.created_ns),
        due=instant(delivery.due_ns),
        state=delivery.state.value,
        attempts=delivery.attempts,
        answer=delivery.answer,
        settled=moment(delivery.settled_ns),
    )


def expectation_model(expectation: Expectation) -> ExpectationModel:
    """One expectation; its spec as the JSON it is."""
    spec = json.loads(expectation.spec)
    return ExpectationModel(
        name=expectation.name,
        site=expectation.site,
        job=expectation.job,
        origin=expectation.origin.value,
        spec=spec if isinstance(spec, dict) else {"spec": spec},
        since=instant(expectation.since_ns),
        changed=instant(expectation.changed_ns),
    )


def expected_run_model(expected: ExpectedRun) -> ExpectedRunModel:
    """One expected run."""
    due, start_ns = expected.due, expected.start_ns
    return ExpectedRunModel(
        expectation=expected.expectation,
        site=expected.site,
        job=expected.job,
        subject=expected.subject,
        nominal=instant(due.nominal_ns),
        opens=instant(due.opens_ns),
        late_after=instant(due.late_ns),
        missed_after=instant(due.missed_ns),
        state=expected.state.value,
        start=moment(start_ns),
        late_s=None if start_ns is None else (start_ns - due.nominal_ns) / SECOND_NS,
        run=None if expected.run is None else expected.run.id,
        settled=expected.settled,
        changed=instant(expected.changed_ns),
    )


def silence_model(silence: Silence) -> SilenceModel:
    """One silence."""
    return SilenceModel(
        id=silence.id,
        site=silence.site,
        job=silence.job,
        rule=silence.rule,
        until=instant(silence.until_ns),
        by=silence.by,
        why=silence.why,
        created=instant(silence.created_ns),
    )


def explain_model(explanation: Explanation, run: RunKey | None, now_ns: int, *, truncated: bool = False) -> ExplainModel:
    """Sentences about `run`, or about what has no run."""
    return ExplainModel(
        headline=explanation.headline,
        reasons=[
            ReasonModel(
                kind=reason.kind.value,
                text=reason.text,
                numbers=dict(reason.numbers),
                run=None if reason.run is None else reason.run.id,
            )
            for reason in explanation.reasons
        ],
        run=None if run is None else run.id,
        good_run=None if explanation.good_run is None else explanation.good_run.id,
        cohort=explanation.cohort,
        truncated=truncated,
        server_time=instant(now_ns),
    )
