"""What only a database does: refuse, wait, fail half-way, and keep late rows apart."""

from __future__ import annotations

import asyncio
import dataclasses

import asyncpg
import pytest

from tests.servers.timescaledb import Given
from tests.storage.contract.builders import (
    DAY,
    HOUR,
    NOW,
    TRACE,
    dead,
    ended,
    feed_beat,
    log,
    point,
    run,
    runs,
    series,
    span,
    span_id,
    trace_id,
)
from tests.storage.engines import on_postgres
from wafermonitor.runs.records import Batch
from wafermonitor.runs.state import State
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import RunQuery, SpanQuery
from wafermonitor.storage.timescale.dictionary import Dictionary
from wafermonitor.storage.timescale.statements import statement
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres


async def spans_of(store):
    return (await store.reader.spans(SpanQuery(trace_id=TRACE, limit=1000))).items


async def count(store, table):
    return await store.pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}")


POISON = {
    "NUL in a name": span(2, name="a\0b"),
    "lone surrogate": span(2, name="\ud800"),
    "text that is no JSON": span(2, attributes="{nope"),
    "NaN in JSON": span(2, attributes='{"a": NaN}'),
    "a number too large": span(2, duration_ns=2**63),
    "a kind too large": span(2, kind=2**15),
    "an id too long": span(2, span_id=b"\x01" * 9),
    "a trace too short": span(2, trace_id=b"\x01" * 15),
}


@pytest.mark.parametrize("bad", POISON.values(), ids=POISON.keys())
async def test_one_bad_row_stores_nothing_of_its_group(store, bad):
    good = Batch(spans=[span(1)], logs=[log(1)], runs=[run(1)], feeds=[feed_beat()])
    with pytest.raises(StorageRejected) as refused:
        await store.writer.write([good, Batch(spans=[bad])])
    assert "step" not in str(refused.value)
    assert await spans_of(store) == []
    assert (await store.reader.runs(RunQuery())).items == []
    await store.writer.write([good])
    assert await spans_of(store) == [span(1)]
    assert (await store.reader.run(trace_id(1), span_id(1))).run == run(1)


async def test_a_bad_run_stores_nothing_of_its_group(store):
    for bad in (
        run(2, job="a\0b"),
        run(2, owner="\ud800"),
        run(2, job="\ud800" * 500),
        run(2, cpu_s=float("nan")),
        run(2, attributes="{"),
        run(2, end_ns=2**63),
    ):
        with pytest.raises(StorageRejected):
            await store.writer.write([Batch(spans=[span(1)], runs=[run(1), bad])])
    assert await spans_of(store) == []
    assert (await store.reader.runs(RunQuery())).items == []


@pytest.mark.parametrize("kind", ["span", "log_record", "metric_point"])
async def test_rows_outside_the_prepared_days_are_kept_apart(store, kind):
    late = {"span": "span_late", "log_record": "log_late", "metric_point": "metric_late"}[kind]
    times = [NOW, NOW - DAY, NOW - 40 * DAY, NOW + 40 * DAY, 0]
    batch = Batch(
        spans=[span(1, start_ns=time_ns) for time_ns in times],
        logs=[log(1, time_ns=time_ns) for time_ns in times],
        points=[point(1, time_ns=time_ns) for time_ns in times],
    )
    await store.writer.write([batch])
    assert (await count(store, kind), await count(store, late)) == (2, 3)
    assert await store.pool.fetch("SELECT wafer_data.stray_partitions()") == []


async def test_a_late_row_that_comes_again_after_its_day_was_prepared_is_read_once(store):
    late = span(1, start_ns=NOW + 9 * DAY)
    line, value = log(1, time_ns=late.start_ns), point(1, time_ns=late.start_ns)
    batch = Batch(spans=[late], logs=[line], points=[value])
    await store.writer.write([batch])
    await store.pool.execute("SELECT wafer_data.keep_partitions(current_date, current_date + 10, current_date)")
    await Writer(store.pool).write([batch])
    assert (await count(store, "span"), await count(store, "span_late")) == (1, 1)
    assert await spans_of(store) == [late]
    assert (await store.reader.spans(SpanQuery(app="yield"))).items == [late]


