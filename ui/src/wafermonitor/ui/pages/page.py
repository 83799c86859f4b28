"""What every page is given, and what it becomes.

In: an address and where the viewer has scrolled to. Out: a `Page`. Called by: each page, session.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import NamedTuple

from wafermonitor.query.models import MetricSeriesModel
from wafermonitor.ui.address import Address


@dataclass(slots=True)
class Viewer:
    """What one viewer looks at. `top` is the first line of the waterfall that is in view, `zone` where the viewer is."""

    address: Address
    top: int = 0
    zone: tzinfo = UTC


class Bell(NamedTuple):
    """Alerts that nobody looks after: how many, in words, and the look of the worst. `number` 0: none."""

    number: int = 0
    words: str = ""
    look: str = ""


class Page(NamedTuple):
    """`html` is the content of the screen, `server_ms` the API's clock, `busy` asks for quick refreshes (something is open).

    `bell` stands in the bar of every page.
    """

    html: str
    title: str
    nav: str
    server_ms: float | None
    busy: bool = False
    series: tuple[MetricSeriesModel, ...] = ()
    bell: Bell = Bell()
