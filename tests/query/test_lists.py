"""Jobs, subjobs, root spans, sites and apps."""

from __future__ import annotations

import pytest

from tests.query import world
from wafermonitor.runs.records import Batch


async def names(api, path, **params):
    answer = await api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return [item["run"] for item in answer.json()["items"]]


async def test_jobs_are_runs_without_a_parent_newest_first(api):
    assert await names(api, "/v1/jobs") == [world.id_of(1, 1), world.id_of(4, 3), world.id_of(4, 1), world.id_of(2, 1)]


async def test_jobs_with_any_subjobs_lists_every_run(api):
    assert len(await names(api, "/v1/jobs", subjobs="any")) == 7


async def test_subjobs_are_runs_with_a_parent_and_can_be_asked_by_parent(api):
    expected = [world.id_of(1, 4), world.id_of(1, 3), world.id_of(1, 2)]
    assert await names(api, "/v1/subjobs") == expected
    assert await names(api, "/v1/subjobs", parent=world.id_of(1, 1)) == expected
    assert await names(api, "/v1/subjobs", parent=world.id_of(2, 1)) == []


async def test_runs_that_count_as_ended_can_be_left_out(api, storage):
    given_up = world.run(9, 1, start_s=-200_000, process_key=None, inferred=True)
    await storage.writer.write([Batch(runs=[given_up])])
    lost = {"state": "lost"}
    assert await names(api, "/v1/jobs", **lost) == [world.id_of(9, 1)]
    assert await names(api, "/v1/jobs", **lost, inferred="true") == [world.id_of(9, 1)]
    assert await names(api, "/v1/jobs", **lost, inferred="false") == []
    assert world.id_of(1, 1) in await names(api, "/v1/jobs", inferred="false")


async def test_failing_order_puts_what_needs_attention_first(api):
    assert (await names(api, "/v1/jobs", order="failing"))[0] == world.id_of(2, 1)


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"site": "fab2"}, [(2, 1)]),
        ({"site": ["fab1", "fab2"], "job": "etch_check"}, [(2, 1)]),
        ({"state": "running"}, [(1, 1)]),
        ({"state": ["running", "lost"]}, [(1, 1)]),
        ({"result": "failure"}, [(2, 1)]),
        ({"app": "etch"}, [(2, 1)]),
        ({"lot": "GAL-LOT"}, [(1, 1)]),
        ({"equipment": "P1"}, [(1, 1)]),
        ({"product": "P-9"}, [(2, 1)]),
        ({"run_id": "r2.1"}, [(2, 1)]),
        ({"attr": "wafer.param.dies:1569"}, [(2, 1)]),
        ({"attr": "note:a:b"}, [(2, 1)]),
        ({"attr": ["note:a:b", "wafer.param.dies:7"]}, []),
        ({"q": "gal-"}, [(1, 1)]),
        ({"from": "-5m"}, [(1, 1)]),
        ({"to": "-30m"}, [(2, 1)]),
        ({"from": "2026-05-28T20:25:00Z"}, [(1, 1)]),
        ({"from": "2026-05-28T22:25:00 02:00"}, [(1, 1)]),
        ({"to": "2026-05-28"}, []),
        ({"min_duration": "5m"}, [(2, 1)]),
        ({"min_duration": "1m", "max_duration": "1.5m"}, []),
        ({"overdue": "true"}, []),
        ({"recipe": "none"}, []),
    ],
)
async def test_filters_choose(api, params, found):
    assert await names(api, "/v1/jobs", **params) == [world.id_of(*ids) for ids in found]


async def test_a_run_carries_what_the_store_knows(api):
    run = (await api.get("/v1/jobs", params={"lot": "GAL-LOT"})).json()["items"][0]
    assert run["state"] == "running"
    assert run["duration_s"] == 100.0
    assert run["start"] == "2026-05-28T20:25:00.000000Z"
    assert run["progress"] == {
        "at": "2026-05-28T20:26:40.000000Z",
        "ratio": 0.5,
        "completed": 2.0,
        "total": 4.0,
        "unit": "wafer",
        "stage": None,
        "message": None,
    }
    subjob = (await api.get("/v1/subjobs", params={"substrate": "W01"})).json()["items"][0]
    assert subjob["parent"] == world.id_of(1, 1)


async def test_states_follow_the_clock(api, clock):
    clock.pass_s(60)
    assert (await api.get("/v1/jobs", params={"lot": "GAL-LOT"})).json()["items"][0]["state"] == "unknown"


async def test_a04_cursor_walk_misses_and_repeats_nothing_while_runs_arrive(api, storage):
    old = [world.run(100 + number, 1, start_s=-10_000 + number, end_s=-5_000) for number in range(250)]
    await storage.writer.write([Batch(runs=old)])
    walked, cursor, newer = [], None, 0
    while True:
        page = (await api.get("/v1/jobs", params={"limit": 20} | ({"cursor": cursor} if cursor else {}))).json()
        walked += [item["run"] for item in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
        await storage.writer.write([Batch(runs=[world.run(1000 + newer + n, 1, start_s=-n) for n in range(10)])])
        newer += 10
    ids = {world.id_of(100 + number, 1) for number in range(250)}
    assert len(walked) == len(set(walked))
    assert ids <= set(walked)


async def test_link_header_leads_to_the_next_page_with_the_same_filters(api):
    first = await api.get("/v1/subjobs", params={"limit": 2, "job": "wafer"})
    address = first.links["next"]["url"]
    assert first.links["next"]["rel"] == "next"
    second = await api.get(address)
    assert [item["run"] for item in second.json()["items"]] == [world.id_of(1, 2)]
    assert "next" not in second.links


async def test_root_spans_are_the_newest_of_a_program(api):
    page = (await api.get("/v1/spans", params={"app": "yield"})).json()
    assert [(item["name"], item["job"]) for item in page["items"]] == [("stock", "stock"), ("GET /", None)]
    assert (await api.get("/v1/spans", params={"from": "-450s"})).json()["items"][0]["name"] == "stock"
    assert (await api.get("/v1/spans", params={"to": "-450s"})).json()["items"][0]["name"] == "GET /"
    assert (await api.get("/v1/spans", params={"app": "other"})).json()["items"] == []


async def test_sites_tell_lag_and_open_runs(api, clock):
    clock.pass_s(40)
    page = (await api.get("/v1/sites")).json()
    fab1, fab2 = page["items"]
    assert fab1["feeds"] == [{"feed": "feed-1", "watermark": "2026-05-28T20:26:40.000000Z", "lag_s": 40.0, "behind": True}]
    assert sum(fab1["open_runs"].values()) == 2
    assert fab2 == {"site": "fab2", "feeds": [], "open_runs": {}}
    assert page["server_time"] == "2026-05-28T20:27:20.000000Z"


async def test_apps_are_programs_with_their_newest_version(api):
    items = (await api.get("/v1/apps")).json()["items"]
    assert items == [{"service": "yield", "version": "1.4", "site": "fab1", "last_seen": "2026-05-28T20:26:40.000000Z"}]
    assert (await api.get("/v1/apps", params={"site": "fab2"})).json()["items"] == []


async def test_the_largest_page_is_cut_not_refused(api, storage):
    await storage.writer.write([Batch(runs=[world.run(5000 + n, 1, start_s=-n) for n in range(1100)])])
    page = (await api.get("/v1/jobs", params={"limit": 1_000_000})).json()
    assert len(page["items"]) == 1000
    assert page["cursor"] is not None
