"""The one protocol every engine implements: a Writer that stores batches exactly once, a Reader that answers questions.

In: `runs.records` from the receiver, questions from the query layer. Out: the same records.
Implemented by: `storage.memory`, `storage.timescale`. Called by: receiver (Writer), query (Reader).

Errors: StorageUnavailable (try again) and StorageRejected (never will); nothing else leaves an engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from wafermonitor.runs.records import Batch, Feed, LogRecord, MetricPoint, Run, Span
from wafermonitor.runs.state import Limits, State

T = TypeVar("T")
MAX_PAGE = 1000
"""The largest page a reader gives; a larger wish is cut to it."""


class Page(NamedTuple, Generic[T]):
    """Some items and the opaque cursor of the next page, None on the last."""

    items: list[T]
    cursor: str | None


class StoredRun(NamedTuple):
    """A run with what the store knew when it was read: its state, whether it is overdue, and its feed."""

    run: Run
    state: State
    overdue: bool


class Changes(NamedTuple):
    """Runs that changed since a token, at least once each, and the token to ask with next."""

    runs: list[StoredRun]
    token: str


class ServiceApp(NamedTuple):
    """A service that has sent spans: name, newest version, and when last seen (ns)."""

    service: str
    version: str | None
    site: str
    last_seen_ns: int


class SiteStatus(NamedTuple):
    """A site with its feeds and how many of its runs are in which state (open runs only)."""

    site: str
    feeds: list[Feed]
    open_runs: dict[State, int]


class StoreHealth(NamedTuple):
    """Which engine, which server version, and when the newest record arrived (ns, None while empty)."""

    engine: str
    version: str
    newest_received_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs, in which order. Empty tuples do not filter. Times are ns; `from_ns` ≤ start < `to_ns`.

    `subjobs`: None gives all, False only roots (no parent run), True only subjobs. `order`: `newest` by start, or `failing`
    (lost, silent, unknown, overdue, failed first, then newest).  `attributes` are exact matches on the run's attributes.
    `inferred`: True only runs lost for so long that they count as ended, False only the others.
    """

    site: tuple[str, ...] = ()
    job: tuple[str, ...] = ()
    state: tuple[State, ...] = ()
    result: tuple[str, ...] = ()
    app: tuple[str, ...] = ()
    lot: tuple[str, ...] = ()
    substrate: tuple[str, ...] = ()
    equipment: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()
    product: tuple[str, ...] = ()
    run_id: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    overdue: bool | None = None
    inferred: bool | None = None
    subjobs: bool | None = None
    parent: tuple[bytes, bytes] | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    order: str = "newest"
    cursor: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Log records of one run (its trace and span), or of the whole trace when `span_id` is None; oldest first."""

    site: str | None = None
    trace_id: bytes
    span_id: bytes | None = None
    min_severity: int = 0
    event_names: tuple[str, ...] = ()
    cursor: str | None = None
    limit: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanQuery:
    """Spans of one trace in order of start, or (without `trace_id`) the newest root spans of a service."""

    site: str | None = None
    trace_id: bytes | None = None
    app: str | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    cursor: str | None = None
    limit: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuery:
    """Points of the series of one run's process (resource) between two times; `names` empty means all."""

    site: str
    process_key: bytes | None
    service: str | None
    from_ns: int
    to_ns: int
    names: tuple[str, ...] = ()
    limit: int = 10_000


class Writer(Protocol):
    """Stores what receivers accept. One instance may be used by several tasks; each call is one transaction."""

    async def write(self, batches: Sequence[Batch]) -> None:
        """Store all of `batches` durably, or none. Rows that are already there are not stored again.

        A name that is searched by (job, run id, lot, metric …) may be cut to 1000 bytes. Site, service and feed say whose a row
        is: they are never cut, but refused when an index cannot hold them.

        Raises StorageUnavailable (retry the same call) or StorageRejected (some row can never be stored: the caller finds out
        which batch by writing them one by one).
        """

    async def close(self) -> None:
        """Finish what was begun and let go of every connection."""


class Reader(Protocol):
    """Answers questions about what is stored. Every answer is bounded."""

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """Runs that match, a page at a time."""

    async def run(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> StoredRun | None:
        """One run; without a site the first one found."""

    async def tree(self, trace_id: bytes, site: str | None = None, limit: int = 10_000) -> list[StoredRun]:
        """Every run of a trace, in order of start."""

    async def spans(self, query: SpanQuery) -> Page[Span]:
        """Spans, a page at a time."""

    async def span(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> Span | None:
        """One span, run or plain."""

    async def logs(self, query: LogQuery) -> Page[LogRecord]:
        """Log records, a page at a time."""

    async def metrics(self, query: MetricQuery) -> list[MetricPoint]:
        """Points in order of series and time."""

    async def sites(self) -> list[SiteStatus]:
        """Every site that ever sent something."""

    async def apps(self, site: str | None = None) -> list[ServiceApp]:
        """Every service that ever sent a span or a run."""

    async def changes(self, token: str | None, limit: int = 500) -> Changes:
        """What changed since `token`; None starts now, with no runs."""

    async def limits(self) -> Limits:
        """The limits by which states are judged."""

    async def health(self) -> StoreHealth:
        """Who answers; StorageUnavailable when nobody does."""

    async def close(self) -> None:
        """Let go of every connection."""


class Storage(Protocol):
    """One opened store: a way to write and a way to read."""

    @property
    def writer(self) -> Writer:
        """The way in."""

    @property
    def reader(self) -> Reader:
        """The way out."""

    async def close(self) -> None:
        """Close both, and stop a server that was started for them."""
