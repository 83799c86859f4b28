"""Why a run is as it is, asked over the API of a store that holds the lots before it."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.query import lots, watched, world
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config
from wafermonitor.runs.records import Batch, Progress
from wafermonitor.semconv import attributes, events
from wafermonitor.storage import memory

RUN = 500


@pytest.fixture
async def storage(clock):
    """Thirty good lots, one an hour; no alerts."""
    storage = memory.Storage(clock=clock)
    await storage.writer.write([Batch(runs=lots.usual(30, before_s=-lots.HOUR), feeds=[world.feed_beat()])])
    return storage


@pytest.fixture
async def api(storage, clock):
    app = create_app(storage, Config(), clock=clock)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        yield client


async def explained(api, trace=RUN, span=1):
    answer = await api.get(f"/v1/jobs/{world.id_of(trace, span)}/explain")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def write(storage, runs, **more):
    await storage.writer.write([Batch(runs=list(runs), **more)])


def texts(body, kind=None):
    return [reason["text"] for reason in body["reasons"] if kind in {None, reason["kind"]}]


async def test_a_failed_run_names_the_subjob_the_error_its_history_and_what_changed(api, storage):
    said = world.log(RUN, 102, event=events.WAFER_JOB_EXCEPTION)._replace(
        attributes=json.dumps({attributes.EXCEPTION_MESSAGE: "W02.csv is cut\n at line 7"})
    )
    await write(storage, lots.lot(RUN, -900, fails=2, equipment="P2", service_version="1.5"), logs=[said])
    body = await explained(api)
    assert body["headline"] == "lot_yield failed after 3 min: subjob fit (W02) failed first."
    assert texts(body) == [
        "Subjob fit (W02) in subjob wafer (W02) failed first with BadFile at 2026-05-28 20:14:35 UTC.",
        "It said: W02.csv is cut at line 7",
        "BadFile is new: it ended none of the last 30 runs before it.",
        "Other than in the last good run (2026-05-28 18:26:40 UTC): equipment P1 → P2, version 1.4 → 1.5.",
    ]
    assert body["reasons"][0]["run"] == world.id_of(RUN, 102)
    assert (body["run"], body["good_run"], body["cohort"]) == (world.id_of(RUN, 1), world.id_of(129, 1), 20)
    assert body["truncated"] is False


async def test_an_error_that_was_seen_before_is_counted_and_its_companion_named(api, storage):
    before = [
        run for number in range(6) for run in lots.lot(300 + number, -1800 - number * 100, wafers=1, fails=0, equipment="P2")
    ]
    await write(storage, [*before, *lots.lot(RUN, -900, fails=1, equipment="P2")])
    body = await explained(api)
    assert texts(body, "history") == [
        "BadFile ended 6 of the last 36 runs before it, last at 2026-05-28 19:57:40 UTC.",
        "The 6 runs just before it failed, too.",
    ]
    assert texts(body, "change")[0] == "With equipment P2 7 of 7 runs failed, with others 0 of 30."


async def test_a_slow_run_names_the_subjob_that_took_longer_and_what_the_end_waited_for(api, storage):
    await write(storage, lots.lot(RUN, -1800, slow=(3, 900)))
    body = await explained(api)
    assert body["headline"] == "lot_yield ended well after 19 min: 3.8 times its usual 5 min."
    assert texts(body)[:3] == [
        "It took 19 min; good runs take 5 min (20 runs).",
        (
            "Subjob wafer › fit took 18 min 25 s, 14 min longer than the usual 4 min 25 s: "
            "subjob fit (W03) alone took 14 min 53 s."
        ),
        "On its critical path: wafer › fit 18 min 25 s, wafer 30 s, the run itself 5 s of 19 min.",
    ]
    subjob = body["reasons"][1]
    assert (subjob["run"], subjob["numbers"]) == (
        world.id_of(RUN, 103),
        {"busy_s": 1105.0, "usual_s": 265.0, "runs": 5.0, "usual_runs": 5.0},
    )


async def test_a_run_that_is_slow_by_now_is_told_while_it_runs(api, storage):
    open_lot = lots.lot(RUN, -1500, wafers=2, open_=True, last_sign_ns=world.NOW, expected_duration_s=600.0)
    await write(storage, [*open_lot, world.run(RUN, 12, parent=1, job="wafer", start_s=-1300, substrate_ids=("W02",))])
    body = await explained(api)
    assert body["headline"] == "lot_yield is running for 25 min: 5 times its usual 5 min."
    assert texts(body)[:4] == [
        "It is in subjob wafer (W02).",
        "It announced that it would take 10 min.",
        "By now it has taken 25 min; good runs take 5 min (20 runs).",
        (
            "Subjob wafer took 23 min 38 s, 18 min 43 s longer than the usual 4 min 55 s: "
            "subjob wafer (W02) alone took 21 min 40 s."
        ),
    ]


async def test_a_run_that_ended_much_too_soon_names_the_subjobs_it_did_not_have(api, storage):
    await write(storage, lots.lot(RUN, -900, wafers=1))
    body = await explained(api)
    assert body["headline"] == "lot_yield ended well after 1 min already: usual is 5 min."
    assert texts(body)[0] == "It ran 1 of subjob wafer, usually 5."


async def test_a_run_like_all_others_needs_no_reason(api, storage):
    await write(storage, lots.lot(RUN, -900))
    body = await explained(api)
    assert (body["headline"], body["reasons"]) == ("lot_yield ended well after 5 min, as usual.", [])


async def test_a_lost_run_says_who_else_is_silent_and_that_the_link_is_up(api, storage):
    silent = {"last_sign_ns": watched.at(-2000), "process_key": b"z" * 16, "equipment": "P1"}
    progress = Progress(watched.at(-2000), 0.5, 2, 4, "wafer")
    lost = world.run(RUN, 1, start_s=-2100, progress=progress, **silent)
    await write(storage, [lost, world.run(501, 1, job="other", start_s=-2100, **silent)])
    await write(storage, [world.run(502, 1, job="third", start_s=-60, last_sign_ns=world.NOW)])
    body = await explained(api)
    assert body["headline"] == "lot_yield is lost: nothing was heard of it for 33 min 20 s."
    assert texts(body)[:4] == [
        "Its last sign is of 2026-05-28 19:53:20 UTC, though it should come every 10 s.",
        "Feed feed-1 of site fab1 tells of times up to 0 s ago: the link is up.",
        "Its process is silent as a whole: 1 other run of it, too, while 1 run of other processes of the feed is going on.",
        "It had come to 50%, 2 of 4 wafers by 33 min 20 s ago.",
    ]


async def test_a_run_behind_a_cut_link_is_said_to_be_unknown_not_lost(api, storage, clock):
    await write(storage, [world.run(RUN, 1, start_s=-60, last_sign_ns=world.NOW)])
    clock.pass_s(600)
    body = await explained(api)
    assert body["headline"] == "Nobody can know how lot_yield is: its feed is behind."
    assert texts(body, "feed") == ["Feed feed-1 of site fab1 is behind since 2026-05-28 20:26:40 UTC."]


async def test_without_a_past_it_says_only_what_is_known(api, storage):
    await write(storage, [world.run(RUN, 1, job="first_of_its_kind", start_s=-60, end_s=-30, **lots.BAD)])
    body = await explained(api)
    assert body["headline"] == "first_of_its_kind failed after 30 s."
    assert texts(body) == ["It failed with BadFile.", "No run of first_of_its_kind before it is known."]
    assert (body["good_run"], body["cohort"]) == (None, 0)


async def test_a_subjob_is_compared_with_its_like(api, storage):
    await write(storage, lots.lot(RUN, -1800, slow=(3, 900)))
    body = await explained(api, RUN, 13)
    assert body["headline"].startswith("wafer ended well after 14 min 59 s: 15 times its usual 59 s")
    assert texts(body, "subjob")[0].startswith("Subjob fit took 14 min 53 s, 14 min longer than the usual 53 s")


async def test_a_plain_span_says_that_it_is_no_run(api, storage):
    await write(storage, [], spans=[world.span(3, 1, name="GET /")])
    body = await explained(api, 3, 1)
    assert body["headline"] == "GET / is a plain span, no run of a job; it ended with success."
    assert (await api.get(f"/v1/jobs/{world.id_of(9, 9)}/explain")).status_code == 404


async def test_the_same_data_gives_the_same_words_and_an_etag(api, storage):
    await write(storage, lots.lot(RUN, -900, fails=2))
    path = f"/v1/jobs/{world.id_of(RUN, 1)}/explain"
    first = await api.get(path)
    assert first.json() == (await api.get(path)).json()
    assert (await api.get(path, headers={"If-None-Match": first.headers["etag"]})).status_code == 304
