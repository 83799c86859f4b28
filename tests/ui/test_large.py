"""Large and long: a trace of ten thousand spans, many page loads, and what an accessibility checker finds."""

from __future__ import annotations

import gc
import time

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import expect

from tests.ui import seed
from tests.ui.conftest import Viewer
from tests.ui.screens import Screens
from tests.ui.screenshots import take
from wafermonitor.ui.waterfall import MOST_ROWS

pytestmark = [pytest.mark.browser, pytest.mark.servers]
SPANS = 10_008
UNSEEN = 16
"""Levels of 255 that nobody sees: a browser smooths a round corner or blends a shade one way or the other."""


def long_run(now_ns):
    """A run with ten thousand plain spans below it, 100 ms apart."""
    fab = seed.Fab(now_ns, start=3)
    program = seed.Program(fab, "images")
    job = seed.Job(program, "image_load", fab.at(-1_100))
    for number in range(SPANS - 1):
        at_ns = fab.at(-1_090 + number / 10)
        program.span((job.trace, program.ids()[1]), job.span, f"image {number}", (at_ns, 2 * seed.SECOND))
    job.end(fab.at(-1))
    return fab.batch, job.id


def test_u02_u03_ten_thousand_spans_open_in_four_seconds_and_scroll_by_windows(own_fab, viewer):
    batch, run = long_run(own_fab.clock.now_ns)
    own_fab.write(batch)
    viewer.show(own_fab, "/")
    begin_s = time.monotonic()
    page = viewer.show(own_fab, f"/run?run={run}")
    expect(page.locator(".wf-foot")).to_contain_text("10,008 rows")
    took_s = time.monotonic() - begin_s
    assert page.locator(".wf-row").count() <= MOST_ROWS
    assert page.locator(".wf *").count() < 6_000
    page.locator(".wf-scroll").evaluate("list => { list.scrollTop = 26 * 6000; }")
    expect(page.locator(".wf-row", has_text="image 6000")).to_be_visible()
    assert page.locator(".wf-row").count() <= MOST_ROWS
    page.wait_for_timeout(1_200)  # a refresh passes: the place must not move
    assert page.locator(".wf-scroll").evaluate("list => list.scrollTop") == 26 * 6000
    assert took_s < 4.0


def test_u08_no_page_has_a_serious_accessibility_problem(fab, watched_fab, chromium):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is absent").Axe()
    found = []
    for scheme in ("light", "dark"):
        # The checker is a script of its own in the page, which the page's policy would not allow.
        context = chromium.new_context(color_scheme=scheme, bypass_csp=True, viewport={"width": 1440, "height": 900})
        viewer = Viewer(context)
        run = f"/run?run={fab.ids.main}"
        for path in ("/", "/runs", "/runs?tab=traces", run, f"{run}&view=subjobs", f"/run?run={fab.ids.lost}"):
            problems = axe.run(viewer.show(fab, path)).response["violations"]
            found += [(scheme, path, problem["id"]) for problem in problems if problem["impact"] in {"critical", "serious"}]
        lost = watched_fab.story.ids["lost"]
        forms = (f"/alerts?alert={lost}&act=acknowledge", "/alerts?view=silences&act=silence")
        job = ("/job?site=F12&job=recipe_audit", "/job?job=recipe_audit&day=2026-05-29&by=recipe")
        for path in ("/", "/alerts", f"/alerts?view=history&alert={lost}", *forms, *job):
            problems = axe.run(viewer.show(watched_fab, path)).response["violations"]
            found += [(scheme, path, problem["id"]) for problem in problems if problem["impact"] in {"critical", "serious"}]
        context.close()
    assert found == []


def test_u04_many_page_loads_leave_no_session_behind(chromium):
    screens = Screens(unused_ms=4_000)
    context = chromium.new_context()
    page = context.new_page()
    for number in range(25):
        path = ("/", "/runs", f"/run?run={screens.ids.main}")[number % 3]
        page.goto(screens.url + path)
        page.wait_for_selector("html[data-drawn]", state="attached")
    context.close()
    until_s = time.monotonic() + 30
    while screens.ui.sessions and time.monotonic() < until_s:
        time.sleep(0.1)  # the server looks for unused sessions by the clock; there is no event to wait for
    gc.collect()
    left = screens.ui.sessions, screens.ui.live.listeners, len(screens.ui.opened)
    screens.stop()
    assert left[:2] == (0, 0)
    assert left[2] <= 1, "sessions that are over are still held by someone"


def test_the_pictures_of_the_readme_are_the_same_each_time_and_small(chromium, tmp_path):
    pictures = []
    for number in range(2):
        screens = Screens(watched=True)
        (tmp_path / str(number)).mkdir()
        pictures.append(take(chromium, screens, tmp_path / str(number)))
        screens.stop()
    assert [path.name for path in pictures[0]] == [
        f"{page}-{theme}.png" for theme in ("light", "dark") for page in ("now", "runs", "run", "alerts", "job")
    ]
    assert max(path.stat().st_size for path in pictures[0]) < 200_000
    assert sum(_differing(first, second) for first, second in zip(*pictures, strict=True)) == 0


def _differing(first, second):
    """How many pixels differ so that it can be seen."""
    first, second = (Image.open(path).convert("RGB") for path in (first, second))
    red, green, blue = ImageChops.difference(first, second).split()
    return sum(ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()[UNSEEN + 1 :])