async def test_a_writer_learns_of_days_that_are_prepared_later(store):
    writer = Writer(store.pool, window_age_s=0.0)
    await writer.write([Batch(spans=[span(1, start_ns=NOW + 9 * DAY)])])
    await store.pool.execute("SELECT wafer_data.keep_partitions(current_date, current_date + 10, current_date)")
    await writer.write([Batch(spans=[span(2, start_ns=NOW + 9 * DAY)])])
    assert (await count(store, "span"), await count(store, "span_late")) == (1, 1)


async def test_two_writers_with_the_same_rows_in_opposite_order_both_succeed(store):
    batch = [Batch(spans=[span(number)], runs=[run(number)]) for number in range(200)]
    for _ in range(5):
        await asyncio.gather(*(Writer(store.pool).write(part) for part in (batch, batch[::-1], batch[100:] + batch[:100])))
    assert len(await spans_of(store)) == 200
    assert await count(store, "run_open") == 200


async def test_dead_letters_are_kept_once_with_their_reason(store):
    batch = Batch(dead=[dead("a"), dead("a"), dead("b")])
    await store.writer.write([batch])
    await store.writer.write([batch])
    rows = await store.pool.fetch("SELECT signal, reason, sample, received_unix_ns FROM wafer_data.dead_letter ORDER BY reason")
    assert [tuple(row) for row in rows] == [("traces", reason, b"\x00\xff sample", NOW) for reason in "ab"]


async def test_a_ghost_is_read_once_and_swept_without_losing_a_word(store):
    opened, finished = run(1, cpu_s=9.0, lot_ids=("L1",)), ended(1)
    await store.writer.write(runs(opened))
    await store.pool.execute("CREATE TABLE kept AS SELECT * FROM wafer_data.run_open")
    await store.writer.write(runs(finished))
    columns = await store.pool.fetchval(
        "SELECT string_agg(attname, ', ') FROM pg_attribute "
        "WHERE attrelid = 'kept'::regclass AND attnum > 0 AND attname <> 'duration_ns'"
    )
    await store.pool.execute(f"INSERT INTO wafer_data.run_open ({columns}) SELECT {columns} FROM kept")
    (stored,) = (await store.reader.runs(RunQuery())).items
    assert stored.state is State.ENDED
    assert await store.pool.fetchval("SELECT wafer_data.sweep_ghosts()") == 1
    assert await store.pool.fetchval("SELECT wafer_data.sweep_ghosts()") == 0
    (stored,) = (await store.reader.runs(RunQuery())).items
    assert (stored.run.cpu_s, stored.run.lot_ids, stored.run.result) == (9.0, ("L1",), "success")
    assert (await count(store, "run_open"), await count(store, "run")) == (0, 1)


async def test_a_run_lost_for_long_is_inferred_to_have_ended_until_it_speaks_again(store):
    silent = run(1, heartbeat_interval_s=10.0, last_sign_ns=NOW - DAY - HOUR)
    await store.writer.write([Batch(runs=[silent, run(2)], feeds=[feed_beat(NOW)])])
    token = (await store.reader.changes(None)).token
    assert await store.pool.fetchval("SELECT wafer_data.set_inferred($1)", NOW) == 1
    assert await store.pool.fetchval("SELECT wafer_data.set_inferred($1)", NOW) == 0
    (changed,) = (await store.reader.changes(token)).runs
    assert (changed.run.run_id, changed.run.inferred, changed.state) == ("run-1", True, State.LOST)
    (site,) = await store.reader.sites()
    assert site.open_runs == {State.RUNNING: 1}
    for inferred, found in ((None, {"run-1", "run-2"}), (True, {"run-1"}), (False, {"run-2"})):
        for order in ("newest", "failing"):
            page = await store.reader.runs(RunQuery(inferred=inferred, order=order))
            assert {stored.run.run_id for stored in page.items} == found
    await store.writer.write(runs(dataclasses.replace(silent, last_sign_ns=NOW)))
    assert (await store.reader.run(trace_id(1), span_id(1))).run.inferred is False


