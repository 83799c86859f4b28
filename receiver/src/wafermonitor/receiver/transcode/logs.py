"""One OTLP log record → one `LogRecord` row, and what a lifecycle event says about its run, process or feed.

In: a raw log record of either lane. Out: rows in the assembly's batch. Called by: `walk`.
"""

from __future__ import annotations

from typing import Any

from wafermonitor.receiver.transcode.assembly import Assembly, Sender
from wafermonitor.receiver.transcode.policies import (
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    Marks,
    bounded_run,
    canonical,
    count,
    digest,
    enum,
    instant,
    optional_id,
)
from wafermonitor.runs import lifecycle
from wafermonitor.runs.records import LogRecord, Scope

LARGEST_SEVERITY = 24


def add_log(assembly: Assembly, raw: Any, marks: Marks, sender: Sender, scope: Scope) -> None:
    """Add one log record; raises ItemRejected before anything is added."""
    wire = assembly.wire
    message = wire.item("log_record", raw, marks)
    attributes = wire.attributes(message.attributes, marks)
    body = None if message.body is None else wire.value(message.body, marks)
    sent_ns = instant(wire.integer(message.time_unix_nano))
    observed_ns = instant(wire.integer(message.observed_time_unix_nano))
    row = LogRecord(
        resource=sender.resource,
        scope=scope,
        time_ns=sent_ns or observed_ns or assembly.received_ns,
        observed_ns=observed_ns or assembly.received_ns,
        severity=enum(wire.integer(message.severity_number), LARGEST_SEVERITY, marks),
        severity_text=wire.text(message.severity_text, marks),
        event_name=wire.text(message.event_name, marks),
        body=None if body is None else canonical(body),
        attributes="",
        dropped_attributes=count(wire.integer(message.dropped_attributes_count)),
        flags=count(wire.integer(message.flags)),
        trace_id=optional_id(wire.id(message.trace_id), TRACE_ID_BYTES, "trace id"),
        span_id=optional_id(wire.id(message.span_id), SPAN_ID_BYTES, "span id"),
        digest=b"",
        received_ns=assembly.received_ns,
    )
    assembly.mark(attributes, marks)
    row = row._replace(attributes=canonical(attributes))
    row = row._replace(digest=digest_of(row, sent_ns, observed_ns))
    said_ns = row.time_ns
    if not sent_ns and not observed_ns:
        assembly.timeless.append(row.digest)
        arrived_ns = assembly.arrived_ns(row.digest)
        row = row._replace(time_ns=arrived_ns, observed_ns=arrived_ns)
        # A beat is a sign of life whenever it arrives; all else happened when it was heard of first.
        said_ns = row.received_ns if row.event_name in lifecycle.BEATS else arrived_ns
    assembly.batch.logs.append(row)
    if row.event_name:
        _lifecycle(assembly, sender, row, attributes, said_ns)


def digest_of(row: LogRecord, sent_ns: int, observed_ns: int) -> bytes:
    """What tells two lines apart. Times as they were sent: a second delivery must give the same digest."""
    return digest(
        row.resource.site.encode(),
        row.resource.key,
        row.scope.key,
        row.trace_id or b"",
        row.span_id or b"",
        row.event_name.encode(),
        sent_ns.to_bytes(8, "big"),
        observed_ns.to_bytes(8, "big"),
        row.severity.to_bytes(1, "big"),
        b"" if row.body is None else row.body.encode(),
        row.attributes.encode(),
    )


def _lifecycle(assembly: Assembly, sender: Sender, row: LogRecord, attributes: dict[str, Any], time_ns: int) -> None:
    run = lifecycle.run_of_event(
        sender.origin,
        row.event_name,
        attributes,
        row.attributes,
        trace_id=row.trace_id or b"",
        span_id=row.span_id or b"",
        time_ns=time_ns,
        received_ns=row.received_ns,
    )
    if run is not None:
        assembly.batch.runs.append(bounded_run(run, row.attributes))
    process = lifecycle.process_beat(sender.origin, row.event_name, attributes, time_ns)
    if process is not None:
        assembly.batch.processes.append(process)
    feed = lifecycle.feed_beat(sender.origin, row.event_name, time_ns, row.received_ns)
    if feed is not None:
        assembly.batch.feeds.append(feed)
