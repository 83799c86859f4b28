"""The sections of the page about alerting: bands of durations, the evaluator, a simulated fab.

In: the results of `e4_bands`, `e5_evaluator`, `e1_alerts`. Out: lines of Markdown. Called by: `page`.
"""

from __future__ import annotations

from benchmarks.chart import number
from benchmarks.goals import Result, table

_HEADS = (
    "kind of job",
    "false alarms",
    "2× found at once",
    "2× found within ten runs",
    "ends held",
    "ends held by progress",
    "not known",
)
_WORDS = (
    "Histories whose truth is known: jobs of each kind run every five minutes to once a day; {months} months of "
    "them, profiles of the last {history} runs, learned anew every hour ({cpu} ms of CPU each). False alarms are "
    "usual runs outside their band, on either side, for each job and month. A slowdown makes all runs from some "
    "place on take twice as long; it is found when one of them is above its band, or all of late are told as a "
    "shift. Ends are foreseen {foreseen} times, at fixed times after the start of runs that still went on; the "
    "intervals say that they hold 80 %. `stepping` changes by a third every forty days: its alarms are true, and "
    "counted all the same."
)


def bands(result: Result) -> list[str]:
    """How often bands and intervals hold, by kind of job."""
    words = _WORDS.format(
        months=number(result["months"]),
        history=result["history"],
        cpu=number(result["profile_cpu_ms"]),
        foreseen=number(result["foreseen"]),
    )
    shares = ("found_at_once_share", "found_in_ten_share", "held_share", "held_by_progress_share", "unknown_share")
    rows = [
        (row["kind"], number(row["false_per_job_month"]), *(f"{100 * row[share]:.1f} %" for share in shares))
        for row in [*result["rows"], {"kind": "**all**"} | dict(result)]
    ]
    return ["## E4, E6: bands of durations and foreseen ends", "", words, "", *table(_HEADS, rows)]


def evaluator(result: Result) -> list[str]:
    """What a tick costs."""
    words = (
        f"{result['expectations']:,} expectations of as many jobs at {result['sites']} sites, judged by the standard rules "
        "every 10 s on the embedded PostgreSQL, by a clock of the benchmark's. CPU is the evaluator's, time is until its "
        "outcome is committed. A quarter of the jobs runs every five minutes, the others hourly at a minute of their own; or "
        "all of them at the same minute: then ten thousand runs start and end within one tick."
    )
    rows = [
        (
            row["case"],
            str(row["ticks"]),
            f"{row['expected_runs']:,}",
            number(row["cpu_mean_s"]),
            number(row["cpu_most_s"]),
            number(row["took_mean_s"]),
            number(row["took_most_s"]),
        )
        for row in result["rows"]
    ]
    heads = ("case", "ticks", "expected runs at once", "CPU mean s", "CPU most s", "time mean s", "time most s")
    return ["## E5: the evaluator", "", words, "", *table(heads, rows)]


def alerts(result: Result) -> list[str]:
    """What is told of a fab whose truth is known."""
    words = (
        f"{result['expected_runs']:,} expected runs of {result['jobs']} jobs on {result['hosts']} hosts in "
        f"{number(result['days'])} days, {result['runs']:,} runs that came, {result['outages']} outages long enough to be "
        f"seen, {result['ticks']:,} ticks of 15 s with {number(result['cpu_ms_per_tick'])} ms of CPU each, the simulator's and "
        "the memory engine's among them. Evaluators are replaced, doubled and killed while they store. What is so, and from "
        "when on it can be known, is worked out from the story; counted from then until it is told."
    )
    unheard = (
        f"Of jobs that announce nothing and say nowhere how long they may take, {result['unheard']} alerts said late or missed "
        "of runs that took longer than any before: until their span came nobody could know better, so they are not counted as "
        "false."
    )
    rows = [
        (
            row["what"],
            str(row["so"]),
            str(row["told"]),
            "" if row["median_s"] is None else f"{number(row['median_s'])} / {number(row['most_s'])}",
            str(row["false"]),
        )
        for row in result["rows"]
    ]
    heads = ("what", "so and to be known", "told", "median / most s", "told and not so")
    return ["## E1 to E3: alerts in a simulated fab", "", words, "", *table(heads, rows), "", unheard]
