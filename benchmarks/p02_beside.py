"""P2 and P3: our durable ingest beside other programs in the same run, in spans per second and per CPU-second of the server.

In: a plan. Out: figures. Called by: `python -m benchmarks p02`, `p03`; both come from the same rounds.

Each peer starts with an empty folder in every round; ours keeps running with an empty store. Each is loaded with as many
requests in flight as a sweep before the rounds found best for it. CPU counts every process that serves, the database included;
the spool's drain is not counted.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import load
from benchmarks.corpus import stream_start
from benchmarks.load import Round
from benchmarks.peers import Peer, all_peers, started, version
from benchmarks.results import TIERS, median
from benchmarks.rounds import IN_FLIGHT, Case, Plan, Streams, Swept, VoidError, earlier_peers, in_flight, once, row, sweep
from benchmarks.system import System, running

OURS = "WaferMonitor"
OWN = {OURS: {"transport": "grpc"}, f"{OURS}, HTTP": {"transport": "http"}}
SMALL = Case(f"{OURS}, HTTP, 64 spans", {"transport": "http", "batch": 64, "in_flight": 64})
_SHOWN = ("acked_spans_per_s", "spans_per_server_cpu_s", "ack_p99_ms", "resident_mib", "version")


_SHARES = {
    "ratio_to_collector_file": "Collector → file",
    "ratio_to_collector_spool": "Collector → spool",
    "ratio_to_victoriatraces": "VictoriaTraces, 1 s",
}


class _Measured(NamedTuple):
    rows: list[dict[str, Any]]
    peers: list[dict[str, Any]]
    sweeps: list[dict[str, Any]]
    versions: dict[str, str]


def bench_p02_beside(plan: Plan) -> dict[str, Any]:
    """Ours beside the Collector, rotel, and whoever else was given."""
    measured = _measure(plan)
    ours = measured.rows[0]
    peers = {peer["name"]: peer for peer in measured.peers}
    shares: dict[str, Any] = {}
    for key, name in _SHARES.items():
        if rate := peers[name].get("acked_spans_per_s"):
            shares[key] = median([ours["acked_spans_per_s"] / rate])
        if "measured" in peers[name]:
            shares[f"{key}_measured"] = peers[name]["measured"]
    return {
        "title": "Beside other programs",
        "tier": "T2",
        "tier_means": TIERS["T2"],
        "acked_spans_per_s": ours["acked_spans_per_s"],
        "acked_spans_per_s_range": ours["acked_spans_per_s_range"],
        **shares,
        "rows": measured.rows,
        "peers": measured.peers,
        "sweeps": measured.sweeps,
        "versions": measured.versions,
    }


def bench_p03_cpu(plan: Plan) -> dict[str, Any]:
    """Spans per CPU-second of all that serves."""
    measured = _measure(plan)
    ours = measured.rows[0]
    return {
        "title": "Spans per CPU-second of every process that serves",
        "tier": "T2",
        "tier_means": TIERS["T2"],
        "spans_per_server_cpu_s": ours["spans_per_server_cpu_s"],
        "spans_per_server_cpu_s_range": ours["spans_per_server_cpu_s_range"],
        "cpu_us_per_span": ours["cpu_us_per_span"],
        "rows": [
            {key: own[key] for key in ("case", "spans_per_server_cpu_s", "spans_per_server_cpu_s_range", "cpu_us_per_span")}
            for own in measured.rows
        ],
        "peers": [
            {key: peer[key] for key in ("name", "tier", "spans_per_server_cpu_s", "not_run") if key in peer}
            for peer in measured.peers
        ],
        "versions": measured.versions,
    }


@cache
def _measure(plan: Plan) -> _Measured:
    streams = Streams()
    peers = all_peers()
    theirs: dict[str, list[Round]] = {peer.name: [] for peer in peers}
    swept: dict[str, Swept] = {}
    troubles: dict[str, str] = {}
    with running() as system:
        swept |= _sweep_ours(system, plan, streams)
        cases = [*(Case(name, {**settings, "in_flight": swept[name].best}) for name, settings in OWN.items()), SMALL]
        own: dict[str, list[Round]] = {case.name: [] for case in cases}
        for number in range(plan.rounds):
            for case in cases:
                own[case.name].append(once(system, case, plan, streams))
            for peer in peers:
                if peer.path is None or peer.name in troubles:
                    continue
                try:
                    if number == 0:
                        swept |= _sweep_theirs(peer, plan, streams)
                    theirs[peer.name].append(_some(_one(peer, plan, streams, swept[peer.name].best)))
                except SystemExit as error:
                    troubles[peer.name] = f"failed here: {str(error)[-200:]}"
        versions = {"postgresql": system.version()}
    shown = []
    for peer in peers:
        told = {"name": peer.name, "tier": peer.tier, "how": peer.how}
        if peer.path is not None and peer.name not in troubles:
            versions[peer.name] = version(peer)
            shown.append(told | row(peer.name, theirs[peer.name], ("peer",)))
        else:
            known = earlier_peers(peer.name, *_SHOWN)
            shown.append(told | {"not_run": troubles.get(peer.name, "not run here")} | known)
    sweeps = [found.shown(name) for name, found in swept.items()]
    return _Measured([row(name, rounds) for name, rounds in own.items()], shown, sweeps, versions)


def _sweep_ours(system: System, plan: Plan, streams: Streams) -> dict[str, Swept]:
    measures = {name: in_flight(system, plan, streams, **settings) for name, settings in OWN.items()}
    return sweep(measures, plan.brief.rounds)


def _sweep_theirs(peer: Peer, plan: Plan, streams: Streams) -> dict[str, Swept]:
    """Two numbers once for a peer that answers late: a few requests keep it busy."""
    counts = IN_FLIGHT[:2] if peer.least_s else IN_FLIGHT
    measures = {peer.name: lambda count: _one(peer, plan.brief, streams, count)}
    return sweep(measures, 1 if peer.least_s else plan.brief.rounds, {peer.name: counts})


def _some(done: Round) -> Round:
    """The round; SystemExit when nothing was acknowledged in its time."""
    if not done.acked_spans:
        raise SystemExit("it acknowledged nothing")
    return done


def _one(peer: Peer, plan: Plan, streams: Streams, count: int) -> Round:
    """One round of a peer, `count` in flight; VoidError when it did not keep what it acknowledged, where one can count."""
    length = plan.at_least(peer.least_s)
    with tempfile.TemporaryDirectory(prefix="wafer-bench-") as folder:
        with started(peer, Path(folder)) as server:
            one = server.load(stream_start(streams.next()), in_flight=count, warm_up_s=length.warm_up_s, seconds=length.seconds)
            done = load.run(one, {"peer": [server.process.pid]})
        if peer.stored is not None and (kept := peer.stored(Path(folder))) != len(done.acked()):
            raise VoidError(f"{peer.name} acknowledged {len(done.acked())} spans and kept {kept}")
    return done
