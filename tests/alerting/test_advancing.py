"""When progress last grew, although each heartbeat repeats it with its own time."""

from __future__ import annotations

from tests.alerting.judges.world import MINUTE, NOW, SECOND, feed, feeds, run
from wafermonitor.alerting.advancing import advance, dumps, loads, since
from wafermonitor.runs.records import Progress


def at(ratio: float | None, when: int, **fields):
    return run(progress=Progress(when, ratio, **fields))


def test_a_heartbeat_that_repeats_the_progress_does_not_move_it():
    first = advance({}, [at(0.4, NOW)], feeds(), NOW)
    later = advance(first, [at(0.4, NOW + MINUTE)], feeds(), NOW + MINUTE)
    assert since(later) == {run().key: NOW}
    grown = advance(later, [at(0.5, NOW + 2 * MINUTE)], feeds(), NOW + 3 * MINUTE)
    assert since(grown) == {run().key: NOW + 2 * MINUTE}


def test_another_stage_or_one_more_item_is_progress():
    first = advance({}, [at(None, NOW, completed=3, stage="read")], feeds(), NOW)
    for fields in ({"completed": 4, "stage": "read"}, {"completed": 3, "stage": "write"}):
        assert since(advance(first, [at(None, NOW + MINUTE, **fields)], feeds(), NOW + MINUTE)) == {run().key: NOW + MINUTE}
    words = advance(first, [at(None, NOW + MINUTE, completed=3, stage="read", message="still here")], feeds(), NOW + MINUTE)
    assert since(words) == {run().key: NOW}


def test_a_wrong_clock_is_taken_out_and_nothing_lies_in_the_future():
    slow = feeds(feed(skew_ns=60 * SECOND))
    assert since(advance({}, [at(0.4, NOW - 90 * SECOND)], slow, NOW)) == {run().key: NOW - 30 * SECOND}
    assert since(advance({}, [at(0.4, NOW + MINUTE)], {}, NOW)) == {run().key: NOW}


def test_runs_that_ended_or_tell_no_progress_are_forgotten():
    first = advance({}, [at(0.4, NOW)], feeds(), NOW)
    assert advance(first, [], feeds(), NOW) == {}
    assert advance(first, [run()], feeds(), NOW) == {}


def test_it_is_kept_between_ticks_as_text():
    known = advance({}, [at(0.4, NOW), run("Ä", progress=Progress(NOW, None, stage="läuft"))], feeds(), NOW)
    assert loads(dumps(known)) == known
    assert loads(None) == {}
