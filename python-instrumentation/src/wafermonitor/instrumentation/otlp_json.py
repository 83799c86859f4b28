"""OTLP/JSON, as the protocol's specification wants it: hex ids, 64-bit integers as text, enums as numbers, lowerCamelCase.

In: an `Export…ServiceRequest` protobuf message, or the parts of a hand-made span or log record. Out: dicts ready for
`json.dumps`, and messages of such dicts. Called by: the spill to the spool, `wafer run`, `wafer start/progress/end`, `direct`.

The builders need the standard library only: `wafer run` never loads the OpenTelemetry SDK.
Source: opentelemetry-proto docs/specification.md, "JSON Protobuf Encoding"; protobuf's JSON mapping for everything else.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

SEVERITY: Final = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}
STATUS_ERROR: Final = 2
SPAN_KIND_INTERNAL: Final = 1
# Bit 0: sampled. Bit 8: we know whether the parent is remote; bit 9: it is (opentelemetry-proto SpanFlags).
FLAG_SAMPLED: Final = 0x1
FLAG_REMOTE_KNOWN: Final = 0x100
FLAG_REMOTE: Final = 0x200

_HEX_FIELDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_HEX_KEYS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_INT64_MAX: Final = 2**63 - 1
_INT64_MIN: Final = -(2**63)

_Field = tuple[str, Callable[[Any], Any] | None, bool]
_plans: dict[str, dict[str, _Field]] = {}


def request_from_proto(message: Any) -> dict[str, Any]:
    """Any OTLP protobuf message → the dict its JSON form has. Unset fields are left out."""
    plan = _plans.get(message.DESCRIPTOR.full_name) or _plan(message.DESCRIPTOR)
    out = {}
    for field, value in message.ListFields():
        key, convert, repeated = plan[field.name]
        if convert is None:
            out[key] = list(value) if repeated else value
        else:
            out[key] = [convert(item) for item in value] if repeated else convert(value)
    return out


def proto_from_request(signal: str, request: Any) -> Any:
    """A dict as `json.loads` gives it → the message, without what the protocol does not know. ValueError: it is no request."""
    from google.protobuf.json_format import ParseDict, ParseError

    try:
        return ParseDict(_with_base64_ids(request), proto_type(signal)(), ignore_unknown_fields=True)
    except (ParseError, TypeError, AttributeError) as error:
        raise ValueError(f"no OTLP request of {signal}: {error}") from None


def proto_type(signal: str) -> Any:
    """The class of a signal's `Export…ServiceRequest`."""
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Traces

        return Traces
    if signal == "logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest as Logs

        return Logs
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as Metrics

    return Metrics


def _with_base64_ids(node: Any) -> Any:
    """Ids as protobuf's own JSON has them; attributes are pairs there, so no key of theirs is taken for one."""
    if isinstance(node, list):
        return [_with_base64_ids(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _base64(bytes.fromhex(value)) if key in _HEX_KEYS and isinstance(value, str) else _with_base64_ids(value)
        for key, value in node.items()
    }


def _plan(descriptor: Any) -> dict[str, _Field]:
    """How each field of one message type is written; worked out once per type."""
    from google.protobuf.descriptor import FieldDescriptor as Kind

    converters: dict[int, Callable[[Any], Any]] = {
        Kind.CPPTYPE_INT64: str,
        Kind.CPPTYPE_UINT64: str,
        Kind.CPPTYPE_DOUBLE: _double,
        Kind.CPPTYPE_FLOAT: _double,
        Kind.CPPTYPE_MESSAGE: request_from_proto,
    }
    plan: dict[str, _Field] = {}
    for field in descriptor.fields:
        convert = converters.get(field.cpp_type)
        if field.type == Kind.TYPE_BYTES:
            convert = bytes.hex if field.name in _HEX_FIELDS else _base64
        plan[field.name] = (field.json_name, convert, _is_repeated(field))
    _plans[descriptor.full_name] = plan
    return plan


def _is_repeated(field: Any) -> bool:
    # protobuf 6 names it so and warns about `label`; 5 only has `label`.
    repeated = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if repeated is None else repeated)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def text(value: str) -> str:
    """`value` with every lone surrogate (bytes that were no UTF-8) replaced by U+FFFD, so that any store takes it."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def any_value(value: Any) -> dict[str, Any] | None:
    """A Python value → an AnyValue; None for what OTLP has no number for (NaN, infinities) and for None."""
    if value is None:
        return None
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and _INT64_MIN <= value <= _INT64_MAX:
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value} if math.isfinite(value) else None
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = [any_value(item) for item in value]
        return {"arrayValue": {"values": [item for item in items if item is not None]}}
    return {"stringValue": text(str(value))}


def key_values(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attributes as OTLP lists them; what has no value is left out."""
    pairs = ((key, any_value(value)) for key, value in attributes.items())
    return [{"key": text(key), "value": value} for key, value in pairs if value is not None]


