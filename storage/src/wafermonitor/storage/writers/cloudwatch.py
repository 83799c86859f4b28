"""Amazon CloudWatch: log records as log events, metric points in the embedded metric format.

In: OTLP requests of logs and metrics. Out: log events of JSON, at the item's time in ms. Called by: `receiver.bridge`, jobs in
mode direct.

logs     the shape of the Collector's awscloudwatchlogs exporter: `body`, `severity_number`, `severity_text`, `trace_id`,
         `span_id`, `attributes`, `scope`, `resource`; and ours: `event_name`, `time_unix_nano`, `observed_time_unix_nano`, `id`
metrics  one event a point, of which CloudWatch makes the metric `<name>` in the namespace: `_aws` (the format's own), the value
         under the metric's name, attributes and dimensions beside it; a histogram or summary is `{Count, Sum, Min, Max}`, as
         the awsemf exporter has it; `resource`, and the rest in `otel` (`unit`, `type`, `temporality`, `time_unix_nano`, …)

Dimensions are site, service and what is set; each combination of their values is a metric that is paid for. A cumulative sum is
written as it came. Accepted is what PutLogEvents has answered for. CloudWatch keeps twice what comes twice: `id` is the same.
It never takes what is older than 14 days or than the group keeps, or more than two hours ahead: that is refused.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from wafermonitor.instrumentation.environment import EnvironmentConfig, option, switch
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers.aws import ERRORS, AwsConfig, Clients, Tally, code_of, outcome_of, unavailable
from wafermonitor.storage.writers.items import Item, Log, Point
from wafermonitor.storage.writers.protocol import Fate, Outcome, Signal
from wafermonitor.storage.writers.rows import plain_json

UNITS: Final = {"s": "Seconds", "ms": "Milliseconds", "us": "Microseconds", "By": "Bytes", "bit": "Bits", "%": "Percent"}
MOST_EVENTS: Final = 10_000
MOST_BYTES: Final = 1_048_576
EVENT_BYTES: Final = 26
"""What CloudWatch adds to each event when it counts."""
OLDEST_MS: Final = 14 * 86_400_000
NEWEST_MS: Final = 2 * 3_600_000
DAY_MS: Final = 86_400_000
_NS_PER_MS: Final = 1_000_000
_GROUP: Final = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_NO_STREAM: Final = re.compile(r"[:*]")
_STREAM_CHARACTERS: Final = 512
_MISSING: Final = "ResourceNotFoundException"
_THERE: Final = "ResourceAlreadyExistsException"
_FINAL: Final = frozenset({"InvalidParameterException"})
_MOST_REFUSALS: Final = 100
"""Calls of one batch. A setting, and no event, is to blame for more, and somebody can mend that."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


@dataclass(frozen=True, kw_only=True)
class Config(AwsConfig):
    """Two log groups and a namespace."""

    component: ClassVar[str] = "cloudwatch"

    log_group_name: str = option(str, "Log group of log records.", default="/wafer-monitor/jobs")
    metric_group_name: str = option(str, "Log group of metric points.", default="/wafer-monitor/metrics")
    stream: str = option(str, "Log stream; `{site}` and `{service}` are the sender's.", default="{site}")
    namespace: str = option(str, "Namespace of the metrics.", default="WaferMonitor")
    dimensions: tuple[str, ...] = option(
        _words, "Attributes that are dimensions besides site and service, by commas.", default=(names.WAFER_JOB_NAME,)
    )
    create: bool = option(switch, "Make groups and streams that are not there.", default=True)


class _Event(NamedTuple):
    """One log event, where it goes, and which item of which request it is."""

    group: str
    stream: str
    time_ms: int
    text: str
    place: int
    position: int

    @property
    def size(self) -> int:
        """As CloudWatch counts."""
        return len(self.text.encode()) + EVENT_BYTES


