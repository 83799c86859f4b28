"""P1: how many spans per second are acknowledged with everything on disk, and which share of the COPY ceiling is that?

In: a plan. Out: figures. Called by: `python -m benchmarks p01`.

Closed loop against one receiver and the embedded PostgreSQL with the settings that are shipped (fsync on). Every case begins
with an empty store, C1 and C2 take their turn in every round.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import ceilings, load
from benchmarks.corpus import STREAM_BITS, stream_start
from benchmarks.load import Round
from benchmarks.results import TIERS, median, spread
from benchmarks.rounds import Case, Plan, Streams, check, judge, once, ratios, row
from benchmarks.system import System, running

HEADLINE = "gRPC, 512 spans"
SMALL = 64
"""Requests up to so many spans are sent with 64 in flight, larger ones with 16."""


def cases() -> list[Case]:
    """What is measured; the headline first."""
    found = [Case(HEADLINE, {})]
    found += [Case(f"gRPC, {batch} spans", _batch(batch)) for batch in (4096, 64, 10, 1)]
    found += [
        Case(f"HTTP, {batch} span{'s' * (batch > 1)}", {"transport": "http", **_batch(batch)})
        for batch in (512, 4096, 64, 10, 1)
    ]
    found += [
        Case("gRPC, 512 spans, 32 in flight", {"in_flight": 32}),
        Case("HTTP, JSON, 512 spans", {"transport": "json"}),
        Case("HTTP, gzip, 512 spans", {"transport": "http", "gzip": True, "limit": 2_500}),
        Case("gRPC, 512 spans, no runs", {"runs": "none"}),
        Case("gRPC, 512 spans, every span a run", {"runs": "1 in 1"}),
        Case("gRPC, 512 spans of size S", {"size": "S"}),
        Case("gRPC, 512 spans of size L", {"size": "L"}),
    ]
    return found


def bench_p01_ingest(plan: Plan) -> dict[str, Any]:
    """All cases, the ceilings, and the headline with a full partition."""
    chosen = cases()
    if plan.mode == "quick":
        chosen = [case for case in chosen if case.name in (HEADLINE, "HTTP, 512 spans", "HTTP, 64 spans", "HTTP, 1 span")]
    streams = Streams()
    rounds: dict[str, list[Round]] = {case.name: [] for case in chosen}
    tops: list[Round] = []
    writes: list[float] = []
    with running() as system, tempfile.TemporaryDirectory(prefix="wafer-bench-") as folder:
        rows = Path(folder, "rows.copy")
        rows.write_bytes(ceilings.stored_rows(system, streams.next()))
        for _ in range(plan.rounds):
            tops.append(_ceiling(system, rows, plan, streams))
            writes.append(ceilings.c2(rows, seconds=plan.seconds / 2))
            for case in chosen:
                rounds[case.name].append(once(system, case, plan, streams))
        full = _full(system, rows, plan, streams)
        version = system.version()
    shown = [row(name, done) | ratios(done, tops) for name, done in rounds.items()]
    headline = shown[0]
    c1_rates = [top.spans_per_s for top in tops]
    return {
        "title": "Durable ingest",
        "tier": "T2",
        "tier_means": TIERS["T2"],
        **{key: headline[key] for key in _HEADLINE_KEYS},
        "c1_rows_per_s": median(c1_rates),
        "c1_rows_per_s_range": spread(c1_rates),
        "c1_database_us_per_row": median(top.cpu_s["database"] / top.acked_spans * 1e6 for top in tops),
        "c2_rows_per_s": median(writes),
        "rows": shown,
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


def _batch(batch: int) -> dict[str, Any]:
    return {"batch": batch, "in_flight": 64 if batch <= SMALL else 16}


def _ceiling(system: System, rows: Path, plan: Plan, streams: Streams) -> Round:
    top = ceilings.c1(system, rows, streams.next(), warm_up_s=plan.warm_up_s, seconds=plan.seconds)
    check(system, "C1", top)
    system.empty()
    return top


def _of(numbers: NDArray[np.uint64], first: int) -> NDArray[np.bool_]:
    """Which of the numbers belong to the stream that begins with `first`."""
    shift = np.uint64(STREAM_BITS)
    same: NDArray[np.bool_] = numbers >> shift == np.uint64(first) >> shift
    return same


def _full(system: System, rows: Path, plan: Plan, streams: Streams) -> dict[str, Any]:
    """The headline and C1 behind so many rows that are in the open partition already; nothing is removed between rounds."""
    first = stream_start(streams.next())
    filling = ceilings.copying(system, rows, first)._replace(
        limit=-(-plan.preload_rows // ceilings.ROWS), warm_up_s=0, seconds=3_600
    )
    load.run(filling, {})
    ours, tops = [], []
    for _ in range(plan.rounds):
        tops.append(ceilings.c1(system, rows, streams.next(), warm_up_s=plan.warm_up_s, seconds=plan.seconds))
        ours.append(
            load.run(system.load(stream_start(streams.next()), warm_up_s=plan.warm_up_s, seconds=plan.seconds), system.groups)
        )
    stored = system.stored()
    for one in ours:
        judge("full partition", one, stored[_of(stored, one.load.first)])
    system.empty()
    return {
        "rows_before": int(_of(stored, first).sum()),
        "c1_rows_per_s": median(top.spans_per_s for top in tops),
        **row(HEADLINE, ours),
        **ratios(ours, tops),
    }
