"""The two Panel components of a page: the line to the browser, and the shell around it.

In: what a session shows, messages of the browser. Out: a Panel template. Called by: session.
"""

from __future__ import annotations

from pathlib import Path

import panel as pn
import param
from panel.custom import JSComponent
from panel.template import Template

from wafermonitor.ui.render import source

THEME = Path(__file__).parent / "theme"


class Screen(JSComponent):
    """`shown` goes to the browser: html, title, nav, address, server_ms, stale. Messages come back to `on_msg`."""

    shown = param.Dict(default={"html": ""}, doc="what the page shows; see theme/page.js")
    _esm = THEME / "screen.js"


def shell(screen: Screen, chart: pn.viewable.Viewable, title: str) -> Template:
    """The page around the screen: bar, help, icons, scripts."""
    template = Template(source("page.html"))
    template.add_panel("screen", screen)
    template.add_panel("chart", chart)
    template.add_variable("title", title)
    for name in ("icons", "help", "skeleton"):
        template.add_variable(name, source(f"{name}.html"))

    return template
