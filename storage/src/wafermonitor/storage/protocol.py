"""The one protocol every engine implements: a Writer that stores batches exactly once, a Reader that answers questions.

In: `runs.records` from the receiver, questions from the query layer. Out: the same records.
Implemented by: `storage.memory`, `storage.timescale`, `storage.clickhouse`. Called by: receiver (Writer), query (Reader).

Errors: StorageUnavailable (try again) and StorageRejected (never will); nothing else leaves an engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from wafermonitor.runs.records import Batch, DeadLetter, Feed, LogRecord, MetricPoint, Run, RunKey, Span
from wafermonitor.runs.state import Limits, State

if TYPE_CHECKING:
    from wafermonitor.storage.watch import Watch  # which gives pages, too

T = TypeVar("T")
MAX_PAGE = 1000
"""The largest page a reader gives; a larger wish is cut to it."""


def page_limit(wish: int) -> int:
    """How many items a page has at most, of which `wish` are wanted: 1 to MAX_PAGE."""
    return max(1, min(wish, MAX_PAGE))


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


class StepHealth(NamedTuple):
    """A step of the store's maintenance: s since it last succeeded (None: never), whether it is late, whether it fails."""

    step: str
    age_s: float | None
    late: bool
    failing: bool


class StoreHealth(NamedTuple):
    """Which engine, which server version, when the newest record arrived (ns, None while empty), steps of maintenance.

    `steps`: those that ever ran; none of an engine that keeps itself in order.
    """

    engine: str
    version: str
    newest_received_ns: int | None
    steps: tuple[StepHealth, ...] = ()


class StoredDeadLetter(NamedTuple):
    """A dead letter with its key (hex), and how often it was sent again in vain, when last (ns) and what was answered."""

    key: str
    letter: DeadLetter
    retries: int
    retried_ns: int | None
    answer: str | None


class StartsWanted(NamedTuple):
    """The runs of one job that start at `from_ns` or later; a site of None is every site."""

    site: str | None
    job: str
    from_ns: int


class StoredStart(NamedTuple):
    """One run as it is needed to match it with an expectation. `announced`: it was heard of before its end."""

    key: RunKey
    job: str
    start_ns: int | None
    received_ns: int | None
    nominal_ns: int | None
    run_id: str | None
    attempt: int | None
    lot_ids: tuple[str, ...]
    feed: str | None
    announced: bool
    end_ns: int | None
    result: str | None


class PastRun(NamedTuple):
    """One run that ended, as it is needed to say how long the next will take. `duration_s` is None where no start is known."""

    key: RunKey
    start_ns: int
    duration_s: float | None
    result: str | None
    error_type: str | None
    equipment: str | None
    recipe: str | None
    product: str | None
    memory_bytes: int | None


class Tally(NamedTuple):
    """How many runs of a job at a site ended in a stretch of time, how many of them badly, how many past their deadline."""

    site: str
    job: str
    ended: int
    bad: int
    late: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterQuery:
    """Which dead letters, the newest first. Empty tuples do not filter; `text` is a part of the reason, in any case."""

    site: tuple[str, ...] = ()
    signal: tuple[str, ...] = ()
    text: str | None = None
    cursor: str | None = None
    limit: int = 100


class Numbers(NamedTuple):
    """The numbers that the store gave to a block's names; each list is aligned with the block's list of that name.

    `apps` has one number for each resource: that of its (site, service).
    """

    sites: list[int]
    apps: list[int]
    resources: list[int]
    scopes: list[int]
    series: list[int]


class RowFormat(StrEnum):
    """How the rows of a block are written; a writer takes one format, or records alone."""

    COPY_BINARY = "copy_binary"
    """PostgreSQL's COPY BINARY: `Block.rows` and `Block.runs`."""
    ROW_BINARY = "row_binary"
    """ClickHouse's RowBinary: `Block.row_binary`, `Block.run_rows` and `Block.name_rows`."""


