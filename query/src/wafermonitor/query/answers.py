"""Records become answers: what the store knows of runs, spans, logs and metrics, as the models of the API.

In: records of `runs.records` and `storage.protocol`, and the API's now in ns. Out: models.  Called by: routes, stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, cast

from wafermonitor.query.models import (
    AppModel,
    CompletenessModel,
    EtaModel,
    FeedModel,
    LogModel,
    MetricPointModel,
    MetricSeriesModel,
    ProgressModel,
    RunDetail,
    RunModel,
    RunResult,
    SiteModel,
    SpanEvent,
    SpanKind,
    SpanModel,
    SpanStatus,
)
from wafermonitor.runs.completeness import Completeness
from wafermonitor.runs.records import Feed, LogRecord, MetricPoint, Run, Span
from wafermonitor.runs.state import SECOND_NS, Limits, clock_skew, last_sign
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.protocol import ServiceApp, SiteStatus, StoredRun

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS: tuple[SpanKind, ...] = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES: tuple[SpanStatus, ...] = ("unset", "ok", "error")
FAILED = frozenset({"failure", "error", "timeout"})


def instant(at_ns: int) -> str:
    """Write ns as RFC 3339 in UTC: six digits, nine where the last three say something."""
    micros, rest = divmod(at_ns, 1000)
    moment = EPOCH + timedelta(microseconds=micros)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{text}{rest:03d}Z" if rest else f"{text}Z"


def run_id(trace_id: bytes, span_id: bytes) -> str:
    """The `{run}` of URLs."""
    return f"{trace_id.hex()}-{span_id.hex()}"


def run_fields(stored: StoredRun, now_ns: int, parent: bytes | None = None) -> dict[str, Any]:
    """The fields of `RunModel`; `parent` is the parent run's span id where the run itself did not announce one."""
    run = stored.run
    parent = run.parent_span_id or parent
    return {
        "run": run.key.id,
        "site": run.site,
        "trace_id": run.trace_id.hex(),
        "span_id": run.span_id.hex(),
        "job": run.job,
        "run_id": run.run_id,
        "state": stored.state.value,
        "result": run.result,
        "overdue": stored.overdue,
        "inferred": run.inferred,
        "error_type": run.error_type,
        "start": moment(run.start_ns),
        "end": moment(run.end_ns),
        "duration_s": duration_s(run, now_ns),
        "last_sign": moment(last_sign(run)),
        "heartbeat_interval_s": run.heartbeat_interval_s or run.process_interval_s,
        "progress": _progress(run),
        "parent": None if parent is None else run_id(run.trace_id, parent),
        "parent_run_id": run.parent_run_id,
        "feed": run.feed,
        "service": run.service,
        "service_version": run.service_version,
        "attempt": run.attempt,
        "trigger": run.trigger,
        "nominal_time": moment(run.nominal_time_ns),
        "expected_duration_s": run.expected_duration_s,
        "deadline": moment(run.deadline_ns),
        "owner": run.owner,
        "equipment": run.equipment,
        "recipe": run.recipe,
        "product": run.product,
        "lot_ids": list(run.lot_ids or ()),
        "substrate_ids": list(run.substrate_ids or ()),
        "cpu_s": run.cpu_s,
        "memory_bytes": run.memory_bytes,
        "attributes": mapping(run.attributes),
    }


def run_model(stored: StoredRun, now_ns: int, parent: bytes | None = None, end: EtaModel | None = None) -> RunModel:
    """One run as tables and streams show it; `end` is when it will end, where that was asked."""
    return RunModel(**run_fields(stored, now_ns, parent), eta=end)


def run_detail(
    stored: StoredRun,
    counts: Completeness,
    now_ns: int,
    *,
    parent: bytes | None,
    resource: str | None,
    name: str | None,
    truncated: bool,
    end: EtaModel | None = None,
) -> RunDetail:
    """One run as its own page shows it."""
    completeness = CompletenessModel(
        verdict=counts.verdict.value,
        words=counts.words,
        subjobs_started=counts.subjobs_started,
        subjobs_ended=counts.subjobs_ended,
        subjobs_lost=counts.subjobs_lost,
        span_arrived=counts.span_arrived,
        dropped=counts.dropped,
    )
    return RunDetail(
        **run_fields(stored, now_ns, parent),
        eta=end,
        name=name or stored.run.job,
        completeness=completeness,
        resource=mapping(resource),
        truncated=truncated,
        server_time=instant(now_ns),
    )


def cut_from(span: Span | None) -> int:
    """How many attributes, events and links the SDK says it dropped from this span; what it dropped whole it does not say."""
    return 0 if span is None else span.dropped_attributes + span.dropped_events + span.dropped_links


def plain_detail(span: Span, now_ns: int, parent: bytes | None = None) -> RunDetail:
    """A span that is no run, in the shape of one: it has ended, and failed if its status says error."""
    attributes = mapping(span.attributes)
    return RunDetail(
        run=run_id(span.trace_id, span.span_id),
        site=span.resource.site,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        name=span.name,
        plain=True,
        state="ended",
        result="failure" if _status(span) == "error" else "success",
        error_type=attributes.get(names.ERROR_TYPE) if isinstance(attributes.get(names.ERROR_TYPE), str) else None,
        start=instant(span.start_ns),
        end=instant(span.start_ns + span.duration_ns),
        duration_s=span.duration_ns / SECOND_NS,
        parent=None if parent is None else run_id(span.trace_id, parent),
        feed=span.resource.feed,
        service=span.resource.service or None,
        service_version=span.resource.service_version,
        attributes=attributes,
        resource=mapping(span.resource.attributes),
        server_time=instant(now_ns),
    )


