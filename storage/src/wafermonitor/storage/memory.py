"""The memory engine: the whole protocol in dictionaries, for tests, trials and as the contract's plainest reading.

In: batches. Out: the same answers as PostgreSQL gives, until the process ends. Called by: tests, `storage.connect` (`memory://`).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from wafermonitor.runs.merge import greatest, merge
from wafermonitor.runs.records import (
    Batch,
    DeadLetter,
    Feed,
    FeedBeat,
    LogRecord,
    MetricPoint,
    ProcessBeat,
    Resource,
    Run,
    RunKey,
    Span,
)
from wafermonitor.runs.state import Limits, State, overdue, run_state
from wafermonitor.storage import pasts
from wafermonitor.storage.cursors import DEAD_LETTER, FAILING_RUN, LOG, NEWEST_RUN, NEWEST_SPAN, SPAN, page_of
from wafermonitor.storage.errors import CursorRejected, StorageRejected
from wafermonitor.storage.matching import failing_order, matches, newest_order, start_or_least, with_process
from wafermonitor.storage.memory_watch import Watch
from wafermonitor.storage.protocol import (
    Changes,
    DeadLetterQuery,
    LogQuery,
    MetricQuery,
    Page,
    Part,
    PastRun,
    RunQuery,
    ServiceApp,
    SiteStatus,
    SpanQuery,
    StartsWanted,
    StoredDeadLetter,
    StoredRun,
    StoredStart,
    StoreHealth,
    Tally,
)

_TOKEN = re.compile(r"([0-9a-f]{32})\.([0-9]{1,18})\Z")
"""Of which store, and how many changes it had seen."""


class Storage:
    """A store that lives as long as its process. `clock` gives now in ns, so that tests can hold it still."""

    def __init__(self, *, clock: Callable[[], int] = time.time_ns, limits: Limits | None = None) -> None:
        tables = _Tables()
        self.writer = Writer(tables)
        self.reader = Reader(tables, clock, limits or Limits())
        self.watch = Watch(clock)

    async def close(self) -> None:
        """Nothing to let go of."""


class _Tables:
    """What PostgreSQL keeps in tables, keyed as its unique indexes are."""

    def __init__(self) -> None:
        self.spans: dict[tuple[bytes, bytes, int, str], Span] = {}
        self.logs: dict[tuple[int, bytes], LogRecord] = {}
        self.points: dict[tuple[bytes, int], MetricPoint] = {}
        self.runs: dict[RunKey, Run] = {}
        self.open: set[RunKey] = set()
        self.processes: dict[bytes, ProcessBeat] = {}
        self.feeds: dict[tuple[str, str], Feed] = {}
        self.resources: dict[bytes, Resource] = {}
        self.last_seen: dict[tuple[str, str], ServiceApp] = {}
        self.sites: set[str] = set()
        self.dead: dict[str, StoredDeadLetter] = {}
        self.arrivals: dict[bytes, int] = {}
        self.changed: dict[RunKey, int] = {}
        self.change = 0
        self.origin = uuid.uuid4().hex
        self.newest_received_ns: int | None = None
        self.jobs: dict[str, dict[RunKey, None]] = {}

    def of_jobs(self, jobs: Iterable[str]) -> Iterator[Run]:
        """The runs of these jobs."""
        return (self.runs[key] for job in jobs for key in self.jobs.get(job, ()) if self.runs[key].job == job)


class Writer:
    """Stores batches; a key that is already there is not stored again."""

    row_format = None

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def write(self, batches: Sequence[Batch | Part]) -> None:
        """Store all of `batches`."""
        for batch in batches:
            if isinstance(batch, Part):
                raise StorageRejected("the memory engine takes records, not rows")
            self._write(batch)

    async def first_arrivals(self, arrivals: Mapping[bytes, int]) -> dict[bytes, int]:
        """Remembered until the process ends."""
        return {digest: self._tables.arrivals.setdefault(digest, time_ns) for digest, time_ns in arrivals.items()}

    async def forget_dead_letter(self, key: str) -> bool:
        """Delete it."""
        return self._tables.dead.pop(key, None) is not None

    async def mark_dead_letter(self, key: str, retried_ns: int, answer: str) -> bool:
        """Count one retry."""
        known = self._tables.dead.get(key)
        if known is None:
            return False
        self._tables.dead[key] = known._replace(retries=known.retries + 1, retried_ns=retried_ns, answer=answer)
        return True

    async def close(self) -> None:
        """Nothing to let go of."""

    def _write(self, batch: Batch) -> None:
        tables = self._tables
        for span in batch.spans:
            tables.spans.setdefault((span.trace_id, span.span_id, span.start_ns, span.resource.site), span)
            self._see(span.resource, span.received_ns)
        for log in batch.logs:
            tables.logs.setdefault((log.time_ns, log.digest), log)
            self._see(log.resource, log.received_ns)
        for point in batch.points:
            tables.points.setdefault((point.series.key, point.time_ns), point)
            self._see(point.series.resource, point.received_ns)
        for run in batch.runs:
            self._merge(run)
        for process in batch.processes:
            self._beat_process(process)
        for feed in batch.feeds:
            self._beat_feed(feed)
        for letter in batch.dead:
            key = letter.key.hex()
            tables.sites.add(letter.site)
            tables.dead.setdefault(key, StoredDeadLetter(key, letter, 0, None, None))

    def _merge(self, run: Run) -> None:
        tables = self._tables
        known = tables.runs.get(run.key)
        merged = run if known is None else merge(known, run)
        tables.sites.add(run.site)
        if merged != known:
            tables.change += 1
            tables.runs[run.key] = merged
            if merged.ended:
                tables.open.discard(run.key)
            else:
                tables.open.add(run.key)
            tables.changed[run.key] = tables.change
            if merged.job is not None:
                tables.jobs.setdefault(merged.job, {})[run.key] = None

    def _beat_process(self, beat: ProcessBeat) -> None:
        known = self._tables.processes.get(beat.key)
        if known is not None:
            interval_s = greatest(known.interval_s, beat.interval_s)
            beat = beat._replace(beat_ns=max(known.beat_ns, beat.beat_ns), interval_s=interval_s)
        self._tables.processes[beat.key] = beat

    def _beat_feed(self, beat: FeedBeat) -> None:
        known = self._tables.feeds.get((beat.site, beat.feed), Feed(beat.site, beat.feed, None, None, beat.skew_ns))
        self._tables.sites.add(beat.site)
        self._tables.feeds[beat.site, beat.feed] = known._replace(
            watermark_ns=greatest(known.watermark_ns, beat.beat_ns),
            received_ns=greatest(known.received_ns, beat.received_ns),
            skew_ns=min(known.skew_ns, beat.skew_ns),
        )

    def _see(self, resource: Resource, received_ns: int) -> None:
        tables = self._tables
        tables.resources[resource.key] = resource
        tables.sites.add(resource.site)
        tables.newest_received_ns = greatest(tables.newest_received_ns, received_ns)
        known = tables.last_seen.get((resource.site, resource.service))
        if known is None or known.last_seen_ns < received_ns:
            app = ServiceApp(resource.service, resource.service_version, resource.site, received_ns)
            tables.last_seen[resource.site, resource.service] = app


class Reader:
    """Answers from the same dictionaries."""

    def __init__(self, tables: _Tables, clock: Callable[[], int], limits: Limits) -> None:
        self._tables = tables
        self._clock = clock
        self._limits = limits

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """Filter, order, cut."""
        now_ns = self._clock()
        only_open = query.state and State.ENDED not in query.state
        runs = [self._tables.runs[key] for key in self._tables.open] if only_open else self._tables.runs.values()
        found = [stored for run in runs if matches(stored := self._judge(run, now_ns), query)]
        failing = query.order == "failing"
        order, shape = (failing_order, FAILING_RUN) if failing else (newest_order, NEWEST_RUN)
        return page_of(found, order, shape, query.cursor, query.limit)

    async def run(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> StoredRun | None:
        """The run with these ids; the first site by name where several have it."""
        found = sorted(
            (run for key, run in self._tables.runs.items() if key[1:] == (trace_id, span_id) and site in (None, key.site)),
            key=lambda run: run.site,
        )
        return self._judge(found[0], self._clock()) if found else None

    async def tree(self, trace_id: bytes, site: str | None = None, limit: int = 10_000) -> list[StoredRun]:
        """Every run of the trace, oldest first."""
        now_ns = self._clock()
        found = [run for key, run in self._tables.runs.items() if key.trace_id == trace_id and site in (None, key.site)]
        found.sort(key=lambda run: (start_or_least(run.start_ns), run.span_id, run.site))
        return [self._judge(run, now_ns) for run in found[:limit]]

    async def spans(self, query: SpanQuery) -> Page[Span]:
        """A trace's spans, oldest first; or a service's root spans, newest first."""
        found = [span for span in self._tables.spans.values() if _span_matches(span, query)]
        order, shape = (_newest_span_order, NEWEST_SPAN) if query.trace_id is None else (_span_order, SPAN)
        return page_of(found, order, shape, query.cursor, query.limit)

    async def span(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> Span | None:
        """The first span with these ids by start and site."""
        found = [
            span
            for key, span in self._tables.spans.items()
            if key[:2] == (trace_id, span_id) and site in (None, span.resource.site)
        ]
        return min(found, key=lambda span: (span.start_ns, span.resource.site), default=None)

    async def logs(self, query: LogQuery) -> Page[LogRecord]:
        """A run's or a trace's records, oldest first."""
        found = [log for log in self._tables.logs.values() if _log_matches(log, query)]
        return page_of(found, lambda log: (log.time_ns, log.digest.hex()), LOG, query.cursor, query.limit)

    async def metrics(self, query: MetricQuery) -> list[MetricPoint]:
        """Points of the process's series, or of the service's where the process is not known."""
        found = [point for point in self._tables.points.values() if _point_matches(point, query)]
        found.sort(key=lambda point: (point.series.name, point.series.key, point.time_ns))
        return found[: query.limit]

    async def sites(self) -> list[SiteStatus]:
        """Sites by name, with their feeds and open runs."""
        now_ns = self._clock()
        statuses = []
        for site in sorted(self._tables.sites):
            feeds = [feed for key, feed in sorted(self._tables.feeds.items()) if key[0] == site]
            counts: dict[State, int] = {}
            for run in self._tables.runs.values():
                if run.site == site and not run.ended and not run.inferred:
                    state = self._judge(run, now_ns).state
                    counts[state] = counts.get(state, 0) + 1
            statuses.append(SiteStatus(site, feeds, counts))
        return statuses

    async def apps(self, site: str | None = None) -> list[ServiceApp]:
        """Services by site and name."""
        return [app for key, app in sorted(self._tables.last_seen.items()) if site in (None, key[0])]

    async def changes(self, token: str | None, limit: int = 500) -> Changes:
        """Runs changed after the token's change number."""
        now = self._tables.change
        if token is None:
            return Changes([], f"{self._tables.origin}.{now}")
        given = _TOKEN.match(token)
        if given is None:
            raise CursorRejected(f"{token[:40]!r} is no change token: start again without one")
        origin, since = given[1], int(given[2])
        if origin != self._tables.origin or since > now:
            raise CursorRejected("this change token is from another store: start again without one")
        newer = sorted((number, key) for key, number in self._tables.changed.items() if number > since)[:limit]
        now_ns = self._clock()
        runs = [self._judge(self._tables.runs[key], now_ns) for _, key in newer]
        return Changes(runs, f"{origin}.{newer[-1][0] if newer else now}")

    async def dead_letters(self, query: DeadLetterQuery) -> Page[StoredDeadLetter]:
        """Dead letters, newest first."""
        found = [stored for stored in self._tables.dead.values() if _letter_matches(stored.letter, query)]
        return page_of(found, lambda stored: (-stored.letter.received_ns, stored.key), DEAD_LETTER, query.cursor, query.limit)

    async def dead_letter(self, key: str) -> StoredDeadLetter | None:
        """The one with this key."""
        return self._tables.dead.get(key)

    async def starts(self, wanted: Sequence[StartsWanted], limit: int = 1000) -> list[list[StoredStart]]:
        """Of the runs as they are now."""
        return pasts.starts(self._tables.of_jobs({want.job for want in wanted}), wanted, limit)

    async def history(self, jobs: Sequence[tuple[str, str]], limit: int = 200) -> list[list[PastRun]]:
        """Of the runs as they are now."""
        return pasts.history(self._tables.of_jobs({job for _, job in jobs}), jobs, limit)

    async def tallies(self, from_ns: int, to_ns: int) -> list[Tally]:
        """Of the runs as they are now."""
        return pasts.tallies(self._tables.runs.values(), from_ns, to_ns)

    async def limits(self) -> Limits:
        """As given when the store was made."""
        return self._limits

    async def health(self) -> StoreHealth:
        """Always there."""
        return StoreHealth("memory", "1", self._tables.newest_received_ns)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _judge(self, run: Run, now_ns: int) -> StoredRun:
        process = self._tables.processes.get(run.process_key) if run.process_key else None
        if process is not None:
            run = with_process(run, process)
        feed = self._tables.feeds.get((run.site, run.feed)) if run.feed else None
        return StoredRun(run, run_state(run, feed, now_ns, self._limits), overdue(run, now_ns))


