"""The pictures of the README: each page, light and dark, over the seeded fab with its clock held still.

In: a folder (`docs/images`). Out: `{now,runs,run,alerts,job}-{light,dark}.png` there, 1440 × 900, the same pixels on the
same fonts.
Called by: `make generate` as `python -m tests.ui.screenshots docs/images`; needs Debian's Chromium.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.ui.screens import NOW, Screens

CHROMIUM = Path("/usr/bin/chromium")
EXACT = 64
SIZE = {"width": 1440, "height": 900}


def take(browser: Browser, screens: Screens, folder: Path) -> list[Path]:
    """Every picture, written into `folder`."""
    assert screens.story is not None, "the pictures are of a watched fab"
    paths = {
        "now": "/",
        "runs": "/runs",
        "run": f"/run?run={screens.ids.main}",
        "alerts": f"/alerts?alert={screens.story.ids['lost']}",
        "job": "/job?site=F12&job=recipe_audit",
    }
    written = []
    screens.learn()
    for scheme in ("light", "dark"):
        context = browser.new_context(
            viewport=SIZE, color_scheme=scheme, timezone_id="UTC", locale="en-GB", reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(f"{screens.url}/runs?tab=traces")
        drawn(page)
        # Held still only now: the page's socket does not open under a clock that stands.
        page.clock.set_fixed_time(NOW / 1_000_000_000)
        for name, path in paths.items():
            move(page, path)
            drawn(page, chart=name == "run")
            written.append(_save(still(page), folder / f"{name}-{scheme}.png"))
        context.close()
    return written


def move(page: Page, path: str) -> None:
    """Go to another address without loading the page again, as a link of the page does."""
    before = page.evaluate("document.documentElement.dataset.drawn")
    page.evaluate("path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path)
    page.wait_for_function("before => document.documentElement.dataset.drawn !== before", arg=before)


def drawn(page: Page, *, chart: bool = False) -> None:
    """Wait until the page shows its content, and its chart where it has one."""
    page.wait_for_selector("html[data-drawn]", state="attached")
    if chart:
        page.wait_for_selector("[data-chart] canvas", state="attached")
        page.wait_for_function("document.querySelector('#chart-home')?.getBoundingClientRect().height > 100")
    page.evaluate("document.fonts.ready")


def still(page: Page) -> bytes:
    """A picture of the page once two in a row are the same: fonts, charts and bars have come to rest."""
    before = b""
    for _ in range(20):
        png = page.screenshot(animations="disabled", caret="hide")
        if png == before:
            return png
        before = png
        page.wait_for_timeout(150)
    raise TimeoutError(f"{page.url} does not come to rest")


def _save(png: bytes, path: Path) -> Path:
    """256 colours for a third of the bytes: the most frequent ones exactly, the rest by what covers them best."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    colours, places, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    exact = colours[np.argsort(-counts, kind="stable")[:EXACT]]
    cover = image.quantize(256 - EXACT, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).getpalette() or []
    palette = np.concatenate([exact, np.array(cover, np.uint8).reshape(-1, 3)])[:256]
    nearest = np.array([np.abs(palette.astype(int) - colour).max(axis=1).argmin() for colour in colours], np.uint8)
    indexed = Image.fromarray(nearest[places.reshape(image.height, image.width)])
    indexed.putpalette(palette.tobytes())
    indexed.save(path, optimize=True)
    return path


def main(folder: Path) -> None:
    """Take them all and say how large each is."""
    folder.mkdir(parents=True, exist_ok=True)
    screens = Screens(watched=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for path in take(browser, screens, folder):
                print(f"{path} {path.stat().st_size / 1000:.0f} kB")
            browser.close()
    finally:
        screens.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
