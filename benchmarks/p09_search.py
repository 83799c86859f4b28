"""P9: how soon are traces and runs found among ten million spans of thirty days, and how soon does the read API answer?

In: a plan; WAFER_TEST_TSL_DSN, a server with TimescaleDB's Community edition, where the same is asked of compressed days.
Out: figures. Called by: `python -m benchmarks p09`.

The spans go through the receiver, day after day, their times spread over the thirty days: tables, indexes, rollups and
dictionary are those that months of receiving make. Then the statistics are made, by the step of maintenance that makes them.
Indexes by id are warmed by looking for some thousand traces. Every question is asked with other values each time, of the reader
that the read API uses, then of the read API over HTTP; once while nothing is stored, and once beside a steady load. Without
indexes or statistics of its own: what a user would get.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import asyncpg
import numpy as np
from pydantic import SecretStr

from benchmarks import corpus, load
from benchmarks.corpus import stream_start
from benchmarks.p08_at_rest import compress
from benchmarks.results import rounded
from benchmarks.rounds import Plan, VoidError, judge
from benchmarks.system import System, running
from tests.servers import timescaledb
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.protocol import Reader, RunQuery, SpanQuery
from wafermonitor.storage.timescale import maintenance

DAYS = 30
WARM_LOOKUPS = 4_000
DAY_NS = 86_400 * 10**9
BATCH = 512
BESIDE_SPANS_PER_S = 2_000
WITHIN_S = 900.0
ASKED = {"quick": 50, "normal": 400, "full": 1_000}
_SETTLED_S = 120
_WARM = 10
_KNOWN = """
SELECT lot_ids[1] AS lot, equipment, job, run_id, start_unix_ns, trace_id, span_id
FROM wafer_data.run WHERE random() < 2000.0 / (SELECT greatest(2000, count(*)) FROM wafer_data.run)
"""
_CARDS = """
SELECT DISTINCT attributes ->> 'probe.card.id' FROM wafer_data.run
WHERE start_time > now() - interval '23 hours' AND attributes ->> 'probe.card.id' IS NOT NULL
"""
_BUSY = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"


class Known(NamedTuple):
    """What is asked for: a sample of what is stored."""

    lots: Sequence[str]
    tools: Sequence[str]
    jobs: Sequence[str]
    cards: Sequence[str]
    """An attribute of runs of the last day."""
    traces: Sequence[tuple[bytes, bytes, int]]
    """Trace, its root span, when that began (ns)."""


class Question(NamedTuple):
    """What is asked of the reader, under which goal, and whether any answer must hold something."""

    name: str
    goal: str
    ask: Callable[[Reader, Known, random.Random], Awaitable[Any]]
    found: bool = True


def _runs(**filters: Any) -> RunQuery:
    return RunQuery(limit=100, **filters)


def _day() -> int:
    return time.time_ns() - DAY_NS


def _anywhere(draw: random.Random) -> int:
    return time.time_ns() - draw.randrange(DAYS * 9 // 10 * DAY_NS)


async def _bare(reader: Reader, known: Known, draw: random.Random) -> Any:
    return (await reader.spans(SpanQuery(trace_id=draw.choice(known.traces)[0]))).items


async def _hinted(reader: Reader, known: Known, draw: random.Random) -> Any:
    trace, _, at_ns = draw.choice(known.traces)
    hour_ns = DAY_NS // 24
    return (await reader.spans(SpanQuery(trace_id=trace, from_ns=at_ns - hour_ns, to_ns=at_ns + hour_ns))).items


async def _of_run(reader: Reader, known: Known, draw: random.Random) -> Any:
    """As the read API does: the run first, then the spans of its time."""
    trace, span, _ = draw.choice(known.traces)
    stored = await reader.run(trace, span)
    return stored and (await reader.spans(SpanQuery(trace_id=trace))).items


async def _second_page(reader: Reader, _known: Known, draw: random.Random) -> Any:
    """Two pages from somewhere in the thirty days on, the second by the cursor of the first."""
    query = _runs(to_ns=_anywhere(draw))
    first = await reader.runs(query)
    return (await reader.runs(dataclasses.replace(query, cursor=first.cursor))).items


def _listed(query: Callable[[Known, random.Random], RunQuery]) -> Callable[[Reader, Known, random.Random], Awaitable[Any]]:
    async def ask(reader: Reader, known: Known, draw: random.Random) -> Any:
        return (await reader.runs(query(known, draw))).items

    return ask


async def _roots(reader: Reader, _known: Known, draw: random.Random) -> Any:
    """Newest first, from somewhere in the thirty days on."""
    return (await reader.spans(SpanQuery(limit=100, to_ns=_anywhere(draw)))).items


async def _unknown(reader: Reader, _known: Known, draw: random.Random) -> Any:
    return (await reader.spans(SpanQuery(trace_id=draw.randbytes(16)))).items


QUESTIONS = (
    Question("trace by id", "trace", _bare),
    Question("trace by id, within two hours", "trace", _hinted),
    Question("trace of a run", "trace", _of_run),
    Question("trace that is not there", "trace", _unknown, found=False),
    Question("newest runs", "runs", _listed(lambda _, __: _runs())),
    Question("runs of a lot", "runs", _listed(lambda known, draw: _runs(lot=(draw.choice(known.lots),)))),
    Question("runs on an equipment", "runs", _listed(lambda known, draw: _runs(equipment=(draw.choice(known.tools),)))),
    Question("runs of a job", "runs", _listed(lambda known, draw: _runs(job=(draw.choice(known.jobs),)))),
    Question("runs that timed out", "runs", _listed(lambda _, __: _runs(result=("timeout",)))),
    Question(
        "runs of a job that failed",
        "runs",
        _listed(lambda known, draw: _runs(job=(draw.choice(known.jobs),), result=("failure",))),
    ),
    Question(
        "runs of a lot on an equipment",
        "runs",
        _listed(lambda known, draw: _runs(lot=(draw.choice(known.lots),), equipment=(draw.choice(known.tools),))),
        found=False,
    ),
    Question("failing first", "runs", _listed(lambda _, __: _runs(order="failing"))),
    Question("two pages of runs, anywhere in the 30 days", "runs", _second_page),
    Question("runs that nobody has", "runs", _listed(lambda _, draw: _runs(equipment=(f"none {draw.random()}",))), found=False),
    Question("root spans, anywhere in the 30 days", "runs", _roots),
    Question(
        "an attribute, 24 h",
        "attributes",
        _listed(lambda known, draw: _runs(attributes=(("probe.card.id", draw.choice(known.cards)),), from_ns=_day())),
    ),
    Question(
        "an attribute that nobody has, 24 h",
        "attributes",
        _listed(lambda _, __: _runs(attributes=(("test.temperature", "9000.5"),), from_ns=_day())),
        found=False,
    ),
    Question(
        "a part of a text, 24 h", "attributes", _listed(lambda _, __: _runs(text="no such text", from_ns=_day())), found=False
    ),
)
GOALS = {"trace": 4.0, "runs": 50.0, "attributes": 500.0, "api": 100.0}
"""The most that p99 may be, ms."""


def _paths(known: Known, draw: random.Random) -> dict[str, str]:
    """Main endpoints of the read API, each with other values every time."""
    trace, span, _ = draw.choice(known.traces)
    run = f"/v1/jobs/{trace.hex()}-{span.hex()}"
    return {
        "/v1/jobs": "/v1/jobs?limit=100",
        "/v1/jobs?lot=": f"/v1/jobs?limit=100&{urlencode({'lot': draw.choice(known.lots)})}",
        "/v1/jobs?job=&result=": f"/v1/jobs?limit=100&job={quote(draw.choice(known.jobs))}&result=failure",
        "/v1/jobs?order=failing": "/v1/jobs?limit=100&order=failing",
        "/v1/jobs/{run}": run,
        "/v1/jobs/{run}/tree": f"{run}/tree",
        "/v1/jobs/{run}/spans": f"{run}/spans",
        "/v1/jobs/{run}/logs": f"{run}/logs",
        "/v1/jobs/{run}/metrics": f"{run}/metrics",
        "/v1/spans": "/v1/spans?limit=100",
        "/v1/sites": "/v1/sites",
        "/v1/apps": "/v1/apps",
    }


def bench_p09_search(plan: Plan) -> dict[str, Any]:
    """Fill, ask; on the Community edition as well, where such a server is given."""
    asked = ASKED[plan.mode]
    with _filled(plan) as (system, filled):
        idle = _asked(system, "nothing is stored beside", asked)
        beside = _beside(system, asked)
        version = system.version()
    return {
        "title": "Search",
        "note": "",
        "spans": filled["spans"],
        "days": DAYS,
        "warm_lookups": WARM_LOOKUPS,
        **{key: value for key, value in filled.items() if key != "spans"},
        **_worst([idle, beside]),
        "rows": [idle, beside],
        "compressed": _compressed(plan, asked),
        "versions": {"postgresql": version},
    }


@contextmanager
def _filled(plan: Plan, dsn: str | None = None) -> Iterator[tuple[System, dict[str, Any]]]:
    """A store with so many spans over thirty days, and what filling it took."""
    environment = {"WAFER_STORAGE_HOT_DAYS": str(DAYS + 1), "WAFER_ARCHIVE_ENABLED": "false"}
    with running(environment, query=True, dsn=dsn) as system:
        system.ask(_prepare)
        requests = -(-plan.search_spans // BATCH)
        gap_ns = DAYS * DAY_NS // (requests * BATCH)
        filling = system.load(
            stream_start(1),
            transport="http",
            batch=BATCH,
            in_flight=64,
            limit=requests,
            warm_up_s=0,
            seconds=WITHIN_S,
            gap_ns=gap_ns,
            searched=True,
        )
        done = load.run(filling, system.groups)
        if done.acked_spans < plan.search_spans:
            raise SystemExit(f"{done.acked_spans:,} of {plan.search_spans:,} spans were stored within {WITHIN_S:g} s")
        judge("fill", done, system.stored())
        began = time.monotonic()
        system.ask(_settle)
        asyncio.run(_warm_up(system))
        yield (
            system,
            {
                "spans": done.acked_spans,
                "fill_s": rounded(done.seconds),
                "fill_spans_per_s": rounded(done.spans_per_s),
                "settle_s": rounded(time.monotonic() - began),
                "runs": system.ask(lambda connection: connection.fetchval("SELECT count(*) FROM wafer_data.run")),
                "store_gib": rounded(
                    system.ask(lambda connection: connection.fetchval("SELECT pg_database_size(current_database())")) / 2**30
                ),
            },
        )


async def _prepare(connection: asyncpg.Connection) -> None:
    """The days must be ready before their rows come: the receiver's own round may be a moment later."""
    await maintenance.partitions(connection, DAYS + 1, time.time_ns())


