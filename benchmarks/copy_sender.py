"""The ceiling C1: span rows that are already encoded, COPYed raw into the product's own table, nothing else around it.

In: a `Supply` of COPY BINARY streams, the database's address. Out: a `Log`, a line for each COPY. Called by: `generator`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg

from benchmarks.supply import Answer, Log, Pace, Supply
from wafermonitor.storage.timescale.rows import SPAN_COLUMNS

_CHUNK_BYTES = 524_288


class CopySender:
    """So many connections, each with one COPY after the other, every one a transaction."""

    def __init__(self, address: str, connections: int) -> None:
        self._address = address
        self._connections = connections

    def run(self, supply: Supply, pace: Pace, log: Log, until_ns: int, grace_s: float) -> None:
        """COPY until `until_ns`."""
        del pace, grace_s
        asyncio.run(self._run(supply, log, until_ns))

    async def _run(self, supply: Supply, log: Log, until_ns: int) -> None:
        connections = [await asyncpg.connect(self._address) for _ in range(self._connections)]
        try:
            await asyncio.gather(*(_copy(connection, supply, log, until_ns) for connection in connections))
        finally:
            for connection in connections:
                await connection.close()


async def _copy(connection: asyncpg.Connection, supply: Supply, log: Log, until_ns: int) -> None:
    while (began_ns := time.monotonic_ns()) < until_ns and (turn := supply.next()) is not None:
        number, data = turn
        await connection.copy_to_table(
            "span", schema_name="wafer_data", columns=SPAN_COLUMNS, source=_chunks(memoryview(data)), format="binary"
        )
        log.add((number, began_ns, time.monotonic_ns(), Answer.ACKED))


async def _chunks(data: memoryview) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _CHUNK_BYTES):
        yield bytes(data[start : start + _CHUNK_BYTES])
