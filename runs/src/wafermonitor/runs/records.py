"""The records that storage writes and reads: one request's worth of rows, and a run as it is known so far.

In: values decoded from OTLP by the receiver. Out: what every storage engine stores, filters and gives back.
Called by: receiver (makes them), storage (keeps them), query (serves them).

Conventions: ids are raw bytes (16 for a trace, 8 for a span); times are integers in ns since 1970-01-01 UTC;
durations and CPU are seconds as float unless the name says `_ns`; `attributes`, `events`, `links` and `body` are JSON text that
PostgreSQL's `jsonb` accepts (no NUL, no lone surrogate, finite numbers only).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from wafermonitor.runs.errors import RunIdRejected

UNSET_SITE = "unset"
"""The site of a record that names none: stored, never refused (design: a record without a site is still a record)."""

MAX_LABEL_BYTES = 1000
"""What names things and is indexed (site, service, job, lot …): a B-tree entry of PostgreSQL takes 2704 bytes."""

_RUN_ID = re.compile(r"([0-9a-fA-F]{32})-([0-9a-fA-F]{16})\Z")


class RunKey(NamedTuple):
    """What names a run everywhere: (site, trace id, span id)."""

    site: str
    trace_id: bytes
    span_id: bytes

    @property
    def id(self) -> str:
        """`<trace id hex>-<span id hex>`, the `{run}` of URLs."""
        return f"{self.trace_id.hex()}-{self.span_id.hex()}"


def parse_run_id(text: str) -> tuple[bytes, bytes]:
    """`<32 hex>-<16 hex>` → (trace id, span id); RunIdRejected names the text and the expected form."""
    match = _RUN_ID.match(text)
    if match is None:
        raise RunIdRejected(f"{text[:80]!r} is no run: expected <trace id, 32 hex>-<span id, 16 hex>")
    return bytes.fromhex(match[1]), bytes.fromhex(match[2])


def label(text: str) -> str:
    """A name that is indexed: cut to MAX_LABEL_BYTES of UTF-8, never inside a character."""
    if len(text) * 4 <= MAX_LABEL_BYTES:
        return text
    return text.encode()[:MAX_LABEL_BYTES].decode("utf-8", "ignore")


class Resource(NamedTuple):
    """One OTLP resource; `key` is the SHA-256 of site and canonical attributes, so equal resources are one row.

    `process_key` names the process that sent it (`lifecycle.process_key`), which is how a run finds its metrics.
    """

    key: bytes
    site: str
    feed: str | None
    service: str
    service_version: str | None
    process_key: bytes | None
    attributes: str


class Scope(NamedTuple):
    """One instrumentation scope; `key` is the SHA-256 of its parts."""

    key: bytes
    name: str
    version: str
    attributes: str


class Span(NamedTuple):
    """One finished span as OTLP gave it. `kind` and `status` are OTLP's enum numbers."""

    resource: Resource
    scope: Scope
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    name: str
    kind: int
    start_ns: int
    duration_ns: int
    status: int
    status_message: str
    attributes: str
    events: str | None
    links: str | None
    dropped_attributes: int
    dropped_events: int
    dropped_links: int
    flags: int
    trace_state: str
    received_ns: int


class LogRecord(NamedTuple):
    """One log record. `digest` (SHA-256) tells two lines apart: see design/3, exactly once in storage."""

    resource: Resource
    scope: Scope
    time_ns: int
    observed_ns: int
    severity: int
    severity_text: str
    event_name: str
    body: str | None
    attributes: str
    dropped_attributes: int
    flags: int
    trace_id: bytes | None
    span_id: bytes | None
    digest: bytes
    received_ns: int


class Series(NamedTuple):
    """One metric series; `key` is the SHA-256 of resource, scope, name, unit, type and attributes.

    `type` is gauge, sum, histogram, exponential_histogram or summary; `temporality` is OTLP's number (0 where it has none).
    """

    key: bytes
    resource: Resource
    scope: Scope
    name: str
    unit: str
    type: str
    temporality: int
    monotonic: bool
    attributes: str


class MetricPoint(NamedTuple):
    """One point of a series. Numbers have `value`; histograms have count, sum, bounds (n) and buckets (n + 1).

    An exponential histogram is stored with the explicit bounds it stands for; a summary has its quantiles in `bounds` and
    their values in `quantile_values`.
    """

    series: Series
    time_ns: int
    start_ns: int | None
    value: float | None
    count: int | None  # type: ignore[assignment]  # OTLP's word; nobody counts the fields of a point
    sum: float | None
    min: float | None
    max: float | None
    bounds: tuple[float, ...] | None
    buckets: tuple[int, ...] | None
    quantile_values: tuple[float, ...] | None
    flags: int
    received_ns: int


