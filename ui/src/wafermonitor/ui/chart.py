"""CPU and memory of a run's process as two small charts over one time axis.

In: metric series of the API. Out: a Panel pane that is fed new points. Called by: session.

HoloViews on Bokeh's canvas (WebGL is slower without a GPU). The colours of lines and words are chosen to be read on both themes, so
that a switch of the theme needs no word from the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import holoviews as hv
import panel as pn
from holoviews.streams import Pipe

from wafermonitor.query.models import MetricSeriesModel
from wafermonitor.semconv import metrics
from wafermonitor.ui.clock import epoch_ms

CPU, MEMORY, WORDS, LINE = "#3f8ae0", "#159b7b", "#7b8694", "#8d98a733"
MOST_POINTS = 600
HEIGHT = 104
Points = list[tuple[datetime, float]]

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
        cpu_points, memory_points = (_of(series, name, self._zone) for name in (metrics.PROCESS_CPU_TIME, metrics.PROCESS_MEMORY_USAGE))
        points = (cores_busy(cpu_points), megabytes(memory_points))
        if points == self._last:
            return
        self._last = points
        if not any(points):
            self.place.clear()
            self._pipe = None
        elif self._pipe is None:
            self._pipe = Pipe(data=points)
            cpu = hv.DynamicMap(lambda data: _curve(data[0], "CPU, cores", CPU), streams=[self._pipe])
            memory = hv.DynamicMap(lambda data: _curve(data[1], "Memory, MB", MEMORY), streams=[self._pipe])
            panes = [pn.pane.HoloViews(plot, sizing_mode="stretch_width", height=HEIGHT, margin=0) for plot in (cpu, memory)]
            self.place[:] = panes
        else:
            self._pipe.send(points)


def cores_busy(points: Points) -> Points:
    """Cumulative CPU seconds → cores busy between two points (a restart of the counter gives no point)."""
    found = []
    for (begin, before), (end, after) in zip(points, points[1:], strict=False):
        seconds = (end - begin).total_seconds()
        if seconds > 0 and after >= before:
            found.append((end, (after - before) / seconds))
    return found


def megabytes(points: Points) -> Points:
    """Bytes → MB (powers of 1000)."""
    return [(at, value / 1e6) for at, value in points]


def _of(series: Sequence[MetricSeriesModel], name: str, zone: timedelta) -> Points:
    """The points of one metric by the viewer's clock, summed over its series (user and system time), at most 600."""
    sums: dict[datetime, float] = {}
    for one in series:
        if one.name != name:
            continue
        for point in one.points:
            at_ms = epoch_ms(point.time)
            if point.value is not None and at_ms is not None:
                at = datetime.fromtimestamp(at_ms / 1_000, UTC).replace(tzinfo=None) + zone
                sums[at] = sums.get(at, 0.0) + point.value
    points = sorted(sums.items())
    step = -(-len(points) // MOST_POINTS) or 1
    return points[::step]


def _curve(points: Points, label: str, colour: str) -> Any:
    area = hv.Area(points, "time", label).opts(color=colour, fill_alpha=0.14, line_alpha=0)
    line = hv.Curve(points, "time", label).opts(color=colour, line_width=1.6)
    return (area * line).opts(
        responsive=True,
        height=HEIGHT,
        toolbar=None,
        xlabel="",
        ylabel=label,
        ylim=(0, max((value for _, value in points), default=1.0) * 1.15 or 1.0),
        yticks=3,
        active_tools=[],
        default_tools=[],
        hooks=[_dress],
    )


def _dress(plot: Any, _: Any) -> None:
    """Quiet axes, nothing behind."""
    figure = plot.state
    figure.background_fill_color = figure.border_fill_color = None
    figure.outline_line_color = None
    figure.min_border = 2
    for axis in (*figure.xaxis, *figure.yaxis):
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = WORDS
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "11px"
        axis.major_label_text_font = axis.axis_label_text_font = "Inter, system-ui, sans-serif"
        axis.axis_label_text_font_style = "normal"
    for grid in figure.ygrid:
        grid.grid_line_color = LINE
    for grid in figure.xgrid:
        grid.grid_line_color = None
