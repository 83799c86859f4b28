"""Changes of runs and alerts as they happen: one poller of each for the process, fanned out to every open stream.

In: `Reader.changes`, the open runs' states, `AlertFeed`. Out: server-sent events.  Called by: routes.stream, app.

Events (HTML standard, server-sent events):
- `hello` (`Hello`): first on every stream, and again when a client was too slow. With `resumed: false` the client loads what
  it shows, after this event, and then misses nothing.
- `run` (`RunModel`): a run changed, or was judged anew (running → silent → lost) without any new data.
- `alert` (`AlertModel`): an alert opened, changed, was acknowledged, or is over.
- a comment line when nothing was sent for a while.
An id stands on the last event of a batch and is the store's token for runs and, where alerts are kept, the one for alerts: a
client that was cut off resumes there with Last-Event-ID and gets every change since, at least once. State changes have no
token, so a resumed stream also gets every open run once. Where alerts are kept in another store than runs, either may be down
without the other's changes being held up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from wafermonitor.query.alert_feed import AlertFeed
from wafermonitor.query.answers import instant, run_model
from wafermonitor.query.config import Config
from wafermonitor.query.errors import QueryUnavailable
from wafermonitor.query.models import Hello
from wafermonitor.query.telemetry import Meters
from wafermonitor.runs.alerts import Alert
from wafermonitor.runs.records import Run, RunKey
from wafermonitor.runs.state import State
from wafermonitor.storage.errors import CursorRejected, StorageError
from wafermonitor.storage.protocol import MAX_PAGE, Reader, RunQuery, StoredRun
from wafermonitor.storage.watch import Watch

log = logging.getLogger(__name__)
LIVING = (State.SILENT, State.UNKNOWN, State.RUNNING)
MAX_LIVING = 10_000
MAX_MISSED = 20_000
MAX_REMEMBERED = 50_000
_RETRY_S = 1.0
_ALERTS_PATIENCE_S = 2.0
"""A stream begins without alerts when their store does not answer in this time."""
_BETWEEN = "~"
"""Between the tokens of runs and of alerts; in no store's token."""
_STATES_SHARE = 5
"""Judging the open runs may take at most one part in five of the poller's time."""


class Selection(NamedTuple):
    """Which runs and alerts a stream tells about; empty sets do not filter."""

    sites: frozenset[str]
    jobs: frozenset[str]
    traces: frozenset[bytes]

    def takes(self, run: Run) -> bool:
        """Whether `run` belongs on the stream."""
        return (
            (not self.sites or run.site in self.sites)
            and (not self.jobs or run.job in self.jobs)
            and (not self.traces or run.trace_id in self.traces)
        )

    def takes_alert(self, alert: Alert) -> bool:
        """Whether `alert` belongs on the stream: one about no job is on none that is of some jobs."""
        subject = alert.subject
        return (
            (not self.sites or subject.site in self.sites)
            and (not self.jobs or subject.job in self.jobs)
            and (not self.traces or (subject.run is not None and subject.run.trace_id in self.traces))
        )


class Message(NamedTuple):
    """Runs and alerts with their JSON, made once for all streams, and the id that stands for having seen them."""

    runs: Sequence[tuple[Run, str]]
    id: str | None
    alerts: Sequence[tuple[Alert, str]] = ()


