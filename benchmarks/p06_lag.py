"""P6: how soon does the read API show a whole trace while others are being stored?

In: a plan. Out: figures. Called by: `python -m benchmarks p06`.

Open loop: requests go out on a schedule whatever the answers do. Probes of ten spans follow one another with a pause; each lag
runs from before the probe is sent until the API's answer that has all ten spans.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import load
from benchmarks.corpus import stream_start
from benchmarks.probe import Probe
from benchmarks.results import TIERS, rounded
from benchmarks.rounds import Plan, Streams, check_rates, most
from benchmarks.system import System, running

QUIET_SPANS_PER_S = 2_000
QUIET_BATCH = 64
PAUSE_S = 0.05


def bench_p06_lag(plan: Plan) -> dict[str, Any]:
    """Lag at 2,000 spans/s and at half of the most that this system takes."""
    streams = Streams()
    with running(query=True) as system:
        rate = most(system, plan, streams)
        quiet = _lags(system, plan, streams, QUIET_SPANS_PER_S, QUIET_BATCH)
        half = _lags(system, plan, streams, rate / 2, 512)
        version = system.version()
    return {
        "title": "Lag until the read API shows a trace",
        "tier": "T2",
        "tier_means": TIERS["T2"],
        "lag_p50_ms": quiet["lag_p50_ms"],
        "lag_p99_ms": quiet["lag_p99_ms"],
        "half_lag_p50_ms": half["lag_p50_ms"],
        "half_lag_p99_ms": half["lag_p99_ms"],
        "most_spans_per_s": rounded(rate),
        "rows": [quiet, half],
        "versions": {"postgresql": version},
    }


def _lags(system: System, plan: Plan, streams: Streams, spans_per_s: float, batch: int) -> dict[str, Any]:
    probe = Probe(system.addresses.receiver_http, system.addresses.query, streams.next())
    for _ in range(3):
        probe.once()
    probe.lags_s.clear()
    probe.acks_s.clear()
    probe.asked = 0
    one = system.load(
        stream_start(streams.next()),
        batch=batch,
        rate=spans_per_s / batch,
        in_flight=64,
        warm_up_s=plan.warm_up_s,
        seconds=plan.seconds * plan.rounds,
    )
    done = load.run(one, system.groups, watch=probe.once, every_s=PAUSE_S)
    check_rates(done, spans_per_s)
    system.empty()
    lags_ms = sorted(lag_s * 1e3 for lag_s in probe.lags_s)
    return {
        "case": f"{rounded(spans_per_s):,} spans/s in requests of {batch}",
        "acked_spans_per_s": rounded(done.spans_per_s),
        "probes": len(lags_ms),
        "asked_per_probe": rounded(probe.asked / len(lags_ms)),
        "probe_ack_p50_ms": rounded(statistics.median(probe.acks_s) * 1e3),
        "lag_p50_ms": rounded(lags_ms[len(lags_ms) // 2]),
        "lag_p99_ms": rounded(lags_ms[len(lags_ms) * 99 // 100]),
        "lag_max_ms": rounded(lags_ms[-1]),
        "ack_p50_ms": rounded(done.percentile_ms(50)),
        "ack_p99_ms": rounded(done.percentile_ms(99)),
    }
