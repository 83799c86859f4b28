"""P5: requests of one span each, every one durable before its answer.

In: a plan. Out: figures. Called by: `python -m benchmarks p05`.

OTLP/HTTP over so many keep-alive connections with one request at a time on each, to one receiver process and to two on the same
address; and gRPC over four channels.
"""

from __future__ import annotations

from typing import Any

from benchmarks.load import Round
from benchmarks.results import TIERS
from benchmarks.rounds import Case, Plan, Streams, once, row
from benchmarks.system import running

CONNECTIONS = (16, 64, 256, 512, 1024)


def bench_p05_small(plan: Plan) -> dict[str, Any]:
    """Requests per second by transport and connections."""
    cases = [Case(f"HTTP, {count} connections", {"transport": "http", "batch": 1, "in_flight": count}) for count in CONNECTIONS]
    cases += [Case(f"gRPC, {count} in flight", {"batch": 1, "in_flight": count}) for count in CONNECTIONS[1:3]]
    two = [
        Case(f"HTTP, {count} connections, two receiver processes", {"transport": "http", "batch": 1, "in_flight": count})
        for count in CONNECTIONS[2:]
    ]
    streams = Streams()
    rounds: dict[str, list[Round]] = {case.name: [] for case in (*cases, *two)}
    with running() as system:
        version = system.version()
        for _ in range(plan.rounds):
            for case in cases:
                rounds[case.name].append(once(system, case, plan, streams))
    with running({"WAFER_RECEIVER_PROCESSES": "2"}) as system:
        for _ in range(plan.rounds):
            for case in two:
                rounds[case.name].append(once(system, case, plan, streams))
    rows = [row(name, done) for name, done in rounds.items()]
    http = max((one for one in rows if one["transport"] == "http"), key=_rate)
    grpc = max((one for one in rows if one["transport"] == "grpc"), key=_rate)
    return {
        "title": "Requests of one span",
        "tier": "T2",
        "tier_means": TIERS["T2"],
        "http_case": http["case"],
        "http_requests_per_s": http["requests_per_s"],
        "http_requests_per_s_range": http["acked_spans_per_s_range"],
        "http_ack_p99_ms": http["ack_p99_ms"],
        "grpc_case": grpc["case"],
        "grpc_requests_per_s": grpc["requests_per_s"],
        "grpc_requests_per_s_range": grpc["acked_spans_per_s_range"],
        "grpc_ack_p99_ms": grpc["ack_p99_ms"],
        "rows": rows,
        "versions": {"postgresql": version},
    }


def _rate(shown: dict[str, Any]) -> float:
    return float(shown["requests_per_s"])
