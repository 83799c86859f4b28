"""What alerting keeps, in PostgreSQL: one leader by an advisory lock and an epoch, one transaction for each tick.

In: expectations, outcomes, questions. Out: records of `runs.alerts`. Called by: alerting, query. Source: design/2 §2.4.

The leader's lock ends with its session, and its session ends when it says nothing for five minutes; whatever it still believes
then is refused, because the next leader has begun another epoch.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import asyncpg

from wafermonitor.runs.alerts import Alert, Delivery, DeliveryState, Expectation, ExpectedRun, Origin, Silence
from wafermonitor.storage.cursors import ALERT, EXPECTED_RUN, read_cursor, write_cursor
from wafermonitor.storage.declaring import declared, same_wish, storable
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.keepable import called, keepable, text
from wafermonitor.storage.protocol import Page, page_limit
from wafermonitor.storage.timescale import watch_rows
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.failures import border
from wafermonitor.storage.timescale.rows import Row, columns
from wafermonitor.storage.timescale.statements import statement
from wafermonitor.storage.timescale.tokens import Token, read_token
from wafermonitor.storage.watch import AlertChanges, AlertQuery, ExpectedQuery, Outcome

log = logging.getLogger(__name__)

LEADER = 0x77616665_72000009
"""The advisory lock of the one who evaluates: "wafer", 9. Held by a session."""
WISHES = 0x77616665_7200000A
"""The advisory lock of what is wanted and what is waited for: "wafer", 10. Held by a transaction."""
PRUNED_AT_ONCE = 10_000
"""Of each kind in one transaction."""
_SECOND_NS = 1_000_000_000
_Write: TypeAlias = Callable[[Sequence[Any]], Awaitable[None]]
_Put: TypeAlias = Callable[[_Write, Sequence[Any]], Awaitable[None]]


class Lead:
    """What the leader may do, all of it on the connection that holds the lock."""

    def __init__(self, connection: Connection, epoch: int, now_ns: int) -> None:
        self._connection = connection
        self._epoch = epoch
        self._known: dict[str, int] = {}
        self.now_ns = now_ns

    async def expectations(self) -> list[Expectation]:
        """All but the proposed, by name."""
        rows = await self._fetch("read the expectations", "watch_expectations", None, False)  # noqa: FBT003 - by place, as SQL
        found = [watch_rows.expectation_of(row) for row in rows]
        self._known = {one.name: one.changed_ns for one in found}
        return found

    async def unsettled(self) -> list[ExpectedRun]:
        """In order of expectation and nominal time."""
        return [watch_rows.expected_run_of(row) for row in await self._fetch("read what is waited for", "watch_unsettled")]

    async def open_alerts(self) -> list[Alert]:
        """The oldest first."""
        return [watch_rows.alert_of(row) for row in await self._fetch("read open alerts", "watch_open_alerts")]

    async def silences(self) -> list[Silence]:
        """In force when the tick began."""
        return [watch_rows.silence_of(row) for row in await self._fetch("read silences", "watch_silences", self.now_ns)]

    async def deliveries(self, since_ns: int) -> list[Delivery]:
        """The oldest first."""
        return [watch_rows.delivery_of(row) for row in await self._fetch("read deliveries", "watch_deliveries", since_ns)]

    async def notes(self) -> dict[str, str]:
        """By name."""
        return {row["name"]: row["text"] for row in await self._fetch("read notes", "watch_notes")}

    async def store(self, outcome: Outcome) -> None:
        """One transaction on the connection of the lock: when that is lost, nothing of it is stored."""
        outcome = keepable(outcome)
        try:
            await self._store(outcome, self._whole)
        except StorageRejected as error:
            log.warning("%s: what does not fit is looked for and left out", error)
            await self._store(outcome, self._halved)

    async def _store(self, outcome: Outcome, put: _Put) -> None:
        with border("store this tick"):
            async with _changing(self._connection):
                if not await self._connection.fetch(statement("watch_end_tick"), self._epoch, self.now_ns):
                    raise StorageUnavailable("another evaluator leads by now: what this one found out is dropped")
                forgotten = await self._forgotten()
                last = {(one.expectation, one.due.nominal_ns, one.subject): one for one in outcome.expected}.values()
                wanted = [one for one in last if one.settled or one.expectation not in forgotten]
                await put(self._write("watch_put_expected_runs", watch_rows.expected_run_row), wanted)
                alerts = {one.id: one for one in outcome.alerts}.values()
                for is_open in (False, True):  # what is resolved makes room for what is opened
                    told = [one for one in alerts if (one.resolved_ns is None) == is_open]
                    await put(self._write("watch_put_alerts", watch_rows.alert_row), told)
                await put(self._write_deliveries, outcome.deliveries)
                if watched := {name: at_ns for name, at_ns in outcome.watched.items() if name not in forgotten}:
                    await self._connection.execute(statement("watch_set_watched"), list(watched), list(watched.values()))
                notes = [(name, note) for name, note in outcome.notes.items() if note is not None]
                await put(self._write("watch_put_notes", tuple), notes)
                if gone := [name for name, note in outcome.notes.items() if note is None]:
                    await self._connection.execute(statement("watch_drop_notes"), gone)

    async def _forgotten(self) -> set[str]:
        """Names of expectations that this tick has read, and that are gone or want something else by now."""
        given = (list(self._known), list(self._known.values()))
        return {row["name"] for row in await self._connection.fetch(statement("watch_forgotten"), *given)}

    def _write(self, name: str, row: Callable[[Any], Row]) -> _Write:
        """How records become rows of one statement."""

        async def write(records: Sequence[Any]) -> None:
            await self._connection.execute(statement(name), *columns(map(row, records)))

        return write

    async def _write_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        await self._connection.executemany(statement("watch_put_delivery"), map(watch_rows.delivery_row, deliveries))

    async def _whole(self, write: _Write, records: Sequence[Any]) -> None:
        if records:
            await write(records)

    async def _halved(self, write: _Write, records: Sequence[Any]) -> None:
        """In their order, and in parts that are halved until what cannot be stored stands alone."""
        parts = [records] if records else []
        while parts:
            part = parts.pop()
            try:
                with border("store a part of this tick"):
                    async with self._connection.transaction():
                        await write(part)
            except StorageRejected:
                if len(part) == 1:
                    log.error(  # noqa: TRY400 - the name says it all, and every tick says it again
                        "left out of a tick, because it cannot be stored: %s", called(part[0])
                    )
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]

    async def _fetch(self, doing: str, name: str, *arguments: Any) -> list[asyncpg.Record]:
        with border(doing):
            return list(await self._connection.fetch(statement(name), *arguments))


class Watch:
    """`storage.watch.Watch` on PostgreSQL. The pool's connections must have been through `codecs.register`.

    `clock` gives now in ns instead of the server. Whoever leads holds one of the pool's connections, and asks the reader by
    another.
    """

    def __init__(self, pool: asyncpg.Pool, *, clock: Callable[[], int] | None = None) -> None:
        self._pool = pool
        self._clock = clock

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[Lead | None]:
        """The lock is tried, not waited for. A connection that goes back to the pool gives up its locks and settings."""
        if self._pool.get_max_size() < 2:  # noqa: PLR2004 - one for the lock, one for the reader
            raise StorageRejected("alerting needs two connections: WAFER_STORAGE_POOL_MAX_SIZE is 1")
        with border("lead"):
            connection = await self._pool.acquire()
        try:
            with border("lead"):
                lead = await self._begin(connection)
            yield lead
        finally:
            # One that cannot be given back in order is closed, and leads no more either.
            with suppress(StorageUnavailable), border("lead no more"):
                await self._pool.release(connection)

    async def ticked_ns(self) -> int | None:
        """The tick that was stored last."""
        (row,) = await self._fetch("ask when it was last evaluated", "watch_ticked")
        ticked_ns: int | None = row["ticked_unix_ns"]
        return ticked_ns

    async def declare(self, expectations: Sequence[Expectation], now_ns: int | None = None) -> None:
        """Nothing is written where nothing changes, so that any number of evaluators may declare the same."""
        with border("declare expectations"):
            async with self._pool.acquire() as connection, _changing(connection):
                names = [one.name for one in expectations]
                rows = await connection.fetch(statement("watch_expectations_named"), names, Origin.DECLARED.value)
                at_ns = await self._at(connection) if now_ns is None else now_ns
                change = declared(map(watch_rows.expectation_of, rows), expectations, at_ns)
                if change.dropped:
                    await connection.fetch(statement("watch_drop_expectations"), change.dropped)
                if change.begun:
                    await connection.execute(statement("watch_drop_unsettled"), change.begun, at_ns)
                if change.put:
                    given = columns(map(watch_rows.expectation_row, change.put))
                    await connection.execute(statement("watch_put_expectations"), *given)

    async def save(self, expectation: Expectation) -> None:
        """As it is given; a changed wish forgets what the old one waits for in the time to come."""
        with border("save an expectation"):
            async with self._pool.acquire() as connection, _changing(connection):
                known = await _not_declared(connection, expectation.name)
                if known is not None and not same_wish(known, expectation):
                    name, at_ns = [expectation.name], await self._at(connection)
                    await connection.execute(statement("watch_drop_unsettled"), name, at_ns)
                given = columns([watch_rows.expectation_row(storable(expectation))])
                await connection.execute(statement("watch_put_expectations"), *given)

    async def forget(self, name: str) -> bool:
        """With its unsettled runs; what has been stays."""
        with border("forget an expectation"):
            async with self._pool.acquire() as connection, _changing(connection):
                await _not_declared(connection, name)
                return bool(await connection.fetch(statement("watch_drop_expectations"), [name]))

    async def expectations(self, origin: Origin | None = None) -> list[Expectation]:
        """By name."""
        wanted = None if origin is None else origin.value
        rows = await self._fetch("list expectations", "watch_expectations", wanted, True)  # noqa: FBT003 - by place, as SQL
        return [watch_rows.expectation_of(row) for row in rows]

    async def expected_runs(self, query: ExpectedQuery) -> Page[ExpectedRun]:
        """The newest nominal time first."""
        limit = page_limit(query.limit)
        nominal_ns, expectation, subject = read_cursor(query.cursor, EXPECTED_RUN) if query.cursor else (None, None, None)
        rows = await self._fetch(
            "list expected runs",
            "watch_expected_runs",
            *(_wanted(values) for values in (query.site, query.job, query.expectation)),
            _wanted(state.value for state in query.state),
            *watch_rows.key_row(query.run),
            query.from_ns,
            query.to_ns,
            *(None if nominal_ns is None else -nominal_ns, expectation, subject),
            limit + 1,
        )
        runs = [watch_rows.expected_run_of(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(runs, None)
        return Page(runs, write_cursor(-runs[-1].due.nominal_ns, runs[-1].expectation, runs[-1].subject))

    async def alerts(self, query: AlertQuery) -> Page[Alert]:
        """The newest opened first."""
        limit = page_limit(query.limit)
        opened_ns, alert_id = read_cursor(query.cursor, ALERT) if query.cursor else (None, None)
        rows = await self._fetch(
            "list alerts",
            "watch_alerts",
            *(_wanted(values) for values in (query.site, query.job, query.rule)),
            [int(severity) for severity in query.severity] or None,
            query.open,
            query.acknowledged,
            *watch_rows.key_row(query.run),
            query.from_ns,
            query.to_ns,
            *(None if opened_ns is None else -opened_ns, alert_id),
            limit + 1,
        )
        alerts = [watch_rows.alert_of(row) for row in rows[:limit]]
        return Page(alerts, write_cursor(-alerts[-1].opened_ns, alerts[-1].id) if len(rows) > limit else None)

    async def alert(self, alert_id: str) -> Alert | None:
        """The one with this id."""
        rows = await self._fetch("read an alert", "watch_alert", alert_id)
        return watch_rows.alert_of(rows[0]) if rows else None

    async def acknowledge(self, alert_id: str, by: str, note: str | None = None) -> Alert | None:
        """The last who says so is the one; the time is the first's."""
        rows = await self._fetch("acknowledge an alert", "watch_acknowledge", alert_id, by, note, self._now())
        return watch_rows.alert_of(rows[0]) if rows else None

    async def alert_changes(self, token: str | None, limit: int = 500) -> AlertChanges:
        """Alerts of transactions that `token` does not show, as `Reader.changes` tells of runs."""
        given = None if token is None else read_token(token)
        with border("read which alerts changed"):
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                (row,) = await connection.fetch(statement("snapshot"))
                now = Token(row["origin"], row["snapshot"])
                if given is None:
                    return AlertChanges([], str(now))
                rows = await connection.fetch(statement("watch_alert_changes"), now.since(given), max(1, limit))
        upto = now.cut(rows[-1]["changed_xid"]) if len(rows) >= limit else now
        return AlertChanges([watch_rows.alert_of(row) for row in rows], str(upto))

    async def silence(self, silence: Silence) -> None:
        """By its id."""
        await self._fetch("silence alerts", "watch_put_silence", *silence)

    async def unsilence(self, silence_id: str) -> bool:
        """It ends now, and stays in the books until it is pruned."""
        return bool(await self._fetch("end a silence", "watch_end_silence", silence_id, self._now()))

    async def silences(self) -> list[Silence]:
        """In force now."""
        return [watch_rows.silence_of(row) for row in await self._fetch("list silences", "watch_silences", self._now())]

    async def alert_deliveries(self, alert_id: str) -> list[Delivery]:
        """The oldest first."""
        rows = await self._fetch("list deliveries", "watch_deliveries_of", alert_id)
        return [watch_rows.delivery_of(row) for row in rows]

    async def claim_deliveries(self, limit: int = 20, lease_s: float = 60.0) -> list[Delivery]:
        """Each counts an attempt, whatever becomes of it."""
        rows = await self._fetch("claim deliveries", "watch_claim", limit, round(lease_s * _SECOND_NS), self._now())
        return [watch_rows.delivery_of(row) for row in rows]

    async def settle_delivery(
        self, delivery_id: str, attempt: int, state: DeliveryState, answer: str, retry_s: float | None = None
    ) -> None:
        """What was sent is sent; nothing else comes after an end, or of an attempt that is not the last."""
        again_ns = round((retry_s or 0.0) * _SECOND_NS)
        await self._fetch(
            "settle a delivery", "watch_settle", delivery_id, state.value, text(answer), again_ns, self._now(), attempt
        )

    async def prune(self, before_ns: int, met_before_ns: int | None = None) -> int:
        """A few thousand rows in a transaction, until none is left."""
        gone: int = 0
        bounds = (before_ns, PRUNED_AT_ONCE, before_ns if met_before_ns is None else met_before_ns)
        while True:
            (row,) = await self._fetch("delete old alerts", "watch_prune", *bounds)
            gone += int(row["gone"])
            if row["most"] < PRUNED_AT_ONCE:
                return gone

    async def _begin(self, connection: Connection) -> Lead | None:
        (row,) = await connection.fetch(statement("watch_lead"), LEADER)
        if not row["leads"]:
            return None
        (tick,) = await connection.fetch(statement("watch_begin_tick"), self._now())
        return Lead(connection, tick["epoch"], tick["now_ns"])

    def _now(self) -> int | None:
        """None where the server says what time it is."""
        return None if self._clock is None else self._clock()

    async def _at(self, connection: Connection) -> int:
        (row,) = await connection.fetch(statement("watch_now"), self._now())
        now_ns: int = row["now_ns"]
        return now_ns

    async def _fetch(self, doing: str, name: str, *arguments: Any) -> list[asyncpg.Record]:
        with border(doing):
            return list(await self._pool.fetch(statement(name), *arguments))


@asynccontextmanager
async def _changing(connection: Connection) -> AsyncIterator[None]:
    """A transaction in which nobody else changes what is wanted or waited for."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(statement("watch_lock"), WISHES)
        yield


async def _not_declared(connection: Connection, name: str) -> Expectation | None:
    """The expectation of this name, if there is one; StorageRejected when a file declares it."""
    rows = await connection.fetch(statement("watch_expectations_named"), [name], None)
    known = watch_rows.expectation_of(rows[0]) if rows else None
    if known is not None and known.origin is Origin.DECLARED:
        raise StorageRejected(f"the expectation {name!r} is declared in a file: change it there")
    return known


def _wanted(values: Iterable[str]) -> list[str] | None:
    return list(values) or None
