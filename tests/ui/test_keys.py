"""Everything can be done without a mouse, in light and in dark, and no page asks another host for anything."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from tests.ui.conftest import Viewer, here
from tests.ui.screenshots import drawn

pytestmark = pytest.mark.browser


def test_keys_walk_lists_open_runs_and_go_between_pages(fab, viewer):
    page = viewer.show(fab, "/")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    assert page.locator("#help dl > div").count() >= 15
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    focused = page.locator(":focus")
    expect(focused).to_contain_text("overlay_fit")
    assert page.evaluate("getComputedStyle(document.activeElement).boxShadow") != "none", "focus must be seen"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("overlay_fit")
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.locator("h1")).to_have_text("Runs")
    page.keyboard.press("f")
    expect(page.locator("table.runs tbody tr").first).to_contain_text("lost")
    page.keyboard.press("n")
    expect(page.locator(".pager")).to_contain_text("of a later page")
    page.keyboard.press("p")
    expect(page.locator("table.runs tbody tr").first).to_contain_text("lost")
    page.keyboard.press("/")
    page.keyboard.type("GAL-4471-15")
    page.keyboard.press("Enter")
    expect(page.locator("table.runs tbody tr")).to_have_count(2)
    page.keyboard.press("g")
    page.keyboard.press("n")
    expect(page.locator("h1")).to_have_text("Now")


def test_keys_zoom_fold_and_step_through_a_run(fab, viewer):
    page = viewer.show(fab, f"/run?run={fab.ids.main}")
    page.keyboard.press("+")
    expect(page.locator(".wf")).not_to_have_attribute("data-zoom", "")
    zoomed = here(page)
    page.keyboard.press("l")
    page.wait_for_function("before => location.href !== before", arg=zoomed)
    page.keyboard.press("0")
    expect(page.locator(".wf")).to_have_attribute("data-zoom", "")
    page.keyboard.press("e")
    expect(page.locator(":focus")).to_contain_text("GAL-4471-09")
    page.keyboard.press("x")
    expect(page.locator(":focus")).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Enter")
    expect(page.locator(".wf-detail")).to_contain_text("wafer.job.result")
    page.keyboard.press("r")
    expect(page.locator("[data-key-r][aria-current]")).to_have_count(1)
    page.keyboard.press("v")
    expect(page.locator("table.subjobs")).to_be_visible()
    page.keyboard.press("c")
    expect(page.locator("#said")).to_have_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()") == here(page)
    page.locator("table.subjobs tbody tr").first.click()
    expect(page.locator(".run-head .pill")).to_have_text("success")
    page.keyboard.press("u")
    expect(page.locator(".run-head .pill")).to_have_text("running")


def test_light_and_dark_follow_the_system_and_the_viewers_choice_stays(fab, chromium):
    context = chromium.new_context(color_scheme="dark")
    viewer = Viewer(context)
    page = viewer.show(fab, "/")

    def ground():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = ground()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("t")
    light = ground()
    assert light != dark
    page.reload()
    drawn(page)
    assert ground() == light
    context.close()
    assert viewer.errors == []


def test_times_are_in_the_viewers_zone_with_utc_beside(fab, chromium):
    context = chromium.new_context(timezone_id="Asia/Kolkata", locale="en-GB")
    page = Viewer(context).show(fab, f"/run?run={fab.ids.main}")
    started = page.locator(".stat", has_text="Started").locator("time").first
    expect(started).to_have_text("13:17:26")
    assert started.get_attribute("title") == "2026-05-29 07:47:26.437 UTC"
    context.close()


def test_no_page_asks_another_host_and_every_answer_forbids_it(fab, viewer):
    pages = ("/", "/runs", "/runs?tab=traces", "/alerts", "/job?job=lot_yield")
    for path in (*pages, f"/run?run={fab.ids.main}", f"/run?run={fab.ids.plain}"):
        viewer.show(fab, path)
    assert viewer.outside == []
    assert len(viewer.requests) > 20
    for url in {url for url in viewer.requests if url.startswith(fab.url)}:
        policy = httpx.get(url, timeout=10).headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy


def test_words_of_durations_are_the_same_in_browser_and_server(fab, viewer):
    from wafermonitor.ui.clock import duration

    seconds = [
        0,
        4.12e-7,
        3.2e-5,
        0.0874,
        0.5,
        0.9996,
        1.04,
        9.96,
        12.5,
        42,
        59.4,
        59.7,
        61,
        252.4,
        3599.6,
        3600,
        11_100,
        86_399,
        187_000,
    ]
    page = viewer.show(fab, "/")
    script = "async seconds => { const {duration} = await import('/assets/clock.js'); return seconds.map(duration); }"
    told = page.evaluate(script, seconds)
    assert told == [duration(value) for value in seconds]


def test_a_foreign_page_may_not_open_the_socket(fab):
    ask = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x" * 16}
    own = httpx.get(f"{fab.url}/ws", headers=ask | {"Origin": fab.url})
    foreign = httpx.get(f"{fab.url}/ws", headers=ask | {"Origin": "http://elsewhere.example"})
    assert foreign.status_code == 403
    assert own.status_code != 403


def test_the_page_carries_no_cookie_and_no_authorization(fab):
    import base64
    import json
    import re
    import zlib

    answer = httpx.get(f"{fab.url}/", headers={"Authorization": "Bearer s3cret-token", "Cookie": "login=s3cret-cookie"})
    token = re.search(r'"token":"([^"]+)"', answer.text)[1]
    payload = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    packed = payload["__bk__zlib_"]
    opened = zlib.decompress(base64.urlsafe_b64decode(packed + "==")).decode()
    assert "s3cret" not in opened + answer.text
    assert "headers" in opened
    assert answer.headers["cache-control"] == "no-store"


def test_the_older_health_path_answers(fab):
    assert httpx.get(f"{fab.url}/_stcore/health").text == "ok"


def test_the_tab_key_stops_once_in_each_list_at_the_row_last_walked_to(watched_fab, viewer):
    page = viewer.show(watched_fab, "/")
    stops = page.locator("#screen [data-row][tabindex='0']")
    expect(stops).to_have_count(2)
    page.locator(".now-columns header a").first.focus()
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_contain_text("should have started")
    page.keyboard.press("ArrowDown")
    second = page.locator(":focus").get_attribute("data-key")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_attribute("data-key", second)
    expect(stops).to_have_count(2)
    page = viewer.show(watched_fab, "/alerts")
    page.locator(".alert-row[tabindex='0']").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".alert[data-open] .alert-detail")).to_contain_text("Evidence")
