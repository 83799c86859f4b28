"""P1: how many spans per second are acknowledged with everything on disk, and which share of the COPY ceiling is that?

In: a plan. Out: figures. Called by: `python -m benchmarks p01`.

Closed loop against one receiver and the embedded PostgreSQL with the settings that are shipped (fsync on). Every case begins
with an empty store, C1 and C2 take their turn in every round. How many requests in flight, and how many connections for C1, is
what a sweep before the rounds found best.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import ceilings, load
from benchmarks.corpus import STREAM_BITS, stream_start
from benchmarks.filling import fill
from benchmarks.load import Round
from benchmarks.results import TIERS, median, spread
from benchmarks.rounds import Case, Plan, Streams, Swept, check, in_flight, judge, once, ratios, row, sweep
from benchmarks.system import System, running

HEADLINE = "gRPC, 512 spans"
HTTP = "HTTP, 512 spans"
C1 = "C1"
SPANS_AGE = timedelta(seconds=3)
"""Spans begin somewhat before they are sent."""
OTHERS = {4096: 16, 64: 64, 10: 64, 1: 64}
"""Spans in a request → requests in flight, where no sweep says it."""


def cases(swept: Mapping[str, Swept]) -> list[Case]:
    """What is measured; the headline first."""
    grpc: dict[str, Any] = {"in_flight": swept[HEADLINE].best}
    http: dict[str, Any] = {"in_flight": swept[HTTP].best, "transport": "http"}
    found = [Case(HEADLINE, grpc), Case(HTTP, http)]
    found += [
        Case(f"{name}, {batch} span{'s' * (batch > 1)}", {"transport": name.lower(), "batch": batch, "in_flight": count})
        for name in ("gRPC", "HTTP")
        for batch, count in OTHERS.items()
    ]
    found += [
        Case("HTTP, JSON, 512 spans", http | {"transport": "json"}),
        Case("HTTP, gzip, 512 spans", http | {"gzip": True, "limit": 2_500}),
        Case("gRPC, 512 spans, no runs", grpc | {"runs": "none"}),
        Case("gRPC, 512 spans, every span a run", grpc | {"runs": "1 in 1"}),
        Case("gRPC, 512 spans of size S", grpc | {"size": "S"}),
        Case("gRPC, 512 spans of size L", grpc | {"size": "L"}),
    ]
    return found


def bench_p01_ingest(plan: Plan) -> dict[str, Any]:
    """All cases, the ceilings, and the headline with a full partition."""
    streams = Streams()
    tops: list[Round] = []
    writes: list[float] = []
    with running() as system, tempfile.TemporaryDirectory(prefix="wafer-bench-") as folder:
        rows = Path(folder, "rows.copy")
        rows.write_bytes(ceilings.stored_rows(system, streams.next()))
        swept = _sweeps(system, rows, plan, streams)
        chosen = cases(swept)
        if plan.mode == "quick":
            chosen = [case for case in chosen if case.name in (HEADLINE, HTTP, "HTTP, 64 spans", "HTTP, 1 span")]
        rounds: dict[str, list[Round]] = {case.name: [] for case in chosen}
        for _ in range(plan.rounds):
            tops.append(_ceiling(system, rows, swept[C1].best, plan, streams))
            writes.append(ceilings.c2(rows, seconds=plan.seconds / 2))
            for case in chosen:
                rounds[case.name].append(once(system, case, plan, streams))
        full = _full(system, rows, swept, plan, streams)
        version = system.version()
    shown = [row(name, done) | ratios(done, tops) for name, done in rounds.items()]
    headline = shown[0]
    c1_rates = [top.spans_per_s for top in tops]
    return {
        "title": "Durable ingest",
        "tier": "T2",
        "tier_means": TIERS["T2"],
        **{key: headline[key] for key in _HEADLINE_KEYS},
        "in_flight": headline["in_flight"],
        "c1_connections": swept[C1].best,
        "c1_rows_per_s": median(c1_rates),
        "c1_rows_per_s_range": spread(c1_rates),
        "c1_database_us_per_row": median(top.cpu_s["database"] / top.acked_spans * 1e6 for top in tops),
        "c2_rows_per_s": median(writes),
        "rows": shown,
        "sweeps": [found.shown(name) for name, found in swept.items()],
        "full_partition": full,
        "versions": {"postgresql": version},
    }


_HEADLINE_KEYS = (
    "acked_spans_per_s",
    "acked_spans_per_s_range",
    "ratio_to_c1",
    "ratio_to_c1_range",
    "spans_per_server_cpu_s",
    "ack_p50_ms",
    "ack_p99_ms",
    "cpu_us_per_span",
)


def _sweeps(system: System, rows: Path, plan: Plan, streams: Streams) -> dict[str, Swept]:
    """The best number of requests in flight by transport, and of connections for C1."""
    measures = {
        HEADLINE: in_flight(system, plan, streams),
        HTTP: in_flight(system, plan, streams, transport="http"),
        C1: lambda connections: _ceiling(system, rows, connections, plan.brief, streams),
    }
    return sweep(measures, plan.brief.rounds, {C1: ceilings.CONNECTIONS})


def _ceiling(system: System, rows: Path, connections: int, plan: Plan, streams: Streams) -> Round:
    top = ceilings.c1(system, rows, streams.next(), connections, warm_up_s=plan.warm_up_s, seconds=plan.seconds)
    check(system, C1, top)
    system.empty()
    return top


def _of(numbers: NDArray[np.uint64], first: int) -> NDArray[np.bool_]:
    """Which of the numbers belong to the stream that begins with `first`."""
    shift = np.uint64(STREAM_BITS)
    same: NDArray[np.bool_] = numbers >> shift == np.uint64(first) >> shift
    return same


def _full(system: System, rows: Path, swept: Mapping[str, Swept], plan: Plan, streams: Streams) -> dict[str, Any]:
    """The headline and C1 behind so many rows that are in the open partition already; nothing is removed between rounds."""
    began_s = time.monotonic()
    before = fill(system, rows, streams.next(), plan.preload_rows)
    filled_s = time.monotonic() - began_s
    since = datetime.now(UTC) - SPANS_AGE
    ours, tops = [], []
    for _ in range(plan.rounds):
        tops.append(ceilings.c1(system, rows, streams.next(), swept[C1].best, warm_up_s=plan.warm_up_s, seconds=plan.seconds))
        one = system.load(
            stream_start(streams.next()), in_flight=swept[HEADLINE].best, warm_up_s=plan.warm_up_s, seconds=plan.seconds
        )
        ours.append(load.run(one, system.groups))
    stored = system.stored(since)
    for done in ours:
        judge("full partition", done, stored[_of(stored, done.load.first)])
    system.empty()
    return {
        "rows_before": before,
        "filled_s": round(filled_s),
        "c1_rows_per_s": median(top.spans_per_s for top in tops),
        **row(HEADLINE, ours),
        **ratios(ours, tops),
    }