class Block(Protocol):
    """Requests that were decoded straight to the rows of the store, as the native lane does it.

    A block's rows are in one format; asked for the other, it raises ValueError. In COPY_BINARY names are numbered by the
    block's own lists until `rows` and `runs` put the store's numbers in their place. Tuples hold the fields of the record they
    are named after, in its order; for a resource or scope they hold its place in the list.
    """

    @property
    def outcomes(self) -> list[tuple[int, int, int, str, int, str | None]]:
        """Of each request: (items kept, rows to write, items rejected, message, items repaired, why all of it is refused)."""

    @property
    def sites(self) -> list[str]:
        """Every site that a row of the block names."""

    @property
    def resources(self) -> list[tuple[bytes, str, str | None, str, str | None, bytes | None, str]]:
        """`Resource` fields."""

    @property
    def scopes(self) -> list[tuple[bytes, str, str, str]]:
        """`Scope` fields."""

    @property
    def series(self) -> list[tuple[bytes, int, int, str, str, str, int, bool, str]]:
        """`Series` fields."""

    def rows(  # noqa: PLR0917 - the order of the compiled twin, which has no keywords
        self, table: str, first: int, last: int, numbers: Numbers, oldest_us: int, newest_us: int
    ) -> tuple[bytes, int, bytes, int]:
        """COPY BINARY streams of `span`, `log_record` or `metric_point`: (hot, its rows, late, its rows).

        Of requests `first` to before `last`. Rows with a time outside [oldest_us, newest_us) are late; no two rows have
        one key; a stream without a row is empty. Columns: `timescale.rows`.
        """

    def runs(self, first: int, last: int, numbers: Numbers) -> tuple[bytes, int]:
        """A COPY BINARY stream of run deltas and its rows; one row for each run, merged by `runs.merge`."""

    def row_binary(self, table: str, first: int, last: int, precedence: int) -> bytes:
        """RowBinary rows of `span`, `log_record` or `metric_point`, of requests `first` to before `last`, doubles among them.

        Columns: `clickhouse.rows`. Of the rows with one key the store keeps one with the greatest `precedence`.
        """

    def run_rows(self, first: int, last: int, call: bytes) -> tuple[bytes, bytes]:
        """RowBinary rows of `run`, one for each message, and of `run_change`, one for each run.

        `call` is the 6 bytes that name the call of the writer.
        """

    def name_rows(self, table: str, seen_s: int) -> list[tuple[bytes, bytes]]:
        """(key, RowBinary row) of every name of the block in `resource`, `scope` or `metric_series`."""

    def processes(self, first: int, last: int) -> list[tuple[bytes, str, str, int, str, int, float | None]]:
        """`ProcessBeat` fields."""

    def feeds(self, first: int, last: int) -> list[tuple[str, str, int, int, int]]:
        """`FeedBeat` fields."""

    def dead(self, first: int, last: int) -> list[tuple[str, str, str, bytes, int]]:
        """`DeadLetter` fields."""

    def apps(self, first: int, last: int) -> list[tuple[int, int]]:
        """(place of the resource, when its newest row was received in ns) of every resource with a row."""

    @property
    def timeless(self) -> list[tuple[int, bytes]]:
        """(number of the request, digest) of every stored item that says no time of its own: see `Writer.first_arrivals`."""


class Part(NamedTuple):
    """Requests `first` to before `last` of a block: what a writer takes, and what a group that fails is halved into."""

    block: Block
    first: int
    last: int


class Writer(Protocol):
    """Stores what receivers accept. One instance may be used by several tasks."""

    @property
    def row_format(self) -> RowFormat | None:
        """The format of the Parts that `write` takes as well as Batches; None where it takes Batches alone."""

    async def write(self, batches: Sequence[Batch | Part]) -> None:
        """Store all of `batches` durably. Rows that are already there are not stored again.

        When it fails, none of it is stored, or some of it: whoever gives the same again loses nothing and doubles nothing.

        A name that is searched by (job, run id, lot, metric …) may be cut to 1000 bytes. Site, service and feed say whose a row
        is: they are never cut, but refused when an index cannot hold them.

        Raises StorageUnavailable (retry the same call) or StorageRejected (some row can never be stored: the caller finds out
        which batch by writing them one by one).
        """

    async def first_arrivals(self, arrivals: Mapping[bytes, int]) -> dict[bytes, int]:
        """When each item that says no time of its own arrived for the first time, by the digest that tells it apart (ns).

        That is what is given here, unless another time was given for the digest before: redelivered, the item takes the time
        it took then, and its row is the same. Remembered for `remember_arrivals_s`, and as durably as the rows that are written
        after this call. Raises StorageUnavailable.
        """

    async def forget_dead_letter(self, key: str) -> bool:
        """Delete the dead letter with this key (it was sent again and taken, or nobody wants it); False when there is none."""

    async def mark_dead_letter(self, key: str, retried_ns: int, answer: str) -> bool:
        """Note that it was sent again and what was answered, once more without success; False when there is none."""

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
        """What changed since `token`; None starts now, with no runs. CursorRejected where the token is of another store."""

    async def dead_letters(self, query: DeadLetterQuery) -> Page[StoredDeadLetter]:
        """Dead letters, a page at a time."""

    async def dead_letter(self, key: str) -> StoredDeadLetter | None:
        """One dead letter by its key."""

    async def starts(self, wanted: Sequence[StartsWanted], limit: int = 1000) -> list[list[StoredStart]]:
        """For each of `wanted` its runs in order of start, the newest `limit` of them. `len(wanted)` may be 10,000."""

    async def history(self, jobs: Sequence[tuple[str, str]], limit: int = 200) -> list[list[PastRun]]:
        """For each (site, job) the runs that ended last, the newest start first."""

    async def tallies(self, from_ns: int, to_ns: int) -> list[Tally]:
        """Of every job at every site with runs that ended in [from_ns, to_ns)."""

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

    @property
    def watch(self) -> Watch | None:
        """What alerting keeps; None of an engine that has no place for it."""

    async def close(self) -> None:
        """Close both, and stop a server that was started for them."""
