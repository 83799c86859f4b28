"""What a run means: its records and the pure functions over them. Nothing here reads a clock, a file or a network."""

from wafermonitor.runs.completeness import Completeness, Verdict, completeness
from wafermonitor.runs.merge import merge, merge_all
from wafermonitor.runs.records import Batch, Feed, Run, RunKey, parse_run_id
from wafermonitor.runs.state import Limits, State, overdue, run_state

__all__ = [
    "Batch",
    "Completeness",
    "Feed",
    "Limits",
    "Run",
    "RunKey",
    "State",
    "Verdict",
    "completeness",
    "merge",
    "merge_all",
    "overdue",
    "parse_run_id",
    "run_state",
]
