"""The store, its maintenance and archive, and the evaluator itself."""

from __future__ import annotations

import pytest

from tests.alerting.judges.world import HOUR, NOW, SECOND, Ticks, evidence, found, rule
from wafermonitor.storage.protocol import StepHealth, StoreHealth


def health(*steps: StepHealth) -> StoreHealth:
    return StoreHealth("timescale", "17", NOW, steps)


WELL = StepHealth("archive", 3600.0, late=False, failing=False)


def test_a_database_that_does_not_answer():
    (one,) = found(rule("database"))
    assert one.summary == "The database does not answer: runs are neither stored nor read"
    assert not found(rule("database"), health=health(WELL))


@pytest.mark.parametrize(
    ("step", "late", "failing", "kind"),
    [
        ("partitions", False, True, "database"),
        ("rollups", False, True, "database"),
        ("rollups", True, False, "maintenance_stopped"),
        ("statistics", True, False, "maintenance_stopped"),
        ("leftovers", False, True, "maintenance_stopped"),
        ("archive", True, False, "archive_stopped"),
        ("compression", False, True, "archive_stopped"),
        ("retention", True, True, "archive_stopped"),
        ("archive", False, False, None),
    ],
)
def test_each_step_that_stops_is_told_by_one_rule(step, late, failing, kind):
    known = health(StepHealth(step, 7200.0, late, failing))
    told = [name for name in ("database", "maintenance_stopped", "archive_stopped") if found(rule(name), health=known)]
    assert told == ([kind] if kind else [])


def test_a_step_is_told_with_its_age():
    (one,) = found(rule("archive_stopped"), health=health(StepHealth("archive", 7200.0, late=True, failing=False)))
    assert one.summary == "The store's step archive is late: it last succeeded 2 h ago"
    assert (one.since_ns, one.subject.detail) == (NOW - 2 * HOUR, "archive")
    (never,) = found(rule("archive_stopped"), health=health(StepHealth("archive", None, late=False, failing=True)))
    assert never.summary == "The store's step archive fails: it never succeeded"
    assert evidence(never) == {"step": "archive", "age_s": None, "late": False, "failing": True}


def test_while_the_database_does_not_answer_nobody_knows_of_its_steps():
    for kind, step in (("archive_stopped", "archive"), ("database", "rollups"), ("maintenance_stopped", "names")):
        ticks = Ticks(rule(kind))
        assert ticks.tick(health=health(StepHealth(step, 1.0, late=False, failing=True)))
        assert [alert.subject.detail for alert in ticks.tick()][-1:] in ([step], [""])
        assert step in {alert.subject.detail for alert in ticks.tick()}
        assert not ticks.tick(health=health(WELL))


def test_an_evaluator_that_was_away_says_so_for_an_hour():
    ticks = Ticks(rule("evaluator"))
    assert not ticks.tick(ticked_ns=None)
    assert not ticks.tick(ticked_ns=NOW - 300 * SECOND)
    (alert,) = ticks.tick(ticked_ns=NOW - 301 * SECOND)
    assert alert.summary == "Nothing was evaluated for 5 min 1 s, from 2026-09-21T14:08:19Z on"
    assert ticks.tick(NOW + HOUR - SECOND)
    assert not ticks.tick(NOW + HOUR)
