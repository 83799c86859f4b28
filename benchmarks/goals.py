"""The figures to reach, and the two shapes in which all pages show numbers: a table and a range.

In: results. Out: lines of Markdown. Called by: `page`, `page_alerts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.chart import number

Result = Mapping[str, Any]
Results = Mapping[str, Result]


class Goal(NamedTuple):
    """A figure to reach: at least `least` or at most `most`."""

    name: str
    what: str
    result: str
    key: str
    least: float | None = None
    most: float | None = None

    def line(self, found: Results) -> str:
        """A row of the table of goals."""
        wanted = f"≥ {number(self.least)}" if self.least is not None else f"≤ {number(self.most or 0)}"
        value = found.get(self.result, {}).get(self.key)
        if value is None:
            return f"| {self.name} | {self.what} | {wanted} | not measured | |"
        reached = value >= self.least if self.least is not None else value <= (self.most or 0)
        between = found[self.result].get(f"{self.key}_range")
        before = found[self.result].get(f"{self.key}_measured")
        shown = number(value) + shown_between(between)
        shown += f", theirs of {before}" if before else ""
        return f"| {self.name} | {self.what} | {wanted} | {shown} | {'reached' if reached else '**missed**'} |"


GOALS = [
    Goal("P1", "durable ingest as a share of the COPY ceiling C1", "p01_ingest", "ratio_to_c1", least=0.65),
    Goal("P1", "… spans/s, as a floor", "p01_ingest", "acked_spans_per_s", least=80_000),
    Goal("P1", "… beside the Collector's fsynced spool, times", "p02_beside", "ratio_to_collector_spool", least=2),
    Goal("P1", "… beside VictoriaTraces (T0), times", "p02_beside", "ratio_to_victoriatraces", least=2),
    Goal("P2", "… beside the Collector's unsynced file (T1), times", "p02_beside", "ratio_to_collector_file", least=0.7),
    Goal("P3", "spans per CPU-second of all servers", "p03_cpu", "spans_per_server_cpu_s", least=60_000),
    Goal("P5", "one-span requests/s over HTTP", "p05_small", "http_requests_per_s", least=15_000),
    Goal("P6", "lag p99 at 2,000 spans/s, ms", "p06_lag", "lag_p99_ms", most=60),
    Goal("P6", "lag p99 at half of the maximum, ms", "p06_lag", "half_lag_p99_ms", most=150),
    Goal("P7", "acknowledged and missing after overload, spans", "p07_overload", "missing_spans", most=0),
    Goal("P7", "stored twice after overload, spans", "p07_overload", "doubled_spans", most=0),
    Goal("P7", "receiver's memory under overload, MiB", "p07_overload", "receiver_peak_mib", most=300),
    Goal("P7", "newest traces whole after kill -9, share", "p07_overload", "whole_after_kill_share", least=1),
    Goal("P8", "a span in the archive, bytes", "p08_at_rest", "archive_bytes", most=55),
    Goal("P8", "a span in a compressed chunk, bytes", "p08_at_rest", "compressed_bytes", most=80),
    Goal("P9", "a trace by its id, p99 ms", "p09_search", "trace_p99_ms", most=4),
    Goal("P9", "runs by lot, equipment, job, result, p99 ms", "p09_search", "runs_p99_ms", most=50),
    Goal("P9", "runs by an attribute, 24 h, p99 ms", "p09_search", "attributes_p99_ms", most=500),
    Goal("P9", "the read API over HTTP, p99 ms", "p09_search", "api_p99_ms", most=100),
    Goal("P10", "a dashboard's question to the rollups, p99 ms", "p10_rollups", "dashboard_p99_ms", most=20),
    Goal("P10", "rollups behind at most, s", "p10_rollups", "behind_most_s", most=5),
    Goal("P10", "CPU of the rollups, share of what ingest takes", "p10_rollups", "rollup_cpu_share", most=0.05),
    Goal("E4", "usual runs outside their band for each job and month", "e4_bands", "false_per_job_month", most=1),
    Goal("E4", "slowdowns by two found within ten runs, share", "e4_bands", "found_in_ten_share", least=0.95),
    Goal("E6", "ends within their 80 % interval, share, at least", "e4_bands", "held_share", least=0.75),
    Goal("E6", "ends within their 80 % interval, share, at most", "e4_bands", "held_share", most=0.85),
    Goal("E5", "a tick with 10,000 expectations, CPU at most, s", "e5_evaluator", "cpu_most_s", most=1),
    Goal("E1", "false 'late', 'missed', 'silent' or 'lost' while links fail", "e1_alerts", "false_in_outages", most=0),
    Goal("E1", "outages told of by exactly one alert, share", "e1_alerts", "outages_told_once_share", least=1),
    Goal("E2", "what can be known, told within a tick, share", "e1_alerts", "told_in_time_share", least=1),
    Goal("E3", "alerts told twice, evaluators dying at random", "e1_alerts", "told_twice", most=0),
    Goal("E4", "false alarms of durations for each job and month", "e1_alerts", "false_slow_per_job_month", most=1),
    Goal("E4", "runs of two to three times their length found, share", "e1_alerts", "slow_found_share", least=0.95),
    Goal("lanes", "native ÷ Python lane, 512-span requests", "lanes", "native_to_python", least=10),
]


def table(heads: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *("| " + " | ".join(cells) + " |" for cells in rows),
    ]


def shown_between(between: Sequence[float] | None) -> str:
    """The range of several rounds; one round has none."""
    return f" ({number(between[0])}…{number(between[1])})" if between and between[0] < between[1] else ""
