"""A claim to a first arrival counts when nothing can come before it any more, and dead letters go when they are old."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.storage.contract.builders import DAY, NOW, dead
from tests.storage.contract.test_arrivals import digest
from wafermonitor.runs.records import Batch
from wafermonitor.storage.clickhouse import rows, schema, writer
from wafermonitor.storage.clickhouse.writer import Writer
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import DeadLetterQuery

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse"), pytest.mark.timeout(300)]
ONE = digest(1)
CLAIM = "claim"


class Slow:
    """A client that says of the first insert that it took `seconds`, and does something else after the first question."""

    def __init__(self, client, seconds=0.0, after=None) -> None:
        self._client, self.seconds, self._after = client, seconds, after

    async def query(self, *asked):
        answer = await self._client.query(*asked)
        if self._after is not None:
            after, self._after = self._after, None
            await after()
        return answer

    async def insert(self, *given):
        took_s, self.seconds = self.seconds, 0.0
        return max(took_s, await self._client.insert(*given))


@pytest.fixture
def client(store):
    return store.reader._client


async def claim(client, call: bytes, arrived_ns: int, state: int, age_us: int | None = None) -> None:
    """A row of another writer; stamped now, or some time ago."""
    table = rows.ARRIVALS
    encoded = rows.arrival_row(ONE, call, arrived_ns, state)
    if age_us is not None:
        ((now_us,),) = await client.query(CLAIM, "SELECT toUnixTimestamp64Micro(now64(6))")
        table, encoded = table._replace(columns=(*table.columns, "claimed_us")), encoded + rows.uint64(now_us - age_us)
    await client.insert(CLAIM, table, [encoded])


async def test_a_claim_that_nobody_confirmed_is_not_known_until_somebody_does(client):
    await claim(client, b"other1", 7, rows.CLAIMED)
    with pytest.raises(StorageUnavailable, match="not sure yet"):
        await Writer(client).first_arrivals({ONE: 9})
    await claim(client, b"other1", 7, rows.CONFIRMED)
    assert await Writer(client).first_arrivals({ONE: 9}) == {ONE: 7}


async def test_a_claim_whose_writer_is_gone_is_given_up(client):
    await claim(client, b"other1", 7, rows.CLAIMED, age_us=writer.LOST_AFTER_S * 1_000_000 + 1)
    assert await Writer(client).first_arrivals({ONE: 9}) == {ONE: 9}
    assert await Writer(client).first_arrivals({ONE: 11}) == {ONE: 9}


async def test_a_young_claim_waits_for_one_that_began_before_it(client):
    """Both are confirmed in time, but the earlier one is seen later."""
    await claim(client, b"later1", 7, rows.CONFIRMED)

    async def seen_late() -> None:
        await claim(client, b"early1", 5, rows.CONFIRMED, age_us=300_000)

    assert await Writer(Slow(client, after=seen_late)).first_arrivals({ONE: 9}) == {ONE: 5}


async def test_a_claim_that_was_answered_late_is_withdrawn_and_made_again(client):
    """Whoever looked meanwhile did not see it, so it must never be the first."""
    slow = Writer(Slow(client, seconds=2.0))
    first, second = await asyncio.gather(slow.first_arrivals({ONE: 7}), Writer(client).first_arrivals({ONE: 9}))
    assert first == second
    states = await client.query(CLAIM, "SELECT max(state) FROM first_arrival GROUP BY call ORDER BY 1")
    assert [state for (state,) in states] in ([[rows.CONFIRMED, rows.WITHDRAWN], [rows.CONFIRMED] * 2 + [rows.WITHDRAWN]])


async def test_a_server_that_is_always_late_is_unavailable(client):
    class Late(Slow):
        async def insert(self, *given):
            return await self._client.insert(*given) + 1

    with pytest.raises(StorageUnavailable, match="too slow"):
        await Writer(Late(client)).first_arrivals({ONE: 7})
    assert await Writer(client).first_arrivals({ONE: 9}) == {ONE: 9}


async def test_dead_letters_go_when_they_are_old_with_what_was_marked(client, store):
    old = dead("old")._replace(received_ns=NOW - 91 * DAY)
    kept = dead("kept")._replace(received_ns=NOW - 89 * DAY)
    await client.command("wait", "SYSTEM STOP TTL MERGES dead_letter")
    await store.writer.write([Batch(dead=[old, kept])])
    for letter in (old, kept):
        assert await store.writer.mark_dead_letter(letter.key.hex(), NOW, "no")
    await client.command("merge", "SYSTEM START TTL MERGES dead_letter")
    await client.command("merge", "OPTIMIZE TABLE dead_letter FINAL")
    (left,) = (await store.reader.dead_letters(DeadLetterQuery())).items
    assert (left.letter, left.retries) == (kept, 1)
    ((count,),) = await client.query("count", "SELECT count() FROM dead_letter")
    assert count == 1


async def test_marks_whose_letter_is_gone_are_no_letter(client, store):
    """Parts are cleaned at different times."""
    letter = dead("old")
    await client.insert("mark", rows.LETTERS, [rows.mark_row(letter.key, 0, NOW, retried_ns=NOW, answer="no")])
    assert (await store.reader.dead_letters(DeadLetterQuery())).items == []
    assert await store.reader.dead_letter(letter.key.hex()) is None
    assert not await store.writer.mark_dead_letter(letter.key.hex(), NOW, "no")


def test_an_upgrade_sets_how_long_letters_are_kept():
    kept = dict(schema._kept("0001_create_tables", schema.Keep(1, 2, 3, letter_days=4)))
    assert "INTERVAL 4 DAY" in kept["dead_letter"]
