"""What every page is given, and what it becomes.

In: an address and where the viewer has scrolled to. Out: a `Page`. Called by: each page, session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wafermonitor.query.models import MetricSeriesModel
from wafermonitor.ui.address import Address


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
