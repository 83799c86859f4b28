"""Interleaved rounds: every case once, then all again; each checked against the store before it counts.

In: a `System`, cases, a `Plan`. Out: rows of medians and ranges; the best number of requests in flight. Called by: the
benchmarks.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import load
from benchmarks.corpus import stream_start
from benchmarks.load import Round
from benchmarks.results import median, rounded, spread
from benchmarks.supply import Answer
from benchmarks.system import System, compare

EARLIER = Path(__file__).with_name("peers_earlier.json")
IN_FLIGHT = (16, 32, 64, 128)
"""How many requests in flight a closed loop is tried with: the most that a server takes is at its own best number."""


class Plan(NamedTuple):
    """How long and how often.

    `preload_rows` is what stands in the open partition for the case that wants it full; `search_spans` is what is searched.
    """

    mode: str
    rounds: int
    warm_up_s: float
    seconds: float
    preload_rows: int
    overload_s: float
    search_spans: int

    @property
    def brief(self) -> Plan:
        """For choosing among settings: half as long, half as often."""
        rounds, seconds = max(1, self.rounds // 2), max(2.0, self.seconds / 2)
        return self._replace(rounds=rounds, warm_up_s=min(1.0, self.warm_up_s), seconds=seconds)

    def at_least(self, seconds: float) -> Plan:
        """The same with rounds of `seconds` or more, for what answers late."""
        return self._replace(warm_up_s=max(self.warm_up_s, seconds / 4), seconds=max(self.seconds, seconds))


PLANS = {
    "quick": Plan("quick", 1, 0.5, 2.0, 100_000, 8.0, 200_000),
    "normal": Plan("normal", 3, 1.5, 5.0, 2_000_000, 60.0, 10_000_000),
    "full": Plan("full", 5, 3.0, 15.0, 20_000_000, 600.0, 10_000_000),
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


class Swept(NamedTuple):
    """Settings that were tried: acknowledged spans/s of each (median of its rounds), and the best setting."""

    rates: dict[int, float]

    @property
    def best(self) -> int:
        """The setting with the highest rate."""
        return max(self.rates, key=lambda setting: self.rates[setting])

    def shown(self, name: str) -> dict[str, Any]:
        """For the results."""
        return {"case": name, "best": self.best, "rates": {str(setting): rounded(rate) for setting, rate in self.rates.items()}}


def sweep(
    measures: Mapping[str, Callable[[int], Round]], rounds: int, settings: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Swept]:
    """Try each named thing with each setting (by default `IN_FLIGHT`), in turns; the rounds count for nothing else."""
    tried = settings or {}
    rates: dict[str, dict[int, list[float]]] = {name: {} for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            for setting in tried.get(name, IN_FLIGHT):
                rates[name].setdefault(setting, []).append(measure(setting).spans_per_s)
    return {name: Swept({setting: statistics.median(found) for setting, found in by.items()}) for name, by in rates.items()}


def in_flight(system: System, plan: Plan, streams: Streams, **settings: Any) -> Callable[[int], Round]:
    """A brief closed loop into our receiver, for `sweep`."""

    def measure(count: int) -> Round:
        return once(system, Case(f"{count} in flight", {**settings, "in_flight": count}), plan.brief, streams)

    return measure


def most(system: System, plan: Plan, streams: Streams) -> float:
    """Spans/s of a closed loop over gRPC at the best number in flight: what an open loop's rate is measured by."""
    found = sweep({"gRPC": in_flight(system, plan, streams)}, 1)["gRPC"]
    return found.rates[found.best]


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
    """What was measured of a peer at another time on such a machine, with the date; empty where nothing was."""
    earlier = json.loads(EARLIER.read_text(encoding="utf-8"))
    before = earlier["peers"].get(name)
    if before is None:
        return {}
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
        "in_flight": rounds[0].load.in_flight,
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
