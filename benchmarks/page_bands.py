"""The section of the page about bands of durations and foreseen ends.

In: the result of `p11_bands_eta`. Out: lines of Markdown. Called by: `page`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.chart import number

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


def bands(result: Mapping[str, Any]) -> list[str]:
    """How often bands and intervals hold, by kind of job."""
    words = _WORDS.format(
        months=number(result["months"]),
        history=result["history"],
        cpu=number(result["profile_cpu_ms"]),
        foreseen=number(result["foreseen"]),
    )
    rows = [*result["rows"], {"kind": "**all**"} | dict(result)]
    table = ["| " + " | ".join(_HEADS) + " |", "|" + "---|" * len(_HEADS)]
    for row in rows:
        shares = (
            "found_at_once_share",
            "found_in_ten_share",
            "held_share",
            "held_by_progress_share",
            "unknown_share",
        )
        cells = [row["kind"], number(row["false_per_job_month"]), *(f"{100 * row[share]:.1f} %" for share in shares)]
        table.append("| " + " | ".join(cells) + " |")
    return ["## P11: bands of durations and foreseen ends", "", words, "", *table]
