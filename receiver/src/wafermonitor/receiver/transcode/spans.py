"""One OTLP span → one `Span` row, and what it and its events say about runs.

In: a raw span of either lane. Out: rows in the assembly's batch. Called by: `walk`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from wafermonitor.receiver.transcode.assembly import Assembly, Sender
from wafermonitor.receiver.transcode.policies import (
    SPAN_ID_BYTES,
    Marks,
    Repair,
    bounded_run,
    canonical,
    count,
    digest,
    enum,
    instant,
    optional_id,
    parts,
    span_id,
    trace_id,
)
from wafermonitor.runs import lifecycle
from wafermonitor.runs.merge import merge
from wafermonitor.runs.records import Run, Scope, Span

LARGEST_KIND = 5
LARGEST_STATUS = 2


class _Times(NamedTuple):
    """In ns; `timeless` is what tells the span apart when neither was said."""

    start_ns: int
    end_ns: int
    timeless: bytes | None


class _Event(NamedTuple):
    time_ns: int
    name: str
    attributes: dict[str, Any]
    dropped: int


def add_span(assembly: Assembly, raw: Any, marks: Marks, sender: Sender, scope: Scope) -> None:
    """Add one span; raises ItemRejected before anything is added."""
    wire = assembly.wire
    message = wire.item("span", raw, marks)
    attributes = wire.attributes(message.attributes, marks)
    start_ns, end_ns, timeless = _times(assembly, message, sender, marks)
    events = [_event(assembly, event, start_ns, marks) for event in parts(message.events)]
    links = [_link(assembly, link, marks) for link in parts(message.links)]
    status = message.status
    row = Span(
        resource=sender.resource,
        scope=scope,
        trace_id=trace_id(wire.id(message.trace_id)),
        span_id=span_id(wire.id(message.span_id)),
        parent_span_id=optional_id(wire.id(message.parent_span_id), SPAN_ID_BYTES, "parent span id"),
        name=wire.text(message.name, marks),
        kind=enum(wire.integer(message.kind), LARGEST_KIND, marks),
        start_ns=start_ns,
        duration_ns=end_ns - start_ns,
        status=0 if status is None else enum(wire.integer(status.code), LARGEST_STATUS, marks),
        status_message="" if status is None else wire.text(status.message, marks),
        attributes="",
        events=canonical([_event_json(event) for event in events]) if events else None,
        links=canonical(links) if links else None,
        dropped_attributes=count(wire.integer(message.dropped_attributes_count)),
        dropped_events=count(wire.integer(message.dropped_events_count)),
        dropped_links=count(wire.integer(message.dropped_links_count)),
        flags=count(wire.integer(message.flags)),
        trace_state=wire.text(message.trace_state, marks),
        received_ns=assembly.received_ns,
    )
    assembly.mark(attributes, marks)
    row = row._replace(attributes=canonical(attributes))
    assembly.take_parts(len(events) + len(links))
    assembly.batch.spans.append(row)
    if timeless is not None:
        assembly.timeless.append(timeless)
    assembly.batch.runs.extend(_runs(assembly, sender, row, attributes, events))


def _times(assembly: Assembly, message: Any, sender: Sender, marks: Marks) -> _Times:
    """A missing start or end takes the other's place; without both, both are when it arrived for the first time."""
    wire = assembly.wire
    start_ns = instant(wire.integer(message.start_time_unix_nano))
    end_ns = instant(wire.integer(message.end_time_unix_nano))
    timeless = None
    if not start_ns:
        marks.add(Repair.NO_START)
        if not end_ns:
            timeless = digest(sender.origin.site.encode(), wire.id(message.trace_id), wire.id(message.span_id))
        start_ns = end_ns if timeless is None else assembly.arrived_ns(timeless)
    if not end_ns:
        marks.add(Repair.NO_END)
        end_ns = start_ns
    if end_ns < start_ns:
        marks.add(Repair.END_BEFORE_START)
        end_ns = start_ns
    return _Times(start_ns, end_ns, timeless)


def _event(assembly: Assembly, message: Any, start_ns: int, marks: Marks) -> _Event:
    wire = assembly.wire
    time_ns = instant(wire.integer(message.time_unix_nano))
    if not time_ns:
        marks.add(Repair.NO_TIME)
    return _Event(
        time_ns or start_ns,
        wire.text(message.name, marks),
        wire.attributes(message.attributes, marks),
        count(wire.integer(message.dropped_attributes_count)),
    )


def _event_json(event: _Event) -> dict[str, Any]:
    shown: dict[str, Any] = {"attributes": event.attributes, "name": event.name, "time_ns": event.time_ns}
    if event.dropped:
        shown["dropped_attributes"] = event.dropped
    return shown


def _link(assembly: Assembly, message: Any, marks: Marks) -> dict[str, Any]:
    """A link is shown as it came, ids of a wrong length too: it is text for the reader, never a key."""
    wire = assembly.wire
    shown: dict[str, Any] = {
        "attributes": wire.attributes(message.attributes, marks),
        "span_id": wire.id(message.span_id).hex(),
        "trace_id": wire.id(message.trace_id).hex(),
    }
    state = wire.text(message.trace_state, marks)
    if state:
        shown["trace_state"] = state
    link_flags = wire.integer(message.flags)
    if link_flags:
        shown["flags"] = link_flags
    lost = wire.integer(message.dropped_attributes_count)
    if lost:
        shown["dropped_attributes"] = lost
    return shown


def _runs(assembly: Assembly, sender: Sender, row: Span, attributes: dict[str, Any], events: list[_Event]) -> list[Run]:
    """The final span's word, and that of span events which stand for lifecycle events: one record, for all speak of one run."""
    final = lifecycle.run_of_span(
        sender.origin,
        attributes,
        row.attributes,
        trace_id=row.trace_id,
        span_id=row.span_id,
        start_ns=row.start_ns,
        end_ns=row.start_ns + row.duration_ns,
        status=row.status,
        received_ns=assembly.received_ns,
    )
    runs = [] if final is None else [bounded_run(final, row.attributes)]
    for event in events:
        if event.name not in lifecycle.RUN_EVENTS:
            continue
        text = canonical(event.attributes)
        run = lifecycle.run_of_event(
            sender.origin,
            event.name,
            event.attributes,
            text,
            trace_id=row.trace_id,
            span_id=row.span_id,
            time_ns=event.time_ns,
            received_ns=assembly.received_ns,
        )
        if run is not None:
            run = bounded_run(run, text)
            runs[:] = [merge(runs[0], run) if runs else run]
    return runs
