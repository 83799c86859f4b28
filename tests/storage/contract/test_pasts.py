"""What alerting and ETA ask: starts to match with expectations, history to learn from, tallies to judge by."""

from __future__ import annotations

import time

from tests.storage.contract.builders import DAY, HOUR, NOW, SECOND, ended, run, runs, span_id, trace_id
from wafermonitor.runs.records import RunKey
from wafermonitor.storage.protocol import PastRun, StartsWanted, StoredStart, Tally


def key(number, site="f1"):
    return RunKey(site, trace_id(number), span_id(number))


def numbers(items, count=30):
    """Which runs these are."""
    known = {(trace_id(number), span_id(number)): number for number in range(count)}
    return [known[item.key.trace_id, item.key.span_id] for item in items]


async def test_a_start_says_all_that_is_needed_to_match_it(engine):
    given = {"nominal_time_ns": NOW - HOUR, "attempt": 2, "lot_ids": ("L2", "L1")}
    await engine.writer.write(runs(ended(1, **given, start_ns=NOW - HOUR + 7, received_ns=NOW - 5)))
    ((start,),) = await engine.reader.starts([StartsWanted("f1", "lot_yield", NOW - 2 * HOUR)])
    assert start == StoredStart(
        key=key(1),
        job="lot_yield",
        start_ns=NOW - HOUR + 7,
        received_ns=NOW - 5,
        nominal_ns=NOW - HOUR,
        run_id="run-1",
        attempt=2,
        lot_ids=("L2", "L1"),
        feed="host-1",
        announced=False,
        end_ns=ended(1).end_ns,
        result="success",
    )


async def test_starts_are_of_the_wanted_site_and_job_from_the_wanted_time_on_in_order(engine):
    await engine.writer.write(
        runs(
            ended(1, start_ns=NOW - 3 * HOUR),
            run(2, start_ns=NOW - HOUR),
            ended(3, start_ns=NOW - 2 * HOUR),
            run(4, start_ns=NOW - HOUR, job="other"),
            ended(5, start_ns=NOW - HOUR - 1, site="f2"),
            run(6, start_ns=NOW - 5 * HOUR),
        )
    )
    wanted = [
        StartsWanted("f1", "lot_yield", NOW - 3 * HOUR),
        StartsWanted("f1", "lot_yield", NOW - 3 * HOUR + 1),
        StartsWanted(None, "lot_yield", NOW - 2 * HOUR),
        StartsWanted("f2", "lot_yield", 0),
        StartsWanted("f1", "other", 0),
        StartsWanted("f1", "unheard of", 0),
        StartsWanted("unheard of", "lot_yield", 0),
        StartsWanted("f1", "lot_yield", NOW - 3 * HOUR),
    ]
    found = await engine.reader.starts(wanted)
    assert [numbers(items) for items in found] == [[1, 3, 2], [3, 2], [3, 5, 2], [5], [4], [], [], [1, 3, 2]]
    assert await engine.reader.starts([]) == []


async def test_of_many_starts_the_newest_are_given(engine):
    await engine.writer.write(runs(*((ended if number % 2 else run)(number, start_ns=NOW + number) for number in range(20))))
    both = [StartsWanted("f1", "lot_yield", 0), StartsWanted(None, "lot_yield", NOW + 3)]
    assert [numbers(items) for items in await engine.reader.starts(both[:1], 5)] == [[15, 16, 17, 18, 19]]
    assert [numbers(items) for items in await engine.reader.starts(both, 5)] == [[15, 16, 17, 18, 19]] * 2


async def test_a_run_whose_start_is_not_known_stands_where_it_was_last_heard_of(engine):
    await engine.writer.write(
        runs(
            run(1, start_ns=None, received_ns=NOW - 50),
            ended(2, start_ns=None, received_ns=NOW - 40),
            run(3, start_ns=NOW - 45),
            ended(4, start_ns=None, received_ns=NOW - DAY),
        )
    )
    ((*found,),) = await engine.reader.starts([StartsWanted("f1", "lot_yield", NOW - HOUR)])
    assert [(start.start_ns, start.received_ns) for start in found] == [(None, NOW - 50), (NOW - 45, NOW), (None, NOW - 40)]


async def test_it_is_known_whether_a_run_was_heard_of_before_its_end(engine):
    await engine.writer.write(
        runs(run(1), ended(2), ended(3, end_rank=1), ended(4, heartbeat_interval_s=30.0), ended(5, start_ns=NOW))
    )
    ((*found,),) = await engine.reader.starts([StartsWanted("f1", "lot_yield", 0)])
    announced = dict(zip(numbers(found), (start.announced for start in found), strict=True))
    assert announced == {1: True, 2: False, 3: True, 4: True, 5: False}


