"""What a tick found out, as every store can keep it: a strange name in one plant must not stop the alerts of all the others.

In: an `Outcome`, texts. Out: the same, without what PostgreSQL refuses. Called by: `memory_watch`, `timescale.watch`.

Text loses NUL and lone surrogates, times are bound to 64 bits, evidence becomes JSON as RFC 8259 has it (no NaN, no Infinity).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, overload

from wafermonitor.runs.alerts import Alert, Delivery, ExpectedRun, Subject
from wafermonitor.runs.expectations import Expected
from wafermonitor.runs.records import RunKey
from wafermonitor.storage.declaring import indexed
from wafermonitor.storage.watch import Outcome

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_LEAST, _MOST = -(2**63), 2**63 - 1
_MOST_ATTEMPTS = 2**31 - 1


def keepable(outcome: Outcome) -> Outcome:
    """All of `outcome`, every value such that a column holds it."""
    return Outcome(
        [_expected(one) for one in outcome.expected],
        [_alert(one) for one in outcome.alerts],
        [_delivery(one) for one in outcome.deliveries],
        {text(name): _number(at_ns) for name, at_ns in outcome.watched.items()},
        {text(name): text(note) for name, note in outcome.notes.items()},
    )


@overload
def text(given: str) -> str: ...
@overload
def text(given: str | None) -> str | None: ...
def text(given: str | None) -> str | None:
    """`given` without NUL and lone surrogates."""
    if given is None or (given.isascii() and "\0" not in given):
        return given
    return _NO_TEXT.sub("", given)


def called(one: Any) -> str:
    """What a log calls one that had to be left out of a tick."""
    if isinstance(one, ExpectedRun):
        return f"the run {one.subject!r} of the expectation {one.expectation!r}, nominally at {one.due.nominal_ns} ns"
    if isinstance(one, Alert):
        return f"the alert {one.id!r} of the rule {one.rule!r}: {one.summary!r}"
    if isinstance(one, Delivery):
        return f"the message {one.id!r} to {one.channel!r}"
    return f"the note {one[0]!r}"


@overload
def _number(given: int) -> int: ...
@overload
def _number(given: int | None) -> int | None: ...
def _number(given: int | None) -> int | None:
    return given if given is None else max(_LEAST, min(given, _MOST))


def _key(run: RunKey | None) -> RunKey | None:
    return run if run is None else run._replace(site=text(run.site))


def _expected(one: ExpectedRun) -> ExpectedRun:
    return indexed(
        ExpectedRun(
            *(text(one.expectation), text(one.site), text(one.job), text(one.subject)),
            due=Expected(*map(_number, one.due)),
            state=one.state,
            start_ns=_number(one.start_ns),
            run=_key(one.run),
            settled=one.settled,
            changed_ns=_number(one.changed_ns),
        )
    )


def _alert(one: Alert) -> Alert:
    about = one.subject
    return Alert(
        *(text(one.id), text(one.fingerprint), text(one.rule), one.severity),
        subject=Subject(text(about.site), text(about.job), _key(about.run), text(about.feed), text(about.detail)),
        opened_ns=_number(one.opened_ns),
        since_ns=_number(one.since_ns),
        seen_ns=_number(one.seen_ns),
        summary=text(one.summary),
        evidence=_evidence(one.evidence),
        cause=text(one.cause),
        runbook=text(one.runbook),
        owner=text(one.owner),
        resolved_ns=_number(one.resolved_ns),
        acknowledged_ns=_number(one.acknowledged_ns),
        acknowledged_by=text(one.acknowledged_by),
        note=text(one.note),
    )


def _delivery(one: Delivery) -> Delivery:
    return one._replace(
        id=text(one.id),
        channel=text(one.channel),
        group=text(one.group),
        alerts=tuple(map(text, one.alerts)),
        created_ns=_number(one.created_ns),
        due_ns=_number(one.due_ns),
        attempts=min(one.attempts, _MOST_ATTEMPTS),
        answer=text(one.answer),
        settled_ns=_number(one.settled_ns),
    )


def _evidence(given: str) -> str:
    """JSON as it is given, where all of it can be kept. What is no JSON at all is kept as a text."""
    given = text(given)
    try:
        value = json.loads(given)
        kept = _value(value)
    except (ValueError, RecursionError):
        return json.dumps({"text": given}, ensure_ascii=False)
    return given if value == kept else json.dumps(kept, ensure_ascii=False)


def _value(given: Any) -> Any:
    if isinstance(given, str):
        return text(given)
    if isinstance(given, float):
        return given if math.isfinite(given) else None
    if isinstance(given, list):
        return [_value(one) for one in given]
    if isinstance(given, dict):
        return {text(name): _value(one) for name, one in given.items()}
    return given
