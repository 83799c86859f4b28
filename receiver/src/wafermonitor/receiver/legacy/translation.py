"""An older event → one OTLP log record with the name, ids and attributes of a lifecycle event.

The ids of a run come from its UUIDs alone, so that events find each other whatever order they arrive in: the trace id is the
root's UUID (the parent's, or its own), the span id the first 8 bytes of the SHA-256 of its own.

In: a `Submission`. Out: an OTLP request with the good events, and for each other one why it is refused.
Called by: `lane`, `routes`. The mapping stands in docs/older-routes.md.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple
from uuid import UUID

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from wafermonitor.receiver.errors import ItemRejected
from wafermonitor.receiver.legacy import occurrences
from wafermonitor.receiver.legacy.bodies import NOT_A_NUMBER, App, Entity, Event, Submission, decode, shown, text, wrong
from wafermonitor.receiver.transcode.policies import INT64_MAX, INT64_MIN, Marks, Repair, clean_text, label
from wafermonitor.receiver.transcode.wire import deeper
from wafermonitor.semconv import SCOPE_NAME, events
from wafermonitor.semconv import attributes as names

FLAG_SAMPLED = 1
PARENT_IN_METADATA = "parent_job_id"
"""Where programs without a field for it named the parent."""

Resource = tuple[tuple[str, str], ...]


class Refusal(NamedTuple):
    """Why an event is refused, and the site it names."""

    reason: str
    site: str


class Translation(NamedTuple):
    """The good events as one OTLP request, how many of them were mended, and why the others are none, by place."""

    request: ExportLogsServiceRequest
    repaired: int
    refusals: dict[int, Refusal]


def translate(submission: Submission) -> Translation:
    """Every event of a body, each by itself."""
    request = ExportLogsServiceRequest()
    groups: dict[Resource, ScopeLogs] = {}
    refusals: dict[int, Refusal] = {}
    repaired = 0
    for index, item in enumerate(submission.items):
        site = submission.site
        marks: Marks = set()
        try:
            event = decode(item, marks)
            site = text(event.site_id) or site
            record = _record(event, marks)
        except ItemRejected as error:
            refusals[index] = Refusal(str(error), label(clean_text(site, set()), set()) or "")
            continue
        repaired += bool(marks)
        resource = _resource(event.app or App(), site, submission.source)
        if resource not in groups:
            groups[resource] = _scoped(request, resource)
        groups[resource].log_records.append(record)
    return Translation(request, repaired, refusals)


def ids(entity: UUID, parent: UUID | None) -> tuple[bytes, bytes]:
    """(trace id, span id) of the run that these UUIDs name."""
    return (parent or entity).bytes, hashlib.sha256(entity.bytes).digest()[:8]


def _scoped(request: ExportLogsServiceRequest, resource: Resource) -> ScopeLogs:
    group = request.resource_logs.add()
    group.resource.attributes.extend(KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in resource)
    scoped = group.scope_logs.add()
    scoped.scope.name = SCOPE_NAME
    return scoped


def _resource(app: App, site: str, source: str) -> Resource:
    found = {
        names.WAFER_SITE_ID: site,
        names.SERVICE_NAME: text(app.name),
        names.SERVICE_VERSION: text(app.version),
        names.SERVICE_INSTANCE_ID: text(app.app_id),
        names.WAFER_LEGACY_SOURCE: source,
    }
    return tuple((key, value) for key, value in found.items() if value)


def _record(event: Event, marks: Marks) -> LogRecord:
    entity, occurrence = event.entity, event.event
    if entity is None:
        raise ItemRejected(wrong("entity", "it is missing"))
    if occurrence is None:
        raise ItemRejected(wrong("event", "it is missing"))
    metadata = dict(occurrence.metadata or {})
    own, parent = _uuids(entity, metadata)
    trace_id, span_id = ids(own, parent)
    said = occurrences.read(occurrence, metadata, marks)
    attributes = {
        **_names(entity, event.app or App()),
        names.WAFER_JOB_RUN_ID: str(own),
        names.WAFER_JOB_PARENT_RUN_ID: str(parent) if parent else None,
        names.WAFER_JOB_PARENT_SPAN_ID: ids(parent, None)[1].hex() if parent else None,
        names.WAFER_LEGACY_IDEMPOTENCY_KEY: text(event.idempotency_key) or None,
        **said.attributes,
    }
    if said.event_name == events.WAFER_JOB_START:
        attributes[names.WAFER_LEGACY_APP_ID] = text((event.app or App()).app_id) or None
    pairs = _pairs({key: value for key, value in attributes.items() if value is not None} | said.parameters, marks, 0)
    body = AnyValue(string_value=clean_text(said.body, marks)) if said.body else None
    if marks:
        repairs = ArrayValue(values=[AnyValue(string_value=mark) for mark in sorted(marks)])
        pairs.append(KeyValue(key=names.WAFER_REPAIRED, value=AnyValue(array_value=repairs)))
    return LogRecord(
        time_unix_nano=said.at_ns,
        severity_number=said.severity.number,
        severity_text=said.severity.text,
        event_name=said.event_name,
        trace_id=trace_id,
        span_id=span_id,
        flags=FLAG_SAMPLED,
        attributes=pairs,
        body=body,
    )


def _names(entity: Entity, app: App) -> dict[str, Any]:
    """The job's name, and the key of the other kind where both were given."""
    kind = text(entity.type).lower()
    if kind not in ("job", "subjob"):
        raise ItemRejected(wrong("entity.type", f"{shown(entity.type)} is neither" if entity.type else "it is missing"))
    keys = [text(entity.business_key), text(entity.sub_key)]
    own, other = keys if kind == "job" else reversed(keys)
    name = own or other or text(app.name)
    if not name:
        raise ItemRejected(wrong("entity.business_key", "nothing names the job"))
    return {names.WAFER_JOB_NAME: name, names.WAFER_JOB_KEY: other if other != name and other else None}


