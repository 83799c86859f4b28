"""E1: what the evaluator tells of a fab in which everything is known, beside what really happened there.

In: a plan. Out: figures. Called by: `python -m benchmarks e1`.

The simulator plays sites whose links fail to the memory engine in accelerated time; the evaluator looks every 15 s of that time
by the standard rules, dies, is replaced and is doubled at random. What should be told is worked out from the story alone.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.results import rounded
from benchmarks.rounds import Plan
from wafermonitor.alerting.simulator.accelerated import Clock
from wafermonitor.alerting.simulator.fab import Size
from wafermonitor.alerting.simulator.score import Score, Verdict
from wafermonitor.alerting.simulator.trial import trial
from wafermonitor.alerting.simulator.truth import What
from wafermonitor.storage.memory import Storage

SEED = 1
DAYS = {"quick": 0.2, "normal": 1.25, "full": 3.0}
SITES, HOSTS, JOBS, OUTAGES_A_DAY = 5, 4, 5, 3.0
SLOW, STALLED = 0.01, 0.005
"""More runs than usual take too long: enough to count those that are not found, and a past that is not clean."""


def bench_e1_alerts(plan: Plan) -> dict[str, Any]:
    """True, complete, once, in time: counted."""
    size = Size(
        sites=SITES,
        hosts=HOSTS,
        jobs=JOBS,
        days=DAYS[plan.mode],
        outages=OUTAGES_A_DAY,
        slow=SLOW,
        stalled=STALLED,
    )
    clock = Clock()
    began_s = time.process_time()
    found = asyncio.run(trial(SEED, size, Storage(clock=clock), clock))
    cpu_s = time.process_time() - began_s
    for words in found.wrong:
        print(f"e1: {words}", flush=True)
    return {"title": "Alerts in a simulated fab", "seed": SEED, "jobs": SITES * HOSTS * JOBS} | figures(found, size, cpu_s)


def figures(found: Score, size: Size, cpu_s: float) -> dict[str, Any]:
    """The score as figures; shares are of what could be known."""
    told = [verdict for one in found.told.values() for verdict in one.elements()]
    in_time = sum(verdict in {Verdict.IN_TIME, Verdict.A_TICK_LATE} for verdict in told)
    rows = []
    for what in What:
        delays = sorted(found.delays_s[what])
        rows.append(
            {
                "what": what.value,
                "so": found.told[what].total(),
                "told": found.told[what].total() - found.told[what][Verdict.NEVER],
                "median_s": rounded(delays[len(delays) // 2]) if delays else None,
                "most_s": rounded(delays[-1]) if delays else None,
                "false": found.false[what],
            }
        )
    return {
        "hosts": size.sites * size.hosts,
        "days": size.days,
        "expected_runs": found.expected,
        "runs": found.runs,
        "ticks": found.ticks,
        "cpu_ms_per_tick": rounded(cpu_s * 1e3 / max(1, found.ticks)),
        "outages": sum(found.outages.values()),
        "outages_told_once_share": rounded(found.outages[1] / max(1, sum(found.outages.values()))),
        "false_in_outages": sum(found.false_in_outage[what] for what in What),
        "false_alarms": sum(found.false[what] for what in What) + found.false["feed_behind"],
        "told_in_time_share": rounded(in_time / max(1, len(told))),
        "never_told": sum(one[Verdict.NEVER] for one in found.told.values()) + found.span_only[Verdict.NEVER],
        "told_twice": sum(found.doubled.values()),
        "unheard": found.unheard,
        "slow_runs": found.slow_runs,
        "slow_found_share": rounded(found.slow_found / max(1, found.slow_runs)),
        "false_slow_per_job_month": rounded(found.false_slow_per_job_month),
        "rows": rows,
    }
