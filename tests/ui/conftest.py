"""Fixtures of the screens: the services over a filled store, and a browser that fails a test for what a page must not do."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

import pytest

from tests.ui.screens import Screens
from tests.ui.screenshots import CHROMIUM, drawn

WAIT_MS = 20_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Failures of browser tests are shown plainly: under Playwright's greenlets CPython 3.11 cannot parse their source."""
    style = item.config.option.tbstyle
    if item.get_closest_marker("browser"):
        item.config.option.tbstyle = "native"
    try:
        return (yield)
    finally:
        item.config.option.tbstyle = style


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium, driven by Playwright; for one module, because no other loop can run in this thread meanwhile."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is absent: apt-get install chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)

    # The driver's own process looks for no proxy and no download.
    os.environ.setdefault("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def fab():
    """The seeded fab on screens that no test changes."""
    screens = Screens()
    yield screens
    screens.stop()


@pytest.fixture(scope="session")
def watched_fab():
    """The seeded fab with alerts and expected runs, on screens that no test changes."""
    screens = Screens(watched=True)
    yield screens
    screens.stop()


@pytest.fixture
def own_watched_fab():
    """The same, of the test's own."""
    screens = Screens(watched=True)
    yield screens
    screens.stop()


@pytest.fixture
def own_fab():
    """A seeded fab of the test's own, to write to and to break."""
    screens = Screens()
    yield screens
    screens.stop()


@pytest.fixture
def empty_fab():
    """Screens over a store in which nothing has arrived."""
    screens = Screens(filled=False)
    yield screens
    screens.stop()


def here(page):
    """The page's address as it says itself: what Playwright knows of it may be older."""
    return page.evaluate("location.href")


LATE = re.compile(r"reference p\d+ isn't known")
"""BokehJS of a change that comes for a model which has just been replaced: the library's own race (bokeh/bokeh#13153, mended
for Python alone). What the page shows in the end is tested."""


class Viewer:
    """One browser window. `show` opens an address; what went wrong on the way stands in `outside` and `errors`."""

    def __init__(self, context):
        self.page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("console", self._said)
        self.page.on("pageerror", self._broke)

    def show(self, screens, path):
        """Load a page and wait for its content."""
        self.page.goto(screens.url + path)
        drawn(self.page)
        return self.page

    def _asked(self, request):
        self.requests.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme not in {"blob", "data"} and parts.hostname != "127.0.0.1":
            self.outside.append(request.url)

    def _broke(self, error):
        if not LATE.fullmatch(str(error)):
            self.errors.append(str(error))

    def _said(self, message):
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.type}: {message.text}")


@pytest.fixture
def viewer(chromium):
    """A window in UTC; a page error, a console error or a request to another host fails the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, timezone_id="UTC", locale="en-GB")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    viewer = Viewer(context)
    yield viewer
    viewer.page.close()
    context.close()
    assert viewer.outside == []
    assert viewer.errors == []
