"""P7: twice as much as the receiver can take, and kill -9 right after an acknowledgement.

In: a plan. Out: figures. Called by: `python -m benchmarks p07`.

Overload is an open loop at twice the closed loop's maximum, with more requests on their way than the receiver's queue
holds; what is refused is not sent again. The kill is SIGKILL for the receiver and every process of PostgreSQL while requests
are being acknowledged; then both start again on the same folder.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import load
from benchmarks.corpus import TRACE_SPANS, stream_start, trace_ids
from benchmarks.load import Round
from benchmarks.peers import Peer, Running, all_peers, started
from benchmarks.processes import peak_mib, resident_mib
from benchmarks.results import TIERS, rounded
from benchmarks.rounds import Plan, Streams, VoidError, earlier_peers, most
from benchmarks.supply import Answer
from benchmarks.system import System, running

FACTOR = 2.0
IN_FLIGHT = 320
"""More than the requests of 512 spans that the receiver's queue of 96 MiB holds."""
TRANSPORTS = ("grpc", "http")
NEWEST_REQUESTS = 200
SAMPLED_TRACES = 300
"""About so many of a peer's are asked for, spread over those of the newest requests."""
FEW = 4
"""Requests in flight to a peer that answers late, so that it acknowledges some before it is killed."""
KILL_AFTER_S = 3.0


def bench_p07_overload(plan: Plan) -> dict[str, Any]:
    """Overload, then the table of kills."""
    streams = Streams()
    with running() as system:
        rate = most(system, plan, streams)
        rows = [_overload(system, plan, streams, rate, transport) for transport in TRANSPORTS]
        kills = [_kill(system, streams) for _ in range(1 if plan.mode == "quick" else 3)]
        version = system.version()
    return {
        "title": "Overload and sudden death",
        "tier": "T2",
        "tier_means": TIERS["T2"],
        "most_spans_per_s": rounded(rate),
        "seconds": plan.overload_s,
        "missing_spans": sum(row["missing_spans"] for row in rows),
        "doubled_spans": sum(row["doubled_spans"] for row in rows),
        "receiver_peak_mib": max(row["receiver_peak_mib"] for row in rows),
        "rows": rows,
        "kills": kills,
        "whole_after_kill_share": min(kill["whole_share"] for kill in kills),
        "kill_peers": [_peer_kill(peer, streams) for peer in all_peers()],
        "versions": {"postgresql": version},
    }


def _overload(system: System, plan: Plan, streams: Streams, rate: float, transport: str) -> dict[str, Any]:
    one = system.load(
        stream_start(streams.next()),
        transport=transport,
        rate=rate * FACTOR / 512,
        in_flight=IN_FLIGHT,
        channels=8,
        warm_up_s=0,
        seconds=plan.overload_s,
    )
    memory: list[float] = []
    done = load.run(one, system.groups, watch=lambda: memory.append(resident_mib(system.groups["receiver"])))
    lost = done.spans_of(done.answers[done.answers[:, 3] == Answer.LOST, 0])
    truth = system.truth(done.acked(), lost)
    peak = peak_mib(system.receiver.pid)
    system.empty()
    if not truth.holds:
        raise VoidError(f"overload: of {truth.acked} acknowledged spans {truth.missing} are missing, {truth.doubled} doubled")
    return {
        "case": "gRPC" if transport == "grpc" else "HTTP",
        "offered_spans_per_s": rounded(len(done.answers) * 512 / plan.overload_s),
        "acked_spans_per_s": rounded(done.spans_per_s),
        "acked_spans": truth.acked,
        "stored_spans": truth.stored,
        "missing_spans": truth.missing,
        "doubled_spans": truth.doubled,
        "stored_though_refused_spans": truth.strangers,
        "refused_requests": done.count(Answer.REFUSED),
        "refused_without_hint_requests": done.count(Answer.REFUSED_WITHOUT_HINT),
        "rejected_requests": done.count(Answer.REJECTED),
        "unanswered_requests": done.count(Answer.LOST),
        "ack_p50_ms": rounded(done.percentile_ms(50)),
        "ack_p99_ms": rounded(done.percentile_ms(99)),
        "receiver_resident_mib": rounded(max(memory)),
        "receiver_peak_mib": rounded(peak),
    }


