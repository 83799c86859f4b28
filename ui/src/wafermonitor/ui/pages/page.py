"""One page for one address: what every page is given, and what it becomes.

In: an address, where the viewer has scrolled to, a `Source`. Out: a `Page`. Called by: session, snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wafermonitor.query.models import MetricSeriesModel
from wafermonitor.ui.address import Address, Now, Runs
from wafermonitor.ui.source import Source


@dataclass(slots=True)
class Viewer:
    """What one viewer looks at. `top` is the first line of the waterfall that is in view."""

    address: Address
    top: int = 0


class Page(NamedTuple):
    """`html` is the content of the screen, `server_ms` the API's clock, `busy` asks for quick refreshes (something is open)."""

    html: str
    title: str
    nav: str
    server_ms: float | None
    busy: bool = False
    series: tuple[MetricSeriesModel, ...] = ()


async def load(source: Source, viewer: Viewer) -> Page:
    """The page of the viewer's address. UiUnavailable when the API does not answer; everything else is a page with words."""
    from wafermonitor.ui.pages import now, run, runs

    address = viewer.address
    if isinstance(address, Now):
        page = await now.load(source, address)
    elif isinstance(address, Runs):
        page = await runs.load(source, address)
    else:
        page = await run.load(source, address, viewer.top)
    failing = await source.failing()
    return page._replace(title=f"({failing}) {page.title}" if failing else page.title)
