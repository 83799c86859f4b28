"""OTLP requests to send, and the three ways to send them, told apart by nothing but their answer."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import grpc
import grpc.aio
import httpx
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.semconv import attributes as names

SECOND_NS = 1_000_000_000
START_NS = (int(time.time()) - 3600) * SECOND_NS
"""Not long ago: PostgreSQL keeps older spans among the late ones."""
TRACE_ID = bytes(range(1, 17))
REQUESTS = {
    Signal.TRACES: trace_service_pb2.ExportTraceServiceRequest,
    Signal.LOGS: logs_service_pb2.ExportLogsServiceRequest,
    Signal.METRICS: metrics_service_pb2.ExportMetricsServiceRequest,
}
RESPONSES = {
    Signal.TRACES: (trace_service_pb2.ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Signal.LOGS: (logs_service_pb2.ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    Signal.METRICS: (metrics_service_pb2.ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
}
METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
PROTOBUF = "application/x-protobuf"
JSON = "application/json"


def text(key: str, value: str) -> common_pb2.KeyValue:
    return common_pb2.KeyValue(key=key, value=common_pb2.AnyValue(string_value=value))


def resource(into: Any, site: str = "f1") -> Any:
    into.resource.attributes.extend([text(names.WAFER_SITE_ID, site), text(names.SERVICE_NAME, "sorter")])
    return into


def spans(number: int = 1, *, first: int = 1, trace_id: bytes = TRACE_ID) -> Any:
    """A request of `number` good spans with span ids `first` … ."""
    request = REQUESTS[Signal.TRACES]()
    scoped = resource(request.resource_spans.add()).scope_spans.add()
    scoped.scope.name = "tests"
    for index in range(first, first + number):
        span = scoped.spans.add(
            trace_id=trace_id,
            span_id=index.to_bytes(8, "big"),
            name=f"span {index}",
            kind=1,
            start_time_unix_nano=START_NS + index,
            end_time_unix_nano=START_NS + index + SECOND_NS,
        )
        span.attributes.append(text("step", "probe"))
    return request


def logs(number: int = 1) -> Any:
    request = REQUESTS[Signal.LOGS]()
    scoped = resource(request.resource_logs.add()).scope_logs.add()
    for index in range(number):
        record = scoped.log_records.add(time_unix_nano=START_NS + index, severity_number=9, severity_text="INFO")
        record.body.string_value = f"line {index}"
    return request


def metrics(number: int = 1) -> Any:
    request = REQUESTS[Signal.METRICS]()
    metric = resource(request.resource_metrics.add()).scope_metrics.add().metrics.add(name="queue.length", unit="1")
    for index in range(number):
        metric.gauge.data_points.add(time_unix_nano=START_NS + index, as_int=index)
    return request


GOOD: dict[Signal, Callable[..., Any]] = {Signal.TRACES: spans, Signal.LOGS: logs, Signal.METRICS: metrics}


def last_item(request: Any) -> Any:
    """The last span, log record or metric of a request made here."""
    group = (getattr(request, "resource_spans", None) or getattr(request, "resource_logs", None) or request.resource_metrics)[
        -1
    ]
    scoped = (getattr(group, "scope_spans", None) or getattr(group, "scope_logs", None) or group.scope_metrics)[-1]
    return (getattr(scoped, "spans", None) or getattr(scoped, "log_records", None) or scoped.metrics)[-1]


def as_json(request: Message) -> bytes:
    return json.dumps(request_from_proto(request)).encode()


@dataclass(frozen=True)
class Outcome:
    """How a request was answered. `code` is gRPC's number, 0 for success; `http` is None over gRPC."""

    code: int
    http: int | None
    message: str
    retry_info_s: float | None
    retry_after: str | None
    rejected: int
    reason: str
    media: str
    partial: bool = False

    @property
    def ok(self) -> bool:
        return self.code == 0


