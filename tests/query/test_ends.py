"""Open runs say when they will end, or why nobody can know."""

from __future__ import annotations

import json
from datetime import datetime

from tests.query import world
from wafermonitor.runs.bands import LEAST_RUNS
from wafermonitor.runs.records import Batch, Progress
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

HOUR_S = 3600


def past(number, duration_s, **fields):
    """A good run that began so many hours ago."""
    start_s = -HOUR_S * (number + 1)
    return world.run(100 + number, 1, start_s=start_s, end_s=start_s + duration_s, **fields)


def seconds_from_now(text):
    """An instant of an answer, in s after NOW."""
    return datetime.fromisoformat(text).timestamp() - world.NOW / world.SECOND


async def the_run(api, trace=1):
    answer = await api.get(f"/v1/jobs/{world.id_of(trace, 1)}")
    assert answer.status_code == 200
    return answer.json()


async def in_the_list(api, trace=1):
    answer = await api.get("/v1/jobs", params={"state": "running"})
    (found,) = (item for item in answer.json()["items"] if item["run"] == world.id_of(trace, 1))
    return found


async def test_without_history_it_says_that_it_does_not_know(api):
    for found in (await the_run(api), await in_the_list(api)):
        assert found["eta"]["mid"] is None
        assert found["eta"]["why_not"] == "too little history: 0 good runs of this job, 8 are needed"


async def test_an_end_is_foreseen_from_history(api, storage):
    await storage.writer.write([Batch(runs=[past(number, 150.0 + 7 * number % 11) for number in range(40)])])
    for found in (await the_run(api), await in_the_list(api)):
        low, mid, high = (seconds_from_now(found["eta"][name]) for name in ("low", "mid", "high"))
        assert 49 < low < 52 < mid < 58 < high < 61  # it began 100 s ago
        assert found["eta"]["basis"] == "the duration of 40 runs before it"
        assert found["eta"]["why_not"] is None


async def test_ended_runs_have_no_end_to_foresee(api):
    assert (await the_run(api, 2))["eta"] is None
    answer = await api.get("/v1/jobs", params={"state": "ended"})
    assert answer.json()["items"]
    assert all(item["eta"] is None for item in answer.json()["items"])


async def test_history_is_read_again_after_ten_minutes(api, storage, clock):
    await the_run(api)
    await storage.writer.write([Batch(runs=[past(number, 1000.0) for number in range(LEAST_RUNS)])])
    assert (await the_run(api))["eta"]["why_not"] is not None
    clock.pass_s(600)
    assert (await the_run(api))["eta"]["mid"] is not None


async def test_a_list_waits_for_the_history_of_many_jobs_only_so_long(api, storage, monkeypatch):
    """One that took longer than an answer may would never come, however often it is asked for."""
    monkeypatch.setattr("wafermonitor.query.ends._AT_ONCE", 2)
    monkeypatch.setattr("wafermonitor.query.ends._PATIENCE_S", 0.0)
    jobs = [f"job {number}" for number in range(5)]
    runs = [world.run(60 + number, 1, job=job) for number, job in enumerate(jobs)]
    runs += [past(10 * number + run, 1000.0, job=job) for number, job in enumerate(jobs) for run in range(LEAST_RUNS)]
    await storage.writer.write([Batch(runs=runs)])
    for known in (2, 4, 5):
        answer = await api.get("/v1/jobs", params={"state": "running", "job": jobs})
        ends = [item["eta"] for item in answer.json()["items"]]
        assert sum(end["mid"] is not None for end in ends) == known
        assert {end["why_not"] for end in ends} <= {None, "the history of its job has not been read yet: ask again"}
    assert (await the_run(api, 64))["eta"]["mid"] is not None


async def test_uneven_progress_of_earlier_runs_tells_more_than_their_durations(api, storage):
    lasting = [200.0, 800.0] * 6
    logs = []
    for number, duration_s in enumerate(lasting):
        for ratio, share in ((0.25, 0.1), (0.5, 0.2), (0.75, 0.5)):
            at_s = -HOUR_S * (number + 1) + share * duration_s
            event = world.log(100 + number, 1, at_s=at_s, event=events.WAFER_JOB_PROGRESS)
            logs.append(event._replace(attributes=json.dumps({names.WAFER_JOB_PROGRESS_RATIO: ratio})))
    runs = [past(number, duration_s) for number, duration_s in enumerate(lasting)]
    told = world.run(1, 1, start_s=-100, progress=Progress(world.NOW + 1, 0.5))
    await storage.writer.write([Batch(runs=[*runs, told], logs=logs)])
    for found in (await the_run(api), await in_the_list(api)):
        assert found["eta"]["basis"] == "its progress and that of 12 runs before it"
        assert abs(seconds_from_now(found["eta"]["mid"]) - 400) < 1  # a fifth of the time for the first half: 100 of 500 s


async def test_the_ends_of_subjobs_tell_how_far_a_run_is(api, storage):
    runs = [world.run(50, 1, start_s=-60, job="lot")]
    runs += [world.run(50, 2, parent=1, job="wafer", start_s=-60, end_s=-40)]
    for number in range(10):
        duration_s, start_s = 50.0 * (number + 1), -HOUR_S * (number + 1)
        runs.append(past(number, duration_s, job="lot"))
        runs += [
            world.run(
                100 + number, 2 + wafer, parent=1, job="wafer", start_s=start_s, end_s=start_s + duration_s * (wafer + 1) / 5
            )
            for wafer in range(4)
        ]
    await storage.writer.write([Batch(runs=runs)])
    found = await the_run(api, 50)
    assert found["eta"]["basis"] == "its subjobs that have ended and those of 10 runs before it"
    assert abs(seconds_from_now(found["eta"]["mid"]) - 40) < 1  # a fifth of it was done after 20 s


async def test_a_lost_run_and_one_of_unknown_start_have_no_end(api, storage, clock):
    await storage.writer.write(
        [Batch(runs=[world.run(60, 1, start_s=None, last_sign_ns=world.NOW), *(past(number, 1.0) for number in range(9))])]
    )
    assert (await the_run(api, 60))["eta"]["why_not"] == "when it started is not known"
    clock.pass_s(7200)
    await storage.writer.write([Batch(feeds=[world.feed_beat(7200)])])
    found = await the_run(api, 1)
    assert found["state"] == "lost"
    assert found["eta"]["why_not"] == "it is lost: it may have ended without a word"
