"""CPU and memory of a run's process as two small charts over one time axis.

In: metric series of the API. Out: a Panel pane that is fed new points. Called by: session.

HoloViews on Bokeh's canvas (WebGL is slower without a GPU). The colours of lines and words are chosen to be read on both
themes, so that a switch of the theme needs no word from the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import holoviews as hv
import panel as pn
from bokeh.models import DatetimeTickFormatter
from holoviews.streams import Pipe

from wafermonitor.query.models import MetricSeriesModel
from wafermonitor.semconv import metrics
from wafermonitor.ui.points import Points, cores_busy, megabytes, points_of

CPU, MEMORY, WORDS, LINE = "#3f8ae0", "#159b7b", "#7b8694", "#8d98a733"
FONT = "Inter, system-ui, sans-serif"
HEIGHT = 112
_TICKS: dict[str, Any] = {
    "seconds": "%H:%M:%S",
    "minsec": "%H:%M:%S",
    "minutes": "%H:%M",
    "hourmin": "%H:%M",
    "hours": "%H:%M",
    "days": "%d %b",
}

hv.extension("bokeh", logo=False)


class Chart:
    """One session's charts. Empty and free of Bokeh models until the first points come."""

    def __init__(self) -> None:
        self.place = pn.Column(sizing_mode="stretch_width", margin=0)
        self._pipe: Pipe | None = None
        self._last: Any = None
        self._zone = timedelta()

    def shift_minutes(self, minutes: float) -> None:
        """The viewer's zone, minutes east of UTC: the time axis shows the viewer's clock."""
        self._zone = timedelta(minutes=minutes)

    def feed(self, series: Sequence[MetricSeriesModel]) -> None:
        """Show these series; nothing where there are none."""
        cpu = cores_busy(points_of(series, metrics.PROCESS_CPU_TIME))
        memory = megabytes(points_of(series, metrics.PROCESS_MEMORY_USAGE))
        points = tuple([(at + self._zone, value) for at, value in one] for one in (cpu, memory))
        if points == self._last:
            return
        self._last = points
        if not any(points):
            self.place.clear()
            self._pipe = None
        elif self._pipe is None:
            self._pipe = Pipe(data=points)
            plots = (
                hv.DynamicMap(lambda data: _curve(data[0], "CPU, cores busy", CPU), streams=[self._pipe]),
                hv.DynamicMap(lambda data: _curve(data[1], "Memory, MB", MEMORY), streams=[self._pipe]),
            )
            self.place[:] = [_pane(plot) for plot in plots]
        else:
            self._pipe.send(points)


def _pane(plot: Any) -> Any:
    pane: Any = pn.pane.HoloViews  # its constructor has no annotations
    return pane(plot, sizing_mode="stretch_width", height=HEIGHT, margin=0)


def _curve(points: Points, label: str, colour: str) -> Any:
    area = hv.Area(points, "time", label).opts(color=colour, fill_alpha=0.14, line_alpha=0)
    line = hv.Curve(points, "time", label).opts(color=colour, line_width=1.6)
    return (area * line).opts(
        responsive=True,
        height=HEIGHT,
        toolbar=None,
        xlabel="",
        ylabel="",
        title=label,
        ylim=(0, max((value for _, value in points), default=1.0) * 1.15 or 1.0),
        yticks=3,
        active_tools=[],
        default_tools=[],
        hooks=[_dress],
    )


def _dress(plot: Any, _: Any) -> None:
    """Quiet axes, nothing behind."""
    figure = plot.state
    figure.output_backend = "canvas"
    figure.title.text_color = WORDS
    figure.title.text_font_size = "11px"
    figure.title.text_font_style = "normal"
    figure.title.text_font = FONT
    figure.title.align = "left"
    figure.background_fill_color = figure.border_fill_color = None
    figure.outline_line_color = None
    figure.min_border = 2
    figure.xaxis[0].formatter = DatetimeTickFormatter(**_TICKS, context=None)
    for axis in (*figure.xaxis, *figure.yaxis):
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = WORDS
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "11px"
        axis.major_label_text_font = axis.axis_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
    for grid in figure.ygrid:
        grid.grid_line_color = LINE
    for grid in figure.xgrid:
        grid.grid_line_color = None