def _span_matches(span: Span, query: SpanQuery) -> bool:
    if query.site not in (None, span.resource.site):
        return False
    if query.trace_id is None and span.parent_span_id is not None:
        return False
    return (
        query.trace_id in (None, span.trace_id)
        and query.app in (None, span.resource.service)
        and (query.from_ns is None or span.start_ns >= query.from_ns)
        and (query.to_ns is None or span.start_ns < query.to_ns)
    )


def _log_matches(log: LogRecord, query: LogQuery) -> bool:
    return (
        log.trace_id == query.trace_id
        and query.span_id in (None, log.span_id)
        and query.site in (None, log.resource.site)
        and log.severity >= query.min_severity
        and (not query.event_names or log.event_name in query.event_names)
    )


def _letter_matches(letter: DeadLetter, query: DeadLetterQuery) -> bool:
    return (
        (not query.site or letter.site in query.site)
        and (not query.signal or letter.signal in query.signal)
        and (not query.text or query.text.lower() in letter.reason.lower())
    )


def _point_matches(point: MetricPoint, query: MetricQuery) -> bool:
    resource = point.series.resource
    if query.process_key is not None:
        same = resource.process_key == query.process_key
    else:
        same = query.service is not None and resource.service == query.service
    return (
        same
        and resource.site == query.site
        and query.from_ns <= point.time_ns <= query.to_ns
        and (not query.names or point.series.name in query.names)
    )


def _span_order(span: Span) -> tuple[Any, ...]:
    return (span.start_ns, span.span_id.hex(), span.resource.site)


def _newest_span_order(span: Span) -> tuple[Any, ...]:
    return (-span.start_ns, span.trace_id.hex(), span.span_id.hex(), span.resource.site)
