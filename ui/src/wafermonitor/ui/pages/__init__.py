"""The pages: each loads what its address asks for and makes HTML of it."""

from wafermonitor.ui.address import Now, Runs
from wafermonitor.ui.pages import now, run, runs
from wafermonitor.ui.pages.page import Page, Viewer
from wafermonitor.ui.source import Source

__all__ = ["Page", "Viewer", "load"]


async def load(source: Source, viewer: Viewer) -> Page:
    """The page of the viewer's address. UiUnavailable when the API does not answer; everything else is a page with words."""
    address = viewer.address
    if isinstance(address, Now):
        page = await now.load(source, address)
    elif isinstance(address, Runs):
        page = await runs.load(source, address)
    else:
        page = await run.load(source, address, viewer.top)
    failing = await source.failing()
    return page._replace(title=f"({failing}) {page.title}" if failing else page.title)
