"""P8: what a span, a run, a log record and a point take on disk: hot, hot and compressed, archived.

In: a plan; WAFER_TEST_TSL_DSN, a server with TimescaleDB's Community edition, for what is compressed. Out: figures.
Called by: `python -m benchmarks p08`.

Corpus M with values drawn anew for every span (about 29 bytes of them cannot be foretold), one span in ten a run, sent through
the receiver; log records and points beside, drawn anew as well. Then the archiver writes that day. The same spans are also
written as others lay them out in Parquet: attributes as JSON, and each attribute as a column.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from pydantic import SecretStr

from benchmarks import corpus
from benchmarks.results import rounded
from benchmarks.rounds import Plan, VoidError
from benchmarks.system import System, running
from tests.servers import timescaledb
from wafermonitor.runs.records import Span
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.archive.archiver import run_once
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.archive.protocol import Signal
from wafermonitor.storage.archive.shelf import open_shelf
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.timescale import maintenance
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.store import Storage

SPANS = {"quick": 20_480, "normal": 204_800, "full": 1_024_000}
BATCH = 512
PER_S = 20_000
DAYS_AGO = 5
"""The day that is filled: over for long enough to be archived."""
LAYOUT_SPANS = 204_800
LAYOUT_ZSTD = 3
DAY_S = 86_400
TABLES = {"spans": "span", "runs": "run", "logs": "log_record", "metrics": "metric_point"}
PUBLISHED = (
    ("VictoriaTraces, the same corpus", 118, "measured with the peers of P2, snapshot of July 2025"),
    ("Tempo's finished blocks, the same corpus", 177, "measured with the peers of P2, 3.0.3"),
    ("Jaeger's ClickHouse spans table", 75.7, "its BENCHMARKING.md, other spans"),
    ("TimescaleDB columnstore, 14-span web traces", 63, "gotempsh/temps, pull request 348"),
    ("Tempo's Parquet prototype", 58, "its design proposal of April 2022"),
    ("ClickHouse, 698 G spans of a user", 34, "bithon, issue 789"),
)
"""Bytes per span that others tell, and where: spans differ, so these only show the order of size."""
_ENVIRONMENT = {"WAFER_STORAGE_HOT_DAYS": str(DAYS_AGO + 1), "WAFER_ARCHIVE_ENABLED": "false"}
_SIZES = """
SELECT sum(pg_table_size(inhrelid))::bigint AS heap, sum(pg_indexes_size(inhrelid))::bigint AS indexes
FROM pg_inherits WHERE inhparent = format('wafer_data.%I', $1::text)::regclass
"""
_CHUNKS = "SELECT sum(total_bytes)::bigint FROM chunks_detailed_size($1::text::regclass)"
_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_WITHIN_S = 300.0


def bench_p08_at_rest(plan: Plan) -> dict[str, Any]:
    """Hot, archived and beside; compressed where such a server is given."""
    spans = SPANS[plan.mode]
    with running(_ENVIRONMENT) as system:
        _send(system, spans)
        counts = system.ask(_counts)
        hot = system.ask(_hot)
        archived, records = asyncio.run(_archived(system, system.work / "archive"))
        version = system.version()
    compressed = _compressed(spans)
    return {
        "title": "Bytes at rest",
        "spans": spans,
        "counts": counts,
        "hot": hot,
        "archive": archived,
        "archive_bytes": archived["spans"],
        "compressed": compressed,
        **({} if "not_run" in compressed else {"compressed_bytes": compressed["bytes"]["spans"]}),
        "layouts": _layouts(records),
        "layout_spans": len(records),
        "published": [{"store": store, "bytes": size, "source": source} for store, size, source in PUBLISHED],
        "versions": {"postgresql": version, "pyarrow": pa.__version__},
    }


def _send(system: System, spans: int) -> None:
    """A day's spans, a log record for ten of them, a point for ten of them."""
    noon_ns = ((int(time.time()) // DAY_S - DAYS_AGO) * DAY_S + DAY_S // 2) * 10**9
    api = http.client.HTTPConnection(system.addresses.receiver_http, timeout=60)
    for path, requests in (
        ("/v1/traces", corpus.fresh(spans, BATCH, noon_ns, 10**9 // PER_S)),
        ("/v1/logs", _logs(spans // 10, noon_ns)),
        ("/v1/metrics", _points(spans // 10, noon_ns)),
    ):
        for body in requests:
            api.request("POST", path, body, {"content-type": "application/x-protobuf"})
            answer = api.getresponse()
            said = answer.read()
            if answer.status != 200 or said:
                raise VoidError(f"{path} was answered with {answer.status} {said[:200]!r}")
    api.close()


def _logs(count: int, at_ns: int) -> Iterator[bytes]:
    """Log records of runs, each with a measured number in its text and four attributes."""
    draw = random.Random(corpus.SEED)
    for first in range(0, count, BATCH):
        request = logs_service_pb2.ExportLogsServiceRequest()
        group = request.resource_logs.add()
        group.resource.attributes.extend(corpus.pairs(list(corpus.resource().items())[:8]))
        scoped = group.scope_logs.add()
        scoped.scope.name = "benchmarks"
        numbers = np.arange(first, min(count, first + BATCH), dtype=np.uint64) * np.uint64(corpus.TRACE_SPANS)
        numbers += np.uint64(corpus.TRACE_SPANS)
        for number, trace, span in zip(range(first, count), corpus.trace_ids(numbers), corpus.span_ids(numbers), strict=False):
            record = scoped.log_records.add(
                time_unix_nano=at_ns + number * 10 * 10**9 // PER_S + draw.randrange(10**6),
                severity_number=9 if draw.random() < 0.95 else 13,
                trace_id=trace.tobytes(),
                span_id=span.tobytes(),
            )
            record.body.string_value = (
                f"die {draw.randrange(2_000)} of 2000: {draw.random() * 4:.6f} V at site {draw.randrange(16)}"
            )
            lot = draw.randrange(5_000)
            record.attributes.extend(
                corpus.pairs(
                    [
                        (names.WAFER_LOT_IDS, f"LOT{lot:05}"),
                        (names.WAFER_EQUIPMENT_ID, f"PRB-{draw.randrange(20):02}.fab-1.test"),
                        ("bin.soft", draw.randrange(400)),
                        ("limit.value", draw.random()),
                    ]
                )
            )
        yield request.SerializeToString()


def _points(count: int, at_ns: int) -> Iterator[bytes]:
    """Points of twenty tools, every ten seconds: a gauge, a counter and a histogram of ten buckets."""
    draw = random.Random(corpus.SEED)
    tools = 20
    rows = [0] * tools
    for step in range(-(-count // (3 * tools))):
        request = metrics_service_pb2.ExportMetricsServiceRequest()
        group = request.resource_metrics.add()
        group.resource.attributes.extend(corpus.pairs(list(corpus.resource().items())[:8]))
        scoped = group.scope_metrics.add()
        scoped.scope.name = "benchmarks"
        gauge, counter, histogram = (
            scoped.metrics.add(name=name, unit=unit)
            for name, unit in (("tester.temperature", "Cel"), ("rows.read", "{row}"), ("die.time", "s"))
        )
        counter.sum.aggregation_temporality = _CUMULATIVE
        histogram.histogram.aggregation_temporality = _CUMULATIVE
        counter.sum.is_monotonic = True
        time_ns = at_ns + step * 10 * 10**9
        for tool in range(tools):
            rows[tool] += draw.randrange(20_000)
            counts = [draw.randrange(200) for _ in range(11)]
            common: dict[str, Any] = {"time_unix_nano": time_ns + draw.randrange(10**6), "start_time_unix_nano": at_ns}
            attributes = corpus.pairs([(names.WAFER_EQUIPMENT_ID, f"PRB-{tool:02}.fab-1.test")])
            gauge.gauge.data_points.add(as_double=25 + draw.random() * 120, **common).attributes.extend(attributes)
            counter.sum.data_points.add(as_int=rows[tool], **common).attributes.extend(attributes)
            histogram.histogram.data_points.add(
                count=sum(counts),
                sum=draw.random() * sum(counts),
                explicit_bounds=[0.001 * 2**power for power in range(10)],
                bucket_counts=counts,
                **common,
            ).attributes.extend(attributes)
        yield request.SerializeToString()


async def _counts(connection: asyncpg.Connection) -> dict[str, int]:
    found = {what: await connection.fetchval(f"SELECT count(*) FROM wafer_data.{table}") for what, table in TABLES.items()}
    if not all(found.values()):
        raise VoidError(f"the store lacks something: {found}")
    return found


async def _hot(connection: asyncpg.Connection) -> dict[str, dict[str, float]]:
    """Bytes for each row in the store: table, with what it keeps apart, and indexes."""
    counts = await _counts(connection)
    found = {}
    for what, table in TABLES.items():
        (row,) = await connection.fetch(_SIZES, table)
        heap, indexes = (rounded(row[name] / counts[what]) for name in ("heap", "indexes"))
        found[what] = {"table": heap, "indexes": indexes, "bytes": rounded((row["heap"] + row["indexes"]) / counts[what])}
    return found


async def _archived(system: System, folder: Path) -> tuple[dict[str, float], list[Span]]:
    """Bytes for each archived row; some spans of the day in the archive's order."""
    store = await connect(Config(dsn=SecretStr(system.dsn)), migrate=False)
    assert isinstance(store, Storage)
    try:
        days, config = Days(store.pool), ArchiveConfig(folder=folder)
        done = await run_once(days, open_shelf(config), config, now_ns=time.time_ns(), drop=False)
        if done is None or done.failed:
            raise VoidError(f"the archiver did not do its work: {done}")
        entries = (await days.manifest()).entries
        sizes: dict[str, list[int]] = {signal.value: [0, 0] for signal in Signal}
        for entry in entries:
            sizes[entry.place.signal.value][0] += entry.size_bytes
            sizes[entry.place.signal.value][1] += entry.rows
        records: list[Span] = []
        for entry in entries:
            if entry.place.signal is Signal.SPANS:
                async with aclosing(days.rows(entry.place)) as batches:
                    async for batch in batches:
                        records += batch
                        if len(records) >= LAYOUT_SPANS:
                            break
        return {what: rounded(size / rows) for what, (size, rows) in sizes.items()}, records[:LAYOUT_SPANS]
    finally:
        await store.close()


def _layouts(records: Sequence[Span]) -> dict[str, float]:
    """Bytes for each span in Parquet as others write it; zstd over all, dictionaries where the writer finds them worth it."""
    common = [
        {
            "trace_id": one.trace_id,
            "span_id": one.span_id,
            "parent_span_id": one.parent_span_id,
            "start_ns": one.start_ns,
            "duration_ns": one.duration_ns,
            "name": one.name,
            "kind": one.kind,
            "status": one.status,
            "resource": one.resource.key,
            "received_ns": one.received_ns,
        }
        for one in records
    ]
    as_json = [row | {"attributes": one.attributes, "events": one.events} for row, one in zip(common, records, strict=True)]
    as_columns = [
        row | {f"attributes.{name}": value for name, value in json.loads(one.attributes).items()} | {"events": one.events}
        for row, one in zip(common, records, strict=True)
    ]
    named = {name: None for row in as_columns for name in row}
    return {
        "promoted columns, attributes and events as JSON": rounded(_parquet_bytes(as_json) / len(records)),
        "every attribute a column": rounded(_parquet_bytes([named | row for row in as_columns]) / len(records)),
    }


def _parquet_bytes(rows: list[dict[str, Any]]) -> int:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd", compression_level=LAYOUT_ZSTD)
    return int(sink.getvalue().size)


def _compressed(spans: int) -> dict[str, Any]:
    """The same day on a server with the Community edition, before and after its chunks are compressed."""
    why = timescaledb.missing_given()
    if why is not None:
        return {"not_run": why}
    server = timescaledb.given()
    dsn = server.migrated()
    try:
        with running(_ENVIRONMENT, dsn=dsn) as system:
            system.ask(_prepare)
            _send(system, spans)
            counts = system.ask(_counts)
            before = system.ask(_chunk_bytes)
            system.ask(compress)
            after = system.ask(_chunk_bytes)
            version = system.ask(
                lambda connection: connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
            )
    finally:
        server.drop(dsn)
    return {
        "raw_bytes": {what: rounded(size / counts[what]) for what, size in before.items()},
        "bytes": {what: rounded(size / counts[what]) for what, size in after.items()},
        "timescaledb": version,
    }


async def _prepare(connection: asyncpg.Connection) -> None:
    """The day must be ready before its rows come: the receiver's own round may be a moment later."""
    await maintenance.partitions(connection, DAYS_AGO + 1, time.time_ns())


async def compress(connection: asyncpg.Connection) -> int:
    """Close the days that are over and compress their chunks, as maintenance does, without waiting for writers to notice.

    Called by `p09_search` as well; how many chunks.
    """
    await connection.execute("SELECT wafer_data.close_days(date_trunc('day', now(), 'UTC'))")
    done = 0
    while await connection.fetchval("SELECT wafer_data.compress_next('0 s')", timeout=_WITHIN_S):
        done += 1
    return done


async def _chunk_bytes(connection: asyncpg.Connection) -> dict[str, int]:
    """Of the tables that have chunks, compressed or not, with indexes."""
    return {what: await connection.fetchval(_CHUNKS, f"wafer_data.{table}") for what, table in TABLES.items() if what != "runs"}
