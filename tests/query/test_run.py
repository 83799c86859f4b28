"""One run: detail, tree, spans, logs and metrics; a plain span in the same way."""

from __future__ import annotations

import pytest

from tests.query import world
from wafermonitor.query.config import Config
from wafermonitor.query.routes import run as routes
from wafermonitor.runs.records import Batch
from wafermonitor.storage import family

LOT = f"/v1/jobs/{world.id_of(1, 1)}"


async def get(api, path, **params):
    answer = await api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def walk(api, path, limit):
    items, cursor = [], None
    while True:
        page = await get(api, path, limit=limit, **({"cursor": cursor} if cursor else {}))
        items += page["items"]
        cursor = page["cursor"]
        if cursor is None:
            return items


def shape(node):
    return (node["run"]["job"] or node["run"]["run_id"], [shape(child) for child in node["subjobs"]])


async def test_detail_counts_subjobs_and_names_its_resource_while_running(api):
    run = await get(api, LOT)
    assert (run["job"], run["state"], run["plain"], run["name"]) == ("lot_yield", "running", False, "lot_yield")
    assert run["completeness"] == {
        "verdict": "waiting",
        "words": "waiting for 2",
        "subjobs_started": 3,
        "subjobs_ended": 2,
        "subjobs_lost": 0,
        "span_arrived": False,
        "dropped": 0,
    }
    assert run["resource"] == {"service.name": "yield", "host.name": "tool-7"}
    assert run["server_time"] == "2026-05-28T20:26:40.000000Z"


async def test_an_ended_run_whose_parts_are_all_here_is_complete(api):
    assert (await get(api, f"/v1/jobs/{world.id_of(1, 2)}"))["completeness"]["words"] == "complete"


async def test_a_lost_subjob_makes_its_parent_incomplete(api, clock, storage):
    clock.pass_s(1000)
    await storage.writer.write([Batch(feeds=[world.feed_beat(1000)])])
    run = await get(api, LOT)
    assert run["state"] == "lost"
    assert run["completeness"]["words"] == "incomplete: 1 never arrived"


async def test_a_subjob_of_stock_instrumentation_finds_its_parent_by_the_spans_between(api):
    run = await get(api, f"/v1/jobs/{world.id_of(4, 3)}")
    assert run["parent"] == world.id_of(4, 1)
    above = await get(api, f"/v1/jobs/{world.id_of(4, 1)}")
    assert above["completeness"]["subjobs_started"] == 1


async def test_a_plain_span_opens_as_a_run_that_is_none(api):
    root = await get(api, f"/v1/jobs/{world.id_of(3, 1)}")
    assert (root["plain"], root["name"], root["job"], root["state"], root["result"]) == (
        True,
        "GET /",
        None,
        "ended",
        "success",
    )
    assert (await get(api, f"/v1/jobs/{world.id_of(3, 2)}"))["result"] == "failure"
    inside = await get(api, f"/v1/jobs/{world.id_of(4, 2)}")
    assert (inside["plain"], inside["parent"]) == (True, world.id_of(4, 1))


async def test_ids_are_found_in_upper_case_and_at_the_site_asked_for(api):
    assert (await get(api, f"/v1/jobs/{world.id_of(1, 1).upper()}"))["job"] == "lot_yield"
    assert (await api.get(LOT, params={"site": "fab2"})).status_code == 404


async def test_tree_holds_subjobs_in_order_of_start(api):
    tree = await get(api, f"{LOT}/tree")
    assert [child["run"]["run"] for child in tree["subjobs"]] == [world.id_of(1, number) for number in (2, 3, 4)]
    assert tree["truncated"] is False


async def test_tree_of_stock_instrumentation_is_walked(api):
    assert shape(await get(api, f"/v1/jobs/{world.id_of(4, 1)}/tree")) == ("stock", [("stock_part", [])])
    assert shape(await get(api, f"/v1/jobs/{world.id_of(4, 2)}/tree")) == (None, [("stock_part", [])])


async def test_tree_as_deep_as_a_sender_likes_is_answered(api, storage):
    chain = [world.run(9, n, parent=n - 1 if n > 1 else None, start_s=-1000 + n, job=f"j{n}") for n in range(1, 600)]
    await storage.writer.write([Batch(runs=chain)])
    node = await get(api, f"/v1/jobs/{world.id_of(9, 1)}/tree")
    count, waiting = 0, [node]
    while waiting:
        count += 1
        waiting += waiting.pop()["subjobs"]
    assert count == 599


