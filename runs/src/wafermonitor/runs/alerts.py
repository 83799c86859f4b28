"""The records of what should have happened: expectations, the runs they wait for, alerts, and what was told to whom.

In: what alerting declares, judges and plans. Out: what storage keeps and the read API serves.
Called by: alerting (makes them), storage (keeps them), query (serves them).

Conventions as in `records`: times are ns since 1970-01-01 UTC by the store's clock, durations s. `spec` and `evidence` are
JSON text.
"""

from __future__ import annotations

import hashlib
import json
from enum import IntEnum, StrEnum
from typing import NamedTuple

from wafermonitor.runs.expectations import Expected, ExpectedState
from wafermonitor.runs.records import RunKey


class Severity(IntEnum):
    """How soon a person should look; greater is sooner."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """`info`, `warning` or `critical`: how people write it."""
        return self.name.lower()


class Origin(StrEnum):
    """Who wants an expectation. What is proposed waits for nothing until a person accepts it (then it is `api`)."""

    DECLARED = "declared"
    API = "api"
    PROPOSED = "proposed"


class Expectation(NamedTuple):
    """A standing wish for runs of one job; what it wants exactly stands in `spec` (JSON, `alerting.declared` reads it).

    `since_ns`: nothing before this time is expected. `watched_ns`: up to when expected runs were made from the schedule; an
    evaluator that was away goes on there.
    """

    name: str
    site: str | None
    job: str
    origin: Origin
    spec: str
    since_ns: int
    watched_ns: int
    changed_ns: int


class ExpectedRun(NamedTuple):
    """One run that an expectation waits for, and what became of it. Its key: (expectation, subject, nominal_ns).

    `subject` is what it is about beside the job, such as a lot ("" where the schedule alone calls for it). `start_ns` is the
    start of its run by the store's clock, the least that was ever seen. `settled`: nothing that comes later changes it.
    """

    expectation: str
    site: str | None
    job: str
    subject: str
    due: Expected
    state: ExpectedState
    start_ns: int | None = None
    run: RunKey | None = None
    settled: bool = False
    changed_ns: int = 0


class Subject(NamedTuple):
    """What a finding is about: the narrowest thing that is known. `detail` tells two of one thing apart (a lot, a disk)."""

    site: str | None = None
    job: str | None = None
    run: RunKey | None = None
    feed: str | None = None
    detail: str = ""

    @property
    def key(self) -> str:
        """The same text for the same subject, for ever."""
        run = None if self.run is None else (self.run.site, self.run.id)
        return json.dumps([self.site, self.job, run, self.feed, self.detail], ensure_ascii=False, separators=(",", ":"))


class Finding(NamedTuple):
    """What one rule holds to be so now. The same fingerprint is the same alert while it is open.

    `sure` False: nobody can know at present (a feed is behind). It opens nothing, and keeps open what is open.
    `evidence` is a JSON object: the numbers behind `summary`. `owner` is who is told where routes ask for it.
    """

    rule: str
    severity: Severity
    subject: Subject
    since_ns: int
    summary: str
    evidence: str = "{}"
    cause: str | None = None
    runbook: str | None = None
    owner: str | None = None
    sure: bool = True

    @property
    def fingerprint(self) -> str:
        """32 hex digits of the SHA-256 of rule and subject."""
        return hashlib.sha256(f"{self.rule}\0{self.subject.key}".encode()).hexdigest()[:32]


class Alert(NamedTuple):
    """A finding that was told, from `opened_ns` until `resolved_ns` (None while it is open). `id` is a UUID's hex.

    `severity` is the greatest it has had. `seen_ns` is the last time the finding held.
    """

    id: str
    fingerprint: str
    rule: str
    severity: Severity
    subject: Subject
    opened_ns: int
    since_ns: int
    seen_ns: int
    summary: str
    evidence: str
    cause: str | None = None
    runbook: str | None = None
    owner: str | None = None
    resolved_ns: int | None = None
    acknowledged_ns: int | None = None
    acknowledged_by: str | None = None
    note: str | None = None


def alert_id(fingerprint: str, opened_ns: int) -> str:
    """The id of the alert of `fingerprint` that opens at `opened_ns`: the same tick, made twice, opens the same alert.

    The first half is the fingerprint's, so that a delivery, which knows only ids, tells what was told of the same before.
    """
    return fingerprint[:16] + hashlib.sha256(f"{fingerprint}\0{opened_ns}".encode()).hexdigest()[:16]


def opened(finding: Finding, now_ns: int) -> Alert:
    """The alert that `finding` opens."""
    fingerprint = finding.fingerprint
    return Alert(
        id=alert_id(fingerprint, now_ns),
        fingerprint=fingerprint,
        rule=finding.rule,
        severity=finding.severity,
        subject=finding.subject,
        opened_ns=now_ns,
        since_ns=min(now_ns, finding.since_ns),
        seen_ns=now_ns,
        summary=finding.summary,
        evidence=finding.evidence,
        cause=finding.cause,
        runbook=finding.runbook,
        owner=finding.owner,
    )


class Silence(NamedTuple):
    """Nobody is told of matching alerts until `until_ns`. A field that is None matches all; together they must all match."""

    id: str
    until_ns: int
    by: str
    why: str
    created_ns: int
    site: str | None = None
    job: str | None = None
    rule: str | None = None

    def covers(self, rule: str, subject: Subject, now_ns: int) -> bool:
        """Whether an alert of `rule` about `subject` is silenced at `now_ns`."""
        wanted = ((self.site, subject.site), (self.job, subject.job), (self.rule, rule))
        return self.created_ns <= now_ns < self.until_ns and all(want is None or want == have for want, have in wanted)


class Kind(StrEnum):
    """Why somebody is told."""

    FIRING = "firing"
    ESCALATED = "escalated"
    RESOLVED = "resolved"


class DeliveryState(StrEnum):
    """What became of one message; `dropped` is one that was given up, or is not needed any more."""

    WAITING = "waiting"
    SENT = "sent"
    DROPPED = "dropped"


class Delivery(NamedTuple):
    """One message to one channel about one or more alerts: written with them, sent after them, as often as it takes.

    `channel` names a channel of the routes; `group` is what its alerts have in common. Not before `due_ns`.
    """

    id: str
    channel: str
    kind: Kind
    group: str
    alerts: tuple[str, ...]
    created_ns: int
    due_ns: int
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    answer: str | None = None
    settled_ns: int | None = None
