"""Rows in: each call is a few INSERTs, in an order after which sending the same again repairs whatever went wrong.

In: batches of records, and parts of blocks whose rows are ready to be inserted. Out: rows on disk. Called by: the receiver.

ClickHouse has no transaction over tables. What holds instead, for one call of `write`:

- Every row is encoded before anything is sent; a row that can never fit is refused then, and nothing is stored.
- When the call returns, all of it is on the disk of every server that was asked (the table's `fsync_after_insert`; a quorum of
  replicas where the address says `insert_quorum`).
- When it fails, some of it may be stored and seen. The same call again, by any writer, stores what is missing and nothing
  twice: every table replaces, or merges by least and greatest, rows of one key.
- What rows refer to is written before them, and the announcement of changed runs after the runs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence

from wafermonitor.runs.records import Batch, DeadLetter
from wafermonitor.storage.clickhouse import rows
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.failures import border
from wafermonitor.storage.clickhouse.groups import Generation, Names, gather, letter_rows
from wafermonitor.storage.clickhouse.lists import slices
from wafermonitor.storage.clickhouse.rows import Table
from wafermonitor.storage.clickhouse.statements import statement
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import Part, RowFormat

DOING = "store this group"
MAX_KNOWN = 200_000
"""How many names are remembered as sent today: 32 bytes and a day each."""
ANNOUNCE_WITHIN_S = 2.0
"""An announcement that took longer is made again: a reader looks back no further than `changes.OVERLAP_US`."""
CLAIM_WITHIN_S = 0.5
"""A claim to a first arrival that took longer is withdrawn; so long after a claim an earlier one would be seen."""
LOST_AFTER_S = 120
"""A claim that was not confirmed for so long, which is longer than two answers may take, has been given up."""
ATTEMPTS = 5
_DAY_S = 86_400
_LARGEST = 2**64 - 1


class Writer:
    """Stores batches in ClickHouse."""

    row_format = RowFormat.ROW_BINARY

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[tuple[Table, bytes], int] = {}

    async def write(self, batches: Sequence[Batch | Part]) -> None:
        """Store all of `batches`. When it returns, they are on disk."""
        try:
            await self._write(batches)
        except StorageUnavailable:
            self._known.clear()  # after a failover the new server may lack the newest names
            raise

    async def _write(self, batches: Sequence[Batch | Part]) -> None:
        now_ns = time.time_ns()
        seen_s = now_ns // 10**9
        call = os.urandom(6)
        with border(DOING):
            # In a thread: building rows takes longer than the event loop may be held up, and a block lets go of the GIL.
            group = await asyncio.to_thread(gather, batches, _LARGEST - now_ns, seen_s, call)
        await self._insert_names(group.names, seen_s // _DAY_S)
        facts = [(table, encoded) for table, encoded in group.facts.items() if encoded]
        if group.letters:
            facts.append((rows.LETTERS, await self._letters(group.letters)))
        await self._insert_all(facts)
        if group.changes:
            await self._announce(group.changes)

    async def first_arrivals(self, arrivals: Mapping[bytes, int]) -> dict[bytes, int]:
        """The time that the first claim names. Two that claim at once agree, because each looks when the other's is there.

        A claim counts when its writer has confirmed that it was answered in time, and is so old that an earlier one would be
        seen. One that is neither confirmed nor given up yet is waited for, with StorageUnavailable in the end.
        """
        doing = "note first arrivals"
        claimed, known = await self._arrivals(doing, arrivals)
        fresh = {digest: arrived_ns for digest, arrived_ns in arrivals.items() if digest not in claimed}
        if fresh:
            await self._claim(doing, fresh)
        for _ in range(ATTEMPTS):
            missing = [digest for digest in arrivals if digest not in known]
            if not missing:
                return known
            await asyncio.sleep(CLAIM_WITHIN_S)
            known |= (await self._arrivals(doing, missing))[1]
        if len(known) < len(arrivals):
            raise StorageUnavailable(f"cannot {doing} now: it is not sure yet whether another receiver was first")
        return known

    async def forget_dead_letter(self, key: str) -> bool:
        """Delete it."""
        return await self._mark("delete a dead letter", key, forgotten=True)

    async def mark_dead_letter(self, key: str, retried_ns: int, answer: str) -> bool:
        """Count one retry. Where an answer of the server was lost on the way, it may be counted twice."""
        return await self._mark("note a retry", key, retried_ns=retried_ns, answer=answer)

    async def close(self) -> None:
        """Nothing is kept open: the client belongs to whoever made it."""

    async def _insert_names(self, names: Names, day: int) -> None:
        missing = {name: row for name, row in names.items() if self._known.get(name) != day}
        if not missing:
            return
        by_table: dict[Table, list[bytes]] = {}
        for (table, _), row in missing.items():
            by_table.setdefault(table, []).append(row)
        await self._insert_all(by_table.items())
        if len(self._known) + len(missing) > MAX_KNOWN:
            self._known.clear()
        self._known.update(dict.fromkeys(missing, day))

    async def _insert_all(self, tables: Iterable[tuple[Table, list[bytes]]]) -> None:
        """Side by side; when one fails the others are waited for, so that nothing is under way after the answer."""
        outcomes = await asyncio.gather(
            *(self._client.insert(DOING, table, encoded) for table, encoded in tables), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _claim(self, doing: str, arrivals: Mapping[bytes, int]) -> None:
        """Claim these arrivals. One that was not answered in time is withdrawn: others may have looked before it was seen."""
        for _ in range(ATTEMPTS):
            call = os.urandom(6)
            with border(doing):
                forms = [
                    [rows.arrival_row(digest, call, arrived_ns, state) for digest, arrived_ns in arrivals.items()]
                    for state in (rows.CLAIMED, rows.CONFIRMED, rows.WITHDRAWN)
                ]
            in_time = await self._client.insert(doing, rows.ARRIVALS, forms[0]) <= CLAIM_WITHIN_S
            await self._client.insert(doing, rows.ARRIVALS, forms[1 if in_time else 2])
            if in_time:
                return
        raise StorageUnavailable(f"cannot {doing} now: the database is too slow")

    async def _arrivals(self, doing: str, digests: Iterable[bytes]) -> tuple[set[bytes], dict[bytes, int]]:
        """What is claimed, and what the first claim says where it is sure that it is the first and stays."""
        claimed: set[bytes] = set()
        known: dict[bytes, int] = {}
        for part in slices(digest.hex() for digest in digests):
            given = {"digests": part, "lost_us": LOST_AFTER_S * 1_000_000}
            for text, (arrived_ns, confirmed, age_us) in await self._client.query(doing, statement("first_arrivals"), given):
                digest = bytes.fromhex(text)
                claimed.add(digest)
                if confirmed and age_us > CLAIM_WITHIN_S * 1e6:
                    known[digest] = arrived_ns
        return claimed, known

    async def _announce(self, changes: list[bytes]) -> None:
        """Say which runs have news, when they are stored. The server stamps it when it begins, so it has to be quick."""
        await self._insert_quickly(DOING, rows.CHANGES, changes, ANNOUNCE_WITHIN_S)

    async def _insert_quickly(self, doing: str, table: Table, encoded: list[bytes], within_s: float) -> None:
        """Insert again what took too long: the server's stamp on it would be older than others may expect."""
        for _ in range(ATTEMPTS):
            if await self._client.insert(doing, table, encoded) <= within_s:
                return
        raise StorageUnavailable(f"cannot {doing} now: the database is too slow")

    async def _letters(self, letters: Sequence[DeadLetter]) -> list[bytes]:
        generations = await self._generations(DOING, [letter.key for letter in letters])
        with border(DOING):
            return letter_rows(letters, generations)

    async def _mark(self, doing: str, key: str, *, retried_ns: int = 0, answer: str = "", forgotten: bool = False) -> bool:
        try:
            name = bytes.fromhex(key)
        except ValueError:
            return False
        found = (await self._generations(doing, [name])).get(name)
        if found is None or found.forgotten:
            return False
        with border(doing):
            row = rows.mark_row(
                name, found.number, found.received_ns, retried_ns=retried_ns, answer=answer, forgotten=forgotten
            )
        await self._client.insert(doing, rows.LETTERS, [row])
        return True

    async def _generations(self, doing: str, keys: Iterable[bytes]) -> dict[bytes, Generation]:
        """The newest of each letter that is there."""
        known: dict[bytes, Generation] = {}
        for part in slices(sorted({key.hex() for key in keys})):
            for key, *newest in await self._client.query(doing, statement("letter_generations"), {"keys": part}):
                known[bytes.fromhex(key)] = Generation(*newest)
        return known
