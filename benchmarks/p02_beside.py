"""P2 and P3: our durable ingest beside other programs in the same run, in spans per second and per CPU-second of the server.

In: a plan. Out: figures. Called by: `python -m benchmarks p02`, `p03`; both come from the same rounds.

Each peer starts with an empty folder in every round; ours keeps running with an empty store. CPU counts every process that
serves, the database included; the spool's drain is not counted.
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
from benchmarks.rounds import Case, Plan, Streams, VoidError, earlier_peers, once, row
from benchmarks.system import running

OURS = "WaferMonitor"
OWN_CASES = [
    Case(OURS, {}),
    Case(f"{OURS}, HTTP", {"transport": "http"}),
    Case(f"{OURS}, HTTP, 64 spans", {"transport": "http", "batch": 64, "in_flight": 64}),
]
_SHOWN = ("acked_spans_per_s", "spans_per_server_cpu_s", "ack_p99_ms", "resident_mib", "version")


_SHARES = {
    "ratio_to_collector_file": "Collector → file",
    "ratio_to_collector_spool": "Collector → spool",
    "ratio_to_victoriatraces": "VictoriaTraces, 1 s",
}


class _Measured(NamedTuple):
    rows: list[dict[str, Any]]
    peers: list[dict[str, Any]]
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
    own: dict[str, list[Round]] = {case.name: [] for case in OWN_CASES}
    theirs: dict[str, list[Round]] = {peer.name: [] for peer in peers if peer.path is not None}
    troubles: dict[str, str] = {}
    with running() as system:
        for _ in range(plan.rounds):
            for case in OWN_CASES:
                own[case.name].append(once(system, case, plan, streams))
            for peer in peers:
                if peer.path is not None and peer.name not in troubles:
                    try:
                        theirs[peer.name].append(_one(peer, plan, streams))
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
    return _Measured([row(name, rounds) for name, rounds in own.items()], shown, versions)


def _one(peer: Peer, plan: Plan, streams: Streams) -> Round:
    """One round of a peer; VoidError when it did not keep what it acknowledged, where that can be counted."""
    with tempfile.TemporaryDirectory(prefix="wafer-bench-") as folder:
        with started(peer, Path(folder)) as server:
            one = load.Load(
                address=server.address,
                log="",
                first=stream_start(streams.next()),
                transport=server.transport,
                route=server.route,
                warm_up_s=plan.warm_up_s,
                seconds=plan.seconds,
            )
            done = load.run(one, {"peer": [server.process.pid]})
        if not done.acked_spans:
            raise SystemExit("it acknowledged nothing")
        if peer.stored is not None and (kept := peer.stored(Path(folder))) != len(done.acked()):
            raise VoidError(f"{peer.name} acknowledged {len(done.acked())} spans and kept {kept}")
    return done
