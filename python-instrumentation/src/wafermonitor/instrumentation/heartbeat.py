"""The open runs of this process, and the one thread that says the process lives and watches its memory.

In: runs that begin and end. Out: a call for each beat, with the oldest open run. Called by: `processor`.

A heartbeat counts for every open run of the process, so one thread and one event are enough for any number of runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from wafermonitor.instrumentation import usage
from wafermonitor.instrumentation.guard import guarded

SAMPLE_S: Final = 1.0


class Watched(Protocol):
    """What is kept of a run while it is open."""

    memory_max: int
    shared: bool

    def descends_from(self, other: Watched) -> bool:
        """Whether `other` began it, or began the one that did, and so on."""


R = TypeVar("R", bound=Watched)


class Heartbeat(Generic[R]):
    """Open runs by span id, and their thread. `beat(run, sequence)` is called in that thread."""

    def __init__(self, beat: Callable[[R, int], object], interval_s: float) -> None:
        self.interval_s = interval_s
        self._beat = beat
        self.by_span: dict[int, R] = {}
        """For looking up; changed only in here."""
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._sequence = 0

    def open(self, span_id: int, run: R) -> None:
        """A run begins. Runs side by side share the process's CPU: both are marked."""
        with self._lock:
            for other in self.by_span.values():
                if not run.descends_from(other):
                    other.shared = run.shared = True
            self.by_span[span_id] = run
            first = len(self.by_span) == 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="wafer-heartbeat", daemon=True)
                self._thread.start()
        if first:
            self._changed.set()

    def close(self, span_id: int) -> R | None:
        """A run has ended; None when it is not one of this process's open runs."""
        with self._lock:
            return self.by_span.pop(span_id, None)

    def find(self, span_id: int) -> R | None:
        """An open run of this process."""
        return self.by_span.get(span_id)

    @property
    def oldest(self) -> R | None:
        """The oldest open run. Takes no lock: a forked child must not wait for one that another thread held."""
        return next(iter(self.by_span.values()), None)

    @property
    def runs(self) -> list[R]:
        """The open runs, oldest first."""
        with self._lock:
            return list(self.by_span.values())

    def _live(self) -> None:
        due_s = time.monotonic() + self.interval_s
        while True:
            if not self.by_span:
                self._changed.wait()
                due_s = time.monotonic() + self.interval_s
            self._changed.clear()
            time.sleep(max(min(SAMPLE_S, due_s - time.monotonic()), 0.0))
            runs = self.runs
            if not runs:
                continue
            self._sample(runs)
            if time.monotonic() >= due_s:
                due_s += self.interval_s * (1 + (time.monotonic() - due_s) // self.interval_s)
                self._call(runs[0])

    @guarded
    def _sample(self, runs: list[R]) -> None:
        memory = usage.tree_memory_bytes() or 0
        for run in runs:
            run.memory_max = max(run.memory_max, memory)

    @guarded
    def _call(self, run: R) -> None:
        self._sequence += 1
        self._beat(run, self._sequence)
