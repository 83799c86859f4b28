"""Which runs a question finds and in which order, in plain Python: the meaning that every engine's SQL has to have.

In: a `StoredRun` and a `RunQuery`. Out: whether it is found, and its place. Called by: `memory`, which has nothing else, and
`clickhouse`, whose SQL may find too much.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from wafermonitor.runs.merge import merge
from wafermonitor.runs.records import ProcessBeat, Run
from wafermonitor.runs.state import failing_rank
from wafermonitor.storage.protocol import RunQuery, StoredRun

NO_TIME = -(2**63)
"""Where a run whose start is not known stands: after every other, newest first."""


def with_process(run: Run, process: ProcessBeat) -> Run:
    """The run with the last heartbeat of its process joined."""
    beat = Run(
        site=run.site,
        trace_id=run.trace_id,
        span_id=run.span_id,
        process_beat_ns=process.beat_ns,
        process_interval_s=process.interval_s,
        inferred=True,
    )
    return merge(run, beat)


def matches(stored: StoredRun, query: RunQuery) -> bool:
    """Whether `query` finds it, whatever its cursor and limit."""
    run = stored.run
    wanted: Iterable[tuple[tuple[Any, ...], Any]] = (
        (query.site, run.site),
        (query.job, run.job),
        (query.state, stored.state),
        (query.result, run.result),
        (query.app, run.service),
        (query.equipment, run.equipment),
        (query.recipe, run.recipe),
        (query.product, run.product),
        (query.run_id, run.run_id),
    )
    return (
        all(not values or value in values for values, value in wanted)
        and _overlaps(query.lot, run.lot_ids)
        and _overlaps(query.substrate, run.substrate_ids)
        and _matches_parent(run, query)
        and _matches_time(stored, query)
        and (query.overdue is None or stored.overdue == query.overdue)
        and (query.inferred is None or run.inferred == query.inferred)
        and _matches_attributes(run, query)
        and _matches_text(run, query.text)
    )


def _overlaps(wanted: tuple[str, ...], values: tuple[str, ...] | None) -> bool:
    return not wanted or not set(wanted).isdisjoint(values or ())


def _matches_parent(run: Run, query: RunQuery) -> bool:
    if query.parent is not None and (run.trace_id, run.parent_span_id) != query.parent:
        return False
    return query.subjobs is None or query.subjobs == (run.parent_span_id is not None)


def _matches_time(stored: StoredRun, query: RunQuery) -> bool:
    run = stored.run
    start_ns = start_or_least(run.start_ns)
    if query.from_ns is not None and start_ns < query.from_ns:
        return False
    if query.to_ns is not None and start_ns >= query.to_ns:
        return False
    if query.min_duration_s is None and query.max_duration_s is None:
        return True
    if run.end_ns is None or run.start_ns is None:
        return False
    duration_s = (run.end_ns - run.start_ns) / 1e9
    return (query.min_duration_s is None or duration_s >= query.min_duration_s) and (
        query.max_duration_s is None or duration_s <= query.max_duration_s
    )


def _matches_attributes(run: Run, query: RunQuery) -> bool:
    if not query.attributes:
        return True
    attributes = json.loads(run.attributes or "{}")
    return all(name in attributes and _as_text(attributes[name]) == value for name, value in query.attributes)


def _as_text(value: Any) -> str:
    """As PostgreSQL's `->>` shows it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(", ", ": "))


def _matches_text(run: Run, text: str | None) -> bool:
    if not text:
        return True
    fields = (run.job, run.run_id, run.service, run.equipment, run.recipe, run.product, run.owner, run.error_type)
    words = [*(field for field in fields if field), *(run.lot_ids or ()), *(run.substrate_ids or ())]
    return any(text.lower() in word.lower() for word in words)


def start_or_least(time_ns: int | None) -> int:
    """A start that is not known is before all others."""
    return NO_TIME if time_ns is None else time_ns


def newest_order(stored: StoredRun) -> tuple[Any, ...]:
    """Its place, newest first: smaller is earlier."""
    run = stored.run
    return (-start_or_least(run.start_ns), run.trace_id.hex(), run.span_id.hex(), run.site)


def failing_order(stored: StoredRun) -> tuple[Any, ...]:
    """Its place among what an operator wants to see first."""
    return (failing_rank(*stored), *newest_order(stored))