class Grpc:
    """OTLP/gRPC with raw bytes."""

    name = "grpc"

    def __init__(self, grpc_address: str, http_address: str) -> None:
        del http_address
        self._channel = grpc.aio.insecure_channel(grpc_address, options=[("grpc.max_send_message_length", -1)])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def encode(self, request: Message) -> bytes:
        return request.SerializeToString()

    async def send(
        self, signal: Signal, body: bytes, *, compressed: bool = False, token: str | None = None, path: str | None = None
    ) -> Outcome:
        call = self._channel.unary_unary(path or METHODS[signal])
        try:
            answer = await call(
                body,
                compression=grpc.Compression.Gzip if compressed else None,
                metadata=(("authorization", f"Bearer {token}"),) if token else None,
                timeout=30,
            )
        except grpc.aio.AioRpcError as error:
            return _grpc_refusal(error)
        return _success(signal, answer, None, PROTOBUF)


class HttpProtobuf:
    """OTLP/HTTP with protobuf."""

    name = "http/protobuf"
    media = PROTOBUF

    def __init__(self, grpc_address: str, http_address: str) -> None:
        del grpc_address
        self.client = httpx.AsyncClient(base_url=f"http://{http_address}", timeout=30)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    def encode(self, request: Message) -> bytes:
        return request.SerializeToString()

    async def send(
        self, signal: Signal, body: bytes, *, compressed: bool = False, token: str | None = None, path: str | None = None
    ) -> Outcome:
        headers = {"content-type": self.media}
        if token:
            headers["authorization"] = f"Bearer {token}"
        if compressed:
            body = gzip.compress(body, 1)
            headers["content-encoding"] = "gzip"
        answer = await self.client.post(path or f"/v1/{signal.value}", content=body, headers=headers)
        if answer.status_code == 200:
            return _success(signal, answer.content, 200, answer.headers["content-type"])
        return http_refusal(answer)


class HttpJson(HttpProtobuf):
    """OTLP/HTTP with JSON."""

    name = "http/json"
    media = JSON

    def encode(self, request: Message) -> bytes:
        return as_json(request)


TRANSPORTS = (Grpc, HttpProtobuf, HttpJson)


def _success(signal: Signal, body: bytes, http: int | None, media: str) -> Outcome:
    kind, field, json_field = RESPONSES[signal]
    if media == JSON:
        answer = json.loads(body)
        partial = answer.get("partialSuccess", {})
        rejected, reason, is_set = int(partial.get(json_field, 0)), partial.get("errorMessage", ""), "partialSuccess" in answer
    else:
        message = kind.FromString(body)
        rejected, reason = getattr(message.partial_success, field), message.partial_success.error_message
        is_set = message.HasField("partial_success")
    return Outcome(0, http, "", None, None, rejected, reason, media, is_set)


def _grpc_refusal(error: grpc.aio.AioRpcError) -> Outcome:
    trailing = dict(error.trailing_metadata() or ())
    retry_s = None
    if "grpc-status-details-bin" in trailing:
        status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
        assert status.code == error.code().value[0]
        retry_s = _retry_s(status)
    return Outcome(error.code().value[0], None, error.details() or "", retry_s, None, 0, "", PROTOBUF)


def http_refusal(answer: httpx.Response) -> Outcome:
    media = answer.headers["content-type"]
    after = answer.headers.get("retry-after")
    if media == PROTOBUF:
        status = status_pb2.Status.FromString(answer.content)
        return Outcome(status.code, answer.status_code, status.message, _retry_s(status), after, 0, "", media)
    assert media == JSON
    shown = answer.json()
    delays = [detail["retryDelay"] for detail in shown.get("details", []) if detail["@type"].endswith("google.rpc.RetryInfo")]
    retry_s = float(delays[0].removesuffix("s")) if delays else None
    return Outcome(shown["code"], answer.status_code, shown["message"], retry_s, after, 0, "", media)


def _retry_s(status: status_pb2.Status) -> float | None:
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.ToMilliseconds() / 1000
    return None
