"""What alerting keeps, in dictionaries: the memory engine's other half, and the plainest reading of `storage.watch`.

In: expectations, outcomes, questions. Out: the same answers as PostgreSQL gives, until the process ends. Called by: `memory`.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from wafermonitor.runs.alerts import Alert, Delivery, DeliveryState, Expectation, ExpectedRun, Origin, Silence
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.cursors import ALERT, EXPECTED_RUN, page_of
from wafermonitor.storage.declaring import declared, same_wish, storable
from wafermonitor.storage.errors import CursorRejected, StorageRejected, StorageUnavailable
from wafermonitor.storage.keepable import called, keepable, text
from wafermonitor.storage.protocol import Page
from wafermonitor.storage.watch import AlertChanges, AlertQuery, ExpectedQuery, Outcome

log = logging.getLogger(__name__)

_TOKEN = re.compile(r"([0-9a-f]{32})\.([0-9]{1,18})\Z")
"""Of which store, and how many changes it had seen."""


class _Tables:
    """What PostgreSQL keeps in tables, keyed as its unique indexes are."""

    def __init__(self) -> None:
        self.expectations: dict[str, Expectation] = {}
        self.expected: dict[tuple[str, str, int], ExpectedRun] = {}
        self.alerts: dict[str, Alert] = {}
        self.open: dict[str, str] = {}
        """Fingerprint → id of the one open alert that has it."""
        self.deliveries: dict[str, Delivery] = {}
        self.leased_until_ns: dict[str, int] = {}
        self.silences: dict[str, Silence] = {}
        self.notes: dict[str, str] = {}
        self.ticked_ns: int | None = None
        self.leader: Lead | None = None
        self.changed: dict[str, int] = {}
        self.change = 0
        self.origin = uuid.uuid4().hex

    def in_force(self, now_ns: int) -> list[Silence]:
        """Silences that have begun and not ended, in the order they were made."""
        found = [one for one in self.silences.values() if one.created_ns <= now_ns < one.until_ns]
        return sorted(found, key=lambda one: (one.created_ns, one.id))

    def put(self, alert: Alert) -> None:
        """Store it; one that was only seen again has not changed."""
        known = self.alerts.get(alert.id)
        self.alerts[alert.id] = alert
        if known is None or known._replace(seen_ns=alert.seen_ns) != alert:
            self.change += 1
            self.changed[alert.id] = self.change

    def put_told(self, alert: Alert) -> None:
        """What a tick says of an alert, unless another of its fingerprint is open."""
        known = self.alerts.get(alert.id)
        if alert.resolved_ns is None and self.open.get(alert.fingerprint, alert.id) != alert.id:
            log.error("left out of a tick, because it cannot be stored: %s", called(alert))
            return
        if known is not None and self.open.get(known.fingerprint) == alert.id:
            del self.open[known.fingerprint]
        if alert.resolved_ns is None:
            self.open[alert.fingerprint] = alert.id
        self.put(_still_acknowledged(alert, known))

    def put_delivery(self, delivery: Delivery) -> None:
        """Store it, unless it is done; attempts made meanwhile count."""
        known = self.deliveries.get(delivery.id)
        if known is None:
            self.deliveries[delivery.id] = delivery
        elif known.state is DeliveryState.WAITING:
            self.deliveries[delivery.id] = delivery._replace(attempts=max(known.attempts, delivery.attempts))

    def put_note(self, name: str, text: str | None) -> None:
        """Remember it, or forget it."""
        if text is None:
            self.notes.pop(name, None)
        else:
            self.notes[name] = text

    def drop_unsettled(self, name: str, from_ns: int | None = None) -> None:
        """Forget what an expectation waits for, or only what is due at `from_ns` or later."""
        gone = [
            key
            for key, one in self.expected.items()
            if key[0] == name and not one.settled and (from_ns is None or one.due.nominal_ns >= from_ns)
        ]
        for key in gone:
            del self.expected[key]


class Lead:
    """What the leader may do until it leads no more."""

    def __init__(self, tables: _Tables, now_ns: int) -> None:
        self._tables = tables
        self._known: dict[str, int] = {}
        self.now_ns = now_ns

    async def expectations(self) -> list[Expectation]:
        """All but the proposed."""
        found = [one for _, one in sorted(self._tables.expectations.items()) if one.origin is not Origin.PROPOSED]
        self._known = {one.name: one.changed_ns for one in found}
        return found

    async def unsettled(self) -> list[ExpectedRun]:
        """In order of expectation and nominal time."""
        found = [one for one in self._tables.expected.values() if not one.settled]
        return sorted(found, key=lambda one: (one.expectation, one.due.nominal_ns, one.subject))

    async def open_alerts(self) -> list[Alert]:
        """The oldest first."""
        found = [self._tables.alerts[alert_id] for alert_id in self._tables.open.values()]
        return sorted(found, key=lambda alert: (alert.opened_ns, alert.id))

    async def silences(self) -> list[Silence]:
        """In force when the tick began."""
        return self._tables.in_force(self.now_ns)

    async def deliveries(self, since_ns: int) -> list[Delivery]:
        """The oldest first."""
        found, still = self._tables.deliveries.values(), set(self._tables.open.values())
        return _oldest(
            one
            for one in found
            if one.state is DeliveryState.WAITING or one.created_ns >= since_ns or not still.isdisjoint(one.alerts)
        )

    async def notes(self) -> dict[str, str]:
        """By name."""
        return dict(self._tables.notes)

    async def store(self, outcome: Outcome) -> None:
        """All of it between two awaits, so that nobody sees half."""
        tables = self._tables
        if tables.leader is not self:
            raise StorageUnavailable("another evaluator leads by now: what this one found out is dropped")
        outcome = keepable(outcome)
        for run in outcome.expected:
            if run.settled or self._still(run.expectation):
                tables.expected[run.expectation, run.subject, run.due.nominal_ns] = run
        # What is resolved makes room for what is opened.
        for alert in sorted({alert.id: alert for alert in outcome.alerts}.values(), key=lambda one: one.resolved_ns is None):
            tables.put_told(alert)
        for delivery in outcome.deliveries:
            tables.put_delivery(delivery)
        for name, watched_ns in outcome.watched.items():
            if name in tables.expectations and self._still(name):
                tables.expectations[name] = tables.expectations[name]._replace(watched_ns=watched_ns)
        for name, note in outcome.notes.items():
            tables.put_note(name, note)
        tables.ticked_ns = self.now_ns

    def _still(self, name: str) -> bool:
        """Whether the expectation is the one that this tick has read, if it has read one of this name."""
        known = self._tables.expectations.get(name)
        if name not in self._known:
            return True
        return known is not None and known.changed_ns == self._known[name]


class Watch:
    """`storage.watch.Watch` for one process. `clock` gives now in ns."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._tables = _Tables()
        self._clock = clock

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[Lead | None]:
        """One task at a time."""
        if self._tables.leader is not None:
            yield None
            return
        self._tables.leader = Lead(self._tables, self._clock())
        try:
            yield self._tables.leader
        finally:
            self._tables.leader = None

    async def ticked_ns(self) -> int | None:
        """The tick that was stored last."""
        return self._tables.ticked_ns

    async def declare(self, expectations: Sequence[Expectation], now_ns: int | None = None) -> None:
        """What is not declared any more goes, with what it still waits for."""
        tables = self._tables
        at_ns = self._clock() if now_ns is None else now_ns
        change = declared(tables.expectations.values(), expectations, at_ns)
        for name in change.dropped:
            del tables.expectations[name]
            tables.drop_unsettled(name)
        for name in change.begun:
            tables.drop_unsettled(name, at_ns)
        tables.expectations.update((one.name, one) for one in change.put)

    async def save(self, expectation: Expectation) -> None:
        """As it is given; a changed wish forgets what the old one waits for in the time to come."""
        tables = self._tables
        self._not_declared(expectation.name)
        known = tables.expectations.get(expectation.name)
        if known is not None and not same_wish(known, expectation):
            tables.drop_unsettled(expectation.name, self._clock())
        tables.expectations[expectation.name] = storable(expectation)

    async def forget(self, name: str) -> bool:
        """With its unsettled runs; what has been stays."""
        self._not_declared(name)
        self._tables.drop_unsettled(name)
        return self._tables.expectations.pop(name, None) is not None

    async def expectations(self, origin: Origin | None = None) -> list[Expectation]:
        """By name."""
        return [one for _, one in sorted(self._tables.expectations.items()) if origin in (None, one.origin)]

    async def expected_runs(self, query: ExpectedQuery) -> Page[ExpectedRun]:
        """The newest nominal time first."""
        found = [one for one in self._tables.expected.values() if _expected_matches(one, query)]
        return page_of(
            found, lambda one: (-one.due.nominal_ns, one.expectation, one.subject), EXPECTED_RUN, query.cursor, query.limit
        )

    async def alerts(self, query: AlertQuery) -> Page[Alert]:
        """The newest opened first."""
        found = [alert for alert in self._tables.alerts.values() if _alert_matches(alert, query)]
        return page_of(found, lambda alert: (-alert.opened_ns, alert.id), ALERT, query.cursor, query.limit)

    async def alert(self, alert_id: str) -> Alert | None:
        """The one with this id."""
        return self._tables.alerts.get(alert_id)

    async def acknowledge(self, alert_id: str, by: str, note: str | None = None) -> Alert | None:
        """The last who says so is the one; the time is the first's."""
        known = self._tables.alerts.get(alert_id)
        if known is None:
            return None
        at_ns = self._clock() if known.acknowledged_ns is None else known.acknowledged_ns
        alert = known._replace(acknowledged_ns=at_ns, acknowledged_by=by, note=note)
        self._tables.put(alert)
        return alert

    async def alert_changes(self, token: str | None, limit: int = 500) -> AlertChanges:
        """Alerts changed after the token's change number."""
        tables = self._tables
        if token is None:
            return AlertChanges([], f"{tables.origin}.{tables.change}")
        given = _TOKEN.match(token)
        if given is None:
            raise CursorRejected(f"{token[:40]!r} is no change token: start again without one")
        since = int(given[2])
        if given[1] != tables.origin or since > tables.change:
            raise CursorRejected("this change token is from another store: start again without one")
        newer = sorted((number, key) for key, number in tables.changed.items() if number > since)[: max(1, limit)]
        upto = newer[-1][0] if newer else tables.change
        return AlertChanges([tables.alerts[key] for _, key in newer], f"{tables.origin}.{upto}")

    async def silence(self, silence: Silence) -> None:
        """By its id."""
        self._tables.silences[silence.id] = silence

    async def unsilence(self, silence_id: str) -> bool:
        """It ends now, and stays in the books until it is pruned."""
        now_ns = self._clock()
        found = any(one.id == silence_id for one in self._tables.in_force(now_ns))
        if found:
            self._tables.silences[silence_id] = self._tables.silences[silence_id]._replace(until_ns=now_ns)
        return found

    async def silences(self) -> list[Silence]:
        """In force now."""
        return self._tables.in_force(self._clock())

    async def alert_deliveries(self, alert_id: str) -> list[Delivery]:
        """The oldest first."""
        return _oldest(one for one in self._tables.deliveries.values() if alert_id in one.alerts)

    async def claim_deliveries(self, limit: int = 20, lease_s: float = 60.0) -> list[Delivery]:
        """Each counts an attempt, whatever becomes of it."""
        tables, now_ns = self._tables, self._clock()
        due = _oldest(
            one
            for one in tables.deliveries.values()
            if one.state is DeliveryState.WAITING and max(one.due_ns, tables.leased_until_ns.get(one.id, now_ns)) <= now_ns
        )
        claimed = [one._replace(attempts=one.attempts + 1) for one in due[:limit]]
        for one in claimed:
            tables.deliveries[one.id] = one
            tables.leased_until_ns[one.id] = now_ns + round(lease_s * SECOND_NS)
        return claimed

    async def settle_delivery(
        self, delivery_id: str, attempt: int, state: DeliveryState, answer: str, retry_s: float | None = None
    ) -> None:
        """What was sent is sent; nothing else comes after an end, or of an attempt that is not the last."""
        tables, now_ns = self._tables, self._clock()
        known = tables.deliveries.get(delivery_id)
        if known is None or known.state is DeliveryState.SENT:
            return
        if state is not DeliveryState.SENT and (known.state is not DeliveryState.WAITING or known.attempts != attempt):
            return
        waits = state is DeliveryState.WAITING
        tables.deliveries[delivery_id] = known._replace(
            state=state,
            answer=text(answer),
            due_ns=now_ns + round((retry_s or 0.0) * SECOND_NS) if waits else known.due_ns,
            settled_ns=None if waits else now_ns,
        )
        tables.leased_until_ns.pop(delivery_id, None)

    async def prune(self, before_ns: int, met_before_ns: int | None = None) -> int:
        """Expected runs, resolved alerts, deliveries that are done, silences that are over."""
        tables = self._tables
        bounds = {ExpectedState.MET: before_ns if met_before_ns is None else met_before_ns}
        runs = [
            key
            for key, run in tables.expected.items()
            if run.settled and max(run.due.nominal_ns, _settled_ns(run)) < bounds.get(run.state, before_ns)
        ]
        alerts = [key for key, one in tables.alerts.items() if one.resolved_ns is not None and one.resolved_ns < before_ns]
        still = set(tables.open.values())
        deliveries = [
            key
            for key, one in tables.deliveries.items()
            if _done_ns(one, before_ns) < before_ns and still.isdisjoint(one.alerts)
        ]
        silences = [key for key, one in tables.silences.items() if one.until_ns < before_ns]
        for run_key in runs:
            del tables.expected[run_key]
        for key in alerts:
            del tables.alerts[key], tables.changed[key]
        for key in deliveries:
            del tables.deliveries[key]
        for key in silences:
            del tables.silences[key]
        return len(runs) + len(alerts) + len(deliveries) + len(silences)

    def _not_declared(self, name: str) -> None:
        known = self._tables.expectations.get(name)
        if known is not None and known.origin is Origin.DECLARED:
            raise StorageRejected(f"the expectation {name!r} is declared in a file: change it there")


