"""Points of metric series as a chart and a figure need them.

In: metric series of the API. Out: (time, value) pairs in order of time. Called by: chart, pages.run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from wafermonitor.query.models import MetricSeriesModel
from wafermonitor.ui.clock import epoch_ms

MOST_POINTS = 600
Points = list[tuple[datetime, float]]


def points_of(series: Sequence[MetricSeriesModel], name: str) -> Points:
    """The points of one metric, summed over its series (user and system time); UTC without zone, at most about 600."""
    sums: dict[datetime, float] = {}
    for one in series:
        if one.name != name:
            continue
        for point in one.points:
            at_ms = epoch_ms(point.time)
            if point.value is not None and at_ms is not None:
                at = datetime.fromtimestamp(at_ms / 1_000, UTC).replace(tzinfo=None)
                sums[at] = sums.get(at, 0.0) + point.value
    points = sorted(sums.items())
    return points[:: max(-(-len(points) // MOST_POINTS), 1)]


def cores_busy(points: Points) -> Points:
    """Cumulative CPU seconds → cores busy between two points; a counter that starts again gives no point there."""
    return [
        (end, (after - before) / (end - begin).total_seconds())
        for (begin, before), (end, after) in pairwise(points)
        if end > begin and after >= before
    ]


def megabytes(points: Points) -> Points:
    """Bytes → MB (powers of 1000)."""
    return [(at, value / 1e6) for at, value in points]