class Subscription:
    """One stream's bounded queue. None in it ends the stream."""

    def __init__(self, size: int) -> None:
        self.queue: asyncio.Queue[Message | None] = asyncio.Queue(size)
        self.overrun = False

    def offer(self, message: Message | None) -> None:
        """Never waits: a full queue is emptied, and the stream is told to load afresh."""
        if self.queue.full():
            self.restart()
        self.queue.put_nowait(message)

    def restart(self) -> None:
        """What is still to be sent is not: with the next message the stream is told to load afresh."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.overrun = True


class Stream(NamedTuple):
    """One open stream: its events, and how to leave (which also holds when the events were never begun)."""

    events: AsyncIterator[str]
    close: Callable[[], None]


class Hub:
    """Asks the store while at least one stream is open."""

    def __init__(
        self, reader: Reader, config: Config, meters: Meters, clock: Callable[[], int], watch: Watch | None = None
    ) -> None:
        self._reader = reader
        self._alerts = None if watch is None else AlertFeed(watch, clock)
        self._config = config
        self._meters = meters
        self._clock = clock
        self._subscriptions: set[Subscription] = set()
        self._pollers: list[asyncio.Task[None]] = []
        self._token: str | None = None
        self._judge_s = 0.0
        self._living: set[RunKey] = set()
        self._told: OrderedDict[RunKey, int] = OrderedDict()
        self._starting = asyncio.Lock()
        self._closed = False

    async def close(self) -> None:
        """End every stream and the poller."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.offer(None)
        pollers = self._stop()
        if pollers:
            await asyncio.wait(pollers)

    async def open(self, last_event_id: str | None, selection: Selection) -> Stream:
        """Begin a stream: the store has answered when this returns; QueryUnavailable when there are too many streams."""
        if self._closed or len(self._subscriptions) >= self._config.max_streams:
            raise QueryUnavailable("too many open streams: close some or raise WAFER_QUERY_MAX_STREAMS")
        subscription = Subscription(self._config.stream_queue)
        self._subscriptions.add(subscription)
        self._meters.streams.set(len(self._subscriptions))
        try:
            await self._start()
            missed = None if last_event_id is None else await self._missed(last_event_id)
        except BaseException:
            self._leave(subscription)
            raise
        return Stream(self._events(subscription, selection, missed), lambda: self._leave(subscription))

    async def _events(
        self, subscription: Subscription, selection: Selection, missed: Sequence[Message] | None
    ) -> AsyncIterator[str]:
        yield self._hello(resumed=missed is not None)
        for message in missed or ():
            if text := self._encode(message, selection):
                yield text
        while True:
            try:
                async with asyncio.timeout(self._config.stream_heartbeat_s):
                    latest = await subscription.queue.get()
            except TimeoutError:
                yield ": beat\n\n"
                continue
            if subscription.overrun:
                subscription.overrun = False
                self._meters.stream_resets.inc()
                yield self._hello(resumed=False)
            if latest is None:
                return
            if text := self._encode(latest, selection):
                yield text

    def _leave(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        self._meters.streams.set(len(self._subscriptions))
        if not self._subscriptions:
            self._stop()

    async def _start(self) -> None:
        async with self._starting:
            if not self._pollers or any(poller.done() for poller in self._pollers):
                self._stop()
                await self._begin()
                self._pollers = [self._poller("stream", self._poll_runs, self._config.stream_poll_s)]
                if self._alerts is not None:
                    await self._begin_alerts(self._alerts)
                    self._pollers.append(self._poller("alert", self._poll_alerts, self._config.stream_alerts_s))

    def _poller(self, name: str, step: Callable[[], Awaitable[None]], pause_s: float) -> asyncio.Task[None]:
        return asyncio.create_task(self._poll(step, pause_s), name=f"wafer query {name} poller")

    async def _begin(self) -> None:
        """With the store as it is now, whatever was told of another one."""
        self._told.clear()
        token = (await self._reader.changes(None)).token
        living = await self._living_runs()
        self._living = {stored.run.key for stored in living}
        self._fresh(living)
        self._token = token
        self._judge_s = time.monotonic() + self._config.stream_states_s

    @staticmethod
    async def _begin_alerts(alerts: AlertFeed) -> None:
        """Where their store does not answer, the poller begins when it does."""
        alerts.token = None
        try:
            async with asyncio.timeout(_ALERTS_PATIENCE_S):
                await alerts.begin()
        except (StorageError, TimeoutError) as error:
            log.warning("streams begin without alerts, whose store does not answer: %s", error)

    def _stop(self) -> list[asyncio.Task[None]]:
        pollers, self._pollers = self._pollers, []
        for poller in pollers:
            poller.cancel()
        return pollers

    async def _missed(self, last_event_id: str) -> list[Message] | None:
        """Everything since that id, and every open run; None when a store does not know its token, or it is too much."""
        token, _, alert_token = last_event_id.partition(_BETWEEN)
        messages: list[Message] = []
        try:
            while True:
                changes = await self._reader.changes(token)
                messages.append(self._message(changes.runs, self._id(changes.token, alert_token)))
                if not changes.runs or changes.token == token:
                    break
                token = changes.token
                if sum(len(message.runs) for message in messages) > MAX_MISSED:
                    return None
        except CursorRejected:
            return None
        alerts = await self._missed_alerts(token, alert_token)
        if alerts is None:
            return None
        return [*messages, *alerts, self._message([*await self._living_runs(), *await self._lost_runs()], None)]

    async def _missed_alerts(self, token: str, alert_token: str) -> list[Message] | None:
        """Every alert that changed since; None when nobody knows. `token` is where the stream is with runs."""
        if self._alerts is None:
            return []
        try:
            async with asyncio.timeout(_ALERTS_PATIENCE_S):
                pages = await self._alerts.missed(alert_token) if alert_token else None
        except (StorageError, TimeoutError) as error:
            log.warning("a stream begins anew, its alerts are not known: %s", error)
            return None
        return None if pages is None else [Message([], self._id(token, page.token), page.alerts) for page in pages]

    async def _poll(self, step: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            wait_s = pause_s
            try:
                await step()
            except StorageError as error:
                self._meters.store_errors.inc()
                log.warning("the change feed waits for the store: %s", error)
                wait_s = _RETRY_S
            except Exception:
                self._meters.store_errors.inc()
                log.exception("the change feed met a fault and goes on")
                wait_s = _RETRY_S
            await asyncio.sleep(wait_s)

    async def _poll_runs(self) -> None:
        try:
            if self._token is None:  # the store was replaced: begin again with it
                await self._begin()
                self._restart()
            await self._pass_changes()
            if time.monotonic() >= self._judge_s:
                self._judge_s = await self._judge()
        except CursorRejected:
            log.warning("the store does not know its own change token any more: every stream loads afresh")
            self._token = None

    async def _poll_alerts(self) -> None:
        assert self._alerts is not None
        try:
            if self._alerts.token is None:
                await self._alerts.begin()
                self._restart()
            more = True
            while more:
                told = await self._alerts.news()
                more = told.more
                if told.alerts:
                    self._offer(Message([], self._position, told.alerts))
        except CursorRejected:
            log.warning("the store of alerts does not know its own change token any more: every stream loads afresh")
            self._alerts.token = None

    async def _judge(self) -> float:
        """Tell which open runs are in another state than last told; the time (monotonic, s) to do so again.

        Lost runs stay open and may grow old, so only those are read that were living at the last look.
        """
        begin_s = time.monotonic()
        found = await self._living_runs()
        living = {stored.run.key for stored in found}
        gone = self._living - living
        if gone:
            lost = [stored for stored in await self._lost_runs() if stored.run.key in gone]
            found += lost
            gone -= {stored.run.key for stored in lost}
        for key in sorted(gone)[:MAX_PAGE]:
            stored = await self._reader.run(key.trace_id, key.span_id, key.site)
            found += [] if stored is None else [stored]
        self._living = living | set(sorted(gone)[MAX_PAGE:])  # what is left over is for the next time
        if fresh := self._fresh(found):
            self._offer(self._message(fresh, None))
        end_s = time.monotonic()
        return end_s + max(self._config.stream_states_s, _STATES_SHARE * (end_s - begin_s))

    def _restart(self) -> None:
        """Every stream loads afresh."""
        for subscription in self._subscriptions:
            subscription.restart()
            subscription.offer(Message([], self._position))

    async def _pass_changes(self) -> None:
        while True:
            changes = await self._reader.changes(self._token)
            self._living -= {stored.run.key for stored in changes.runs if stored.run.ended}
            fresh = self._fresh(changes.runs)
            moved = changes.token != self._token
            self._token = changes.token
            if fresh:
                self._offer(self._message(fresh, self._position))
            if not changes.runs or not moved:
                return

    async def _living_runs(self) -> list[StoredRun]:
        """The open runs that are not lost, the newest if there are very many."""
        found: list[StoredRun] = []
        cursor: str | None = None
        while len(found) < MAX_LIVING:
            page = await self._reader.runs(RunQuery(state=LIVING, cursor=cursor, limit=MAX_PAGE))
            found += page.items
            cursor = page.cursor
            if cursor is None:
                break
        return found

    async def _lost_runs(self) -> list[StoredRun]:
        """The newest lost runs that do not count as ended."""
        return (await self._reader.runs(RunQuery(state=(State.LOST,), inferred=False, limit=MAX_PAGE))).items

    def _fresh(self, runs: Sequence[StoredRun]) -> list[StoredRun]:
        """Those that differ from what was told last: the change feed repeats itself while an old transaction is open."""
        fresh = []
        for stored in runs:
            key, value = stored.run.key, hash(stored)
            if self._told.get(key) != value:
                fresh.append(stored)
            self._told[key] = value
            self._told.move_to_end(key)
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        return fresh

    def _offer(self, message: Message) -> None:
        for subscription in self._subscriptions:
            subscription.offer(message)

    def _message(self, runs: Sequence[StoredRun], identity: str | None) -> Message:
        now_ns = self._clock()
        return Message([(stored.run, run_model(stored, now_ns).model_dump_json()) for stored in runs], identity)

    @property
    def _position(self) -> str | None:
        """The id of a stream that was told everything up to now."""
        return None if self._token is None else self._id(self._token, self._alerts.token if self._alerts else None)

    def _id(self, token: str, alert_token: str | None) -> str:
        """An id from the tokens of runs and alerts; with none for alerts it resumes nothing."""
        return token if self._alerts is None else f"{token}{_BETWEEN}{alert_token or ''}"

    def _encode(self, message: Message, selection: Selection) -> str:
        chosen = [text for run, text in message.runs if selection.takes(run)]
        alerts = [text for alert, text in message.alerts if selection.takes_alert(alert)]
        self._meters.stream_runs.inc(len(chosen))
        self._meters.stream_alerts.inc(len(alerts))
        events = [f"event: run\ndata: {text}\n\n" for text in chosen]
        events += [f"event: alert\ndata: {text}\n\n" for text in alerts]
        if message.id is not None:
            # Also where nothing was chosen: a block of only an id moves the client's Last-Event-ID on.
            events[-1:] = [f"id: {message.id}\n{events[-1] if events else chr(10)}"]
        return "".join(events)

    def _hello(self, *, resumed: bool) -> str:
        body = Hello(server_time=instant(self._clock()), resumed=resumed).model_dump_json()
        # A resumed stream has not been given what it missed yet, so its id stays the client's own.
        position = self._position
        identity = "" if resumed or position is None else f"id: {position}\n"
        return f"{identity}event: hello\nretry: 1000\ndata: {body}\n\n"
