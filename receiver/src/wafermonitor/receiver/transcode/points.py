"""One OTLP metric → one `MetricPoint` per data point, all five kinds.

In: a raw metric of either lane. Out: rows in the assembly's batch. Called by: `walk`.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from wafermonitor.receiver.errors import ItemRejected
from wafermonitor.receiver.transcode.assembly import Assembly, Sender
from wafermonitor.receiver.transcode.policies import (
    MAX_ITEM_BYTES,
    Marks,
    canonical,
    count,
    digest,
    enum,
    finite,
    instant,
    parts,
)
from wafermonitor.receiver.transcode.wire import Wire
from wafermonitor.runs.records import MetricPoint, Scope, Series

LARGEST_TEMPORALITY = 2
SCALES = range(-10, 21)
"""Of exponential histograms; outside of it a bucket is no interval of doubles any more (OpenTelemetry SDKs use the same)."""


class _Metric(NamedTuple):
    """What all points of a metric share."""

    sender: Sender
    scope: Scope
    name: str
    unit: str
    type: str
    temporality: int
    monotonic: bool


Numbers = dict[str, Any]
"""What one point measured: some of `MetricPoint`'s fields."""

NOTHING: Numbers = dict.fromkeys(("value", "count", "sum", "min", "max", "bounds", "buckets", "quantile_values"))


def add_metric(assembly: Assembly, raw: Any, marks: Marks, sender: Sender, scope: Scope) -> None:
    """Add a metric's points; each that cannot be stored is rejected by itself."""
    wire = assembly.wire
    message = wire.item("metric", raw, marks)
    found = wire.metric_data(message)
    if found is None:
        return
    kind, data = found
    metric = _Metric(
        sender,
        scope,
        wire.text(message.name, marks),
        wire.text(message.unit, marks),
        kind,
        enum(wire.integer(getattr(data, "aggregation_temporality", 0)), LARGEST_TEMPORALITY, marks),
        bool(getattr(data, "is_monotonic", False)),
    )
    for point in data.data_points or ():
        assembly.isolate(_add_point, sender.origin.site, point, metric, metric=message)


def number_of_points(wire: Wire, raw: Any) -> int:
    """Of a raw metric; 0 when it cannot be read."""
    if len(raw) > MAX_ITEM_BYTES:
        return 0
    try:
        found = wire.metric_data(wire.item("metric", raw, set()))
    except ItemRejected:
        return 0
    return 0 if found is None else len(found[1].data_points or ())


def _add_point(assembly: Assembly, raw: Any, marks: Marks, metric: _Metric) -> None:
    wire = assembly.wire
    message = wire.item(metric.type, raw, marks)
    attributes = canonical(wire.attributes(message.attributes, marks))
    numbers = _NUMBERS[metric.type](wire, message, marks)
    resource, scope = metric.sender.resource, metric.scope
    key = digest(resource.key, scope.key, metric.name.encode(), metric.unit.encode(), metric.type.encode(), attributes.encode())
    # No `wafer.repaired` here: a point's attributes are its series, and a mended point belongs to the series of its neighbours.
    series = Series(
        key, resource, scope, metric.name, metric.unit, metric.type, metric.temporality, metric.monotonic, attributes
    )
    time_ns = instant(wire.integer(message.time_unix_nano))
    timeless = None if time_ns else digest(series.key, wire.raw(raw))
    point = MetricPoint(
        series=series,
        time_ns=time_ns if timeless is None else assembly.arrived_ns(timeless),
        start_ns=instant(wire.integer(message.start_time_unix_nano)) or None,
        **NOTHING | numbers,
        flags=count(wire.integer(message.flags)),
        received_ns=assembly.received_ns,
    )
    assembly.take_parts(sum(len(part) for part in (point.bounds, point.buckets, point.quantile_values) if part))
    assembly.batch.points.append(point)
    if timeless is not None:
        assembly.timeless.append(timeless)


def _number(wire: Wire, point: Any, marks: Marks) -> Numbers:
    value = wire.number(point)
    return {"value": None if value is None else finite(value, marks)}


