"""Many span rows in the open partition before a measurement, within a bounded time.

In: a running `System`, rows as stored. Out: how many are there. Called by: `p01_ingest`.

The rows are COPYed without indexes, which are built over all of them at the end, and as full as inserts in random order leave
them; that takes about half as long as with the indexes in place.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import asyncpg

from benchmarks import load
from benchmarks.ceilings import ROWS, copying
from benchmarks.corpus import stream_start
from benchmarks.system import System

CONNECTIONS = 2
ROW_BYTES = 2_200
"""Of disk for each row, with its indexes, what is sorted for them, and the rounds that come on top."""
LOG_BYTES = 9 * 2**30
"""The most that the server keeps of its write-ahead log, and somewhat more."""
WITHIN_S = 900.0
_INDEXES = """
SELECT c.relname AS name, replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON ') || ' WITH (fillfactor = 70)' AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'wafer_data.span'::regclass ORDER BY c.relname
"""


def fill(system: System, rows: Path, stream: int, count: int) -> int:
    """Add `count` rows or up to 4,095 more; how many. SystemExit when there is no room, or they take longer than `WITHIN_S`."""
    free, needed = shutil.disk_usage(system.work).free, count * ROW_BYTES + LOG_BYTES
    if free < needed:
        raise SystemExit(f"{count:,} rows need {needed >> 30} GiB below {system.work}, which has {free >> 30}")
    definitions = system.ask(_without_indexes)
    filling = copying(system, rows, stream_start(stream), CONNECTIONS)._replace(
        limit=-(-count // ROWS), warm_up_s=0, seconds=WITHIN_S
    )
    done = load.run(filling, {})
    if done.acked_spans < count:
        raise SystemExit(f"{done.acked_spans:,} of {count:,} rows were copied within {WITHIN_S:g} s")

    async def build(connection: asyncpg.Connection) -> None:
        await connection.execute("SET maintenance_work_mem = '1GB'")
        for definition in definitions:
            await connection.execute(definition)
        await connection.execute("CHECKPOINT")

    system.ask(build)
    return done.acked_spans


async def _without_indexes(connection: asyncpg.Connection) -> list[str]:
    """Take the indexes of the spans away; how each is made again."""
    found = await connection.fetch(_INDEXES)
    for index in found:
        await connection.execute(f'DROP INDEX wafer_data."{index["name"]}"')
    return [index["definition"] for index in found]