async def test_a_run_that_is_told_in_parts_is_one_start(engine):
    await engine.writer.write(runs(run(1, start_ns=NOW - HOUR, heartbeat_interval_s=10.0)))
    await engine.writer.write(runs(run(1, start_ns=NOW - HOUR - 5)))
    await engine.writer.write(runs(ended(1, start_ns=NOW - HOUR - 5)))
    ((start,),) = await engine.reader.starts([StartsWanted("f1", "lot_yield", 0)])
    assert (start.start_ns, start.announced, start.result) == (NOW - HOUR - 5, True, "success")


async def test_ten_thousand_wants_are_one_call(engine):
    jobs, sites = 100, 4
    await engine.writer.write(
        runs(
            *(
                (run if number % 9 == 0 else ended)(
                    number, job=f"job-{number % jobs}", site=f"f{number % sites}", start_ns=NOW - HOUR + number
                )
                for number in range(2000)
            )
        )
    )
    wanted = [
        StartsWanted(None if place % 5 == 4 else f"f{place % 5}", f"job-{place % jobs}", NOW - HOUR + 1000)
        for place in range(10_000)
    ]
    began = time.monotonic()
    found = await engine.reader.starts(wanted)
    took_s = time.monotonic() - began
    known = {key(number, f"f{number % sites}"): number for number in range(2000)}
    for want, items in zip(wanted, found, strict=True):
        assert [known[item.key] for item in items] == [
            number for number in range(1000 + int(want.job[4:]), 2000, jobs) if want.site in (None, f"f{number % sites}")
        ]
    assert took_s < 20  # a call for each of them takes minutes


async def test_history_is_the_runs_that_ended_the_newest_first(engine):
    given = {"equipment": "E1", "recipe": "R1", "product": "P1", "memory_bytes": 5}
    await engine.writer.write(
        runs(
            ended(1, start_ns=NOW - 3 * HOUR, end_ns=NOW - 2 * HOUR - SECOND // 2),
            ended(2, start_ns=NOW - 2 * HOUR, end_ns=NOW - 2 * HOUR + 3 * SECOND, result="error", error_type="Oops", **given),
            run(3, start_ns=NOW - HOUR),
            ended(4, start_ns=NOW - HOUR, site="f2"),
            ended(5, start_ns=NOW - HOUR, job="other"),
            ended(6, start_ns=None),
        )
    )
    mine, none, theirs, again = await engine.reader.history(
        [("f1", "lot_yield"), ("f3", "lot_yield"), ("f2", "lot_yield"), ("f1", "lot_yield")]
    )
    assert (
        mine
        == again
        == [
            PastRun(key(2), NOW - 2 * HOUR, 3.0, "error", "Oops", "E1", "R1", "P1", 5),
            PastRun(key(1), NOW - 3 * HOUR, 3599.5, "success", None, None, None, None, None),
        ]
    )
    assert (none, numbers(theirs)) == ([], [4])
    assert [numbers(items) for items in await engine.reader.history([("f1", "lot_yield")], 1)] == [[2]]


async def test_history_of_a_job_with_more_runs_than_wanted_is_its_newest(engine):
    await engine.writer.write(runs(*(ended(number, start_ns=NOW - number * HOUR) for number in range(25))))
    ((*found,),) = await engine.reader.history([("f1", "lot_yield")], 10)
    assert numbers(found) == list(range(10))


async def test_tallies_count_what_ended_in_the_time_whenever_it_began(engine):
    await engine.writer.write(
        runs(
            ended(1, start_ns=NOW - 20 * DAY, end_ns=NOW - HOUR),
            ended(2, end_ns=NOW - 1, result="failure", deadline_ns=NOW - 2),
            ended(3, end_ns=NOW - 1, result="timeout", deadline_ns=NOW),
            ended(4, end_ns=NOW - 1, result="error", site="f2"),
            ended(5, end_ns=NOW),
            ended(6, end_ns=NOW - HOUR - 1),
            ended(7, end_ns=NOW - 1, result="cancellation", job="other", deadline_ns=NOW - 1),
            ended(8, end_ns=NOW - 1, start_ns=None),
            run(9),
        )
    )
    assert await engine.reader.tallies(NOW - HOUR, NOW) == [
        Tally("f1", "lot_yield", 4, 2, 1),
        Tally("f1", "other", 1, 0, 0),
        Tally("f2", "lot_yield", 1, 1, 0),
    ]
    assert await engine.reader.tallies(NOW + HOUR, NOW + 2 * HOUR) == []


async def test_a_run_that_ends_again_is_tallied_once_by_its_last_word(engine):
    await engine.writer.write(runs(run(1)))
    await engine.writer.write(runs(ended(1, end_rank=1, result="failure", end_ns=NOW - 3 * HOUR)))
    await engine.writer.write(runs(ended(1, end_ns=NOW - 1)))
    assert await engine.reader.tallies(0, NOW) == [Tally("f1", "lot_yield", 1, 0, 0)]
