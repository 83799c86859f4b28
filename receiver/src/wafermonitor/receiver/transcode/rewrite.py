"""OTLP/JSON as protobuf, for whoever passes a request on instead of taking it apart.

In: the body of a request. Out: the same in the other encoding. Called by: `bridge`.

Ids are hex in OTLP/JSON, where protobuf's own mapping has base64 for bytes. Fields that are not known are left out.
Source: opentelemetry-proto docs/specification.md, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.transcode.protocol import Signal

_REQUESTS: Final[dict[Signal, Any]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
}
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_DEEPEST: Final = 100


def protobuf(signal: Signal, body: bytes) -> bytes:
    """The request as protobuf. RequestRejected when `body` is no OTLP/JSON request of this signal."""
    try:
        message = ParseDict(_with_bytes(json.loads(body)), _REQUESTS[signal](), ignore_unknown_fields=True)
    except (ParseError, RecursionError, TypeError, ValueError, AttributeError) as error:
        raise RequestRejected(f"not an OTLP/JSON request of {signal.value} ({type(error).__name__})") from None
    return bytes(message.SerializeToString())


def _with_bytes(value: Any, deep: int = 0) -> Any:
    """With ids in base64."""
    if deep > _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_with_bytes(one, deep + 1) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(held)).decode()
        if key in _IDS and isinstance(held, str)
        else _with_bytes(held, deep + 1)
        for key, held in value.items()
    }