def span(
    *,
    trace_id: bytes,
    span_id: bytes,
    parent_span_id: bytes | None,
    name: str,
    start_ns: int,
    end_ns: int,
    attributes: Mapping[str, Any],
    error: str | None = None,
    trace_state: str = "",
    remote_parent: bool = True,
) -> dict[str, Any]:
    """One finished INTERNAL span. `error` sets status ERROR with that message."""
    out: dict[str, Any] = {"traceId": trace_id.hex(), "spanId": span_id.hex()}
    if trace_state:
        out["traceState"] = trace_state
    flags = FLAG_SAMPLED | FLAG_REMOTE_KNOWN
    if parent_span_id:
        out["parentSpanId"] = parent_span_id.hex()
        flags |= FLAG_REMOTE if remote_parent else 0
    out |= {
        "flags": flags,
        "name": text(name),
        "kind": SPAN_KIND_INTERNAL,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(max(end_ns, start_ns)),
        "attributes": key_values(attributes),
        "status": {} if error is None else {"code": STATUS_ERROR, "message": text(error)},
    }
    return out


def log_record(
    *,
    event_name: str,
    time_ns: int,
    severity: str,
    attributes: Mapping[str, Any],
    trace_id: bytes,
    span_id: bytes,
    body: str | None = None,
) -> dict[str, Any]:
    """One log record that is an event of a span."""
    out: dict[str, Any] = {
        "timeUnixNano": str(time_ns),
        "observedTimeUnixNano": str(time_ns),
        "severityNumber": SEVERITY[severity],
        "severityText": severity,
        "eventName": event_name,
        "attributes": key_values(attributes),
        "traceId": trace_id.hex(),
        "spanId": span_id.hex(),
        "flags": FLAG_SAMPLED,
    }
    if body is not None:
        out["body"] = {"stringValue": text(body)}
    return out


def spans_request(resource: Mapping[str, Any], spans: Sequence[dict[str, Any]], *, scope: Mapping[str, Any]) -> dict[str, Any]:
    """An ExportTraceServiceRequest. `scope` has name, version and schema_url."""
    return _request("Spans", "spans", resource, spans, scope)


def logs_request(resource: Mapping[str, Any], records: Sequence[dict[str, Any]], *, scope: Mapping[str, Any]) -> dict[str, Any]:
    """An ExportLogsServiceRequest."""
    return _request("Logs", "logRecords", resource, records, scope)


def _request(
    signal: str, leaf: str, resource: Mapping[str, Any], items: Sequence[dict[str, Any]], scope: Mapping[str, Any]
) -> dict[str, Any]:
    schema = scope.get("schema_url") or ""
    named = {key: scope[key] for key in ("name", "version") if scope.get(key)}
    inner: dict[str, Any] = {"scope": named, leaf: list(items)}
    outer: dict[str, Any] = {"resource": {"attributes": key_values(resource)}, f"scope{signal}": [inner]}
    if schema:
        inner["schemaUrl"] = outer["schemaUrl"] = schema
    return {f"resource{signal}": [outer]}