async def test_a_circle_of_parents_is_answered(api, storage):
    await storage.writer.write([Batch(runs=[world.run(9, 1, parent=2), world.run(9, 2, parent=1)])])
    assert shape(await get(api, f"/v1/jobs/{world.id_of(9, 1)}/tree")) == ("lot_yield", [("lot_yield", [])])
    assert len((await get(api, f"/v1/jobs/{world.id_of(9, 1)}/spans"))["items"]) == 2


async def test_spans_show_announced_runs_among_the_arrived_spans_in_order_of_start(api):
    items = (await get(api, f"{LOT}/spans"))["items"]
    assert [(item["name"], item["open"]) for item in items] == [
        ("lot_yield", True),
        ("open file", False),
        ("wafer", False),
        ("read", False),
        ("wafer", True),
        ("fit", False),
        ("fit inner", False),
        ("wafer", False),
    ]
    assert [item["start"] for item in items] == sorted(item["start"] for item in items)
    failed = items[-1]
    assert (failed["status"], failed["result"], failed["duration_s"]) == ("error", "failure", 10.0)
    assert items[0]["end"] is None
    assert items[2]["job"] == "wafer"
    assert items[2]["state"] == "ended"


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_of_spans_hold_each_span_once(api, limit):
    whole = (await get(api, f"{LOT}/spans"))["items"]
    assert await walk(api, f"{LOT}/spans", limit) == whole


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_spans_of_a_subjob_are_what_is_below_it(api, limit):
    items = await walk(api, f"/v1/jobs/{world.id_of(1, 3)}/spans", limit)
    assert [item["name"] for item in items] == ["wafer", "fit", "fit inner"]
    below_plain = await walk(api, f"/v1/jobs/{world.id_of(1, 30)}/spans", limit)
    assert [item["name"] for item in below_plain] == ["fit", "fit inner"]


async def test_spans_of_a_plain_trace_are_all_of_it(api):
    items = (await get(api, f"/v1/jobs/{world.id_of(3, 1)}/spans"))["items"]
    assert [(item["name"], item["status"]) for item in items] == [("GET /", "unset"), ("SELECT", "error")]


async def test_a_stray_span_whose_parent_never_came_is_shown_with_the_topmost_run(api, storage):
    await storage.writer.write([Batch(spans=[world.span(1, 77, parent=76, start_s=-20, name="stray")])])
    assert "stray" in [item["name"] for item in (await get(api, f"{LOT}/spans"))["items"]]
    inner = (await get(api, f"/v1/jobs/{world.id_of(1, 3)}/spans"))["items"]
    assert "stray" not in [item["name"] for item in inner]


async def test_events_and_links_of_a_span_are_answered(api, storage):
    events = '[{"time_ns": 1779999990000000001, "name": "retry", "attributes": {"n": 1}}]'
    links = '[{"trace_id": "00000000000000000000000000000009", "span_id": "0000000000000009", "attributes": {}}]'
    await storage.writer.write([Batch(spans=[world.span(8, 1, events=events, links=links)])])
    item = (await get(api, f"/v1/jobs/{world.id_of(8, 1)}/spans"))["items"][0]
    assert item["events"] == [{"time": "2026-05-28T20:26:30.000000001Z", "name": "retry", "attributes": {"n": 1}}]
    assert item["links"][0]["span_id"] == "0000000000000009"


@pytest.mark.slow
async def test_a_trace_of_10008_spans_is_walked_whole(api, storage):
    spans = [
        world.span(7, number, parent=1 if number > 1 else None, start_s=-1000 + number / 100) for number in range(1, 10_009)
    ]
    await storage.writer.write([Batch(spans=spans)])
    items = await walk(api, f"/v1/jobs/{world.id_of(7, 1)}/spans", 1000)
    assert len({item["span_id"] for item in items}) == 10_008


async def test_logs_are_the_run_s_and_everything_s_below_it(api):
    async def bodies(run, **params):
        return [item["body"] for item in (await get(api, f"/v1/jobs/{run}/logs", **params))["items"]]

    assert await bodies(world.id_of(1, 1)) == ["start", "=SUM(A1)", "fitting", "half done"]
    assert await bodies(world.id_of(1, 1), scope="run") == ["start", "half done"]
    assert await bodies(world.id_of(1, 3)) == ["fitting"]
    assert await bodies(world.id_of(1, 1), severity="error") == ["fitting"]
    assert await bodies(world.id_of(1, 1), event="wafer.job.start") == ["start"]


@pytest.mark.parametrize("limit", [1, 3])
async def test_pages_of_logs_hold_each_record_once(api, limit):
    assert [item["body"] for item in await walk(api, f"{LOT}/logs", limit)] == ["start", "=SUM(A1)", "fitting", "half done"]
    assert [item["body"] for item in await walk(api, f"/v1/jobs/{world.id_of(1, 3)}/logs", limit)] == ["fitting"]


