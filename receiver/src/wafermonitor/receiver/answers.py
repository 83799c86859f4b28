"""What goes back to the sender: an export response, or a `google.rpc.Status` in the request's own encoding.

In: an `Answer` or a `ReceiverError`. Out: bytes. Called by: `otlp_grpc`, `otlp_http`.
Source: opentelemetry-proto docs/specification.md, "Full Success", "Partial Success", "Failures".
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it publishes no types
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from wafermonitor.receiver.errors import ReceiverError, RequestRejected
from wafermonitor.receiver.transcode.protocol import Encoding, Signal

BODY = "body"
"""The field that a BadRequest names: which one inside it is wrong stands in the text."""


class Answer(NamedTuple):
    """A request whose rows are committed; `rejected` items of it never will be, `message` says why."""

    rejected: int = 0
    message: str = ""


class _Response(NamedTuple):
    kind: Any
    field: str
    json_field: str


_RESPONSES = {
    Signal.TRACES: _Response(trace_service_pb2.ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Signal.LOGS: _Response(logs_service_pb2.ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    Signal.METRICS: _Response(metrics_service_pb2.ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
}


def response(signal: Signal, answer: Answer, encoding: Encoding = Encoding.PROTOBUF) -> bytes:
    """The export response; `partial_success` is set only when something was rejected."""
    shape = _RESPONSES[signal]
    if encoding is Encoding.JSON:
        if not answer.rejected:
            return b"{}"
        # A 64-bit integer is text in protobuf's JSON mapping.
        partial = {shape.json_field: str(answer.rejected), "errorMessage": answer.message}
        return msgspec.json.encode({"partialSuccess": partial})
    message = shape.kind()
    if answer.rejected:
        setattr(message.partial_success, shape.field, answer.rejected)
        message.partial_success.error_message = answer.message
    return bytes(message.SerializeToString())


def status(error: ReceiverError) -> status_pb2.Status:
    """The error as gRPC names it, with RetryInfo exactly when another try can succeed, BadRequest when the body is wrong."""
    message = status_pb2.Status(code=error.code, message=str(error))
    if error.retry_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(math.ceil(error.retry_s * 1000))
        message.details.add().Pack(retry)
    if isinstance(error, RequestRejected):
        message.details.add().Pack(error_details_pb2.BadRequest(field_violations=[{"field": BODY, "description": str(error)}]))
    return message


def status_body(error: ReceiverError, encoding: Encoding) -> bytes:
    """The same as an HTTP body."""
    if encoding is Encoding.PROTOBUF:
        return bytes(status(error).SerializeToString())
    shown: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.retry_s is not None:
        delay = f"{math.ceil(error.retry_s * 1000) / 1000:g}s"
        shown["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    if isinstance(error, RequestRejected):
        violations = [{"field": BODY, "description": str(error)}]
        shown["details"] = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
    return msgspec.json.encode(shown)


def retry_after(error: ReceiverError) -> str | None:
    """The `Retry-After` header: whole seconds, rounded up."""
    return None if error.retry_s is None else str(max(1, math.ceil(error.retry_s)))
