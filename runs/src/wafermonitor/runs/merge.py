"""Two records of one run become one: commutative, associative, idempotent.

In: any two `Run` records with one key, in any order, any number of times. Out: one `Run`.
Called by: storage (memory engine; the SQL upsert is its twin, proven equal by test), tests.

Source: design/3 §3.3, "merged only with least, greatest, coalesce and final wins, never by counting up".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Protocol, TypeVar

from wafermonitor.runs.records import Progress, Run

DESCRIPTIVE = (
    "job",
    "run_id",
    "parent_span_id",
    "parent_run_id",
    "feed",
    "service",
    "service_version",
    "attempt",
    "trigger",
    "nominal_time_ns",
    "expected_duration_s",
    "deadline_ns",
    "owner",
    "equipment",
    "recipe",
    "product",
    "lot_ids",
    "substrate_ids",
    "process_key",
    "attributes",
)
"""The fields that say what a run is. Their position is their bit in `Run.final_fields`; new ones go to the end."""


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...
    def __gt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)
V = TypeVar("V")


def final_fields(run: Run) -> int:
    """The mask for a record made from a final span: one bit for each descriptive field that it has."""
    return sum(1 << bit for bit, name in enumerate(DESCRIPTIVE) if getattr(run, name) is not None)


def merge(a: Run, b: Run) -> Run:
    """Join two records of one run. The order of the arguments does not matter."""
    if a.key != b.key:
        raise ValueError(f"{a.key} and {b.key} are different runs")
    merged: dict[str, Any] = {
        name: _describe(getattr(a, name), getattr(b, name), a.final_fields >> bit & 1, b.final_fields >> bit & 1)
        for bit, name in enumerate(DESCRIPTIVE)
    }
    ending = max((_ending(a), a), (_ending(b), b), key=lambda pair: pair[0])[1]
    return Run(
        site=a.site,
        trace_id=a.trace_id,
        span_id=a.span_id,
        start_ns=least(a.start_ns, b.start_ns),
        final_fields=a.final_fields | b.final_fields,
        end_rank=ending.end_rank,
        end_ns=ending.end_ns,
        result=ending.result,
        error_type=ending.error_type,
        heartbeat_interval_s=greatest(a.heartbeat_interval_s, b.heartbeat_interval_s),
        last_sign_ns=greatest(a.last_sign_ns, b.last_sign_ns),
        progress=_latest(a.progress, b.progress),
        cpu_s=greatest(a.cpu_s, b.cpu_s),
        memory_bytes=greatest(a.memory_bytes, b.memory_bytes),
        inferred=a.inferred and b.inferred,
        received_ns=greatest(a.received_ns, b.received_ns),
        process_beat_ns=greatest(a.process_beat_ns, b.process_beat_ns),
        process_interval_s=greatest(a.process_interval_s, b.process_interval_s),
        **merged,
    )


def merge_all(records: list[Run]) -> list[Run]:
    """One record per run, in the order of their keys (writers that lock rows in one order do not deadlock)."""
    by_key: dict[tuple[str, bytes, bytes], list[Run]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)
    return [reduce(merge, by_key[key]) for key in sorted(by_key)]


def greatest(a: T | None, b: T | None) -> T | None:
    """The larger of two values; a missing one loses."""
    return _pick(a, b, max)


def least(a: T | None, b: T | None) -> T | None:
    """The smaller of two values; a missing one loses."""
    return _pick(a, b, min)


def _pick(a: V | None, b: V | None, choose: Callable[[V, V], V]) -> V | None:
    if a is None:
        return b
    return a if b is None else choose(a, b)


def _describe(a: Any, b: Any, a_final: int, b_final: int) -> Any:
    """The final span's word counts; between equals the larger one, so that arrival order cannot show."""
    if a_final == b_final:
        return greatest(a, b)
    return a if a_final else b


def _ending(run: Run) -> tuple[int, int, str, str]:
    return (run.end_rank, run.end_ns or 0, run.result or "", run.error_type or "")


def _latest(a: Progress | None, b: Progress | None) -> Progress | None:
    return _pick(a, b, lambda x, y: max(x, y, key=_progress_order))


def _progress_order(progress: Progress) -> tuple[Any, ...]:
    """`at_ns` decides; the rest only makes two reports of one instant come out the same in either order."""
    low = float("-inf")
    return (
        progress.at_ns,
        low if progress.ratio is None else progress.ratio,
        low if progress.completed is None else progress.completed,
        low if progress.total is None else progress.total,
        progress.unit or "",
        progress.stage or "",
        progress.message or "",
    )
