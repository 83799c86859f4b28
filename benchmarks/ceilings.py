"""What no receiver on this machine can be faster than, measured in the same run.

C1: raw COPY BINARY of the same span rows into our own table, 4096 rows for each COPY, as many connections as are best; no runs,
no dictionary.
C2: the same bytes written to a file, one fdatasync after each 4096 rows.

In: a running `System`. Out: `Round`s. Called by: `p01_ingest`.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from pathlib import Path

import asyncpg

from benchmarks import load
from benchmarks.corpus import copy_sheet, stream_start
from benchmarks.supply import Fresh
from benchmarks.system import System
from wafermonitor.storage.timescale.rows import SPAN_COLUMNS

ROWS = 4_096
CONNECTIONS = (1, 2, 4, 8)
"""How many connections C1 is tried with."""
_REQUESTS = 5
"""Five times 4096 spans are whole traces."""


def stored_rows(system: System, stream: int) -> bytes:
    """A COPY BINARY stream of spans that went through the receiver; the store is empty before and after."""
    system.empty()
    load.run(system.load(stream_start(stream), batch=ROWS, in_flight=1, limit=_REQUESTS, warm_up_s=0, seconds=60), {})

    async def work(connection: asyncpg.Connection) -> bytes:
        held = io.BytesIO()
        query = f"SELECT {', '.join(SPAN_COLUMNS)} FROM wafer_data.span"
        await connection.copy_from_query(query, output=held, format="binary")
        return held.getvalue()

    rows = system.ask(work)
    system.empty()
    return rows


def copying(system: System, rows: Path, first: int, connections: int) -> load.Load:
    """The load that COPYs."""
    return load.Load(
        address=system.dsn, log="", first=first, transport="copy", batch=ROWS, in_flight=connections, rows=str(rows)
    )


def c1(system: System, rows: Path, stream: int, connections: int, *, warm_up_s: float, seconds: float) -> load.Round:
    """Rows per second into the table as it is."""
    one = copying(system, rows, stream_start(stream), connections)._replace(warm_up_s=warm_up_s, seconds=seconds)
    return load.run(one, {"database": [system.store.pid]})


def c2(rows: Path, *, seconds: float) -> float:
    """Rows per second written and synced."""
    sheet = copy_sheet(rows.read_bytes(), ROWS)
    supply = Fresh(sheet, stream_start(1))
    with tempfile.NamedTemporaryFile(prefix="wafer-bench-") as file:
        began_s, written = time.monotonic(), 0
        while time.monotonic() - began_s < seconds:
            turn = supply.next()
            assert turn is not None
            os.write(file.fileno(), turn[1])
            os.fdatasync(file.fileno())
            written += ROWS
        return written / (time.monotonic() - began_s)
