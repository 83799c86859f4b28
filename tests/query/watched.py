"""What an evaluator would have kept of the small fab of `world`: an open, an acknowledged and a resolved alert, messages about
them, expectations of every origin, expected runs, a silence.

In: a Watch. Out: the same, filled.  Called by: the tests of query that ask about alerts.
"""

from __future__ import annotations

import json

from tests.query import world
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
from wafermonitor.storage.watch import Outcome

FAILED_RUN = RunKey("fab2", world.trace_id(2), world.span_id(1))
OPEN, TAKEN, OVER, FEED = (f"{number:032x}" for number in (1, 2, 3, 4))
SILENCE = f"{9:032x}"


def at(seconds):
    return world.NOW + int(seconds * world.SECOND)


def alert(alert_id=OPEN, *, rule="late", site="fab1", job="lot_yield", opened_s=-60.0, resolved_s=None, **fields):
    subject = fields.pop("subject", Subject(site=site, job=job, detail="nightly 2026-05-28T20:00:00Z "))
    values = {
        "fingerprint": f"{rule}-{subject.key}",
        "severity": Severity.WARNING,
        "since_ns": at(opened_s - 30),
        "seen_ns": at(0),
        "summary": f"{job} has not started",
        "evidence": '{"late_s": 600}',
        "resolved_ns": None if resolved_s is None else at(resolved_s),
    } | fields
    return Alert(id=alert_id, rule=rule, subject=subject, opened_ns=at(opened_s), **values)


def delivery(number=1, alerts=(OPEN,), **fields):
    values = {"channel": "mail", "kind": Kind.FIRING, "group": "fab1", "created_ns": at(-59), "due_ns": at(-59)} | fields
    return Delivery(id=f"{number:032x}", alerts=tuple(alerts), **values)


def expectation(name="nightly", origin=Origin.API, *, site="fab1", job="lot_yield", spec=None):
    text = json.dumps(spec or {"cron": "0 2 * * *"})
    return Expectation(name, site, job, origin, text, since_ns=at(-86_400), watched_ns=at(-10), changed_ns=at(-86_400))


def expected_run(nominal_s=-3600.0, state=ExpectedState.MISSED, *, name="nightly", job="lot_yield", **fields):
    due = Expected(at(nominal_s), at(nominal_s - 300), at(nominal_s + 300), at(nominal_s + 900))
    return ExpectedRun(name, "fab1", job, fields.pop("subject", ""), due, state, changed_ns=at(0), **fields)


async def store(watch, **outcome):
    async with watch.lead() as lead:
        await lead.expectations()
        await lead.store(Outcome(**outcome))


async def fill(watch):
    """Alerts: `OPEN` (late), `TAKEN` (failed run, acknowledged), `OVER` (resolved), `FEED` (silenced)."""
    await watch.declare([expectation("hourly", Origin.DECLARED, site=None, job="etch_check")])
    await watch.save(expectation())
    await watch.save(expectation("weekly", Origin.PROPOSED, job="wafer"))
    failed = alert(
        TAKEN,
        rule="failed",
        opened_s=-2900,
        severity=Severity.CRITICAL,
        subject=Subject(site="fab2", job="etch_check", run=FAILED_RUN),
        summary="etch_check failed",
    )
    feed = alert(FEED, rule="feed behind", opened_s=-30, subject=Subject(site="fab1", feed="feed-1"), summary="feed is behind")
    await store(
        watch,
        alerts=[alert(), failed, feed, alert(OVER, opened_s=-9000, resolved_s=-8000, fingerprint="another")],
        deliveries=[delivery(), delivery(2, (OPEN, TAKEN), channel="chat", state=DeliveryState.SENT, answer="ok", attempts=1)],
        expected=[
            expected_run(),
            expected_run(-7200, ExpectedState.MET, start_ns=at(-7080), run=world.run().key, settled=True),
            expected_run(3600, ExpectedState.EXPECTED, name="hourly", job="etch_check"),
        ],
    )
    await watch.acknowledge(TAKEN, "ana", "calling the tool owner")
    await watch.silence(Silence(SILENCE, at(3600), "ana", "link is being mended", at(-100), site="fab1", rule="feed behind"))
    return watch
