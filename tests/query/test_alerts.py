"""Alerts, silences, expectations and expected runs: asked, acknowledged, silenced, accepted."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.query import watched, world
from wafermonitor.query import specs
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config
from wafermonitor.runs.alerts import Origin

RUN = world.id_of(2, 1)


@pytest.fixture
async def watch(storage):
    return await watched.fill(storage.watch)


@pytest.fixture
async def api(api, watch):
    return api


async def ids(api, path="/v1/alerts", **params):
    answer = await api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def nominal(api, **params):
    answer = await api.get("/v1/expected-runs", params=params)
    assert answer.status_code == 200, answer.text
    return [(item["expectation"], item["state"]) for item in answer.json()["items"]]


async def names(api, **params):
    return [item["name"] for item in (await api.get("/v1/expectations", params=params)).json()["items"]]


async def test_alerts_come_newest_first_with_what_is_known_of_them(api):
    assert await ids(api) == [watched.FEED, watched.OPEN, watched.TAKEN, watched.OVER]
    found = (await api.get("/v1/alerts", params={"rule": "failed"})).json()["items"][0]
    assert found | {"fingerprint": ""} == {
        "id": watched.TAKEN,
        "fingerprint": "",
        "rule": "failed",
        "severity": "critical",
        "site": "fab2",
        "job": "etch_check",
        "run": RUN,
        "feed": None,
        "detail": "",
        "opened": "2026-05-28T19:38:20.000000Z",
        "since": "2026-05-28T19:37:50.000000Z",
        "seen": "2026-05-28T20:26:40.000000Z",
        "resolved": None,
        "summary": "etch_check failed",
        "evidence": {"late_s": 600},
        "cause": None,
        "runbook": None,
        "owner": None,
        "acknowledged": "2026-05-28T20:26:40.000000Z",
        "acknowledged_by": "ana",
        "note": "calling the tool owner",
        "silenced_until": None,
    }


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"open": "true"}, [watched.FEED, watched.OPEN, watched.TAKEN]),
        ({"open": "false"}, [watched.OVER]),
        ({"acknowledged": "false", "open": "true"}, [watched.FEED, watched.OPEN]),
        ({"severity": ["critical", "info"]}, [watched.TAKEN]),
        ({"site": "fab2"}, [watched.TAKEN]),
        ({"job": "lot_yield"}, [watched.OPEN, watched.OVER]),
        ({"run": RUN}, [watched.TAKEN]),
        ({"run": RUN, "site": "fab1"}, []),
        ({"run": world.id_of(77, 7)}, []),
        ({"from": "-5m"}, [watched.FEED, watched.OPEN]),
        ({"to": "-1h"}, [watched.OVER]),
    ],
)
async def test_filters_choose_alerts(api, params, found):
    assert await ids(api, **params) == found


async def test_alerts_come_in_pages_and_as_rows(api):
    first = await api.get("/v1/alerts", params={"limit": 3})
    following = await api.get(first.links["next"]["url"])
    assert [item["id"] for item in following.json()["items"]] == [watched.OVER]
    assert following.json()["cursor"] is None
    rows = await api.get("/v1/alerts", params={"format": "csv"})
    assert len(rows.text.splitlines()) == 5
    assert rows.headers["wafer-evaluating"] == "true"
    assert len((await api.get("/v1/alerts", headers={"Accept": "application/x-ndjson"})).text.splitlines()) == 4


async def test_answers_say_when_nobody_evaluates_any_more(api, clock):
    body = (await api.get("/v1/alerts")).json()
    assert (body["evaluated_at"], body["evaluating"]) == ("2026-05-28T20:26:40.000000Z", True)
    clock.pass_s(60)
    assert (await api.get("/v1/alerts")).json()["evaluating"] is True
    clock.pass_s(1)
    late = await api.get("/v1/alerts")
    assert late.json()["evaluating"] is False
    assert late.headers["wafer-evaluating"] == "false"


async def test_a_store_that_was_never_evaluated_says_so(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as fresh:
        body = (await fresh.get("/v1/alerts")).json()
    assert (body["items"], body["evaluated_at"], body["evaluating"]) == ([], None, False)


async def test_one_alert_carries_the_messages_about_it(api):
    detail = (await api.get(f"/v1/alerts/{watched.OPEN}")).json()
    told = [(one["channel"], one["state"], one["attempts"], one["answer"]) for one in detail["deliveries"]]
    assert told == [("mail", "waiting", 0, None), ("chat", "sent", 1, "ok")]
    assert detail["deliveries"][1]["alerts"] == [watched.OPEN, watched.TAKEN]
    assert (await api.get(f"/v1/alerts/{7:032x}")).status_code == 404


async def test_an_alert_that_is_over_has_an_etag(api, watch):
    tag = (await api.get(f"/v1/alerts/{watched.OVER}")).headers["etag"]
    again = await api.get(f"/v1/alerts/{watched.OVER}", headers={"If-None-Match": tag})
    assert again.status_code == 304
    assert "etag" not in (await api.get(f"/v1/alerts/{watched.OPEN}")).headers


async def test_an_acknowledgement_says_who_and_why(api):
    answer = await api.post(f"/v1/alerts/{watched.OPEN}/acknowledge", json={"by": " bo ", "note": "on it"})
    assert answer.status_code == 200, answer.text
    found = (await api.get("/v1/alerts", params={"acknowledged": "true", "job": "lot_yield"})).json()["items"][0]
    assert (found["id"], found["acknowledged_by"], found["note"]) == (watched.OPEN, "bo", "on it")
    assert (await api.post(f"/v1/alerts/{7:032x}/acknowledge", json={"by": "bo"})).status_code == 404


async def test_a_silenced_alert_says_until_when(api):
    found = (await api.get("/v1/alerts", params={"rule": "feed behind"})).json()["items"][0]
    assert found["silenced_until"] == "2026-05-28T21:26:40.000000Z"


async def test_a_silence_covers_what_it_names_until_it_is_ended(api):
    body = {"by": "bo", "why": "pump is out", "until": "+2h", "site": "fab1", "job": "lot_yield"}
    made = (await api.post("/v1/silences", json=body)).json()
    assert made["until"] == "2026-05-28T22:26:40.000000Z"
    assert await ids(api, "/v1/silences") == [watched.SILENCE, made["id"]]
    assert (await api.get(f"/v1/alerts/{watched.OPEN}")).json()["silenced_until"] == made["until"]
    assert (await api.get(f"/v1/alerts/{watched.OVER}")).json()["silenced_until"] is None
    ended = await api.post(f"/v1/silences/{made['id']}/end", json={"by": "bo"})
    assert ended.json()["until"] == "2026-05-28T20:26:40.000000Z"
    assert await ids(api, "/v1/silences") == [watched.SILENCE]
    assert (await api.post(f"/v1/silences/{made['id']}/end", json={"by": "bo"})).status_code == 404


@pytest.mark.parametrize(
    ("change", "parameter", "words"),
    [
        ({"site": None}, "site", "at least one of site, job and rule"),
        ({"until": "-1h"}, "until", "+2h"),
        ({"until": "+2000d"}, "until", "within a year"),
        ({"until": "soon"}, "until", "RFC 3339"),
        ({"why": ""}, "why", "at least 1"),
        ({"by": None}, "by", "string"),
        ({"whom": "x"}, "whom", "known here: by, job, rule, site, until, why"),
    ],
)
async def test_a_silence_that_says_too_little_is_refused_with_the_fix(api, change, parameter, words):
    body = {"by": "bo", "why": "pump is out", "until": "+2h", "site": "fab1"} | change
    answer = await api.post("/v1/silences", json=body)
    assert answer.status_code in {400, 422}
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]
    assert words in answer.json()["errors"][0]["message"]
    assert await ids(api, "/v1/silences") == [watched.SILENCE]


async def test_expectations_are_listed_by_name_and_chosen(api):
    assert await names(api) == ["hourly", "nightly", "weekly"]
    assert await names(api, origin="proposed") == ["weekly"]
    assert await names(api, site="fab2") == ["hourly"]
    assert await names(api, job=["wafer", "lot_yield"]) == ["nightly", "weekly"]
    found = (await api.get("/v1/expectations", params={"origin": "proposed"})).json()["items"][0]
    assert found["spec"] == {"cron": "0 2 * * *"}


async def test_a_proposal_waits_for_nothing_until_somebody_accepts_it(api, watch):
    accepted = (await api.post("/v1/expectations/weekly/accept", json={"by": "ana"})).json()
    assert (accepted["origin"], accepted["since"]) == ("api", "2026-05-28T20:26:40.000000Z")
    (stored,) = [one for one in await watch.expectations(Origin.API) if one.name == "weekly"]
    assert (stored.since_ns, stored.watched_ns) == (world.NOW, world.NOW)
    again = await api.post("/v1/expectations/weekly/accept", json={"by": "ana"})
    assert again.json() == accepted


async def test_a_proposal_can_be_declined_and_an_accepted_one_taken_back(api):
    assert (await api.post("/v1/expectations/weekly/decline", json={"by": "ana"})).json()["name"] == "weekly"
    assert (await api.post("/v1/expectations/nightly/decline", json={"by": "ana"})).status_code == 200
    assert await names(api) == ["hourly"]
    assert (await api.post("/v1/expectations/nightly/decline", json={"by": "ana"})).status_code == 404


@pytest.mark.parametrize("verb", ["accept", "decline"])
async def test_what_a_file_declares_only_the_file_changes(api, verb):
    answer = await api.post(f"/v1/expectations/hourly/{verb}", json={"by": "ana"})
    assert answer.status_code == 409
    assert "in a file" in answer.json()["detail"]


async def test_expected_runs_say_what_became_of_them(api):
    assert await nominal(api) == [("hourly", "expected"), ("nightly", "missed"), ("nightly", "met")]
    met = (await api.get("/v1/expected-runs", params={"state": "met"})).json()["items"][0]
    assert (met["run"], met["late_s"], met["settled"]) == (world.id_of(1, 1), 120.0, True)
    assert (met["nominal"], met["late_after"]) == ("2026-05-28T18:26:40.000000Z", "2026-05-28T18:31:40.000000Z")


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"job": "etch_check"}, [("hourly", "expected")]),
        ({"expectation": "nightly", "limit": 1}, [("nightly", "missed")]),
        ({"state": ["missed", "late"]}, [("nightly", "missed")]),
        ({"from": "now", "to": "+2h"}, [("hourly", "expected")]),
        ({"run": world.id_of(1, 1)}, [("nightly", "met")]),
        ({"site": "fab2"}, []),
    ],
)
async def test_filters_choose_expected_runs(api, params, found):
    assert await nominal(api, **params) == found


CHANGES = [
    f"/v1/alerts/{watched.OPEN}/acknowledge",
    "/v1/silences",
    f"/v1/silences/{watched.SILENCE}/end",
    "/v1/expectations",
    "/v1/expectations/weekly/accept",
    "/v1/expectations/weekly/decline",
]
WHOLE = {"by": "ana"}


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example", "Host": "evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1", "Host": "127.0.0.1:2"}, 403),
        ({"Origin": "http://[::1", "Host": "[::1"}, 403),
    ],
)
async def test_s_a_page_of_another_origin_changes_nothing(api, watch, path, headers, status):
    before = (await watch.alert(watched.OPEN), await watch.silences(), await watch.expectations())
    sent = {"Content-Type": "application/json"} | headers
    answer = await api.post(path, content=b'{"by":"eve","why":"x","until":"%2B2h","rule":"late"}', headers=sent)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await watch.alert(watched.OPEN), await watch.silences(), await watch.expectations()) == before


@pytest.mark.parametrize("origin", ["http://127.0.0.1:18000", "http://localhost:18000", "http://[::1]:18000"])
async def test_a_page_of_this_very_address_may_change(api, origin):
    headers = {"Origin": origin, "Host": origin.removeprefix("http://")}
    assert (await api.post(CHANGES[0], json=WHOLE, headers=headers)).status_code == 200


async def test_a_change_has_an_end(api):
    answer = await api.post(CHANGES[0], json={"by": "ana", "note": "x" * 70_000})
    assert answer.status_code == 413
    assert (await api.post(CHANGES[0], content=b"{", headers={"Content-Type": "application/json"})).status_code == 422


@pytest.mark.parametrize(
    ("changes", "host", "status"),
    [
        ("off", "127.0.0.1", 403),
        ("loopback", "127.0.0.1", 200),
        ("loopback", "::1", 200),
        ("loopback", "::ffff:127.0.0.1", 200),
        ("loopback", "10.0.0.7", 403),
        ("any", "10.0.0.7", 200),
    ],
)
@pytest.mark.usefixtures("watch")
async def test_s_changes_are_taken_from_where_the_operator_says(storage, clock, changes, host, status):
    app = create_app(storage, Config(changes=changes), clock=clock)
    transport = httpx.ASGITransport(app, client=(host, 4000))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as caller:
        assert (await caller.post(CHANGES[0], json=WHOLE)).status_code == status
        assert (await caller.get("/v1/alerts")).status_code == 200


async def test_a_store_that_keeps_no_alerts_names_the_setting(storage, clock, config):
    storage.watch = None
    app = create_app(storage, config, clock=clock)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as caller:
        for path in ("/v1/alerts", f"/v1/alerts/{watched.OPEN}", "/v1/silences", "/v1/expectations", "/v1/expected-runs"):
            answer = await caller.get(path)
            assert answer.status_code == 501
            assert "WAFER_ALERTING_DSN" in answer.json()["detail"]
        assert (await caller.post(CHANGES[0], json=WHOLE)).status_code == 501
        assert (await caller.get("/v1/jobs")).status_code == 200


NIGHTLY = {"cron": "0 2 * * *", "zone": "Europe/Vienna", "grace_s": 1800.0}


async def test_an_expectation_can_be_made_and_changed_here(api, watch, clock):
    body = {"by": "ana", "name": "lots", "job": "lot_yield", "site": "fab1", "spec": NIGHTLY}
    made = (await api.post("/v1/expectations", json=body)).json()
    assert (made["origin"], made["since"]) == ("api", "2026-05-28T20:26:40.000000Z")
    assert made["spec"] == {"cron": "0 2 * * *", "zone": "Europe/Vienna", "grace_s": 1800}
    clock.pass_s(60)
    assert (await api.post("/v1/expectations", json=body)).json() == made, "the same wish keeps its times"
    changed = (await api.post("/v1/expectations", json=body | {"spec": {"every_s": 3600}})).json()
    assert (changed["spec"], changed["since"]) == ({"every_s": 3600}, "2026-05-28T20:27:40.000000Z")
    assert await names(api, job="lot_yield") == ["lots", "nightly"]
    assert (await api.post("/v1/expectations", json=body | {"name": "hourly"})).status_code == 409
    assert (await api.post("/v1/expectations", json=body | {"name": "weekly"})).json()["origin"] == "api"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "needs one of cron, every_s, after"),
        ({"cron": "0 25 * * *"}, "cron"),
        ({"cron": "0 2 * * *", "zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"every_s": 3600, "gracious": 1}, "'gracious' is no field"),
        ({"every_s": -1}, "expected one second or more"),
        ({"every_s": 3600, "calendar": ["zone"]}, "cannot be read"),
        ({"every_s": 3600, "since_ns": 1e400}, "cannot be read"),
        ({"after": "load", "within_s": 0}, "within_s"),
    ],
)
async def test_a_spec_that_cannot_be_followed_is_refused_with_what_is_wrong(api, spec, words):
    text = json.dumps({"by": "ana", "name": "lots", "job": "lot_yield", "spec": spec})
    answer = await api.post("/v1/expectations", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert answer.json()["errors"][0]["parameter"] == "spec"
    assert words in answer.json()["detail"]
    assert "lots" not in await names(api)


async def test_where_nobody_reads_schedules_the_answer_says_so(api, monkeypatch):
    monkeypatch.setattr("wafermonitor.query.specs.GROUP", "nobody.here")
    specs._reader.cache_clear()
    body = {"by": "ana", "name": "lots", "job": "lot_yield", "spec": NIGHTLY}
    answer = await api.post("/v1/expectations", json=body)
    specs._reader.cache_clear()
    assert answer.status_code == 501
    assert "wafermonitor[alerting]" in answer.json()["detail"]
