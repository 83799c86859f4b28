"""P10: what dashboards wait for answers from rollups, how far these are behind, and what keeping them costs beside ingest.

In: a plan. Out: figures. Called by: `python -m benchmarks p10`.

Questions are those of a dashboard, each asked anew while nothing is stored and while the most is stored that this system takes.
How far behind: the age of the rollups' snapshot whenever something is stored that it does not show. Cost: CPU of the database
process that rolls up, as a share of all that the receiver and the database use.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import load
from benchmarks.corpus import stream_start
from benchmarks.results import TIERS, rounded
from benchmarks.rounds import Plan, Streams
from benchmarks.system import System, running

DAYS, RUNS_A_DAY = 60, {"quick": 200, "normal": 500, "full": 10_000}
QUESTIONS = {
    "all jobs, 24 hours by hour": """
        SELECT bucket, job, started, bad, duration_p50_s, duration_p95_s FROM wafer.job_hourly_stats
        WHERE bucket > now() - interval '24 hours' AND site_id = 'f1' ORDER BY bucket""",
    "one job, 7 days by hour": """
        SELECT bucket, started, bad, success_rate, duration_mean_s, duration_p95_s FROM wafer.job_hourly_stats
        WHERE bucket > now() - interval '7 days' AND job = 'job 4' AND site_id = 'f1' ORDER BY bucket""",
    "one job, 60 days by day": """
        SELECT bucket, started, bad, success_rate, duration_p50_s, duration_p95_s FROM wafer.job_daily_stats
        WHERE bucket > now() - interval '60 days' AND job = 'job 4' AND site_id = 'f1' ORDER BY bucket""",
    "tools of a job, this week": """
        SELECT value, sum(ended), wafer.percentile(wafer.sum_durations(durations), 0.95) FROM wafer.job_weekly_breakdown
        WHERE bucket > now() - interval '7 days' AND dimension = 'equipment' AND job = 'job 4' GROUP BY value""",
    "apps, success of 24 hours": """
        SELECT value, sum(success), sum(bad) FROM wafer.job_hourly_breakdown
        WHERE bucket > now() - interval '24 hours' AND dimension = 'app' GROUP BY value""",
}
_FILL = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
_BEHIND = """
SELECT CASE WHEN wafer_data.has_unrolled(snapshot) THEN extract(epoch FROM clock_timestamp() - taken_at) ELSE 0 END
FROM wafer_data.rollup_state"""
_ROLLED = (
    "SELECT built_from = '-infinity' AND NOT wafer_data.has_unrolled(snapshot) FROM wafer_data.rollup_state, pg_sleep(0.2)"
)
_WORKER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND (classid::bigint << 32) + objid::bigint = $1"
_LOCK = 0x77616665_72000004
_WITHIN_S = 900.0
_WARM = 5


def bench_p10_rollups(plan: Plan) -> dict[str, Any]:
    """Questions, lag and cost, of a store with 60 days of runs."""
    streams = Streams()
    asked = 20 * plan.rounds
    with running() as system:
        built_s = _fill(system, RUNS_A_DAY[plan.mode])
        rows = [_asked(system, "idle", asked)]
        behind: list[float] = []

        def look() -> None:
            behind.append(system.ask(_behind))

        groups = {**system.groups, "rollups": [system.ask(_worker)]}
        one = system.load(
            stream_start(streams.next()),
            runs="1 in 10",
            warm_up_s=plan.warm_up_s,
            seconds=max(12.0, plan.seconds * plan.rounds),
        )
        done = load.run(one, groups, watch=look, every_s=0.25)
        cost = done.cpu_s["rollups"] / (done.cpu_s["receiver"] + done.cpu_s["database"])
        rows.append(_asked(system, "right after", asked))
        version = system.version()
    return {
        "title": "Dashboards from rollups",
        "tier": "T2",
        "tier_means": TIERS["T2"],
        "runs": DAYS * RUNS_A_DAY[plan.mode],
        "built_s": rounded(built_s),
        "dashboard_p99_ms": max(row["p99_ms"] for row in rows[0]["questions"]),
        "behind_most_s": rounded(max(behind)),
        "rollup_cpu_share": rounded(cost),
        "acked_spans_per_s": rounded(done.spans_per_s),
        "rows": rows,
        "versions": {"postgresql": version},
    }


def _fill(system: System, a_day: int) -> float:
    """Write the runs, and wait until they are rolled up; how long that took."""

    async def work(connection: asyncpg.Connection) -> float:
        await connection.execute("INSERT INTO wafer_data.site (name) VALUES ('f1'), ('f2') ON CONFLICT DO NOTHING")
        await connection.execute(
            "SELECT wafer_data.keep_partitions(current_date - 3, current_date + 7, current_date - $1::integer)", DAYS + 1
        )
        await connection.execute(_FILL, DAYS, a_day, timeout=_WITHIN_S)
        # As after an upgrade: hour by hour, the newest first.
        await connection.execute("UPDATE wafer_data.rollup_state SET built_from = 'infinity'")
        began = time.monotonic()
        async with asyncio.timeout(_WITHIN_S):
            while not await connection.fetchval(_ROLLED):
                pass
        took = time.monotonic() - began
        await connection.execute("ANALYZE")
        return took

    return system.ask(work)


def _asked(system: System, when: str, times: int) -> dict[str, Any]:
    """Every question so often, in turn."""

    async def work(connection: asyncpg.Connection) -> dict[str, list[float]]:
        took: dict[str, list[float]] = {name: [] for name in QUESTIONS}
        for number in range(times + _WARM):
            for name, question in QUESTIONS.items():
                began = time.perf_counter()
                rows = await connection.fetch(question)
                if not rows:
                    raise SystemExit(f"no answer: {name}")
                if number >= _WARM:
                    took[name].append((time.perf_counter() - began) * 1e3)
        return took

    found = []
    for name, took in system.ask(work).items():
        took.sort()
        found.append(
            {
                "question": name,
                "p50_ms": rounded(took[len(took) // 2]),
                "p99_ms": rounded(took[len(took) * 99 // 100]),
                "asked": times,
            }
        )
    return {"case": when, "questions": found}


async def _behind(connection: asyncpg.Connection) -> float:
    return float(await connection.fetchval(_BEHIND))


async def _worker(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval(_WORKER, _LOCK))
