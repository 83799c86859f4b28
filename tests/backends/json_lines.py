"""Items of OTLP/JSON requests as any JSON reader has them: for backends that keep requests as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.backends import corpus
from tests.backends.proof import Kept
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.writers.protocol import Signal

_WORDS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


def kept(signal: Signal, request: dict[str, Any]) -> Iterator[Kept]:
    """Every item of this signal that has a key."""
    outers, inners, leaves = _WORDS[signal]
    for outer in request.get(outers, ()):
        resource = plain(outer["resource"]["attributes"])
        sender = {"site": resource.get(names.WAFER_SITE_ID), "service": resource.get(names.SERVICE_NAME)}
        for inner in outer[inners]:
            for own, named in _each(signal, inner[leaves]):
                attributes = plain(own.get("attributes", ()))
                if corpus.KEY in attributes:
                    yield Kept(attributes[corpus.KEY], {"attributes": attributes} | sender | _fields(signal, own) | named)


def plain(pairs: Any) -> dict[str, Any]:
    """Attributes as Python has them."""
    return {pair["key"]: _value(pair["value"]) for pair in pairs}


def _value(value: dict[str, Any]) -> Any:
    ((kind, held),) = value.items()
    if kind == "arrayValue":
        return [_value(one) for one in held["values"]]
    return int(held) if kind == "intValue" else held


def _each(signal: Signal, leaves: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    if signal != "metrics":
        yield from ((leaf, {}) for leaf in leaves)
        return
    for metric in leaves:
        for kind in ("gauge", "sum", "histogram"):
            for point in metric.get(kind, {}).get("dataPoints", ()):
                yield point, {"name": metric["name"], "type": kind}


def _fields(signal: Signal, own: dict[str, Any]) -> dict[str, Any]:
    if signal == "traces":
        return {
            "name": own["name"],
            "trace_id": own["traceId"],
            "span_id": own["spanId"],
            "parent_span_id": own.get("parentSpanId", ""),
            "start_ns": int(own["startTimeUnixNano"]),
            "end_ns": int(own["endTimeUnixNano"]),
            "status_message": own.get("status", {}).get("message", ""),
        }
    if signal == "logs":
        return {
            "time_ns": int(own["timeUnixNano"]),
            "observed_ns": int(own["observedTimeUnixNano"]),
            "body": own["body"]["stringValue"],
            "event_name": own.get("eventName", ""),
            "severity": own["severityNumber"],
            "trace_id": own["traceId"],
        }
    if "count" in own:
        return {"time_ns": int(own["timeUnixNano"])}
    return {"time_ns": int(own["timeUnixNano"]), "value": int(own["asInt"]) if "asInt" in own else own["asDouble"]}