def _histogram(wire: Wire, point: Any, marks: Marks) -> Numbers:
    bounds = tuple(wire.double(bound) for bound in parts(point.explicit_bounds))
    buckets = tuple(count(wire.integer(number)) for number in parts(point.bucket_counts))
    if not all(map(math.isfinite, bounds)) or any(low >= high for low, high in itertools.pairwise(bounds)):
        raise ItemRejected("histogram bounds must be finite and rise")
    if (buckets or bounds) and len(buckets) != len(bounds) + 1:
        raise ItemRejected("a histogram has one bucket more than it has bounds")
    return _totals(wire, point, marks) | {"bounds": bounds or None, "buckets": buckets or None}


def _exponential(wire: Wire, point: Any, marks: Marks) -> Numbers:
    """The explicit bounds that the scale stands for: bucket i is (base^i, base^(i+1)] (OTLP data model)."""
    scale = wire.integer(point.scale)
    if scale not in SCALES:
        raise ItemRejected(f"the scale of an exponential histogram lies between {SCALES[0]} and {SCALES[-1]}")
    above_bounds, above = _side(wire, point.positive, scale)
    below_bounds, below = _side(wire, point.negative, scale)
    zero = count(wire.integer(point.zero_count))
    bounds = [-bound for bound in reversed(below_bounds)] + above_bounds
    buckets = ([0, *reversed(below)] if below else []) + [zero] + ([*above, 0] if above else [])
    bounds, buckets = _without_empty_intervals(bounds, buckets)
    return _totals(wire, point, marks) | {"bounds": tuple(bounds), "buckets": tuple(map(count, buckets))}


def _side(wire: Wire, message: Any, scale: int) -> tuple[list[float], list[int]]:
    """The bounds (n + 1, rising from 0) and counts (n) of the positive or negative half; empty when it has none."""
    if message is None:
        return [], []
    counts = [count(wire.integer(number)) for number in parts(message.bucket_counts)]
    offset = wire.integer(message.offset)
    if not counts:
        return [], []
    return [_power(offset + index, scale) for index in range(len(counts) + 1)], counts


def _power(index: int, scale: int) -> float:
    """2^(index · 2^-scale), within the doubles."""
    try:
        return math.exp2(math.ldexp(index, -scale))
    except OverflowError:
        return sys.float_info.max


def _without_empty_intervals(bounds: list[float], buckets: list[int]) -> tuple[list[float], list[int]]:
    """Beyond the doubles' range neighbouring bounds fall together; their counts do as well."""
    kept_bounds: list[float] = []
    kept = [buckets[0]]
    for bound, number in zip(bounds, buckets[1:], strict=True):
        if kept_bounds and bound <= kept_bounds[-1]:
            kept[-1] += number
        else:
            kept_bounds.append(bound)
            kept.append(number)
    return kept_bounds, kept


def _summary(wire: Wire, point: Any, marks: Marks) -> Numbers:
    pairs = [(wire.double(pair.quantile), wire.double(pair.value)) for pair in parts(point.quantile_values)]
    good = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if len(good) < len(pairs):
        finite(math.nan, marks)
    return {
        "count": count(wire.integer(point.count)),
        "sum": finite(wire.double(point.sum), marks),
        "bounds": tuple(quantile for quantile, _ in good) or None,
        "quantile_values": tuple(value for _, value in good) or None,
    }


def _totals(wire: Wire, point: Any, marks: Marks) -> Numbers:
    return {
        "count": count(wire.integer(point.count)),
        "sum": _optional(wire, point, "sum", marks),
        "min": _optional(wire, point, "min", marks),
        "max": _optional(wire, point, "max", marks),
    }


def _optional(wire: Wire, point: Any, name: str, marks: Marks) -> float | None:
    value = wire.optional_double(point, name)
    return None if value is None else finite(value, marks)


_NUMBERS: dict[str, Callable[[Wire, Any, Marks], Numbers]] = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}
