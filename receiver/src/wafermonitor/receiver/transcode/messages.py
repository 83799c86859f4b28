"""OTLP's messages as msgspec structs, for JSON: camelCase on the wire, OTLP's field names here.

Fields that are not stored are left out: msgspec passes over unknown names, as OTLP/JSON wants it. What is `Raw` is decoded
later and by itself: items, so that a broken one condemns nothing else; resource and scope, so that their text can be mended.

Called by: `json`. Source: opentelemetry-proto, common, resource, trace, logs and metrics `.proto`.
"""

# ruff: noqa: D101 - each class is the OTLP message of its name, and the .proto files say what that is
from __future__ import annotations

import msgspec

Integer = int | float | str | None
Double = float | str | None
Raws = list[msgspec.Raw] | None


class Message(msgspec.Struct, rename="camel", gc=False):
    """A message: camelCase on the wire, OTLP's names here."""


class AnyValue(Message):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Integer = None
    double_value: Double = None
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None
    bytes_value: str | None = None


class ArrayValue(Message):
    values: list[AnyValue] | None = None


class KeyValue(Message):
    key: str | None = None
    value: AnyValue | None = None


class KeyValueList(Message):
    values: list[KeyValue] | None = None


Attributes = list[KeyValue] | None


class Resource(Message):
    attributes: Attributes = None


class Scope(Message):
    name: str | None = None
    version: str | None = None
    attributes: Attributes = None


class Status(Message):
    code: Integer = None
    message: str | None = None


class Event(Message):
    time_unix_nano: Integer = None
    name: str | None = None
    attributes: Attributes = None
    dropped_attributes_count: Integer = None


class Link(Message):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    attributes: Attributes = None
    dropped_attributes_count: Integer = None
    flags: Integer = None


class Span(Message):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    parent_span_id: str | None = None
    flags: Integer = None
    name: str | None = None
    kind: Integer = None
    start_time_unix_nano: Integer = None
    end_time_unix_nano: Integer = None
    attributes: Attributes = None
    dropped_attributes_count: Integer = None
    events: list[Event] | None = None
    dropped_events_count: Integer = None
    links: list[Link] | None = None
    dropped_links_count: Integer = None
    status: Status | None = None


class LogRecord(Message):
    time_unix_nano: Integer = None
    observed_time_unix_nano: Integer = None
    severity_number: Integer = None
    severity_text: str | None = None
    body: AnyValue | None = None
    attributes: Attributes = None
    dropped_attributes_count: Integer = None
    flags: Integer = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class Points(Message):
    data_points: Raws = None
    aggregation_temporality: Integer = None
    is_monotonic: bool | None = None


class Metric(Message):
    name: str | None = None
    unit: str | None = None
    gauge: Points | None = None
    sum: Points | None = None
    histogram: Points | None = None
    exponential_histogram: Points | None = None
    summary: Points | None = None


class Point(Message):
    attributes: Attributes = None
    start_time_unix_nano: Integer = None
    time_unix_nano: Integer = None
    flags: Integer = None


class NumberPoint(Point):
    as_double: Double = None
    as_int: Integer = None


class HistogramPoint(Point):
    count: Integer = None
    sum: Double = None
    bucket_counts: list[Integer] | None = None
    explicit_bounds: list[Double] | None = None
    min: Double = None
    max: Double = None


class Buckets(Message):
    offset: Integer = None
    bucket_counts: list[Integer] | None = None


class ExponentialPoint(Point):
    count: Integer = None
    sum: Double = None
    scale: Integer = None
    zero_count: Integer = None
    positive: Buckets | None = None
    negative: Buckets | None = None
    min: Double = None
    max: Double = None


class Quantile(Message):
    quantile: Double = None
    value: Double = None


class SummaryPoint(Point):
    count: Integer = None
    sum: Double = None
    quantile_values: list[Quantile] | None = None


class ScopeSpans(Message):
    scope: msgspec.Raw = msgspec.Raw()
    spans: Raws = None


class ResourceSpans(Message):
    resource: msgspec.Raw = msgspec.Raw()
    scope_spans: list[ScopeSpans] | None = None


class TraceRequest(Message):
    resource_spans: list[ResourceSpans] | None = None


class ScopeLogs(Message):
    scope: msgspec.Raw = msgspec.Raw()
    log_records: Raws = None


class ResourceLogs(Message):
    resource: msgspec.Raw = msgspec.Raw()
    scope_logs: list[ScopeLogs] | None = None


class LogsRequest(Message):
    resource_logs: list[ResourceLogs] | None = None


class ScopeMetrics(Message):
    scope: msgspec.Raw = msgspec.Raw()
    metrics: Raws = None


class ResourceMetrics(Message):
    resource: msgspec.Raw = msgspec.Raw()
    scope_metrics: list[ScopeMetrics] | None = None


class MetricsRequest(Message):
    resource_metrics: list[ResourceMetrics] | None = None
