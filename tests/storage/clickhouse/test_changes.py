"""The change feed misses nothing that is seen late, and tells nothing twice to one who hands back its token."""

from __future__ import annotations

import pytest

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.storage.contract.builders import run, runs
from wafermonitor.storage.clickhouse import changes, rows, writer
from wafermonitor.storage.clickhouse.reader import Reader
from wafermonitor.storage.clickhouse.rowbinary import uint64
from wafermonitor.storage.errors import CursorRejected, StorageUnavailable

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse")]
LATE = rows.Table("run_change", ("changed_us", *rows.CHANGES.columns))


async def told(reader, token, limit=500):
    portion = await reader.changes(token, limit)
    return {stored.run.run_id for stored in portion.runs}, portion.token


async def announce(store, number: int, stamp_us: int, call: bytes) -> None:
    """As another writer's server does it, with a stamp of that server's choice."""
    row = uint64(stamp_us) + rows.change_row(run(number), call)
    await store.writer._client.insert("announce", LATE, [row])


def stamp(token: str) -> int:
    return int(token.partition(":")[0])


async def test_what_was_stamped_earlier_and_is_seen_later_is_told(store):
    token = (await store.reader.changes(None)).token
    await store.writer.write(runs(run(1)))
    await store.writer.write(runs(run(2)))
    _, token = await told(store.reader, token)
    before_us = stamp(token) - changes.OVERLAP_US // 2
    await announce(store, 2, before_us, b"abcdef")
    seen, token = await told(store.reader, token)
    assert seen == {"run-2"}
    seen, token = await told(store.reader, token)
    assert seen == set()


async def test_a_token_may_be_handed_to_another_reader(store):
    first = (await store.reader.changes(None)).token
    await store.writer.write(runs(run(1)))
    seen, token = await told(store.reader, first)
    assert seen == {"run-1"}
    other = Reader(store.writer._client)
    assert (await told(other, token))[0] == set()
    assert (await told(other, first))[0] == {"run-1"}


async def test_a_call_is_told_whole_however_many_runs_it_has(store):
    token = (await store.reader.changes(None)).token
    await store.writer.write(runs(*(run(number) for number in range(10))))
    await store.writer.write(runs(run(99)))
    seen, token = await told(store.reader, token, limit=3)
    assert len(seen) == 10
    assert (await told(store.reader, token, limit=3))[0] == {"run-99"}


async def test_an_old_token_is_refused_because_announcements_are_dropped(store):
    token = (await store.reader.changes(None)).token
    old = f"{stamp(token) - changes.KEPT_US - 10**9:016}:"
    for refused in (old, f"{stamp(token) + 10**9:016}:", token + "A", f"{stamp(token):016}:!!!!!!!!"):
        with pytest.raises(CursorRejected):
            await store.reader.changes(refused)


async def test_an_announcement_that_took_long_is_made_again(store, monkeypatch):
    """Its stamp is from when it began, and readers look back only so far."""
    token = (await store.reader.changes(None)).token
    monkeypatch.setattr(writer, "ANNOUNCE_WITHIN_S", -1.0)
    with pytest.raises(StorageUnavailable, match="too slow"):
        await store.writer.write(runs(run(1)))
    monkeypatch.undo()
    await store.writer.write(runs(run(1)))
    assert (await told(store.reader, token))[0] == {"run-1"}
