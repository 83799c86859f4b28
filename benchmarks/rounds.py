"""Interleaved rounds: every case once, then all again; each checked against the store before it counts.

In: a `System`, cases, a `Plan`. Out: rows of medians and ranges. Called by: the benchmarks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import load
from benchmarks.corpus import stream_start
from benchmarks.load import Round
from benchmarks.results import median, spread
from benchmarks.supply import Answer
from benchmarks.system import System, compare

EARLIER = Path(__file__).with_name("peers_earlier.json")


class Plan(NamedTuple):
    """How long and how often. `preload_rows` is what stands in the open partition for the case that wants it full."""

    mode: str
    rounds: int
    warm_up_s: float
    seconds: float
    preload_rows: int
    overload_s: float


PLANS = {
    "quick": Plan("quick", 1, 0.5, 2.0, 100_000, 8.0),
    "normal": Plan("normal", 3, 1.5, 5.0, 2_000_000, 60.0),
    "full": Plan("full", 5, 3.0, 15.0, 20_000_000, 600.0),
}


class Case(NamedTuple):
    """One kind of load; `settings` are those of `Load`."""

    name: str
    settings: dict[str, Any]


class VoidError(Exception):
    """The store does not hold exactly what was acknowledged: no figure of this run counts."""


class Streams:
    """Numbers of streams that were not used yet."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """The next one."""
        self._last += 1
        return self._last


def once(system: System, case: Case, plan: Plan, streams: Streams) -> Round:
    """One round of one case in an empty store; VoidError when the store does not agree."""
    one = system.load(stream_start(streams.next()), warm_up_s=plan.warm_up_s, seconds=plan.seconds, **case.settings)
    done = load.run(one, system.groups)
    check(system, case.name, done)
    system.empty()
    return done


def check(system: System, name: str, done: Round) -> None:
    """Stored is what was acknowledged, once; VoidError otherwise."""
    judge(name, done, system.stored())


def judge(name: str, done: Round, stored: NDArray[np.uint64]) -> None:
    """`check`, with what is stored of this load."""
    unanswered = done.spans_of(done.answers[done.answers[:, 3] == Answer.LOST, 0])
    truth = compare(stored, done.acked(), unanswered)
    if not truth.holds or truth.strangers:
        raise VoidError(
            f"{name}: of {truth.acked} acknowledged spans {truth.missing} are missing, {truth.doubled} doubled, "
            f"and {truth.strangers} were stored without an answer"
        )
    if not done.acked_spans:
        raise VoidError(f"{name}: nothing was acknowledged within the measured time")


def check_rates(done: Round, spans_per_s: float) -> None:
    """An open loop that fell far behind its schedule measured something else; VoidError then."""
    if done.spans_per_s < 0.9 * spans_per_s:
        raise VoidError(f"{spans_per_s:.0f} spans/s were to be sent, {done.spans_per_s:.0f} were acknowledged")


def earlier_peers(name: str, *keys: str) -> dict[str, Any]:
    """What was measured of a peer at another time on such a machine, with the date."""
    earlier = json.loads(EARLIER.read_text(encoding="utf-8"))
    before = earlier["peers"].get(name, {})
    return {"measured": earlier["date"], **{key: before[key] for key in keys if key in before}}


def row(name: str, rounds: Sequence[Round], servers: Sequence[str] = ("receiver", "database")) -> dict[str, Any]:
    """Medians and ranges of one case."""
    groups = rounds[0].cpu_s
    cpu = {group: median(one.cpu_s[group] / one.acked_spans * 1e6 for one in rounds) for group in groups}
    server_cpu_s = [sum(one.cpu_s[group] for group in groups if group in servers) for one in rounds]
    rates = [one.spans_per_s for one in rounds]
    shown = {
        "case": name,
        "acked_spans_per_s": median(rates),
        "acked_spans_per_s_range": spread(rates),
        "requests_per_s": median(rate / rounds[0].load.batch for rate in rates),
        "ack_p50_ms": median(one.percentile_ms(50) for one in rounds),
        "ack_p99_ms": median(one.percentile_ms(99) for one in rounds),
        "cpu_us_per_span": cpu,
        "resident_mib": {group: round(max(one.resident_mib[group] for one in rounds)) for group in groups},
        "transport": rounds[0].load.transport,
        "batch": rounds[0].load.batch,
        "size": rounds[0].load.size,
        "runs": rounds[0].load.runs,
    }
    if all(server_cpu_s):
        rates = [one.acked_spans / spent for one, spent in zip(rounds, server_cpu_s, strict=True)]
        shown |= {"spans_per_server_cpu_s": median(rates), "spans_per_server_cpu_s_range": spread(rates)}
    return shown


def ratios(rounds: Sequence[Round], ceilings: Sequence[Round]) -> dict[str, Any]:
    """The share of a ceiling that was reached, round by round."""
    shares = [one.spans_per_s / top.spans_per_s for one, top in zip(rounds, ceilings, strict=True)]
    return {"ratio_to_c1": median(shares), "ratio_to_c1_range": spread(shares)}