async def test_people_read_runs_with_times_and_states(store):
    await store.writer.write(runs(ended(1, start_ns=NOW - HOUR, end_ns=NOW), run(2, start_ns=None)))
    rows = await store.pool.fetch("SELECT run_id, state, duration_s, start_time, end_time FROM wafer.job_run ORDER BY run_id")
    assert [tuple(row) for row in rows] == [
        ("run-1", "ended", 3600.0, (NOW - HOUR) // 1000, NOW // 1000),
        ("run-2", "running", None, None, None),
    ]


async def test_a_missing_table_is_for_the_operator_to_mend_and_the_data_waits(store):
    await store.writer.write([Batch(spans=[span(1)])])
    await store.pool.execute("ALTER TABLE wafer_data.span RENAME TO gone")
    with pytest.raises(StorageUnavailable, match="migrate"):
        await store.writer.write([Batch(spans=[span(2)])])
    await store.pool.execute("ALTER TABLE wafer_data.gone RENAME TO span")
    await store.writer.write([Batch(spans=[span(2)])])
    assert len(await spans_of(store)) == 2


async def test_a_database_that_takes_no_writes_is_waited_for(dsn):
    async with on_postgres(dsn, default_transaction_read_only="on") as reading:
        with pytest.raises(StorageUnavailable, match="no writes"):
            await reading.writer.write([Batch(spans=[span(1)])])
        assert (await reading.reader.spans(SpanQuery(trace_id=TRACE))).items == []


async def test_a_statement_that_is_cancelled_is_worth_another_try(store, dsn):
    await store.writer.write([Batch(spans=[span(1)])])
    async with on_postgres(dsn, statement_timeout="100ms") as hurried:
        async with store.pool.acquire() as blocking, blocking.transaction():
            await blocking.execute("LOCK TABLE wafer_data.span IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StorageUnavailable):
                await hurried.writer.write([Batch(spans=[span(2)])])
        await hurried.writer.write([Batch(spans=[span(2)])])
    assert len(await spans_of(store)) == 2


async def test_a_backend_that_is_ended_under_a_writer_costs_only_another_try(store):
    await store.writer.write([Batch(spans=[span(1)])])
    async with store.pool.acquire() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for _ in range(6):
        try:
            await store.writer.write([Batch(spans=[span(2)])])
        except StorageUnavailable:
            continue
        break
    assert len(await spans_of(store)) == 2


NOISE = "".join(chr(0x4E00 + (number * 7919) % 20_000) for number in range(9000))


async def test_a_name_too_long_for_an_index_is_cut_between_characters(store):
    names = dict.fromkeys(("job", "run_id", "service", "equipment", "recipe", "product"), NOISE)
    long = ended(1, **names, lot_ids=("L1", NOISE), substrate_ids=(NOISE,), owner=NOISE, attributes=f'{{"job": "{NOISE}"}}')
    for _ in range(2):
        await store.writer.write([Batch(runs=[long], points=[point(1, series=series(NOISE))])])
    cut = NOISE[:333]
    wanted = dataclasses.replace(long, **dict.fromkeys(names, cut), lot_ids=("L1", cut), substrate_ids=(cut,))
    assert (await store.reader.run(trace_id(1), span_id(1))).run == wanted
    assert await store.pool.fetchval("SELECT name FROM wafer_data.metric_series") == cut


async def test_a_site_too_long_for_an_index_is_refused_for_good(store):
    with pytest.raises(StorageRejected):
        await store.writer.write(runs(ended(1, site=NOISE)))


async def test_a_writer_that_falls_silent_in_a_transaction_is_given_up_by_the_server(store, dsn):
    await store.pool.execute(
        "CREATE TABLE seen (setting text); "
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO seen VALUES (current_setting('idle_in_transaction_session_timeout')); RETURN NULL; END $$; "
        "CREATE TRIGGER see AFTER INSERT ON wafer_data.run_open FOR EACH STATEMENT EXECUTE FUNCTION see()"
    )
    await store.writer.write(runs(run(1)))
    assert {row[0] for row in await store.pool.fetch("SELECT setting FROM seen")} == {"1min"}
    silent = await asyncpg.connect(dsn)
    await silent.execute("BEGIN")
    await silent.execute(statement("begin_writing").replace("60s", "100ms"))
    await silent.execute("SELECT FROM wafer_data.run_open FOR UPDATE")
    async with asyncio.timeout(30):
        await store.writer.write(runs(ended(1)))
    await silent.close()
    assert (await store.reader.run(trace_id(1), span_id(1))).state is State.ENDED


async def test_nobody_answers(store):
    await store.pool.close()
    with pytest.raises(StorageUnavailable):
        await store.writer.write([Batch(spans=[span(1)])])
    with pytest.raises(StorageUnavailable):
        await store.reader.health()


async def test_a_writer_that_forgets_names_asks_for_them_again(store):
    writer = Writer(store.pool)
    writer._dictionary = Dictionary(remembered=1)
    for _ in range(2):
        for number in range(4):
            await writer.write([Batch(spans=[span(number)], runs=[run(number, site=f"site-{number}")])])
    assert [site.site for site in await store.reader.sites()] == ["f1", "site-0", "site-1", "site-2", "site-3"]
    assert len(await spans_of(store)) == 4


async def test_numbers_of_names_are_not_spent_on_redelivery(store):
    for _ in range(5):
        await Writer(store.pool).write([Batch(spans=[span(1)], points=[point(1)])])
    await Writer(store.pool).write(runs(run(1, site="another")))
    assert await store.pool.fetchval("SELECT max(site_id) FROM wafer_data.site") == 2


async def test_changes_of_a_transaction_that_commits_late_are_not_left_out(store, dsn):
    """The token is a snapshot: a change that began before it and was committed after it comes with the next question."""
    await store.writer.write(runs(run(1), run(2)))
    connection = await asyncpg.connect(dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "UPDATE wafer_data.run_open SET owner = 'slow', changed_xid = pg_current_xact_id() WHERE run_id = 'run-1'"
        )
        token = (await store.reader.changes(None)).token
        await store.writer.write(runs(run(3)))
        first = await store.reader.changes(token)
        await transaction.commit()
        second = await store.reader.changes(first.token)
    finally:
        await connection.close()
    assert [item.run.run_id for item in first.runs] == ["run-3"]
    assert [item.run.run_id for item in second.runs] == ["run-1"]
    assert (await store.reader.changes(second.token)).runs == []


async def test_roles_need_no_more_than_their_rights(dsn):
    async with on_postgres(dsn, role="wafer_writer") as writing, on_postgres(dsn, role="wafer_reader") as reading:
        batch = Batch(
            spans=[span(1)], logs=[log(1)], points=[point(1)], runs=[run(1), ended(2)], feeds=[feed_beat()], dead=[dead()]
        )
        for _ in range(2):
            await writing.writer.write([batch])
        assert await writing.pool.fetchval("SELECT wafer_data.sweep_ghosts() + wafer_data.set_inferred($1)", NOW) == 0
        assert await spans_of(reading) == [span(1)]
        assert len((await reading.reader.runs(RunQuery(order="failing"))).items) == 2
        assert await reading.pool.fetchval("SELECT count(*) FROM wafer.job_run") == 2
        with pytest.raises(StorageUnavailable, match="right"):
            await reading.writer.write([batch])


async def test_a_server_that_was_killed_and_comes_back_is_written_to_again(postgres, store):
    if isinstance(postgres, Given):
        pytest.skip("the server is not ours to kill")
    await store.writer.write([Batch(spans=[span(1)])])
    postgres.kill()
    with pytest.raises(StorageUnavailable):
        await store.writer.write([Batch(spans=[span(2)])])
    with pytest.raises(StorageUnavailable):
        await store.reader.health()
    postgres.restart()
    await store.writer.write([Batch(spans=[span(1), span(2)])])
    assert await spans_of(store) == [span(1), span(2)]
