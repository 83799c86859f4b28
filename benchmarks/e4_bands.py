"""E4: whether bands of durations and foreseen ends hold what they say, on histories whose truth is known.

In: a plan. Out: figures. Called by: `python -m benchmarks e4`.

Jobs of every kind of `histories`, each running every five minutes to once a day. Of a month of usual runs is counted how many
leave their band, on either side; of slowdowns by two how many are found at once, and within ten runs. Ends are foreseen at
fixed times after a start, of the runs that still go on then: four of five must end within the interval. What is usual is
learned from the last `HISTORY` runs, anew every hour.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from benchmarks.histories import DAY_S, EVERY, HOUR_S, KINDS, SECOND_NS, Job, Simulated, way_of
from benchmarks.results import rounded
from benchmarks.rounds import Plan
from wafermonitor.runs.bands import HISTORY, Profile, profile
from wafermonitor.runs.eta import Eta, eta

SEEDS = {"quick": 1, "normal": 2, "full": 6}
BEFORE = 120
"""Runs that a job has before it is judged."""
MONTH_DAYS = 30
OFTEN_S = 1800
"""Of jobs that run as often as this one seed is enough: a month has thousands of runs."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""When ends are foreseen, as parts of the usual duration."""
EARLIER = 24
_WITHIN = 10
_TRIALS = 12


class Counted(NamedTuple):
    """What came of one kind of job."""

    months: float = 0.0
    slow: int = 0
    short: int = 0
    tried: int = 0
    at_once: int = 0
    in_ten: int = 0
    foreseen: int = 0
    held: int = 0
    by_progress: int = 0
    held_by_progress: int = 0
    unknown: int = 0

    def plus(self, other: Counted) -> Counted:
        """Both together."""
        return Counted._make(mine + its for mine, its in zip(self, other, strict=True))


def bench_e4_bands(plan: Plan) -> dict[str, Any]:
    """False alarms, slowdowns found, intervals held: counted."""
    rows, total, profiles, cpu_s = [], Counted(), 0, 0.0
    for kind in KINDS:
        counted = Counted()
        for every_s in EVERY.values():
            for seed in range(1 if every_s <= OFTEN_S else SEEDS[plan.mode]):
                runs = list(Job(kind, every_s, seed).runs(BEFORE + max(MONTH_DAYS * DAY_S // every_s, 10 * _TRIALS)))
                began_s = time.process_time()
                alarms, made = _usual_month(runs, every_s)
                cpu_s += time.process_time() - began_s
                profiles += made
                counted = counted.plus(alarms).plus(_slowdowns(runs)).plus(_ends(runs))
        print(f"e4: {kind}: {counted}", flush=True)
        rows.append({"kind": kind} | _figures(counted))
        total = total.plus(counted)
    return {
        "title": "Bands of durations and foreseen ends",
        "history": HISTORY,
        "rows": rows,
        "profile_cpu_ms": rounded(1000 * cpu_s / profiles),
    } | _figures(total)


def _figures(counted: Counted) -> dict[str, Any]:
    return {
        "months": rounded(counted.months),
        "false_per_job_month": rounded((counted.slow + counted.short) / counted.months),
        "false_slow_per_job_month": rounded(counted.slow / counted.months),
        "found_at_once_share": rounded(counted.at_once / counted.tried),
        "found_in_ten_share": rounded(counted.in_ten / counted.tried),
        "held_share": rounded(counted.held / counted.foreseen),
        "held_by_progress_share": rounded(counted.held_by_progress / counted.by_progress),
        "unknown_share": rounded(counted.unknown / (counted.unknown + counted.foreseen)),
        "foreseen": counted.foreseen,
    }


def _usual_month(runs: list[Simulated], every_s: int) -> tuple[Counted, int]:
    """How many usual runs left their band, and how often that was learned."""
    slow = short = made = 0
    learned_ns, usual = 0, profile((), 0)
    for place in range(BEFORE, len(runs)):
        run = runs[place]
        if run.start_ns - learned_ns >= HOUR_S * SECOND_NS:
            learned_ns, usual, made = run.start_ns, _learn(runs, place), made + 1
        band = usual.band(run.start_ns, recipe=run.recipe)
        if run.result == "success" and run.duration_s is not None and band is not None:
            slow += run.duration_s > band.high_s
            short += run.duration_s < band.low_s
    return Counted(months=(len(runs) - BEFORE) * every_s / (MONTH_DAYS * DAY_S), slow=slow, short=short), made


def _slowdowns(runs: list[Simulated]) -> Counted:
    """From some place on everything takes twice as long."""
    at_once = in_ten = 0
    for trial in range(_TRIALS):
        place = BEFORE + trial * 8
        usual = _learn(runs, place)
        slowed = [run._replace(duration_s=2 * (run.duration_s or 0.0)) for run in _good(runs[place : place + 3 * _WITHIN])]
        above = [_is_above(usual, run) for run in slowed[:_WITHIN]]
        at_once += above[0]
        shifted = any(
            profile((runs[:place] + slowed[:count])[-HISTORY:], slowed[count - 1].start_ns).shift is not None
            for count in (_WITHIN // 2, _WITHIN)
        )
        in_ten += any(above) or shifted
    return Counted(tried=_TRIALS, at_once=at_once, in_ten=in_ten)


def _ends(runs: list[Simulated]) -> Counted:
    """How many of the ends that were foreseen came within their interval."""
    counted = Counted()
    step = max(1, (len(runs) - BEFORE) // 120)
    for place in range(BEFORE, len(runs), step):
        run = runs[place]
        if run.result != "success" or run.duration_s is None:
            continue
        usual = _learn(runs, place)
        end_ns = run.start_ns + round(run.duration_s * SECOND_NS)
        ways = [way_of(one) for one in _good(runs[place - EARLIER : place])]
        marks = way_of(run).marks
        for share in SHARES:
            elapsed_s = share * (usual.mid_s or 0.0)
            if elapsed_s >= run.duration_s:
                break
            now_ns = run.start_ns + round(elapsed_s * SECOND_NS)
            plain = eta(usual, run.start_ns, now_ns, recipe=run.recipe)
            mark = next((one for one in reversed(marks) if one.elapsed_s <= elapsed_s), None)
            told = eta(usual, run.start_ns, now_ns, recipe=run.recipe, mark=mark, ways=ways)
            counted = counted.plus(
                Counted(
                    foreseen=isinstance(plain, Eta),
                    held=isinstance(plain, Eta) and plain.low_ns <= end_ns <= plain.high_ns,
                    unknown=not isinstance(plain, Eta),
                    by_progress=isinstance(told, Eta),
                    held_by_progress=isinstance(told, Eta) and told.low_ns <= end_ns <= told.high_ns,
                )
            )
    return counted


def _learn(runs: list[Simulated], place: int) -> Profile:
    return profile(runs[max(0, place - HISTORY) : place], runs[place].start_ns)


def _good(runs: list[Simulated]) -> list[Simulated]:
    return [run for run in runs if run.result == "success"]


def _is_above(usual: Profile, run: Simulated) -> bool:
    band = usual.band(run.start_ns, recipe=run.recipe)
    return band is not None and run.duration_s is not None and run.duration_s > band.high_s
