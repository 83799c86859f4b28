"""E5: what one tick of the evaluator costs with 10,000 expectations on PostgreSQL: its CPU, and how long it takes.

In: a plan. Out: figures. Called by: `python -m benchmarks e5`.

40 sites with a feed each, 10,000 jobs with an expectation each. The clock is the benchmark's, so that hours pass in minutes;
at each tick the runs that are due are written (in the case of an outage, those of half the sites are not), then it is evaluated
by the standard rules. Schedules are spread over the hour, or all of them are of the same minute, which is the worst there is.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.results import rounded
from benchmarks.rounds import Plan
from wafermonitor.alerting.declared import load
from wafermonitor.alerting.evaluator import Evaluator
from wafermonitor.alerting.expecting import Wish, dumps
from wafermonitor.alerting.running import spare_garbage
from wafermonitor.alerting.schedule import Cron, Every
from wafermonitor.deploy.demo import work_folder
from wafermonitor.runs.alerts import Expectation, Origin
from wafermonitor.runs.records import Batch, FeedBeat, Run
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.protocol import Reader, Writer
from wafermonitor.storage.timescale.reader import Reader as PostgresReader
from wafermonitor.storage.timescale.store import Storage as Postgres
from wafermonitor.storage.timescale.watch import Watch

SECOND_NS = 1_000_000_000
EXPECTATIONS, SITES, TICK_S = 10_000, 40, 10
OFTEN_S = 300
MINUTES = {"quick": 4, "normal": 6, "full": 70}
CASES = ("spread over the hour", "all of the same minute", "half of the sites cut off")
_SPREAD, _SAME, _CUT = CASES
_SAME_MINUTE = 2


class _Stage(NamedTuple):
    """A store whose clock is `clock`, as the evaluator wants it."""

    reader: Reader
    writer: Writer
    watch: Watch

    async def close(self) -> None:
        """Whoever opened it closes it."""


class _Clock:
    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


def bench_e5_evaluator(plan: Plan) -> dict[str, Any]:
    """Ticks, one after the other, in every case."""
    spare_garbage()
    rows = [asyncio.run(_case(case, MINUTES[plan.mode])) for case in CASES]
    return {
        "title": "The evaluator with ten thousand expectations",
        "expectations": EXPECTATIONS,
        "sites": SITES,
        "cpu_most_s": max(row["cpu_most_s"] for row in rows),
        "rows": rows,
    }


async def _case(case: str, minutes: int) -> dict[str, Any]:
    with work_folder("wafer-bench-") as (folder, _):
        opened = await connect(Config(data_dir=folder))
        if not isinstance(opened, Postgres):
            raise TypeError("the embedded server is a PostgreSQL")
        try:
            hour_ns = 3600 * SECOND_NS
            clock = _Clock(time.time_ns() // hour_ns * hour_ns)
            stage = _Stage(PostgresReader(opened.pool, clock=clock), opened.writer, Watch(opened.pool, clock=clock))
            return await _played(case, minutes, stage, clock)
        finally:
            await opened.close()


async def _played(case: str, minutes: int, stage: _Stage, clock: _Clock) -> dict[str, Any]:
    begin_ns = clock.now_ns
    await stage.watch.declare([_expectation(case, number, begin_ns) for number in range(EXPECTATIONS)])
    evaluator = Evaluator(stage, load(None))
    cpu_s, wall_s, waiting, alerts = [], [], 0, 0
    for second in range(0, minutes * 60, TICK_S):
        clock.now_ns = begin_ns + second * SECOND_NS
        cut = range(0, SITES, 2) if case == _CUT and second > minutes * 20 else range(0)
        feeds = [FeedBeat(_site(site), "host", clock.now_ns, clock.now_ns, 0) for site in range(SITES) if site not in cut]
        runs = [_run(number, clock.now_ns) for number in _due(case, second) if number % SITES not in cut]
        await stage.writer.write([Batch(runs=runs, feeds=feeds)])
        began = time.process_time(), time.perf_counter()
        ticked = await evaluator.tick()
        if ticked is None or ticked.faults:
            raise RuntimeError(f"a tick failed: {ticked}")
        cpu_s.append(time.process_time() - began[0])
        wall_s.append(time.perf_counter() - began[1])
        waiting, alerts = max(waiting, ticked.waiting), len(ticked.open_alerts)
    return {
        "case": case,
        "ticks": len(cpu_s),
        "expected_runs": waiting,
        "open_alerts": alerts,
        "first_cpu_s": rounded(cpu_s[0]),
        "cpu_mean_s": rounded(statistics.fmean(cpu_s)),
        "cpu_most_s": rounded(max(cpu_s)),
        "took_mean_s": rounded(statistics.fmean(wall_s)),
        "took_most_s": rounded(max(wall_s)),
    }


def _expectation(case: str, number: int, begin_ns: int) -> Expectation:
    minute = _SAME_MINUTE if case == _SAME else number % 60
    often = case != _SAME and number % 4 == 0
    schedule = Every(OFTEN_S, begin_ns + number % OFTEN_S * SECOND_NS) if often else Cron(f"{minute} * * * *", "Europe/Berlin")
    return Expectation(f"e{number}", _site(number % SITES), f"job {number}", Origin.DECLARED, dumps(Wish(schedule)), 0, 0, 0)


def _due(case: str, second: int) -> Iterator[int]:
    """The jobs of which a run starts in the `TICK_S` before `second`."""
    minute = second // 60 % 60 if second % 60 == 0 else None
    for number in range(EXPECTATIONS):
        if case == _SAME:
            starts = minute == _SAME_MINUTE
        elif number % 4 == 0:
            starts = second >= number % OFTEN_S and (second - number % OFTEN_S) % OFTEN_S < TICK_S
        else:
            starts = minute == number % 60
        if starts:
            yield number


def _run(number: int, now_ns: int) -> Run:
    """A run that has just ended, a second long."""
    ids = (now_ns // SECOND_NS) << 20 | number
    return Run(
        site=_site(number % SITES),
        trace_id=ids.to_bytes(16),
        span_id=ids.to_bytes(8),
        start_ns=now_ns - SECOND_NS,
        job=f"job {number}",
        run_id=str(ids),
        feed="host",
        heartbeat_interval_s=30.0,
        last_sign_ns=now_ns,
        received_ns=now_ns,
        end_rank=2,
        end_ns=now_ns,
        result="success",
    )


def _site(number: int) -> str:
    return f"fab{number}"
