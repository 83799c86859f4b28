"""Records of alerting become rows, and rows become records again.

In: records of `runs.alerts`, rows of the `watch_…` queries in the types of `codecs.register`. Out: tuples in the order of the
queries' columns, records. Called by: `watch`.
"""

from __future__ import annotations

import asyncpg

from wafermonitor.runs.alerts import (
    Alert,
    Delivery,
    DeliveryState,
    Expectation,
    ExpectedRun,
    Kind,
    Origin,
    Severity,
    Silence,
    Subject,
)
from wafermonitor.runs.expectations import Expected, ExpectedState
from wafermonitor.runs.records import RunKey
from wafermonitor.storage.timescale.rows import Row


def expectation_row(one: Expectation) -> Row:
    """For `watch_put_expectations`."""
    return (one.name, one.site, one.job, one.origin.value, one.spec, one.since_ns, one.watched_ns, one.changed_ns)


def expectation_of(row: asyncpg.Record) -> Expectation:
    """A row of `watch_expectations`."""
    name, site, job, origin, *rest = row
    return Expectation(name, site, job, Origin(origin), *rest)


def expected_run_row(one: ExpectedRun) -> Row:
    """For `watch_put_expected_runs`."""
    return (
        *(one.expectation, one.site, one.job, one.subject),
        *one.due,
        *(one.state.value, one.start_ns, *key_row(one.run), one.settled, one.changed_ns),
    )


def expected_run_of(row: asyncpg.Record) -> ExpectedRun:
    """A row of `watch_unsettled` or `watch_expected_runs`."""
    expectation, site, job, subject, nominal_ns, opens_ns, late_ns, missed_ns, state, start_ns, *run, settled, changed_ns = row
    due = Expected(nominal_ns, opens_ns, late_ns, missed_ns)
    return ExpectedRun(expectation, site, job, subject, due, _STATES[state], start_ns, _key_of(*run), settled, changed_ns)


def alert_row(one: Alert) -> Row:
    """For `watch_put_alerts`."""
    about = one.subject
    return (
        *(one.id, one.fingerprint, one.rule, int(one.severity), about.site, about.job, *key_row(about.run)),
        *(
            about.feed,
            about.detail,
            one.opened_ns,
            one.since_ns,
            one.seen_ns,
            one.summary,
            one.evidence,
            one.cause,
            one.runbook,
        ),
        *(one.owner, one.resolved_ns, one.acknowledged_ns, one.acknowledged_by, one.note),
    )


def alert_of(row: asyncpg.Record) -> Alert:
    """A row with the columns of `watch_alert_columns`."""
    return Alert(
        id=row["alert_id"],
        fingerprint=row["fingerprint"],
        rule=row["rule"],
        severity=Severity(row["severity"]),
        subject=Subject(
            site=row["site"],
            job=row["job"],
            run=_key_of(row["run_site"], row["run_trace_id"], row["run_span_id"]),
            feed=row["feed"],
            detail=row["detail"],
        ),
        opened_ns=row["opened_unix_ns"],
        since_ns=row["since_unix_ns"],
        seen_ns=row["seen_unix_ns"],
        summary=row["summary"],
        evidence=row["evidence"],
        cause=row["cause"],
        runbook=row["runbook"],
        owner=row["owner"],
        resolved_ns=row["resolved_unix_ns"],
        acknowledged_ns=row["acknowledged_unix_ns"],
        acknowledged_by=row["acknowledged_by"],
        note=row["note"],
    )


def delivery_row(one: Delivery) -> Row:
    """For `watch_put_delivery`."""
    return (
        *(one.id, one.channel, one.kind.value, one.group, list(one.alerts), one.created_ns, one.due_ns, one.state.value),
        *(one.attempts, one.answer, one.settled_ns),
    )


def delivery_of(row: asyncpg.Record) -> Delivery:
    """A row with the columns of `watch_delivery_columns`."""
    delivery_id, channel, kind, group, alerts, created_ns, due_ns, state, *rest = row
    return Delivery(delivery_id, channel, Kind(kind), group, tuple(alerts), created_ns, due_ns, DeliveryState(state), *rest)


def silence_of(row: asyncpg.Record) -> Silence:
    """A row of `watch_silences`."""
    return Silence(*row)


_STATES = {state.value: state for state in ExpectedState}
"""An enum's own look-up takes longer than all the rest of a row."""


def key_row(run: RunKey | None) -> Row:
    """A run's site, trace and span."""
    if run is None:
        return (None, None, None)
    return (run.site, run.trace_id, int.from_bytes(run.span_id, signed=True))


def _key_of(site: str | None, trace_id: bytes | None, span_id: int | None) -> RunKey | None:
    if site is None or trace_id is None or span_id is None:
        return None
    return RunKey(site, trace_id, span_id.to_bytes(8, signed=True))
