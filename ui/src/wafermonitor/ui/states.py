"""What a run's state is called and how it is drawn: one word, one shape, one colour.

In: state, result and flags of a run; the state of an expected one; an alert's severity. Out: a `Look`.
Called by: pages, templates.

The shape and the word carry the meaning; the colour only repeats it, so the screens read the same to the colour-blind.
"""

from __future__ import annotations

from typing import NamedTuple

from wafermonitor.query.models import ExpectedRunModel, RunModel
from wafermonitor.ui.clock import seconds_between


class Look(NamedTuple):
    """`key` names icon and colour in the theme; `word` is what people read; `help` says what it means."""

    key: str
    word: str
    help: str
    failing: bool = False


LOOKS = {
    look.key: look
    for look in (
        Look("running", "running", "Signs of life arrive."),
        Look("overdue", "overdue", "Alive, but longer than expected or past its deadline.", failing=True),
        Look("silent", "silent", "No sign for more than 3 heartbeat intervals, while its feed goes on.", failing=True),
        Look("lost", "lost", "No sign for so long that it counts as dead. A new sign brings it back.", failing=True),
        Look("unknown", "unknown", "Its feed is behind, so nobody can know."),
        Look("success", "success", "Ended as it should."),
        Look("failure", "failure", "Ended; the job itself says it failed.", failing=True),
        Look("error", "error", "Ended by its surroundings: killed, host down, out of memory.", failing=True),
        Look("timeout", "timeout", "Ended because it took too long.", failing=True),
        Look("cancellation", "cancelled", "Stopped from outside."),
        Look("skip", "skipped", "Found nothing to do."),
        Look("met", "met", "Its run started in time."),
        Look("came-late", "came late", "Its run started, but after the time allowed for its start."),
        Look("late", "late", "No run yet, though it should have started by now.", failing=True),
        Look("missed", "missed", "No run came before the time in which it still counted.", failing=True),
        Look("expected", "expected", "It is not due yet."),
        Look("critical", "critical", "Somebody should look now.", failing=True),
        Look("warning", "warning", "Somebody should look today.", failing=True),
        Look("info", "info", "Worth knowing."),
        Look("resolved", "resolved", "It is over."),
        Look("span", "ok", "A plain span that ended without an error."),
        Look("span-error", "error", "A plain span that ended with an error.", failing=True),
    )
}
OPEN_STATES = ("running", "silent", "lost", "unknown")
BAD_RESULTS = ("failure", "error", "timeout")


def look(run: RunModel) -> Look:
    """How this run is shown."""
    return look_of(run.state, run.result, overdue=run.overdue)


def look_of(state: str | None, result: str | None, *, overdue: bool = False) -> Look:
    """The same from its parts. A running run that is overdue shows as overdue; worse states keep their own look."""
    if state == "ended":
        return LOOKS.get(result or "success", LOOKS["success"])
    if state == "running" and overdue:
        return LOOKS["overdue"]
    return LOOKS.get(state or "running", LOOKS["running"])


def look_of_expected(expected: ExpectedRunModel) -> Look:
    """How an expected run is shown: one that came too late is met, but not as it should be."""
    if expected.state == "met" and (seconds_between(expected.late_after, expected.start) or 0.0) > 0.0:
        return LOOKS["came-late"]
    return LOOKS[expected.state]
