"""The examples of docs/older-routes.md are taken and answered as the page says."""

from __future__ import annotations

import json
import re

import httpx

from tests.docs.pages import ROOT, blocks
from tests.receiver.legacy.events import ROUTES, body, event
from wafermonitor.receiver.legacy import HEALTH_PATHS, PATHS
from wafermonitor.semconv import attributes, events

PAGE = ROOT / "docs" / "older-routes.md"
REQUEST, ANSWER, REJECTED = (json.loads(code.text) for code in blocks(PAGE) if code.language == "json")


async def test_the_example_is_stored_and_answered_as_shown(start, store):
    receiver = await start()
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}") as client:
        answer = await client.post("/v1/ingest/managed", json=REQUEST)
        broken = event()
        broken["entity"]["id"] = "job-7"
        refused = await client.post(
            "/v1/ingest/managed", content=body(event(), broken), headers={"content-type": "application/json"}
        )
    assert (answer.status_code, answer.json()) == (200, ANSWER)
    assert refused.json()["results"][1] == REJECTED


def test_the_page_names_the_routes():
    text = PAGE.read_text()
    assert set(ROUTES) == PATHS
    assert all(f"`{path}`" in text for path in PATHS - {"/v1/ingest/managed"})
    assert "`POST /v1/ingest/managed`" in text
    assert "`GET /v1/health`" in text
    assert "/v1/health" in HEALTH_PATHS


def test_every_name_on_the_page_is_in_the_registry():
    known = {value for module in (attributes, events) for name, value in vars(module).items() if name.isupper()}
    found = set(re.findall(r"`((?:wafer|service)\.[a-z_.]+)(?:<key>)?`", PAGE.read_text()))
    assert {name.rstrip(".") for name in found} <= known
    assert len(found) > 15