def _still_acknowledged(alert: Alert, known: Alert | None) -> Alert:
    if known is None or known.acknowledged_ns is None:
        return alert
    return alert._replace(acknowledged_ns=known.acknowledged_ns, acknowledged_by=known.acknowledged_by, note=known.note)


def _settled_ns(run: ExpectedRun) -> int:
    return max(run.changed_ns, run.due.missed_ns)


def _done_ns(delivery: Delivery, now_ns: int) -> int:
    if delivery.state is DeliveryState.WAITING:
        return now_ns
    return delivery.created_ns if delivery.settled_ns is None else delivery.settled_ns


def _oldest(deliveries: Iterable[Delivery]) -> list[Delivery]:
    return sorted(deliveries, key=lambda one: (one.created_ns, one.id))


def _expected_matches(run: ExpectedRun, query: ExpectedQuery) -> bool:
    wanted: tuple[tuple[Sequence[Any], Any], ...] = (
        (query.site, run.site),
        (query.job, run.job),
        (query.expectation, run.expectation),
        (query.state, run.state),
    )
    return (
        all(not values or value in values for values, value in wanted)
        and query.run in (None, run.run)
        and (query.from_ns is None or run.due.nominal_ns >= query.from_ns)
        and (query.to_ns is None or run.due.nominal_ns < query.to_ns)
    )


def _alert_matches(alert: Alert, query: AlertQuery) -> bool:
    wanted: tuple[tuple[Sequence[Any], Any], ...] = (
        (query.site, alert.subject.site),
        (query.job, alert.subject.job),
        (query.rule, alert.rule),
        (query.severity, alert.severity),
    )
    return (
        all(not values or value in values for values, value in wanted)
        and (query.open is None or query.open == (alert.resolved_ns is None))
        and (query.acknowledged is None or query.acknowledged == (alert.acknowledged_ns is not None))
        and query.run in (None, alert.subject.run)
        and (query.from_ns is None or alert.opened_ns >= query.from_ns)
        and (query.to_ns is None or alert.opened_ns < query.to_ns)
    )