def _uuids(entity: Entity, metadata: dict[str, Any]) -> tuple[UUID, UUID | None]:
    """(own, parent's). A parent may stand in the metadata, which is where programs put it that had no field for it."""
    if not text(entity.id):
        raise ItemRejected(wrong("entity.id", "it is missing"))
    own = _uuid("entity.id", text(entity.id))
    named = text(entity.parent_id)
    if not named and isinstance(metadata.get(PARENT_IN_METADATA), str):
        named = metadata.pop(PARENT_IN_METADATA).strip()
    if not named:
        return own, None
    parent = _uuid("entity.parent_id", named)
    if parent == own:
        raise ItemRejected(wrong("entity.parent_id", "it is the entity's own id"))
    return own, parent


def _uuid(field: str, value: str) -> UUID:
    try:
        found = UUID(value)
    except ValueError:
        raise ItemRejected(wrong(field, f"{shown(value)} is no UUID")) from None
    if not found.int:
        raise ItemRejected(wrong(field, "it is the nil UUID"))
    return found


def _pairs(values: dict[str, Any], marks: Marks, depth: int) -> list[KeyValue]:
    return [KeyValue(key=clean_text(key, marks), value=_any(value, marks, depth)) for key, value in values.items()]


def _any(value: Any, marks: Marks, depth: int) -> AnyValue:
    if isinstance(value, list):
        below = deeper(depth)
        return AnyValue(array_value=ArrayValue(values=[_any(item, marks, below) for item in value]))
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=_pairs(value, marks, deeper(depth))))
    if value == NOT_A_NUMBER:
        marks.add(Repair.NOT_FINITE)
        return AnyValue()
    return _scalar(value, marks)


def _scalar(value: Any, marks: Marks) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=clean_text(value, marks))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise ItemRejected("event: an integer has more than 64 bits; send it as text")
        return AnyValue(int_value=value)
    return AnyValue()
