"""What changed since a token: nothing is told for ever and nothing is left out, also in a store that came from elsewhere."""

from __future__ import annotations

import pytest

from tests.storage.contract.builders import ended, run, runs
from wafermonitor.storage.errors import CursorRejected

pytestmark = pytest.mark.postgres


async def changed(store, token: str) -> tuple[list[str], str]:
    """Ids of the runs that changed since, and the next token."""
    changes = await store.reader.changes(token)
    return [stored.run.run_id for stored in changes.runs], changes.token


async def test_rows_that_came_with_numbers_of_another_server_are_not_told_for_ever(store):
    await store.writer.write(runs(run(1), ended(2)))
    # As pg_dump brings them: numbers of transactions that this server has yet to reach.
    await store.pool.execute("UPDATE wafer_data.run_open SET changed_xid = '99999999999'")
    await store.pool.execute("UPDATE wafer_data.run SET changed_xid = '99999999999'")
    token = (await store.reader.changes(None)).token
    assert (await changed(store, token))[0] == []
    await store.writer.write(runs(ended(1), run(3)))
    told, token = await changed(store, token)
    assert sorted(told) == ["run-1", "run-3"]
    assert (await changed(store, token))[0] == []


async def test_a_number_that_the_server_reaches_later_is_told_once_at_most(store):
    await store.writer.write(runs(run(1)))
    await store.pool.execute(
        "UPDATE wafer_data.run_open SET changed_xid = (pg_current_xact_id()::text::bigint + 3)::text::xid8"
    )
    token = (await store.reader.changes(None)).token
    told = []
    for number in range(2, 12):
        await store.writer.write(runs(run(number)))
        now, token = await changed(store, token)
        told += now
    assert [one for one in told if one != "run-1"] == [f"run-{number}" for number in range(2, 12)]
    assert told.count("run-1") <= 1


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_token_of_another_server_timeline_or_database_is_refused(store, place):
    """Its numbers may all be ones that this server knows too."""
    token = (await store.reader.changes(None)).token
    origin, snapshot = token.split("/")
    parts = origin.split(".")
    parts[place] = str(int(parts[place]) + 1)
    with pytest.raises(CursorRejected, match="another database"):
        await store.reader.changes(f"{'.'.join(parts)}/{snapshot}")


@pytest.mark.parametrize("snapshot", ["5:4:", "9999999999999:9999999999999:"])
async def test_a_token_that_cannot_be_of_this_database_is_refused(store, snapshot):
    """As when the server was put back to an earlier state."""
    origin = (await store.reader.changes(None)).token.split("/")[0]
    with pytest.raises(CursorRejected, match="another database"):
        await store.reader.changes(f"{origin}/{snapshot}")