def _kill(system: System, streams: Streams) -> dict[str, Any]:
    """Our part, killed while it acknowledges, and started again; its store then holds all that was acknowledged."""
    one = system.load(stream_start(streams.next()), warm_up_s=0, seconds=KILL_AFTER_S + 1, grace_s=10)
    killed_ns: list[int] = []

    def kill() -> None:
        if not killed_ns:
            killed_ns.append(time.monotonic_ns())
            system.kill()

    done = load.run(one, {}, watch=kill, every_s=KILL_AFTER_S)
    began_s = time.monotonic()
    system.start()
    again_s = time.monotonic() - began_s
    acked = done.acked()
    maybe = done.spans_of(done.answers[done.answers[:, 3] != Answer.ACKED, 0])
    truth = system.truth(acked, maybe)
    newest = done.spans_of(_newest(done))
    share = _whole_share(newest, np.unique(system.stored()))
    system.empty()
    if truth.doubled:
        raise VoidError(f"kill: {truth.doubled} spans are stored twice")
    return {
        "acked_spans": truth.acked,
        "missing_spans": truth.missing,
        "newest_requests": len(_newest(done)),
        "whole_share": share,
        "ready_again_s": rounded(again_s),
    }


def _newest(done: Round) -> NDArray[np.int64]:
    """The requests acknowledged last."""
    acked = done.answers[done.answers[:, 3] == Answer.ACKED]
    newest: NDArray[np.int64] = acked[np.argsort(acked[:, 2])][-NEWEST_REQUESTS:, 0]
    return newest


def _whole_traces(spans: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The traces of which all spans are among these."""
    traces, counts = np.unique(spans // np.uint64(TRACE_SPANS), return_counts=True)
    whole: NDArray[np.uint64] = traces[counts == TRACE_SPANS]
    return whole


def _whole_share(acked: NDArray[np.uint64], stored: NDArray[np.uint64]) -> float:
    """Of the traces acknowledged as a whole, the share that is stored as a whole."""
    traces = _whole_traces(acked)
    return float(np.isin(traces, _whole_traces(stored)).mean()) if len(traces) else float("nan")


def _peer_kill(peer: Peer, streams: Streams) -> dict[str, Any]:
    """A peer killed in the same way; asked over its API, or counted in its folder."""
    told: dict[str, Any] = {"name": peer.name, "tier": peer.tier}
    if peer.path is None:
        return told | {"not_run": "not run here"} | earlier_peers(peer.name, "whole_after_kill_share")
    after_s = max(KILL_AFTER_S, peer.least_s)
    with tempfile.TemporaryDirectory(prefix="wafer-bench-") as home:
        folder = Path(home)
        with started(peer, folder) as server:
            if server.find is None and peer.stored is None:
                return told | {"not_run": "answers no query"}
            done = _load_and_kill(server, streams, after_s, FEW if peer.least_s else 16)
        if not len(done.acked()):
            return told | {"not_run": f"acknowledged nothing within {after_s:g} s"}
        if peer.stored is not None:
            share = min(1.0, peer.stored(folder) / max(1, len(done.acked())))
            return told | {"acked_spans": len(done.acked()), "whole_share": rounded(share), "counted": "spans in its file"}
        with started(peer, folder) as server:
            assert server.find is not None
            newest = _whole_traces(done.spans_of(_newest(done)))
            sampled = newest[:: max(1, len(newest) // SAMPLED_TRACES)]
            ids = trace_ids(sampled * np.uint64(TRACE_SPANS))
            found = [server.find(one.tobytes().hex()) == TRACE_SPANS for one in ids]
        return told | {"acked_spans": len(done.acked()), "whole_share": rounded(sum(found) / max(1, len(found)))}


def _load_and_kill(server: Running, streams: Streams, after_s: float, in_flight: int) -> Round:
    one = server.load(stream_start(streams.next()), in_flight=in_flight, warm_up_s=0, seconds=after_s + 1, grace_s=10)

    def kill() -> None:
        if server.process.running:
            server.process.kill()

    return load.run(one, {}, watch=kill, every_s=after_s)
