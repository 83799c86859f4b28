"""Who leads, when connections are lost and processes are stopped; and that SQL judges expected runs as Python does."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.runs.strategies import T0, feeds, limits, times
from tests.storage.contract.alerts import alert, delivery, expectation, expected, silence
from tests.storage.contract.builders import NOW, SECOND
from tests.storage.engines import on_postgres
from wafermonitor.runs.alerts import Subject
from wafermonitor.runs.expectations import Expected, known_until, state_known
from wafermonitor.runs.records import Feed, RunKey
from wafermonitor.runs.state import Limits
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.timescale import codecs
from wafermonitor.storage.timescale.session import open_session
from wafermonitor.storage.timescale.statements import statement
from wafermonitor.storage.timescale.watch import LEADER, Watch
from wafermonitor.storage.watch import AlertQuery, Outcome

pytestmark = pytest.mark.postgres
lasting = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

JUDGE = """
SELECT k.known_ns, wafer.expectation_state($1, $2, $3, k.known_ns, $4, $5::text::wafer.limits, $9) AS state
FROM (SELECT wafer.known_until(
  ARRAY(
    SELECT ROW(1, 'feed', f.watermark_ns, f.received_ns, f.skew_ns)::wafer_data.feed
    FROM unnest($6::bigint[], $7::bigint[], $8::bigint[]) AS f (watermark_ns, received_ns, skew_ns)
  ), $4, $5::text::wafer.limits
) AS known_ns) k
"""
moments = times | st.integers(0, 2**61)


@lasting
@example(
    due=(T0 + 1, T0 + 2, None), told=[Feed("f1", "a", T0 + 5, T0 + 9, -3)], now_ns=T0 + 9, limit=Limits(0.5e-9), unheard_ns=1
)
@example(due=(T0, T0, None), told=[], now_ns=T0 + 45 * SECOND + 1, limit=Limits(), unheard_ns=0)
@given(
    due=st.tuples(moments, moments, st.none() | times),
    told=st.lists(feeds.filter(lambda feed: feed is not None), max_size=4),
    now_ns=moments,
    limit=limits,
    unheard_ns=st.just(0) | st.integers(0, 10**12),
)
async def test_what_is_expected_is_judged_alike(store, due, told, now_ns, limit, unheard_ns):  # noqa: PLR0917 - hypothesis gives by name
    start_ns = due[2]
    late_ns, missed_ns = sorted(due[:2])
    columns = [[getattr(feed, name) for feed in told] for name in ("watermark_ns", "received_ns", "skew_ns")]
    given_limits = "(" + ",".join(map(repr, limit)) + ")"
    row = await store.pool.fetchrow(JUDGE, late_ns, missed_ns, start_ns, now_ns, given_limits, *columns, unheard_ns)
    known_ns = known_until(told, now_ns, limit)
    assert row["known_ns"] == known_ns
    expected_one = Expected(late_ns, late_ns, late_ns, missed_ns)
    assert row["state"] == state_known(expected_one, start_ns, known_ns, now_ns, limit, unheard_ns=unheard_ns)


async def test_the_views_tell_what_the_evaluator_stored(store, dsn):
    await store.watch.save(expectation())
    async with store.watch.lead() as lead:
        met = expected(1, start_ns=NOW + 5_400 * SECOND)
        await lead.store(Outcome(expected=[met], alerts=[alert(1), alert(2, resolved_ns=NOW + 90 * SECOND)]))
    async with open_session(dsn) as reader:
        await reader.execute("SET ROLE wafer_reader")
        (wish,) = await reader.fetch("SELECT name, site_id, job, origin, spec ->> 'cron' AS cron FROM wafer.expectations")
        (run,) = await reader.fetch("SELECT expectation, state, settled, after_nominal_s, trace_id FROM wafer.expected_runs")
        told = await reader.fetch("SELECT severity, is_open, duration_s, detail FROM wafer.alerts ORDER BY alert_id")
    assert tuple(wish) == ("nightly", "f1", "lot_yield", "api", "0 2 * * *")
    assert tuple(run) == ("nightly", "expected", False, 1800.0, None)
    assert [tuple(row) for row in told] == [("warning", True, None, "1"), ("warning", False, 90.0, "2")]


async def test_by_itself_the_server_says_what_time_it_is(store):
    watch = Watch(store.pool)
    for _ in range(2):
        before = await store.pool.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1e9)::bigint")
        async with watch.lead() as lead:
            await lead.store(Outcome())
        after = await store.pool.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1e9)::bigint")
        assert before <= lead.now_ns <= after
        assert await watch.ticked_ns() == lead.now_ns


async def test_processes_lead_one_after_the_other(store, another):
    async with store.watch.lead() as first:
        assert first is not None
        async with another.lead() as second:
            assert second is None
    async with another.lead() as second:
        assert second is not None
        async with store.watch.lead() as first:
            assert first is None


async def test_a_leader_that_lost_its_connection_stores_nothing(store, another):
    async with store.watch.lead() as lead:
        await store.pool.execute("SELECT pg_terminate_backend($1)", lead._connection.get_server_pid())
        with pytest.raises(StorageUnavailable):
            await lead.store(Outcome(alerts=[alert()]))
    async with another.lead() as second:
        assert await second.open_alerts() == []


async def test_a_leader_that_was_stopped_stores_nothing_after_another_has_led(store, another):
    """As when a pooler between us and the server kept its session, and with it only the appearance of the lock."""
    async with store.watch.lead() as stopped:
        await stopped._connection.execute("SELECT pg_advisory_unlock_all()")
        async with another.lead() as second:
            await second.store(Outcome(alerts=[alert(1)]))
        with pytest.raises(StorageUnavailable, match="another evaluator leads"):
            await stopped.store(Outcome(alerts=[alert(2)], notes={"a": "b"}))
    async with another.lead() as third:
        assert [await third.open_alerts(), await third.notes()] == [[alert(1)], {}]


async def test_a_leader_that_says_nothing_for_long_is_cut_off_by_the_server(store, another):
    async with store.watch.lead() as stopped:
        assert await stopped._connection.fetchval("SHOW idle_session_timeout") == "5min"
        await stopped._connection.execute("SET idle_session_timeout = 100")
        # The lock is free as soon as the server has ended the session; waited for, because the test may not sleep.
        async with store.pool.acquire() as waiting:
            await waiting.execute("SELECT pg_advisory_lock($1)", LEADER)
            await waiting.execute("SELECT pg_advisory_unlock($1)", LEADER)
        async with another.lead() as second:
            assert second is not None
        with pytest.raises(StorageUnavailable):
            await stopped.store(Outcome(alerts=[alert()]))


async def test_a_connection_that_led_goes_back_without_lock_or_limits(store):
    async with store.watch.lead() as lead:
        assert lead is not None
    async with store.pool.acquire() as connection:
        assert await connection.fetchval("SHOW idle_session_timeout") == "0"
        assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_an_account_that_may_write_may_evaluate_and_one_that_may_read_may_look(dsn):
    async with on_postgres(dsn, role="wafer_writer") as writer:
        await writer.watch.save(expectation())
        async with writer.watch.lead() as lead:
            await lead.store(Outcome(expected=[expected()], alerts=[alert()], deliveries=[delivery()], notes={"a": "b"}))
        assert len(await writer.watch.claim_deliveries()) == 1
        await writer.watch.silence(silence())
    async with on_postgres(dsn, role="wafer_reader") as reader:
        assert (await reader.watch.alerts(AlertQuery())).items == [alert()]
        token = (await reader.watch.alert_changes(None)).token
        assert (await reader.watch.alert_changes(token)).alerts == []
        with pytest.raises(StorageUnavailable, match="a right"):
            await reader.watch.acknowledge(alert().id, "ann")


async def test_one_connection_is_too_few_to_lead(dsn):
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1, init=codecs.register) as pool:
        with pytest.raises(StorageRejected, match="POOL_MAX_SIZE"):
            async with Watch(pool).lead():
                pass


async def test_an_alert_of_a_fingerprint_is_open_once_whoever_writes(store):
    async with store.watch.lead() as lead:
        await lead.store(Outcome(alerts=[alert(1)]))
    copied = """
    INSERT INTO wafer_data.alert
    SELECT (jsonb_populate_record(a, jsonb_build_object('alert_id', $1::text))).* FROM wafer_data.alert a
    """
    with pytest.raises(asyncpg.UniqueViolationError, match="alert_open"):
        await store.pool.execute(copied, "another")


async def test_rows_that_do_not_fit_are_found_by_halving_and_named(store, caplog):
    """A run whose id has the wrong length comes from nowhere; a thousand others must not wait for it."""
    broken = RunKey("f1", b"short", b"12345678")
    runs = [expected(number, run=broken if number in {3, 700} else None) for number in range(1000)]
    async with store.watch.lead() as lead:
        strange = alert(2)._replace(subject=Subject(run=broken))
        await lead.store(Outcome(expected=runs, alerts=[alert(1), strange], deliveries=[delivery(1)], notes={"a": "b"}))
        assert await lead.unsettled() == [one for one in runs if one.run is None]
        assert await lead.open_alerts() == [alert(1)]
        assert await lead.deliveries(0) == [delivery(1)]
        assert await lead.notes() == {"a": "b"}
    left_out = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert [f"{runs[number].due.nominal_ns} ns" in said for number, said in zip((3, 700), left_out, strict=False)] == [True] * 2
    assert strange.id in left_out[2]
    assert len(left_out) == 3


async def test_a_message_that_another_sender_claims_at_this_moment_is_passed_by(store):
    async with store.watch.lead() as lead:
        await lead.store(Outcome(deliveries=[delivery(1), delivery(2)]))
    async with store.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM wafer_data.delivery WHERE delivery_id = 'd1' FOR UPDATE")
        assert [one.id for one in await store.watch.claim_deliveries()] == ["d2"]
    assert [one.id for one in await store.watch.claim_deliveries()] == ["d1"]


async def test_old_rows_go_in_parts(store, monkeypatch):
    monkeypatch.setattr("wafermonitor.storage.timescale.watch.PRUNED_AT_ONCE", 3)
    done = [expected(-number, settled=True) for number in range(2, 12)]
    async with store.watch.lead() as lead:
        await lead.store(Outcome(expected=done, alerts=[alert(number, resolved_ns=NOW) for number in range(1, 3)]))
    assert await store.watch.prune(NOW + SECOND) == 12
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.expected_run") == 0


@pytest.mark.parametrize(
    ("statement_name", "index"),
    [("watch_unsettled", "expected_run_unsettled"), ("watch_open_alerts", "alert_open"), ("watch_claim", "delivery_waiting")],
)
async def test_what_a_tick_reads_is_found_by_an_index_that_history_does_not_grow(store, statement_name, index):
    arguments = {"watch_claim": (20, 60, NOW)}.get(statement_name, ())
    async with store.pool.acquire() as connection:
        await connection.execute("SET enable_seqscan = off")
        rows = await connection.fetch(f"EXPLAIN {statement(statement_name)}", *arguments)
    assert f"using {index} " in "\n".join(row[0] for row in rows) or f"on {index} " in "\n".join(row[0] for row in rows)


@pytest.fixture
async def another(dsn):
    """Another process's watch on the same database."""
    async with asyncpg.create_pool(dsn, min_size=0, max_size=2, init=codecs.register) as pool:
        yield Watch(pool, clock=lambda: NOW)