class Progress(NamedTuple):
    """How far a run is, as of `at_ns`; the latest wins. `ratio` is 0…1 where it can be known."""

    at_ns: int
    ratio: float | None = None
    completed: float | None = None
    total: float | None = None
    unit: str | None = None
    stage: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of one run. A single event is the same record with few fields set; `merge.merge` joins any two.

    The fields named in `merge.DESCRIPTIVE` say what the run is; `final_fields` has bit i set where field i came with the
    final span, which outranks every announcement. `end_rank` is 0 (not ended), 1 (end event), 2 (final span).
    """

    site: str
    trace_id: bytes
    span_id: bytes
    start_ns: int | None = None
    # What the run is.
    job: str | None = None
    run_id: str | None = None
    parent_span_id: bytes | None = None
    parent_run_id: str | None = None
    feed: str | None = None
    service: str | None = None
    service_version: str | None = None
    attempt: int | None = None
    trigger: str | None = None
    nominal_time_ns: int | None = None
    expected_duration_s: float | None = None
    deadline_ns: int | None = None
    owner: str | None = None
    equipment: str | None = None
    recipe: str | None = None
    product: str | None = None
    lot_ids: tuple[str, ...] | None = None
    substrate_ids: tuple[str, ...] | None = None
    process_key: bytes | None = None
    attributes: str | None = None
    final_fields: int = 0
    # How it ended.
    end_rank: int = 0
    end_ns: int | None = None
    result: str | None = None
    error_type: str | None = None
    # How it is doing.
    heartbeat_interval_s: float | None = None
    last_sign_ns: int | None = None
    progress: Progress | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None
    inferred: bool = False
    received_ns: int | None = None
    # Joined when read, never written: the last heartbeat of the run's process and its interval.
    process_beat_ns: int | None = None
    process_interval_s: float | None = None

    @property
    def key(self) -> RunKey:
        """(site, trace id, span id)."""
        return RunKey(self.site, self.trace_id, self.span_id)

    @property
    def ended(self) -> bool:
        """A final span or an end event has been seen."""
        return self.end_rank > 0


class ProcessBeat(NamedTuple):
    """A heartbeat of one process; it counts for every run the process has open.

    `key` is the first 16 bytes of the SHA-256 of site, host, pid and service.instance.id (`lifecycle.process_key`).
    """

    key: bytes
    site: str
    host: str
    pid: int
    instance_id: str
    beat_ns: int
    interval_s: float | None


class FeedBeat(NamedTuple):
    """A beat of one feed. `beat_ns` is the sender's stamp clamped to `received_ns`; `skew_ns` = received − stamp, unclamped."""

    site: str
    feed: str
    beat_ns: int
    received_ns: int
    skew_ns: int


class Feed(NamedTuple):
    """What is known of a feed: its watermark (last beat), when that arrived, and the smallest skew ever measured."""

    site: str
    feed: str
    watermark_ns: int | None
    received_ns: int | None
    skew_ns: int


class DeadLetter(NamedTuple):
    """An item that cannot be stored: which signal, why, and a sample of at most 64 KiB (what is longer is cut).

    `sample` is a request with the item alone, as it came or, of a row that the store refused, made from the row; the item bare
    where that would be too long; a whole body where a request was refused as a whole. JSON begins with a brace or a bracket,
    protobuf never does. `signal` is OTLP's, or `events` for a body of the older routes.
    """

    site: str
    signal: str
    reason: str
    sample: bytes
    received_ns: int

    @property
    def key(self) -> bytes:
        """SHA-256 of everything but the time, so that what is sent over and over is one letter."""
        return hashlib.sha256(
            b"\0".join((self.site.encode(), self.signal.encode(), self.reason.encode(), self.sample))
        ).digest()


@dataclass(slots=True)
class Batch:
    """Everything one OTLP request becomes. Written in one transaction or not at all."""

    spans: list[Span] = field(default_factory=list)
    logs: list[LogRecord] = field(default_factory=list)
    points: list[MetricPoint] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    processes: list[ProcessBeat] = field(default_factory=list)
    feeds: list[FeedBeat] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)

    @property
    def items(self) -> int:
        """How many spans, log records and points it holds."""
        return len(self.spans) + len(self.logs) + len(self.points)
