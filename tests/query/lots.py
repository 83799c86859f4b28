"""Lots of five wafers an hour, as a job of a fab runs them: usual ones, slow ones, failed ones.

In: trace numbers and times. Out: runs, as the receiver would write them.  Called by: the tests of explanations.
"""

from __future__ import annotations

from tests.query import world

HOUR = 3600.0
BAD = {"result": "failure", "error_type": "BadFile"}


def lot(trace, start_s, *, wafers=5, each_s=60.0, slow=None, fails=None, open_=False, **fields):
    """The runs of one lot. `slow`: (wafer, s) takes longer in its fit. `fails`: this wafer's fit fails, and so all."""
    runs, at_s = [], start_s
    for number in range(wafers):
        took_s = slow[1] if slow and slow[0] == number else each_s
        more = {"substrate_ids": (f"W{number:02}",)} | (BAD if fails == number else {})
        runs.append(world.run(trace, 10 + number, parent=1, job="wafer", start_s=at_s + 1, end_s=at_s + took_s, **more))
        inner = {"parent": 10 + number, "job": "fit", "start_s": at_s + 2, "end_s": at_s + took_s - 5}
        runs.append(world.run(trace, 100 + number, **inner, **more))
        at_s += took_s
        if fails == number:
            break
    values = {"equipment": "P1"} | (BAD if fails is not None else {}) | fields
    return [world.run(trace, 1, start_s=start_s, end_s=None if open_ else at_s, **values), *runs]


def usual(count, *, before_s=0.0, first_trace=100, **fields):
    """Good lots, one an hour, the last an hour before `before_s`."""
    return [run for number in range(count) for run in lot(first_trace + number, before_s - (count - number) * HOUR, **fields)]
