"""The words that say whether all has arrived."""

from __future__ import annotations

import pytest

from tests.runs.strategies import SITE, SPAN_ID, TRACE_ID
from wafermonitor.runs.completeness import Verdict, completeness
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import State

OPEN = Run(site=SITE, trace_id=TRACE_ID, span_id=SPAN_ID)
DONE = Run(site=SITE, trace_id=TRACE_ID, span_id=SPAN_ID, end_rank=2)


@pytest.mark.parametrize(
    ("run", "subjobs", "dropped", "verdict", "words"),
    [
        (DONE, [State.ENDED, State.ENDED], 0, Verdict.COMPLETE, "complete"),
        (OPEN, [State.ENDED, State.RUNNING], 0, Verdict.WAITING, "waiting for 2"),
        (DONE, [State.ENDED, State.RUNNING], 0, Verdict.WAITING, "waiting for 1"),
        (DONE, [State.ENDED, State.LOST], 0, Verdict.INCOMPLETE, "incomplete: 1 never arrived"),
        (DONE, [], 3, Verdict.INCOMPLETE, "incomplete: 3 never arrived"),
    ],
)
def test_counts_become_words(run, subjobs, dropped, verdict, words):
    result = completeness(run, [(OPEN, state) for state in subjobs], dropped)
    assert (result.verdict, result.words) == (verdict, words)