async def _settle(connection: asyncpg.Connection) -> None:
    """Statistics, as maintenance makes them; and the server's own vacuum, which follows such a load, is through."""
    while await maintenance.analyze(connection):
        pass
    await connection.execute("CHECKPOINT")
    for _ in range(_SETTLED_S):
        if not await connection.fetchval(_BUSY):
            break
        await asyncio.sleep(1)


async def _warm_up(system: System) -> None:
    """Look for traces that are not there: a server that has run for days has the indexes by id in memory, or most of them."""
    draw = random.Random(corpus.SEED + 2)
    storage = await connect(Config(dsn=SecretStr(system.dsn)), migrate=False)
    try:
        for _ in range(WARM_LOOKUPS // 4):
            wanted = [SpanQuery(trace_id=draw.randbytes(16)) for _ in range(4)]
            await asyncio.gather(*(storage.reader.spans(one) for one in wanted))
    finally:
        await storage.close()


async def _known(connection: asyncpg.Connection) -> Known:
    rows = await connection.fetch(_KNOWN)
    if not rows:
        raise VoidError("the store has no run to ask for")
    return Known(
        sorted({row["lot"] for row in rows}),
        sorted({row["equipment"] for row in rows}),
        sorted({row["job"] for row in rows}),
        sorted(row[0] for row in await connection.fetch(_CARDS)),
        [(row["trace_id"].bytes, row["span_id"].to_bytes(8, signed=True), row["start_unix_ns"]) for row in rows],
    )


def _asked(system: System, when: str, times: int) -> dict[str, Any]:
    """Every question and endpoint so often, in turn."""
    known = system.ask(_known)
    took = asyncio.run(_reader_asked(system, known, times))
    over_http = _api_asked(system, known, times)
    return {
        "case": when,
        "questions": [
            {"question": one.name, "goal": one.goal, **_figures(took[one.name])} for one in QUESTIONS if one.name in took
        ],
        "endpoints": [{"question": name, "goal": "api", **_figures(found)} for name, found in over_http.items()],
    }


async def _reader_asked(system: System, known: Known, times: int) -> Mapping[str, list[float]]:
    draw = random.Random(corpus.SEED)
    storage = await connect(Config(dsn=SecretStr(system.dsn)), migrate=False)
    took: dict[str, list[float]] = {one.name: [] for one in QUESTIONS}
    hits = dict.fromkeys(took, 0)
    try:
        for number in range(times + _WARM):
            for one in QUESTIONS:
                began = time.perf_counter()
                found = await one.ask(storage.reader, known, draw)
                spent_ms = (time.perf_counter() - began) * 1e3
                hits[one.name] += bool(found)
                if number >= _WARM:
                    took[one.name].append(spent_ms)
    finally:
        await storage.close()
    if empty := [one.name for one in QUESTIONS if one.found and not hits[one.name]]:
        raise VoidError(f"nothing was ever found: {', '.join(empty)}")
    return took


def _api_asked(system: System, known: Known, times: int) -> Mapping[str, list[float]]:
    """Over one connection that stays open, each answer read to its end."""
    draw = random.Random(corpus.SEED + 1)
    took: dict[str, list[float]] = {}
    api = http.client.HTTPConnection(system.addresses.query, timeout=60)
    for number in range(times + _WARM):
        for name, path in _paths(known, draw).items():
            began = time.perf_counter()
            api.request("GET", path)
            answer = api.getresponse()
            answer.read()
            if answer.status != 200:
                raise VoidError(f"{path} was answered with {answer.status}")
            if number >= _WARM:
                took.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
    api.close()
    return took


def _beside(system: System, times: int) -> dict[str, Any]:
    """The same questions while a receiver stores so many spans a second."""
    found: list[dict[str, Any]] = []
    one = system.load(
        stream_start(2),
        transport="http",
        batch=64,
        rate=BESIDE_SPANS_PER_S / 64,
        in_flight=64,
        warm_up_s=1.0,
        seconds=3_600.0,  # until it is stopped
    )
    with load.prepared(one._replace(log=os.devnull)) as child:
        child.tell("go")
        try:
            found.append(_asked(system, f"beside {BESIDE_SPANS_PER_S:,} spans/s", times))
        finally:
            child.stop()
    return found[0]


def _figures(took_ms: list[float]) -> dict[str, Any]:
    return {
        "asked": len(took_ms),
        "p50_ms": rounded(float(np.percentile(took_ms, 50))),
        "p99_ms": rounded(float(np.percentile(took_ms, 99))),
    }


def _worst(cases: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The greatest p99 under each goal."""
    rows = [row for case in cases for row in (*case["questions"], *case["endpoints"])]
    return {f"{goal}_p99_ms": max(row["p99_ms"] for row in rows if row["goal"] == goal) for goal in GOALS}


def _compressed(plan: Plan, asked: int) -> dict[str, Any]:
    """The same on a server with the Community edition, all days but the newest compressed."""
    why = timescaledb.missing_given()
    if why is not None:
        return {"not_run": why}
    server = timescaledb.given()
    dsn = server.migrated()
    try:
        with _filled(plan, dsn) as (system, filled):
            began = time.monotonic()
            chunks = system.ask(compress)
            spent_s = time.monotonic() - began
            system.ask(_settle)
            row = _asked(system, "compressed, nothing is stored beside", asked)
    finally:
        server.drop(dsn)
    return {**filled, "chunks": chunks, "compress_s": rounded(spent_s), **_worst([row]), "rows": [row]}
