"""One load: what is sent, how fast, to where; and what came of it.

In: a `Load` and the processes whose CPU counts. Out: a `Round`. Called by: the benchmarks; `generator` reads the `Load`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import Child, cpu_s, facts, resident_mib
from benchmarks.supply import Answer

GENERATOR = [sys.executable, "-m", "benchmarks.generator"]
REPOSITORY = Path(__file__).resolve().parents[1]


class Load(NamedTuple):
    """What is sent, and how.

    `transport` is grpc, http, json or copy (C1: `address` is the database, `rows` a file of stored
    rows); `rate` is requests per second, None sends the next one when one is answered.

    `first` is the number of the first span, `limit` the number of requests after which it ends, `grace_s` how long answers
    are waited for at the end.

    `gap_ns`: a span begins so long after the one before, and the last of the `limit` requests now, instead of all of them now.
    `searched`: see `corpus.sheet`.
    """

    address: str
    log: str
    first: int
    transport: str = "grpc"
    size: str = "M"
    batch: int = 512
    runs: str = "1 in 10"
    gzip: bool = False
    channels: int = 4
    in_flight: int = 16
    rate: float | None = None
    warm_up_s: float = 1.0
    seconds: float = 5.0
    limit: int | None = None
    grace_s: float = 60.0
    rows: str = ""
    route: str = "/v1/traces"
    gap_ns: int = 0
    searched: bool = False

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The way back."""
        return cls(**json.loads(line))


class Round(NamedTuple):
    """What one load came to. CPU is in seconds by group of processes, over the measured time; latencies from the due time.

    `answers` has a line for each request: number, due and answered (monotonic ns), `Answer`.
    """

    load: Load
    seconds: float
    acked_spans: int
    cpu_s: dict[str, float]
    resident_mib: dict[str, float]
    latencies_ms: NDArray[np.float64]
    answers: NDArray[np.int64]

    @property
    def spans_per_s(self) -> float:
        """Acknowledged spans per second of the measured time."""
        return self.acked_spans / self.seconds

    def count(self, *kinds: Answer) -> int:
        """Requests with such an answer, from the first to the last."""
        return int(np.isin(self.answers[:, 3], [int(kind) for kind in kinds]).sum())

    def acked(self) -> NDArray[np.uint64]:
        """The numbers of all acknowledged spans, in order."""
        return self.spans_of(self.answers[self.answers[:, 3] == Answer.ACKED, 0])

    def spans_of(self, requests: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The numbers of the spans of requests."""
        firsts = np.sort(requests).astype(np.uint64) * np.uint64(self.load.batch) + np.uint64(self.load.first)
        return (firsts[:, None] + np.arange(self.load.batch, dtype=np.uint64)).ravel().astype(np.uint64)

    def percentile_ms(self, share: float) -> float:
        """Of the latencies of acknowledged requests."""
        return float(np.percentile(self.latencies_ms, share)) if len(self.latencies_ms) else float("nan")


Watch = Callable[[], None]


@contextmanager
def prepared(load: Load) -> Iterator[Child]:
    """A generator that waits for the word to go."""
    with Child(GENERATOR, folder=REPOSITORY) as child:
        child.tell(load.to_json())
        facts(child, "ready")
        yield child


def run(load: Load, groups: Mapping[str, Sequence[int]], watch: Watch | None = None, every_s: float = 1.0) -> Round:
    """Send it; `watch` is called about every `every_s` of the measured time."""
    with tempfile.TemporaryDirectory(prefix="wafer-bench-") as folder:
        load = load._replace(log=f"{folder}/log.npy")
        with prepared(load) as child:
            watched = {**groups, "generator": [child.pid]}
            child.tell("go")
            began_s = facts(child, "began_ns")["began_ns"] / 1e9
            _sleep_until(began_s + load.warm_up_s)
            before, start_s = {name: cpu_s(pids) for name, pids in watched.items()}, time.monotonic()
            end_s = began_s + load.warm_up_s + load.seconds
            while watch is not None and time.monotonic() + every_s < end_s:
                _sleep_until(time.monotonic() + every_s)
                watch()
            _sleep_until(end_s, child if load.limit is not None else None)
            after, stop_s = {name: cpu_s(pids) for name, pids in watched.items()}, time.monotonic()
            resident = {name: resident_mib(pids) for name, pids in watched.items()}
            child.wait(load.grace_s + 60)
        answers = np.load(load.log)
    return _round(load, answers, (start_s, stop_s), {name: after[name] - before[name] for name in before}, resident)


def _round(
    load: Load,
    answers: NDArray[np.int64],
    between_s: tuple[float, float],
    cpu: dict[str, float],
    resident: dict[str, float],
) -> Round:
    start_s, stop_s = between_s
    inside = (answers[:, 2] >= start_s * 1e9) & (answers[:, 2] < stop_s * 1e9) & (answers[:, 3] == Answer.ACKED)
    if load.limit is not None and len(answers):
        # The supply may end before the time does: then the clock stops with the last answer.
        stop_s = min(stop_s, float(answers[:, 2].max()) / 1e9)
    latencies_ms = (answers[inside, 2] - answers[inside, 1]) / 1e6
    return Round(load, stop_s - start_s, int(inside.sum()) * load.batch, cpu, resident, latencies_ms, answers)


def _sleep_until(at_s: float, child: Child | None = None) -> None:
    """Until the clock says so, or the child has ended before."""
    while (left_s := at_s - time.monotonic()) > 0 and (child is None or child.running):
        time.sleep(left_s if child is None else min(left_s, 0.02))