class Writer:
    """Puts log events."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset({"logs", "metrics"})
    port: ClassVar[int] = 14509

    def __init__(self, config: Config) -> None:
        for group in (config.log_group_name, config.metric_group_name):
            if not _GROUP.fullmatch(group):
                raise StorageRejected(f"cloudwatch: {group!r} is no name of a log group: letters, digits and . - _ / # alone")
        self._config = config
        self._clients = Clients(config)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Put what belongs to one stream at once."""
        tally = Tally(signal, requests)
        now_ms = time.time_ns() // _NS_PER_MS
        events = []
        for place, position, item in tally.items():
            event = self._event(item, place, position, now_ms)
            refusal = "no number" if event is None else _refusal(event, now_ms)
            if event is None or refusal:
                tally.refuse(place, position, refusal)
            else:
                events.append(event)
        later: Outcome | None = None
        for batch in _batches(sorted(events)):
            later = later or self._put(tally, batch)
            if later is not None:
                for event in batch:
                    tally.settle(event.place, later)
        return tally.outcomes()

    def check(self) -> None:
        """Whether CloudWatch answers to this key."""
        try:
            self._clients.of("logs").describe_log_groups(logGroupNamePrefix=self._config.log_group_name, limit=1)
        except ERRORS as error:
            raise unavailable("CloudWatch", error) from None

    def close(self) -> None:
        """End the connections."""
        self._clients.close()

    def _event(self, item: Item, place: int, position: int, now_ms: int) -> _Event | None:
        stream = self._config.stream.replace("{site}", item.resource.site).replace("{service}", item.resource.service)
        group = self._config.log_group_name
        if isinstance(item, Point):
            group = self._config.metric_group_name
            if item.value is None and not item.summary:
                return None
        time_ms = item.time_ns // _NS_PER_MS or now_ms
        told = self._point(item, time_ms) if isinstance(item, Point) else _record(item)
        text = json.dumps(plain_json(told), separators=(",", ":"), ensure_ascii=False)
        return _Event(group, _NO_STREAM.sub("_", stream)[:_STREAM_CHARACTERS] or "-", time_ms, text, place, position)

    def _point(self, point: Point, time_ms: int) -> dict[str, Any]:
        known = point.resource.attributes | point.attributes
        wanted = (names.WAFER_SITE_ID, names.SERVICE_NAME, *self._config.dimensions)
        dimensions = {name: str(known[name]) for name in wanted if known.get(name) not in (None, "")}
        metric = {"Name": point.name} | ({"Unit": UNITS[point.unit]} if point.unit in UNITS else {})
        declared = {"Namespace": self._config.namespace, "Dimensions": [list(dimensions)], "Metrics": [metric]}
        said = point.summary
        otel = {
            "id": point.id, "name": point.name, "unit": point.unit, "type": point.type, "temporality": point.temporality,
            "monotonic": point.monotonic, "time_unix_nano": point.time_ns, "start_time_unix_nano": point.start_ns,
            "scope": {"name": point.scope.name, "version": point.scope.version}, "attributes": point.attributes,
        }  # fmt: skip
        return {
            **point.attributes,
            **dimensions,
            "resource": point.resource.attributes,
            "otel": otel | ({"summary": said} if said else {}),
            point.name: {name.capitalize(): said[name] for name in ("count", "sum", "min", "max") if name in said}
            if said
            else point.value,
            "_aws": {"Timestamp": time_ms, "CloudWatchMetrics": [declared]},
        }

    def _put(self, tally: Tally, batch: list[_Event]) -> Outcome | None:
        """None when CloudWatch has each of them or will never have it; else why all must be tried again.

        It refuses a call as a whole for one event; halves are put until just that one is known.
        """
        waiting = [batch]
        refusals = 0
        while waiting:
            some = waiting.pop()
            try:
                self._note(tally, some, self._answer(some))
            except ERRORS as error:
                outcome = outcome_of("CloudWatch", error, _FINAL)
                refusals += 1
                if outcome.fate is Fate.RETRY:
                    return outcome
                if refusals == _MOST_REFUSALS:
                    return Outcome(Fate.RETRY, f"{outcome.reason} to too many calls: no single event is to blame")
                if len(some) == 1:
                    tally.refuse(some[0].place, some[0].position, outcome.reason)
                else:
                    half = len(some) // 2
                    waiting += [some[half:], some[:half]]
        return None

    def _note(self, tally: Tally, batch: list[_Event], answer: Mapping[str, Any]) -> None:
        """Which events of a call that it took CloudWatch will never have."""
        refused = answer.get("rejectedLogEventsInfo") or {}
        first = max(refused.get("tooOldLogEventEndIndex", 0), refused.get("expiredLogEventEndIndex", 0))
        last = refused.get("tooNewLogEventStartIndex", len(batch))
        for number, event in enumerate(batch):
            if not first <= number < last:
                why = "older than the log group keeps" if number < first else "too far ahead"
                tally.refuse(event.place, event.position, f"CloudWatch refuses it: {why}")

    def _answer(self, batch: Sequence[_Event]) -> dict[str, Any]:
        place = {"logGroupName": batch[0].group, "logStreamName": batch[0].stream}
        events = [{"timestamp": one.time_ms, "message": one.text} for one in batch]
        client = self._clients.of("logs")
        try:
            return dict(client.put_log_events(**place, logEvents=events))
        except ERRORS as error:
            if code_of(error) != _MISSING or not self._config.create:
                raise
        for make, wanted in (
            (client.create_log_group, {"logGroupName": batch[0].group}),
            (client.create_log_stream, place),
        ):
            try:
                make(**wanted)
            except ERRORS as error:
                if code_of(error) != _THERE:
                    raise
        return dict(client.put_log_events(**place, logEvents=events))


def _record(record: Item) -> dict[str, Any]:
    assert isinstance(record, Log)
    found = {
        "body": record.body,
        "severity_number": record.severity,
        "severity_text": record.severity_text,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "event_name": record.event_name,
        "time_unix_nano": record.time_ns,
        "observed_time_unix_nano": record.observed_ns,
        "attributes": record.attributes,
        "scope": {"name": record.scope.name, "version": record.scope.version, "attributes": record.scope.attributes},
        "resource": record.resource.attributes,
        "id": record.id,
    }
    return {name: value for name, value in found.items() if value not in (None, "", 0, {})}


def _refusal(event: _Event, now_ms: int) -> str:
    """Why CloudWatch would never take it; empty when it may."""
    if event.size > MOST_BYTES:
        return f"larger than a log event of {MOST_BYTES} bytes"
    if event.time_ms < now_ms - OLDEST_MS:
        return "CloudWatch takes nothing that is older than 14 days"
    return "CloudWatch takes nothing that is more than two hours ahead" if event.time_ms > now_ms + NEWEST_MS else ""


def _batches(events: Sequence[_Event]) -> Iterator[list[_Event]]:
    """Of one stream each, in order of time, within a day and the limits of one call."""
    batch: list[_Event] = []
    size = 0
    for event in events:
        same = bool(batch) and (event.group, event.stream) == (batch[0].group, batch[0].stream)
        fits = len(batch) < MOST_EVENTS and size + event.size <= MOST_BYTES
        if batch and not (same and fits and event.time_ms - batch[0].time_ms < DAY_MS):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += event.size
    if batch:
        yield batch
