"""Open pages follow the store without a reload, keep what the viewer does, and survive an API that goes away."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.ui import seed
from tests.ui.screens import Screens

pytestmark = pytest.mark.browser
VISIBLE_S = 3.0


def begun(screens, job="wafer_map", **about):
    """A fab with one more job that has just begun."""
    fab = seed.Fab(screens.clock.now_ns, start=1)
    return fab, seed.Job(seed.Program(fab, "maps"), job, fab.at(-1), **about)


def test_a_job_shows_within_three_seconds_of_its_commit_and_its_end_too(own_fab, viewer):
    page = viewer.show(own_fab, "/")
    page.evaluate("window.same = true")
    fab, job = begun(own_fab, **seed.about(["NEW-0001"], 1))
    own_fab.write(fab.batch)
    begin_s = time.monotonic()
    row = page.locator(f"[data-key='{job.id}']")
    expect(row).to_contain_text("NEW-0001")
    assert time.monotonic() - begin_s < VISIBLE_S
    own_fab.clock.pass_s(20)
    after = seed.Fab(own_fab.clock.now_ns)
    job.program.fab = after
    job.end(after.at(0), "failure", "MapMismatch")
    own_fab.write(after.batch)
    expect(row).to_have_count(0)
    expect(page.locator(f"[data-key='failed-{job.id}']")).to_contain_text("MapMismatch")
    assert page.evaluate("window.same"), "the page was loaded again"


def test_progress_changes_cells_and_leaves_rows_focus_and_scroll_alone(own_fab, viewer):
    page = viewer.show(own_fab, "/")
    fab, job = begun(own_fab)
    own_fab.write(fab.batch)
    row = page.locator(f"[data-key='{job.id}']")
    expect(row).to_contain_text("no progress reported")
    page.evaluate("key => { window.kept = document.querySelector(`[data-key='${key}']`); window.kept.focus(); }", job.id)
    page.evaluate("scrollTo(0, 60)")
    scrolled = page.evaluate("scrollY")
    after = seed.Fab(own_fab.clock.now_ns)
    job.program.fab = after
    job.progress(after.at(0), 30, 120, "wafer")
    own_fab.write(after.batch)
    expect(row).to_contain_text("30 of 120 wafers")
    assert page.evaluate("key => window.kept === document.querySelector(`[data-key='${key}']`)", job.id)
    assert page.evaluate("window.kept === document.activeElement")
    assert page.evaluate("scrollY") == scrolled > 0


def test_a_silent_run_becomes_lost_while_it_is_looked_at(own_fab, viewer):
    page = viewer.show(own_fab, "/")
    row = page.locator(".live-row", has_text="overlay_fit")
    expect(row).to_contain_text("silent")
    own_fab.clock.pass_s(600)
    beats = seed.Fab(own_fab.clock.now_ns)
    beats.feed("F12", "etl-07", 1)
    own_fab.write(beats.batch)
    expect(row).to_contain_text("lost")


def test_the_run_page_grows_with_its_run(own_fab, viewer):
    fab, job = begun(own_fab)
    own_fab.write(fab.batch)
    page = viewer.show(own_fab, f"/run?run={job.id}")
    expect(page.locator(".wf-row")).to_have_count(1)
    wide = page.locator(".wf .bar").bounding_box()["width"]
    own_fab.clock.pass_s(30)
    after = seed.Fab(own_fab.clock.now_ns)
    job.program.fab = after
    sub = seed.Job(job.program, "draw", after.at(-20), parent=job)
    sub.end(after.at(-2))
    job.program.log(after.at(-1), (job.trace, job.span), "map drawn")
    own_fab.write(after.batch)
    expect(page.locator(".wf-row")).to_have_count(2)
    expect(page.locator(".log-lines")).to_contain_text("map drawn")
    expect(page.locator(".stats")).to_contain_text("1 of 1 subjob ended")
    parent, child = (bar.bounding_box() for bar in page.locator(".wf .bar").all())
    assert child["x"] > parent["x"]
    assert child["width"] < parent["width"]
    assert parent["width"] == pytest.approx(wide, rel=0.1), "the open bar reaches to now"


def test_an_api_that_is_gone_leaves_the_last_content_with_its_age(own_fab, viewer):
    page = viewer.show(own_fab, "/")
    rows = page.locator(".live-row").count()
    own_fab.stop_api()
    banner = page.locator("#banner")
    expect(banner).to_contain_text("Stale since")
    expect(page.locator("#link")).to_have_text("stale")
    assert page.locator(".live-row").count() == rows
    assert page.title().startswith("stale:")
    own_fab.start_api()
    page.get_by_role("button", name="Try now").click()
    expect(banner).to_be_hidden()
    expect(page.locator("#link")).to_have_text("live")


def test_a_page_opened_without_an_api_says_what_to_do(own_fab, viewer):
    own_fab.stop_api()
    page = viewer.show(own_fab, "/runs")
    expect(page.locator("main")).to_contain_text("The read API does not answer")
    own_fab.start_api()
    page.get_by_role("button", name="Try again now").click()
    expect(page.locator("table.runs tbody tr")).to_have_count(50)


def test_a_page_comes_back_by_itself_when_the_screens_were_restarted(own_fab, viewer):
    page = viewer.show(own_fab, "/runs?result=failed")
    page.evaluate("window.before = true")
    own_fab.restart_ui()
    page.wait_for_function("window.before === undefined")
    expect(page.locator("table.runs tbody tr")).to_have_count(5)
    viewer.errors.clear()  # the browser reports the connections that were refused meanwhile


def test_closed_pages_are_forgotten(chromium):
    own_fab = Screens(unused_ms=5_000)
    context = chromium.new_context()
    for path in ("/", "/runs", f"/run?run={own_fab.ids.main}"):
        page = context.new_page()
        page.goto(own_fab.url + path)
        page.wait_for_selector("html[data-drawn]", state="attached")
    assert own_fab.ui.sessions == 3
    assert own_fab.ui.live.listeners == 3
    context.close()
    until_s = time.monotonic() + 25
    while (own_fab.ui.sessions or own_fab.ui.live.listeners) and time.monotonic() < until_s:
        time.sleep(0.05)  # the server looks for unused sessions by the clock; there is no event to wait for
    left = own_fab.ui.sessions, own_fab.ui.live.listeners
    own_fab.stop()
    assert left == (0, 0)
