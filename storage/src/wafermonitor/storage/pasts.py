"""What alerting and ETA ask of runs, in plain Python: the meaning that every engine's SQL has to have.

In: runs as they are merged. Out: `StoredStart`, `PastRun`, `Tally`. Called by: `memory`, which has nothing else, `clickhouse`,
whose SQL only finds the runs, and `archive`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wafermonitor.runs.records import Run, RunKey
from wafermonitor.runs.state import BAD_RESULTS, SECOND_NS
from wafermonitor.storage.protocol import PastRun, StartsWanted, StoredStart, Tally

_FINAL_SPAN = 2
"""The `end_rank` of a run whose final span came."""


def start_of(run: Run) -> StoredStart:
    """The run, which has a job, as it is matched with expectations."""
    return StoredStart(
        key=run.key,
        job=run.job or "",
        start_ns=run.start_ns,
        received_ns=run.received_ns,
        nominal_ns=run.nominal_time_ns,
        run_id=run.run_id,
        attempt=run.attempt,
        lot_ids=run.lot_ids or (),
        feed=run.feed,
        announced=announced(run),
        end_ns=run.end_ns,
        result=run.result,
    )


def announced(run: Run) -> bool:
    """Whether something was heard of it before its final span: it is still open, ended by an event, or told its heartbeat."""
    return run.end_rank < _FINAL_SPAN or run.heartbeat_interval_s is not None


def starts(runs: Iterable[Run], wanted: Sequence[StartsWanted], limit: int) -> list[list[StoredStart]]:
    """`Reader.starts` over `runs`. A run whose start is not known stands where it was last heard of."""
    from_ns: dict[str, int] = {}
    for want in wanted:
        from_ns[want.job] = min(want.from_ns, from_ns.get(want.job, want.from_ns))
    by_job: dict[str, list[tuple[int, RunKey, Run]]] = {}
    for run in runs:
        began_ns = run.received_ns if run.start_ns is None else run.start_ns
        if run.job is not None and began_ns is not None and run.job in from_ns and began_ns >= from_ns[run.job]:
            by_job.setdefault(run.job, []).append((began_ns, run.key, run))
    for of_job in by_job.values():
        of_job.sort(key=lambda begun: begun[:2])
    return [_newest(by_job.get(want.job, ()), want, limit) for want in wanted]


def past_of(run: Run) -> PastRun | None:
    """The run as history; None while it is open, and where no start is known."""
    if not run.ended or run.start_ns is None:
        return None
    return PastRun(
        key=run.key,
        start_ns=run.start_ns,
        duration_s=None if run.end_ns is None else (run.end_ns - run.start_ns) / SECOND_NS,
        result=run.result,
        error_type=run.error_type,
        equipment=run.equipment,
        recipe=run.recipe,
        product=run.product,
        memory_bytes=run.memory_bytes,
    )


def history(runs: Iterable[Run], jobs: Sequence[tuple[str, str]], limit: int) -> list[list[PastRun]]:
    """`Reader.history` over `runs`."""
    by_job: dict[tuple[str, str], list[PastRun]] = {job: [] for job in jobs}
    for run in runs:
        of_job = by_job.get((run.site, run.job or ""))
        past = past_of(run) if of_job is not None else None
        if of_job is not None and past is not None:
            of_job.append(past)
    for of_job in by_job.values():
        of_job.sort(key=lambda past: (-past.start_ns, past.key))
    return [by_job[job][:limit] for job in jobs]


def tallies(runs: Iterable[Run], from_ns: int, to_ns: int) -> list[Tally]:
    """`Reader.tallies` over `runs`, in order of site and job."""
    counts: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        if run.ended and run.job is not None and run.end_ns is not None and from_ns <= run.end_ns < to_ns:
            count = counts.setdefault((run.site, run.job), [0, 0, 0])
            count[0] += 1
            count[1] += run.result in BAD_RESULTS
            count[2] += run.deadline_ns is not None and run.end_ns > run.deadline_ns
    return [Tally(*key, *count) for key, count in sorted(counts.items())]


def _newest(of_job: Sequence[tuple[int, RunKey, Run]], want: StartsWanted, limit: int) -> list[StoredStart]:
    found = [run for began_ns, key, run in of_job if began_ns >= want.from_ns and want.site in (None, key.site)]
    return [start_of(run) for run in found[max(0, len(found) - limit) :]]
