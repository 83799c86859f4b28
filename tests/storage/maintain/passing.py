"""Days that pass in a store: what programs send on each, maintenance once a day, and what stands where afterwards.

The clock is a parameter: maintenance is told what time it is, and the writer's statements find a `now()` of the simulated
day before PostgreSQL's own. The days are past ones and end today, because the server's real clock bounds what may be fenced.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from tests.storage.archive.history import rows_of
from tests.storage.contract import builders
from tests.storage.contract.builders import DAY, HOUR, SECOND
from wafermonitor.runs.records import Batch, ProcessBeat
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.archive.protocol import Signal, day_of
from wafermonitor.storage.archive.shelf import open_shelf
from wafermonitor.storage.maintain import keeper
from wafermonitor.storage.maintain.keeper import Outcome
from wafermonitor.storage.maintain.steps import STEPS
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.store import Storage
from wafermonitor.storage.timescale.writer import Writer

SITES = ("f1", "f2")
PROGRAMS_A_DAY = 6
"""Programs that run on one day only, for each site; each is a name of its own in the dictionaries."""
DEAD_A_DAY, ARRIVALS_A_DAY = 2, 20
_SHORT = [step for step in STEPS if not step.long]
_LONG = [step for step in STEPS if step.long]
CLOCK = """
CREATE SCHEMA later;
CREATE TABLE later.clock (now timestamptz);
INSERT INTO later.clock VALUES (pg_catalog.now());
CREATE FUNCTION later.now() RETURNS timestamptz LANGUAGE sql STABLE RETURN (SELECT c.now FROM later.clock c);
GRANT ALL ON SCHEMA later TO PUBLIC;
"""
KEYS = {
    Signal.SPANS: "SELECT 'span ' || trace_id || ' ' || span_id FROM wafer_data.{}",
    Signal.LOGS: "SELECT 'log ' || encode(digest, 'hex') FROM wafer_data.{}",
    Signal.METRICS: """
        SELECT 'point ' || encode(s.key, 'hex') || ' ' || (extract(epoch FROM p.time) * 1000000)::bigint * 1000 + p.time_ns
        FROM wafer_data.{} p JOIN wafer_data.metric_series s USING (series_id)
    """,
    Signal.RUNS: "SELECT 'run ' || trace_id || ' ' || span_id FROM wafer_data.{}",
}
TABLES = {
    Signal.SPANS: ("span", "span_late"),
    Signal.LOGS: ("log_record", "log_late"),
    Signal.METRICS: ("metric_point", "metric_late"),
    Signal.RUNS: ("run", "run_open"),
}


def key(signal: Signal, record: object) -> str:
    """What makes a row one row, as KEYS has it."""
    if signal is Signal.LOGS:
        return f"log {record.digest.hex()}"
    if signal is Signal.METRICS:
        return f"point {record.series.key.hex()} {record.time_ns}"
    word = "span" if signal is Signal.SPANS else "run"
    return f"{word} {uuid.UUID(bytes=record.trace_id)} {int.from_bytes(record.span_id, 'big', signed=True)}"


def records(batch: Batch) -> Iterator[tuple[Signal, object]]:
    """Every row of a batch that is kept."""
    for signal, rows in (
        (Signal.SPANS, batch.spans),
        (Signal.LOGS, batch.logs),
        (Signal.METRICS, batch.points),
        (Signal.RUNS, batch.runs),
    ):
        yield from ((signal, row) for row in rows)


class Size(NamedTuple):
    """What stands in the store at the end of a day."""

    rows: dict[str, int]
    parts: dict[str, int]
    bytes: dict[str, int]
    catalog_rows: int
    catalog_bytes: int
    files: int
    places: int


class Life:
    """One store over `days` days that end today, with `a_day` spans each, and `late` rows of days before."""

    def __init__(self, store: Storage, days: int, *, a_day: int, late: int) -> None:
        self.store = store
        self.a_day = a_day
        self.late = late
        self.first_ns = builders.NOW // DAY * DAY - days * DAY
        self.accepted: set[str] = set()
        self.unended = 0
        self.last_sent: dict[bytes, int] = {}
        """The last day on which a resource was sent, by its key."""
        self._sent: dict[int, list[Batch]] = {}

    async def begin(self) -> None:
        """A store as it was on the first day: without the days that it has prepared for today."""
        name = await self.store.pool.fetchval("SELECT current_database()")
        await self.store.pool.execute(CLOCK)
        await self.store.pool.execute(f'ALTER DATABASE "{name}" SET search_path = later, pg_catalog')
        for table in ("span", "log_record", "metric_point"):
            await self.store.pool.fetch("SELECT wafer_data.drop_day($1, day) FROM wafer_data.stored_days($1)", table)
        await self.store.pool.execute("DELETE FROM wafer_data.hot_day")
        await self.store.pool.expire_connections()
        await self.maintain(self.first_ns)

    async def live(self, day: int) -> list[Outcome]:
        """One day: what is sent on it, then maintenance a quarter of an hour after its end."""
        await self._tell(self.first_ns + day * DAY + 23 * HOUR)
        self._sent[day] = self._of(day)
        self._sent.pop(day - 20, None)
        writer = Writer(self.store.pool)  # what one knew yesterday of the prepared days is older than a minute
        batches = self._sent[day] + self._again(day)
        self.last_sent |= {span.resource.key: day for batch in batches for span in batch.spans}
        for start in range(0, len(batches), 4):
            await writer.write(batches[start : start + 4])
        await writer.first_arrivals(
            {builders.digest("arrival", day, n): self.first_ns + day * DAY + n for n in range(ARRIVALS_A_DAY)}
        )
        return await self.maintain(self.first_ns + (day + 1) * DAY + HOUR // 4)

    async def maintain(self, now_ns: int) -> list[Outcome]:
        """What `wafer maintain once` does. Then what autovacuum does, and times that are the server's become this clock's."""
        await self._tell(now_ns)
        done = []
        for steps in (_SHORT, _LONG):
            done += await keeper.run_round(self.store, steps, now_ns=now_ns, force=True)
        for table, columns in (
            ("maintenance_log", ("began_time", "ended_time")),
            ("archive_manifest", ("recorded_at", "retired_at", "removed_at")),
        ):
            told = ", ".join(f"{column} = CASE WHEN {column} > now() THEN now() ELSE {column} END" for column in columns)
            wrong = " OR ".join(f"{column} > now()" for column in columns)
            await self.store.pool.execute(f"UPDATE wafer_data.{table} SET {told} WHERE {wrong}")
        await self.store.pool.execute("VACUUM")
        return done

    def unended_since(self, first: date) -> int:
        """How many runs that never told their end began on that day or later."""
        days = self.unended // len(SITES)
        return len(SITES) * sum(day_of(self.first_ns + day * DAY) >= first for day in range(days))

    async def in_store(self) -> Counter[str]:
        """The key of every row in the tables, as often as it is there."""
        found: Counter[str] = Counter()
        for signal, tables in TABLES.items():
            for table in tables:
                found.update(row[0] for row in await self.store.pool.fetch(KEYS[signal].format(table)))
        return found

    async def in_archive(self) -> Counter[str]:
        """The key of every row that the archive answers with, as often as it is there."""
        found: Counter[str] = Counter()
        shelf = open_shelf(ArchiveConfig.load())
        for entry in (await Days(self.store.pool).manifest()).entries:
            if entry.dropped:
                found.update(key(entry.place.signal, record) for record in rows_of(shelf, entry))
        return found

    async def size(self) -> Size:
        """Of everything."""
        pool = self.store.pool
        parts = await pool.fetch("SELECT table_name, part, bytes FROM wafer_data.part")
        rows, counts, sizes = {}, Counter(), Counter()
        for part in parts:
            counts[part["table_name"]] += 1
            sizes[part["table_name"]] += part["bytes"]
        for table in counts:
            rows[table] = await pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}")
        catalog = await pool.fetchrow(
            "SELECT sum(pg_total_relation_size(oid))::bigint AS bytes, "
            "(SELECT count(*) FROM pg_class) + (SELECT count(*) FROM pg_attribute) + (SELECT count(*) FROM pg_depend) AS rows "
            "FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'"
        )
        entries = (await Days(pool).manifest()).entries
        return Size(
            rows,
            dict(counts),
            dict(sizes),
            catalog["rows"],
            catalog["bytes"],
            len(entries),
            len({one.place for one in entries}),
        )

    async def _tell(self, now_ns: int) -> None:
        await self.store.pool.execute("UPDATE later.clock SET now = to_timestamp($1::double precision)", now_ns / 1e9)

    def _of(self, day: int) -> list[Batch]:
        """All of both sites on a day; a tenth of it is of the small one."""
        batches = []
        for nth, site in enumerate(SITES):
            count = max(self.a_day // (1 if nth == 0 else 10), PROGRAMS_A_DAY)
            batches += [self._program(day, site, nth, program, count // PROGRAMS_A_DAY) for program in range(PROGRAMS_A_DAY)]
            batches.append(self._odd(day, site, nth))
        return batches

    def _program(self, day: int, site: str, nth: int, program: int, count: int) -> Batch:
        """A program that ran on this day: its spans, and of each tenth as many runs; the last run of the day tells no end."""
        midnight = self.first_ns + day * DAY
        where = builders.resource(
            site, f"job-{program}", process_key=uuid.uuid5(uuid.NAMESPACE_OID, f"{site} {day} {program}").bytes
        )
        first = ((day * len(SITES) + nth) * PROGRAMS_A_DAY + program) * 100_000
        numbers = range(first, first + count)
        measured = builders.series(resource=where)

        def at(number: int) -> int:
            return midnight + (number - first) * (23 * HOUR // count) + program

        common = {"site": site, "job": f"job-{program}", "feed": site, "process_key": where.process_key}
        runs = [
            builders.ended(
                number,
                start_ns=at(number),
                end_ns=at(number) + 60 * SECOND,
                last_sign_ns=at(number) + 60 * SECOND,
                received_ns=at(number) + 61 * SECOND,
                result=random.Random(number).choice(["success", "success", "failure"]),
                **common,
            )
            for number in numbers[::10]
        ]
        if program == 0:
            lost = first + 99_999
            runs.append(
                builders.run(
                    lost,
                    start_ns=midnight,
                    last_sign_ns=midnight + HOUR,
                    received_ns=midnight + HOUR,
                    heartbeat_interval_s=30.0,
                    **common,
                )
            )
            self.unended += 1
        return self._accept(
            Batch(
                spans=[
                    builders.span(number, resource=where, trace_id=builders.trace_id(number // 10), start_ns=at(number))
                    for number in numbers
                ],
                logs=[builders.log(number, resource=where, time_ns=at(number)) for number in numbers[::3]],
                points=[builders.point(number, series=measured, time_ns=at(number)) for number in numbers[::2]],
                runs=runs,
                processes=[ProcessBeat(where.process_key, site, "tool-7", program, "i", midnight + 23 * HOUR, 30.0)],
                feeds=[builders.feed_beat(midnight + 23 * HOUR, midnight + 23 * HOUR, site=site, feed=site)],
            )
        )

    def _odd(self, day: int, site: str, nth: int) -> Batch:
        """Late rows of days before, of a day long ago by a wrong clock, and what cannot be stored at all."""
        where = builders.resource(site, "late", process_key=None)
        measured = builders.series(resource=where)
        midnight = self.first_ns + day * DAY
        first = 1_000_000_000 + (day * len(SITES) + nth) * 1000
        ages = [1 + number * 3 % 25 for number in range(self.late)]
        times = {first + number: max(midnight - age * DAY, self.first_ns) + number for number, age in enumerate(ages)}
        times[first + 500] = 86_400 * SECOND * (day % 3)  # a clock that begins in 1970
        return self._accept(
            Batch(
                spans=[builders.span(number, resource=where, start_ns=at) for number, at in times.items()],
                logs=[builders.log(number, resource=where, time_ns=at) for number, at in times.items()],
                points=[builders.point(number, series=measured, time_ns=at) for number, at in times.items()],
                dead=[
                    builders.dead(f"{site} {day} {number}")._replace(site=site, received_ns=midnight + number)
                    for number in range(DEAD_A_DAY)
                ],
            )
        )

    def _again(self, day: int) -> list[Batch]:
        """What is sent once more: some of yesterday, and some of days that were archived since; each week a whole day."""
        dice = random.Random(day)
        again = [dice.choice(self._sent[old]) for old in (day - 1, day - 4, day - 8) if old in self._sent]
        return again + (self._sent.get(day - 12, []) if day % 7 == 0 else [])

    def _accept(self, batch: Batch) -> Batch:
        self.accepted.update(key(signal, record) for signal, record in records(batch))
        return batch
