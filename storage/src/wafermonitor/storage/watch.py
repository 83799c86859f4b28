"""The protocol of what alerting keeps: expectations, expected runs, alerts, silences, deliveries.

In: the records of `runs.alerts`. Out: the same. Implemented by: `storage.memory`, `storage.timescale`.
Called by: alerting (evaluator, notifier), query (lists, acknowledgements).

Engines without transactions over many rows (ClickHouse) have none of it; their sites keep it in a PostgreSQL of its own.
Errors: StorageUnavailable (try again) and StorageRejected (never will).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from wafermonitor.runs.alerts import Alert, Delivery, DeliveryState, Expectation, ExpectedRun, Origin, Severity, Silence
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.records import RunKey
from wafermonitor.storage.protocol import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertQuery:
    """Which alerts, the newest opened first. Empty tuples do not filter; `from_ns` ≤ opened < `to_ns`.

    `open`: True only open ones, False only resolved ones. `run`: those about one run.
    """

    site: tuple[str, ...] = ()
    job: tuple[str, ...] = ()
    rule: tuple[str, ...] = ()
    severity: tuple[Severity, ...] = ()
    open: bool | None = None
    acknowledged: bool | None = None
    run: RunKey | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    cursor: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedQuery:
    """Which expected runs, the newest nominal time first; `from_ns` ≤ nominal < `to_ns`. Empty tuples do not filter."""

    site: tuple[str, ...] = ()
    job: tuple[str, ...] = ()
    expectation: tuple[str, ...] = ()
    state: tuple[ExpectedState, ...] = ()
    run: RunKey | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    cursor: str | None = None
    limit: int = 100


class Outcome(NamedTuple):
    """All that one tick changes; it is stored whole or not at all, but for rows that no column holds.

    Those are left out and named in the log, so that one strange value does not stop every tick (`keepable` mends most).

    `expected` and `alerts` replace what has their key (`Alert.id`), except that an acknowledgement stored meanwhile stays.
    Unsettled runs of an expectation that was forgotten since the tick read it are left out; a subject is cut to 1000 bytes.
    Of alerts with one fingerprint one is open: a second is left out, too.
    `watched`: expectation → its new `watched_ns`. `notes` are the evaluator's own memory (JSON by name; None forgets one).
    """

    expected: Sequence[ExpectedRun] = ()
    alerts: Sequence[Alert] = ()
    deliveries: Sequence[Delivery] = ()
    watched: Mapping[str, int] = {}
    notes: Mapping[str, str | None] = {}


class AlertChanges(NamedTuple):
    """Alerts that changed since a token, at least once each, and the token to ask with next."""

    alerts: list[Alert]
    token: str


class Lead(Protocol):
    """What only the leader may do. What it stores is refused (StorageUnavailable) when another leads by now."""

    @property
    def now_ns(self) -> int:
        """When the tick began, by the store's clock."""

    async def expectations(self) -> list[Expectation]:
        """Those that wait for something: all but the proposed."""

    async def unsettled(self) -> list[ExpectedRun]:
        """Expected runs that may still change, in order of expectation and nominal time."""

    async def open_alerts(self) -> list[Alert]:
        """Every alert that is open."""

    async def silences(self) -> list[Silence]:
        """Those in force now."""

    async def deliveries(self, since_ns: int) -> list[Delivery]:
        """Those that wait, those created since, and those about an alert that is open, however old they are."""

    async def notes(self) -> dict[str, str]:
        """The evaluator's own memory."""

    async def store(self, outcome: Outcome) -> None:
        """Store all of it in one transaction that also proves that this process still leads."""


class Watch(Protocol):
    """What alerting keeps, for whoever asks. One instance may be used by several tasks."""

    def lead(self) -> AbstractAsyncContextManager[Lead | None]:
        """Lead while inside: one process of many, by a lock that ends with its connection. None: another leads."""

    async def ticked_ns(self) -> int | None:
        """When a leader last stored an outcome; None: never. By it others tell that nobody evaluates."""

    async def declare(self, expectations: Sequence[Expectation], now_ns: int | None = None) -> None:
        """Make these, and only these, the declared ones. One whose spec is unchanged keeps its times; others begin now.

        What an older spec still waits for from now on is forgotten. StorageRejected: a name of more than 1000 bytes.
        """

    async def save(self, expectation: Expectation) -> None:
        """Add or replace one by its name, with its times; what an older spec waits for from now on is forgotten.

        StorageRejected when that name is a declared one's (its file decides), or has more than 1000 bytes.
        """

    async def forget(self, name: str) -> bool:
        """Delete one with its unsettled runs; False when there is none. StorageRejected for a declared one."""

    async def expectations(self, origin: Origin | None = None) -> list[Expectation]:
        """All, or those of one origin, in order of name."""

    async def expected_runs(self, query: ExpectedQuery) -> Page[ExpectedRun]:
        """Expected runs, a page at a time."""

    async def alerts(self, query: AlertQuery) -> Page[Alert]:
        """Alerts, a page at a time."""

    async def alert(self, alert_id: str) -> Alert | None:
        """One alert by its id."""

    async def acknowledge(self, alert_id: str, by: str, note: str | None = None) -> Alert | None:
        """Somebody looks after it: it is not escalated any more. None when there is none; resolved ones may be, too."""

    async def alert_changes(self, token: str | None, limit: int = 500) -> AlertChanges:
        """What changed since `token`; None starts now, with none. CursorRejected where the token is of another store.

        An alert that was only seen again has not changed.
        """

    async def silence(self, silence: Silence) -> None:
        """Add one, or replace the one of its id."""

    async def unsilence(self, silence_id: str) -> bool:
        """End one now; False when none of that id is in force."""

    async def silences(self) -> list[Silence]:
        """Those in force now."""

    async def alert_deliveries(self, alert_id: str) -> list[Delivery]:
        """The messages about one alert, oldest first."""

    async def claim_deliveries(self, limit: int = 20, lease_s: float = 60.0) -> list[Delivery]:
        """Messages that are due, oldest first, each given to one caller only until `lease_s` have passed.

        Each claim is an attempt: `attempts` counts it.
        """

    async def settle_delivery(
        self, delivery_id: str, attempt: int, state: DeliveryState, answer: str, retry_s: float | None = None
    ) -> None:
        """What came of an attempt: sent or dropped, or still waiting and due again in `retry_s`.

        `attempt` is the `attempts` of the claim: what failed, or was dropped, by one who outlived his lease changes nothing
        once another has claimed it. What was sent is sent, whichever attempt it was and even if it was dropped meanwhile;
        nothing else comes after an end.
        """

    async def prune(self, before_ns: int, met_before_ns: int | None = None) -> int:
        """Delete what was settled, resolved or ended before; how many rows. What was told of an open alert stays.

        Expected runs that were met, which are nearly all, go from `met_before_ns` on (None: with the others).
        """