def span_model(span: Span, stored: StoredRun | None = None) -> SpanModel:
    """A finished span; `stored` is its run when it is one."""
    attributes = mapping(span.attributes)
    job = attributes.get(names.WAFER_JOB_NAME)
    run = None if stored is None else stored.run
    return SpanModel(
        run=run_id(span.trace_id, span.span_id),
        site=span.resource.site,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=_hex(span.parent_span_id),
        name=span.name,
        kind=KINDS[span.kind] if 0 <= span.kind < len(KINDS) else KINDS[0],
        service=span.resource.service or None,
        scope=span.scope.name or None,
        start=instant(span.start_ns),
        end=instant(span.start_ns + span.duration_ns),
        duration_s=span.duration_ns / SECOND_NS,
        status=_status(span),
        status_message=span.status_message,
        job=run.job if run else job if isinstance(job, str) else None,
        state=None if stored is None else stored.state.value,
        result=None if run is None else _result(run),
        attributes=attributes,
        events=_events(span.events),
        links=[link for link in _items(span.links) if isinstance(link, dict)],
    )


def announced_model(stored: StoredRun, now_ns: int) -> SpanModel:
    """A run whose span has not arrived, drawn as a span: open while nothing has ended it."""
    run = stored.run
    return SpanModel(
        run=run.key.id,
        site=run.site,
        trace_id=run.trace_id.hex(),
        span_id=run.span_id.hex(),
        parent_span_id=_hex(run.parent_span_id),
        name=run.job or run.run_id or run.span_id.hex(),
        kind="internal",
        service=run.service,
        start=instant(first_sign(run)),
        end=moment(run.end_ns),
        duration_s=duration_s(run, now_ns),
        open=not run.ended,
        status="error" if run.result in FAILED else "unset",
        job=run.job,
        state=stored.state.value,
        result=_result(run),
        attributes=mapping(run.attributes),
    )


def log_model(record: LogRecord) -> LogModel:
    """One log record."""
    return LogModel(
        time=instant(record.time_ns),
        severity=record.severity,
        severity_text=record.severity_text,
        event_name=record.event_name,
        body=None if record.body is None else json.loads(record.body),
        service=record.resource.service or None,
        trace_id=_hex(record.trace_id),
        span_id=_hex(record.span_id),
        attributes=mapping(record.attributes),
    )


def series_models(points: Iterable[MetricPoint]) -> list[MetricSeriesModel]:
    """Points in order of series and time → one model a series."""
    return [
        MetricSeriesModel(
            name=first.series.name,
            unit=first.series.unit,
            type=first.series.type,
            attributes=mapping(first.series.attributes),
            points=[_point(point) for point in (first, *group)],
        )
        for _, group in groupby(points, key=lambda point: point.series.key)
        for first in [next(group)]
    ]


def site_model(status: SiteStatus, now_ns: int, limits: Limits) -> SiteModel:
    """A site with the lag of each of its feeds."""
    return SiteModel(
        site=status.site,
        feeds=[_feed(feed, now_ns, limits) for feed in status.feeds],
        open_runs={state.value: count for state, count in status.open_runs.items()},
    )


def app_model(app: ServiceApp) -> AppModel:
    """A service that has sent something."""
    return AppModel(service=app.service, version=app.version, site=app.site, last_seen=instant(app.last_seen_ns))


def duration_s(run: Run, now_ns: int) -> float | None:
    """End − start; for an open run now − start. None without a start, or for one that ended at an unknown time."""
    until_ns = run.end_ns if run.ended else now_ns
    if run.start_ns is None or until_ns is None:
        return None
    return (until_ns - run.start_ns) / SECOND_NS


def first_sign(run: Run) -> int:
    """Where a run stands in time: its start, else the earliest thing known of it, ns."""
    known = (run.start_ns, run.last_sign_ns, run.end_ns, run.received_ns)
    return next((at_ns for at_ns in known if at_ns is not None), 0)


def _feed(feed: Feed, now_ns: int, limits: Limits) -> FeedModel:
    if feed.watermark_ns is None:
        return FeedModel(feed=feed.feed)
    lag_s = (now_ns - clock_skew(feed) - feed.watermark_ns) / SECOND_NS
    return FeedModel(feed=feed.feed, watermark=instant(feed.watermark_ns), lag_s=lag_s, behind=lag_s > limits.behind_s)


def _progress(run: Run) -> ProgressModel | None:
    if run.progress is None:
        return None
    at_ns, ratio, completed, total, unit, stage, message = run.progress
    return ProgressModel(
        at=instant(at_ns), ratio=ratio, completed=completed, total=total, unit=unit, stage=stage, message=message
    )


def _point(point: MetricPoint) -> MetricPointModel:
    return MetricPointModel(
        time=instant(point.time_ns),
        value=point.value,
        count=point.count,
        sum=point.sum,
        min=point.min,
        max=point.max,
        bounds=None if point.bounds is None else list(point.bounds),
        buckets=None if point.buckets is None else list(point.buckets),
    )


def _result(run: Run) -> RunResult | None:
    return cast("RunResult | None", run.result)  # `runs.lifecycle` lets no other word through


def _status(span: Span) -> SpanStatus:
    return STATUSES[span.status] if 0 <= span.status < len(STATUSES) else STATUSES[0]


def _events(text: str | None) -> list[SpanEvent]:
    return [
        SpanEvent(time=instant(event.get("time_ns", 0)), name=event.get("name", ""), attributes=event.get("attributes") or {})
        for event in _items(text)
        if isinstance(event, dict)
    ]


def _items(text: str | None) -> list[Any]:
    value = json.loads(text) if text else []
    return value if isinstance(value, list) else []


def mapping(text: str | None) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def moment(at_ns: int | None) -> str | None:
    """`instant`, of a time that may be unknown."""
    return None if at_ns is None else instant(at_ns)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
