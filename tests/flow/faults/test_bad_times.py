"""R6: clocks that are wrong by a day, data that are days late, ends before starts, no times at all, orphans and circles."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from tests.flow.faults.corpus import SECOND_NS, Sent
from tests.flow.faults.load import Grpc, Http
from tests.receiver.otlp import START_NS, last_item, logs, metrics, spans, text
from tests.servers import receiver
from wafermonitor.receiver.transcode.policies import Repair
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

HOUR_NS = 3600 * SECOND_NS
FLAGGED = {
    "end before start": ((START_NS, START_NS - HOUR_NS), Repair.END_BEFORE_START),
    "no start": ((0, START_NS), Repair.NO_START),
    "no end": ((START_NS, 0), Repair.NO_END),
}
ODD = {
    "a day ahead": START_NS + 24 * HOUR_NS,
    "a day behind": START_NS - 24 * HOUR_NS,
    "72 hours late": START_NS - 72 * HOUR_NS,
    "90 days late": START_NS - 90 * 24 * HOUR_NS,
    "a year ahead": START_NS + 365 * 24 * HOUR_NS,
    "1970": 1,
    "2262": 2**63 - 1,
}
ALL = {name: ((at_ns, min(at_ns + SECOND_NS, 2**63 - 1)), None) for name, at_ns in ODD.items()} | FLAGGED


@pytest.fixture
def running(durable):
    server = receiver.start(durable.migrated())
    yield server
    server.stop()


def rows(server: receiver.Server, sql: str) -> list[asyncpg.Record]:
    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(server.dsn)
        try:
            return list(await connection.fetch(sql))
        finally:
            connection.terminate()

    return asyncio.run(fetch())


def deliver(server: receiver.Server, *requests: Sent, times: int = 1) -> None:
    for kind, address in ((Http, server.otlp_http), (Grpc, server.otlp_grpc)):
        sender = kind(address)
        for request in requests * times:
            assert sender.send(request).took
        sender.close()


def test_r06_a_span_at_any_time_is_stored_once_and_flagged(running):
    request = spans(len(ALL))
    for span, ((start_ns, end_ns), _) in zip(request.resource_spans[0].scope_spans[0].spans, ALL.values(), strict=True):
        span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
        span.attributes.append(text(names.WAFER_JOB_NAME, "skewed"))
    deliver(running, Sent("traces", request.SerializeToString()), times=2)
    both = "SELECT * FROM wafer_data.span UNION ALL SELECT * FROM wafer_data.span_late"
    found = rows(running, f"SELECT span_id, attributes::text FROM ({both}) AS s ORDER BY span_id")
    assert [row["span_id"] for row in found] == list(range(1, len(ALL) + 1))
    flags = [json.loads(row["attributes"]).get(names.WAFER_REPAIRED) for row in found]
    assert flags == [None if flag is None else [flag] for _, flag in ALL.values()]
    (runs,) = rows(running, "SELECT count(*) AS runs, count(DISTINCT span_id) AS ids FROM wafer_data.known_run")
    assert tuple(runs) == (len(ALL), len(ALL))
    assert rows(running, "SELECT wafer_data.stray_partitions()") == []


def test_r06_a_line_and_a_point_at_any_time_are_stored_once(running):
    lines, points = logs(len(ODD)), metrics(len(ODD))
    for record, at_ns in zip(lines.resource_logs[0].scope_logs[0].log_records, ODD.values(), strict=True):
        record.time_unix_nano = at_ns
    for point, at_ns in zip(last_item(points).gauge.data_points, ODD.values(), strict=True):
        point.time_unix_nano = at_ns
    deliver(running, Sent("logs", lines.SerializeToString()), Sent("metrics", points.SerializeToString()), times=2)
    for hot, late in (("log_record", "log_late"), ("metric_point", "metric_late")):
        counts = [rows(running, f"SELECT count(*) FROM wafer_data.{table}")[0][0] for table in (hot, late)]
        assert sum(counts) == len(ODD)
        assert counts[1] > 0


def test_r06_a_span_without_any_time_is_stored_as_of_its_arrival(running):
    request = spans(1)
    last_item(request).start_time_unix_nano = last_item(request).end_time_unix_nano = 0
    sender = Http(running.otlp_http)
    assert sender.send(Sent("traces", request.SerializeToString())).took
    sender.close()
    (row,) = rows(running, "SELECT now() - start_time < '1 minute' AS recent, attributes FROM wafer_data.span")
    assert row["recent"]
    assert set(json.loads(row["attributes"])[names.WAFER_REPAIRED]) == {Repair.NO_START, Repair.NO_END}


def test_r06_orphans_and_circles_end_every_question(running):
    request = spans(5)
    made = request.resource_spans[0].scope_spans[0].spans
    parents = {1: 2, 2: 1, 3: 3, 4: 999, 5: 4}
    for number, span in enumerate(made, 1):
        span.parent_span_id = parents[number].to_bytes(8, "big")
        span.attributes.append(text(names.WAFER_JOB_NAME, f"job {number}"))
    deliver(running, Sent("traces", request.SerializeToString()))

    async def tree() -> list[str]:
        store = await connect(Config.load(dsn=running.dsn))
        try:
            return [item.run.job for item in await store.reader.tree(made[0].trace_id)]
        finally:
            await store.close()

    assert sorted(asyncio.run(tree())) == [f"job {number}" for number in range(1, 6)]
