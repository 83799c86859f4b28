"""What a span and a run cost on ClickHouse's engine: CPU to encode, insert and merge, bytes at rest, time to read.

In: how many spans and runs. Out: lines on stdout, shown in docs/scale.md. Called by: `python -m benchmarks.clickhouse_engine`.

The engine is chDB in a process of its own (`make test-servers` installs it). CPU of the server is of all its threads, HTTP
included, from /proc; the requests are those of corpus M, whose attributes are drawn anew for every 2,000 spans.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import numpy as np

from benchmarks import corpus
from tests.servers import clickhouse
from wafermonitor.receiver.transcode import python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.runs.merge import final_fields
from wafermonitor.runs.records import Batch, Run
from wafermonitor.storage.clickhouse import rows, schema
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.groups import gather
from wafermonitor.storage.clickhouse.reader import Reader
from wafermonitor.storage.protocol import RunQuery, SpanQuery

GROUP_SPANS = 16_384
ASKED = 200
DAY_NS = 86_400 * 10**9
_SIZE = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase() AND table = {table:String}"


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def batches(spans: int) -> list[Batch]:
    """Decoded requests of corpus M, 512 spans each, one span in ten a run."""
    lane = python.Lane()
    made: list[Batch] = []
    first, seed = corpus.stream_start(7), corpus.SEED
    while sum(len(batch.spans) for batch in made) < spans:
        corpus.SEED += 1
        sheet = corpus.sheet("M", 512, "1 in 10")
        filled = sheet.fill(first, time.time_ns() - 3600 * 10**9)
        first += sheet.spans
        for start, end in sheet.bounds:
            made.append(lane.transcode(Request(Signal.TRACES, Encoding.PROTOBUF, filled[start:end], time.time_ns())).batch)
    corpus.SEED = seed
    return made


async def ingest(client: Client, pid: int, given: list[Batch]) -> None:
    """Spans with their names and runs, in groups as a receiver makes them."""
    spans = sum(len(batch.spans) for batch in given)
    encode_s = 0.0
    table_s: dict[str, float] = {}
    per_group = GROUP_SPANS // 512
    for start in range(0, len(given), per_group):
        began_s = time.thread_time()
        group = gather(given[start : start + per_group], 2**64 - 1 - start, int(time.time()), b"123456")
        encode_s += time.thread_time() - began_s
        by_table: dict[rows.Table, list[bytes]] = {}
        for (table, _), row in group.names.items():
            by_table.setdefault(table, []).append(row)
        for table, encoded in [*by_table.items(), *group.facts.items(), (rows.CHANGES, group.changes)]:
            if encoded:
                before_s = cpu_s(pid)
                await client.insert("measure", table, encoded)
                table_s[table.name] = table_s.get(table.name, 0.0) + cpu_s(pid) - before_s
    runs = sum(len(batch.runs) for batch in given)
    click.echo(f"encode (Python): {encode_s / spans * 1e6:.1f} µs per span, its run included")
    for written, spent_s in table_s.items():
        click.echo(f"insert {written}: {spent_s / spans * 1e6:.2f} µs of the server per span")
    before_s = cpu_s(pid)
    for merged in ("span", "root_span", "run", "run_start", "run_word", "run_change"):
        await client.command("merge", f"OPTIMIZE TABLE {merged} FINAL")
    click.echo(f"merge into one part: {(cpu_s(pid) - before_s) / spans * 1e6:.2f} µs per span")
    for kept, count in (("span", spans), ("root_span", spans // 10), ("run", runs), ("run_start", runs), ("run_word", runs)):
        ((size,),) = await client.query("size", _SIZE, {"table": kept})
        click.echo(f"{kept} at rest: {size / count:.1f} bytes a row")
    columns = await client.query(
        "size",
        "SELECT column, sum(column_data_compressed_bytes) AS size FROM system.parts_columns "
        "WHERE active AND database = currentDatabase() AND table = 'span' GROUP BY column ORDER BY size DESC LIMIT 9",
    )
    click.echo("largest columns, bytes per span: " + ", ".join(f"{name} {size / spans:.1f}" for name, size in columns))


async def shapes(client: Client, spans: int) -> None:
    """The same attributes in other types."""
    for kind, codec in (
        ("String", "LZ4"),
        ("String", "ZSTD(1)"),
        ("String", "ZSTD(3)"),
        ("Map(LowCardinality(String), String)", "ZSTD(1)"),
        ("JSON", "ZSTD(1)"),
    ):
        await client.command("shape", "DROP TABLE IF EXISTS shape SYNC")
        await client.command(
            "shape",
            f"CREATE TABLE shape (trace_id FixedString(16), span_id FixedString(8), a {kind} CODEC({codec})) "
            "ENGINE = MergeTree ORDER BY (trace_id, span_id)",
        )
        value = {"M": "mapFromArrays(JSONExtractKeys(attributes), arrayMap(x -> x.2, JSONExtractKeysAndValuesRaw(attributes)))"}
        await client.command(
            "shape", f"INSERT INTO shape SELECT trace_id, span_id, {value.get(kind[0], 'attributes')} FROM span"
        )
        await client.command("shape", "OPTIMIZE TABLE shape FINAL")
        ((size,),) = await client.query(
            "shape",
            "SELECT sum(column_data_compressed_bytes) FROM system.parts_columns "
            "WHERE active AND database = currentDatabase() AND table = 'shape' AND column = 'a'",
        )
        click.echo(f"attributes as {kind} {codec}: {size / spans:.1f} bytes per span")


async def runs(client: Client, count: int) -> None:
    """Ended runs over sixty days, one in a thousand open, for the questions below."""
    now_ns = time.time_ns()
    draw = np.random.default_rng(1)
    for start in range(0, count, 20_000):
        made = []
        for number in range(start, min(count, start + 20_000)):
            begin_ns = now_ns - int(draw.random() * 60 * DAY_NS)
            is_open = number % 1000 == 0
            run = Run(
                site=f"site-{number % 20}",
                trace_id=draw.bytes(16),
                span_id=draw.bytes(8),
                start_ns=begin_ns,
                job=f"job-{number % 50}",
                run_id=f"run-{number}",
                service=f"service-{number % 10}",
                equipment=f"tool-{number % 400}",
                lot_ids=(f"LOT-{number // 25}",),
                last_sign_ns=begin_ns + 10**9,
                received_ns=now_ns,
                attributes='{"wafer.job.name": "x"}',
                end_rank=0 if is_open else 2,
                end_ns=None if is_open else begin_ns + 10**9,
                result=None if is_open else ("failure" if number % 30 == 0 else "success"),
            )
            made.append(rows.run_row(Run(**{n: getattr(run, n) for n in Run.__slots__} | {"final_fields": final_fields(run)})))
        await client.insert("measure", rows.RUNS, made)


async def asked(name: str, question: Callable[[int], Awaitable[object]], times: int, pid: int) -> None:
    """How long one question takes, and what it costs the server."""
    await question(0)
    before_s, taken = cpu_s(pid), []
    for number in range(times):
        began_s = time.perf_counter()
        await question(number)
        taken.append(time.perf_counter() - began_s)
    middle, last = np.percentile(taken, [50, 99]) * 1000
    click.echo(f"{name}: {middle:.0f} ms, p99 {last:.0f} ms, server {(cpu_s(pid) - before_s) / times * 1000:.0f} ms of CPU")


async def measure(spans: int, run_count: int) -> None:
    """Everything, on a new server."""
    server = clickhouse.start()
    try:
        client = await Client.open(server.dsn("wafer"), pool_size=2, timeout_s=600)
        await schema.upgrade(client, schema.Keep(90, 730, 120))
        given = batches(spans)
        await ingest(client, server.pid, given)
        await shapes(client, sum(len(batch.spans) for batch in given))
        await runs(client, run_count)
        reader = Reader(client)
        traces = [batch.spans[0].trace_id for batch in given]
        click.echo(
            f"asked {spans} spans and {run_count} runs, while {os.getloadavg()[0]:.0f} programs wanted {os.cpu_count()} cores"
        )
        await asked("trace by id", lambda n: reader.spans(SpanQuery(trace_id=traces[n % len(traces)])), ASKED, server.pid)
        await asked("newest root spans", lambda _: reader.spans(SpanQuery(limit=100)), 20, server.pid)
        await asked("newest 100 runs", lambda _: reader.runs(RunQuery(limit=100)), 20, server.pid)
        await asked("runs of a lot", lambda n: reader.runs(RunQuery(lot=(f"LOT-{n}",))), 20, server.pid)
        await asked("newest 100 of a tool", lambda n: reader.runs(RunQuery(equipment=(f"tool-{n}",))), 10, server.pid)
        await asked("failing first", lambda _: reader.runs(RunQuery(order="failing")), 10, server.pid)
        await asked("sites with open runs", lambda _: reader.sites(), 10, server.pid)
        await client.close()
    finally:
        server.stop()


@click.command()
@click.option("--spans", default=200_000, show_default=True)
@click.option("--runs", "run_count", default=500_000, show_default=True)
def main(spans: int, run_count: int) -> None:
    """Measure ClickHouse's engine on this machine."""
    why = clickhouse.missing()
    if why is not None:
        raise click.ClickException(why)
    asyncio.run(measure(spans, run_count))


if __name__ == "__main__":
    main()