async def test_metrics_are_the_process_s_series_while_the_run_ran(api):
    items = (await get(api, f"{LOT}/metrics"))["items"]
    assert [(item["name"], [point["value"] for point in item["points"]]) for item in items] == [
        ("process.cpu.time", [995.0]),
        ("process.memory.usage", [910.0, 920.0, 930.0]),
    ]
    assert items[0]["attributes"] == {"state": "used"}
    one = (await get(api, f"{LOT}/metrics", name="process.cpu.time"))["items"]
    assert [item["name"] for item in one] == ["process.cpu.time"]
    short = (await get(api, f"/v1/jobs/{world.id_of(1, 2)}/metrics"))["items"]
    assert [point["value"] for item in short for point in item["points"]] == [910.0, 920.0]


async def test_more_points_than_one_answer_holds_are_said_to_be_cut(api, storage, monkeypatch):
    monkeypatch.setattr(routes, "MAX_POINTS", 3)
    whole = await get(api, f"{LOT}/metrics", name="process.memory.usage")
    assert (len(whole["items"][0]["points"]), whole["truncated"]) == (3, False)
    cut = await get(api, f"{LOT}/metrics")
    assert (sum(len(item["points"]) for item in cut["items"]), cut["truncated"]) == (3, True)
    assert (await api.get(f"{LOT}/metrics", params={"format": "csv"})).headers["wafer-truncated"] == "true"


async def test_what_the_sdk_cut_from_the_run_s_span_makes_it_incomplete(api, storage):
    short = world.job_span(12, 1, "short", dropped_events=2, dropped_attributes=1)
    await storage.writer.write([Batch(spans=[short], runs=[world.run(12, 1, start_s=-100, end_s=-99)])])
    completeness = (await get(api, f"/v1/jobs/{world.id_of(12, 1)}"))["completeness"]
    assert (completeness["dropped"], completeness["words"]) == (3, "incomplete: 3 never arrived")


@pytest.mark.parametrize(("run", "found"), [(world.id_of(3, 1), 2), (world.id_of(4, 1), 3), (world.id_of(1, 1), 8)])
async def test_the_spans_of_a_root_are_found_without_reading_the_trace_twice(api, monkeypatch, run, found):
    monkeypatch.setattr(family, "_parents", None)
    assert len((await get(api, f"/v1/jobs/{run}/spans"))["items"]) == found
    await get(api, f"/v1/jobs/{run}/logs")


class TestSmallWalk:
    """The operator's `max_trace_spans` ends the walk."""

    @pytest.fixture
    def config(self):
        return Config(max_trace_spans=1)

    async def test_a_trace_that_is_larger_than_what_is_walked_is_said_to_be(self, api, storage, monkeypatch):
        monkeypatch.setattr(family, "MAX_PAGE", 1)
        await storage.writer.write([Batch(runs=[world.run(4, 9, start_s=-10)])])
        assert (await get(api, f"/v1/jobs/{world.id_of(4, 1)}"))["truncated"]
        assert (await get(api, f"/v1/jobs/{world.id_of(4, 1)}/tree"))["truncated"]


async def test_an_ended_run_has_a_tag_and_answers_304_to_it(api):
    address = f"/v1/jobs/{world.id_of(2, 1)}"
    first = await api.get(address)
    again = await api.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (await api.get(address, headers={"If-None-Match": '"other"'})).status_code == 200
    assert "etag" not in (await api.get(LOT)).headers
    assert "etag" in (await api.get(f"{address}/tree")).headers


async def test_late_data_changes_the_tag_of_an_ended_run(api, storage):
    address = f"/v1/jobs/{world.id_of(1, 2)}"
    before = (await api.get(address)).headers["etag"]
    await storage.writer.write([Batch(runs=[world.run(1, 99, parent=2, start_s=-85, end_s=-82)])])
    assert (await api.get(address)).headers["etag"] != before


async def test_an_open_run_without_a_start_is_still_shown(api, storage):
    await storage.writer.write([Batch(runs=[world.run(11, 1, start_s=None, last_sign_ns=world.NOW)])])
    run = await get(api, f"/v1/jobs/{world.id_of(11, 1)}")
    assert (run["start"], run["duration_s"]) == (None, None)
    assert (await get(api, f"/v1/jobs/{world.id_of(11, 1)}/spans"))["items"][0]["start"] == "2026-05-28T20:26:40.000000Z"
