"""What the store needs again and again: days made ahead, one leader, lost runs counted as ended and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.servers import postgres as server
from tests.storage.contract import builders
from wafermonitor.runs.records import Batch, Run
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.timescale import maintenance
from wafermonitor.storage.timescale.session import open_session
from wafermonitor.storage.timescale.store import Storage

pytestmark = pytest.mark.postgres

DAY_NS = builders.DAY
BY_DAY = ("log_record", "metric_point", "span")


@pytest.fixture
async def store(postgres: server.Server) -> AsyncIterator[Storage]:
    """An opened store on a new database; maintenance every 10 ms."""
    opened = await connect(Config.load(dsn=postgres.migrated(), maintain_interval_s=0.01))
    assert isinstance(opened, Storage)
    yield opened
    await opened.close()


async def _round(store: Storage, now_ns: int, hot_days: int = 3) -> maintenance.Round:
    done = await maintenance.run_once(store.pool, hot_days=hot_days, now_ns=now_ns)
    assert done is not None
    return done


async def _window(store: Storage, now_ns: int = builders.NOW) -> tuple[date, date]:
    row = await store.pool.fetchrow("SELECT oldest::date, newest::date FROM wafer_data.hot_window($1)", _day(now_ns))
    return row[0], row[1]


def _day(now_ns: int) -> date:
    return datetime.fromtimestamp(now_ns // builders.SECOND, UTC).date()


async def _inferred(store: Storage) -> list[bool | None]:
    return [row[0] for row in await store.pool.fetch("SELECT inferred FROM wafer_data.run_open ORDER BY run_id")]


async def _until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.01)


async def test_fresh_store_needs_nothing(store: Storage) -> None:
    assert await _round(store, builders.NOW) == maintenance.Round((), 0, 0, ())


async def test_days_are_kept_from_the_oldest_hot_one_to_a_week_ahead(store: Storage) -> None:
    await _round(store, builders.NOW, hot_days=10)
    today = _day(builders.NOW)
    assert await _window(store) == (today - timedelta(days=10), today + timedelta(days=8))  # exclusive at its end


async def test_the_next_day_is_made_for_every_table_when_the_day_rolls_over(store: Storage) -> None:
    midnight = (builders.NOW // DAY_NS + 1) * DAY_NS
    assert (await _round(store, midnight - 1)).partitions == ()
    made = [name for name in (await _round(store, midnight)).partitions if not name.startswith("run_")]
    newest = f"{_day(midnight) + timedelta(days=7):%Y%m%d}"
    assert made == [f"{table}_{newest}" for table in BY_DAY]
    assert (await _round(store, midnight)).partitions == ()


async def test_runs_get_whole_months_also_over_the_turn_of_the_year(store: Storage) -> None:
    new_year = int(datetime(2031, 1, 1, tzinfo=UTC).timestamp()) * builders.SECOND
    made = (await _round(store, new_year)).partitions
    assert {name for name in made if name.startswith("run_")} == {"run_203012", "run_203101"}
    bounds = await store.pool.fetchval("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'run_203012'")
    assert bounds == "FOR VALUES FROM ('2030-12-01 00:00:00+00') TO ('2031-01-01 00:00:00+00')"


async def test_days_are_made_again_after_a_long_stop_and_the_window_starts_behind_the_gap(store: Storage) -> None:
    later = builders.NOW + 30 * DAY_NS
    await _round(store, later)
    assert await _window(store, later) == (_day(later) - timedelta(days=3), _day(later) + timedelta(days=8))


@pytest.mark.parametrize("wrong_ns", [400 * DAY_NS, -400 * DAY_NS])
async def test_a_clock_that_was_wrong_for_a_moment_sends_no_row_of_today_to_the_late_ones(
    store: Storage, wrong_ns: int
) -> None:
    before = await _window(store)
    await _round(store, builders.NOW + wrong_ns)
    assert await _window(store) == before
    await store.writer.write([Batch(spans=[builders.span()])])
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 1


async def test_rows_that_the_default_partition_took_move_into_their_month(store: Storage) -> None:
    later = builders.NOW + 400 * DAY_NS
    await store.writer.write([Batch(runs=[builders.ended(1, start_ns=later, end_ns=later + builders.SECOND)])])
    place = "SELECT tableoid::regclass::text FROM wafer_data.run"
    assert await store.pool.fetchval(place) == "wafer_data.run_default"
    await _round(store, later)
    assert await store.pool.fetchval(place) == f"wafer_data.run_{_day(later):%Y%m}"


async def test_row_outside_every_day_raises_the_alarm(store: Storage, caplog: pytest.LogCaptureFixture) -> None:
    await store.writer.write([Batch(spans=[builders.span()])])
    await store.pool.execute("UPDATE wafer_data.span SET start_time = start_time + interval '1 year'")
    done = await _round(store, builders.NOW)
    assert done.strays == ("span_default",)
    assert "outside every prepared day, in span_default" in caplog.text


def _open(number: int, last_sign_ns: int) -> Run:
    return builders.run(
        number, run_id=str(number), start_ns=last_sign_ns, last_sign_ns=last_sign_ns, heartbeat_interval_s=1.0, process_key=None
    )


async def test_run_lost_for_a_day_is_counted_as_ended_until_it_gives_a_sign(store: Storage) -> None:
    now = builders.NOW
    await store.writer.write([Batch(runs=[_open(1, now - 2 * DAY_NS), _open(2, now)])])
    before = (await store.reader.changes(None)).token
    await _round(store, now)
    assert await _inferred(store) == [True, False]
    assert [item.run.run_id for item in (await store.reader.changes(before)).runs][:1] == ["1"]

    await store.writer.write([Batch(runs=[_open(1, now)])])
    await _round(store, now)
    assert await _inferred(store) == [False, False]
    assert (await _round(store, now)).inferred == 0


async def test_only_one_of_many_leads(store: Storage) -> None:
    async with store.pool.acquire() as leader:
        assert await leader.fetchval("SELECT pg_try_advisory_lock($1)", maintenance.LOCK)
        assert await maintenance.run_once(store.pool, hot_days=3, now_ns=builders.NOW) is None
    # Given back, the connection has let go of the lock.
    assert await maintenance.run_once(store.pool, hot_days=3, now_ns=builders.NOW) is not None


async def test_many_at_once_make_each_partition_once(store: Storage) -> None:
    later = builders.NOW + DAY_NS * 100
    rounds = await asyncio.gather(*(maintenance.run_once(store.pool, hot_days=3, now_ns=later) for _ in range(6)))
    made = [name for done in rounds if done is not None for name in done.partitions]
    assert made
    assert len(made) == len(set(made))


async def test_writers_are_not_disturbed_while_days_are_made(store: Storage) -> None:
    async def write() -> None:
        for number in range(40):
            await store.writer.write([Batch(spans=[builders.span(number)])])

    await asyncio.gather(write(), *(_rounds(store, days) for days in (1, 40)))
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 40


async def _rounds(store: Storage, days: int) -> None:
    for ahead in range(5):
        await maintenance.run_once(store.pool, hot_days=3, now_ns=builders.NOW + (days + ahead) * DAY_NS)


async def test_a_reader_that_does_not_end_is_not_waited_for(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_LOCK_TIMEOUT", "50ms")
    async with store.pool.acquire() as reader, reader.transaction():
        await reader.execute("SELECT FROM wafer_data.span_default")
        with pytest.raises(StorageUnavailable, match="locked"):
            await _round(store, builders.NOW + DAY_NS)
    assert (await _round(store, builders.NOW + DAY_NS)).partitions


async def test_writer_role_is_enough_for_maintenance(postgres: server.Server) -> None:
    dsn = postgres.migrated()
    postgres.psql("DROP ROLE IF EXISTS receiver; CREATE ROLE receiver LOGIN PASSWORD 'receiver' IN ROLE wafer_writer")
    login = dsn.replace(f"wafer:{postgres.folder.password()}@", "receiver:receiver@")
    async with open_session(login) as connection:
        assert await connection.fetchval("SELECT current_user") == "receiver"
    store = await connect(Config.load(dsn=login))
    assert isinstance(store, Storage)
    try:
        assert (await _round(store, builders.NOW + DAY_NS)).partitions
        await store.writer.write([Batch(spans=[builders.span()], runs=[_open(1, builders.NOW)])])
    finally:
        await store.close()
