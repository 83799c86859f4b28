"""The outbox's other end: takes the messages that are due, sends them, and says what came of it.

In: deliveries, alerts and silences from the store, routes. Out: messages; answers in the delivery log; metrics.
Called by: `wafer alerting run`. Any number of processes may: a message is given to one of them at a time.

A message is settled after the channel took it: a process that dies in between leaves it to be sent once more, never to be
lost. What fails is tried again after 10 s, 20 s, 40 s … 10 min, for a day; what a channel refuses for good, five times.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from wafermonitor.alerting.errors import AlertingRejected, AlertingUnavailable
from wafermonitor.alerting.metrics import Meters
from wafermonitor.alerting.notify.planning import WITHDRAWN
from wafermonitor.alerting.notify.routes import Channel, Engine, Routes
from wafermonitor.alerting.notify.sending import FIRES_S, Letter, send
from wafermonitor.runs.alerts import Alert, Delivery, DeliveryState, Kind, Silence
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.watch import AlertQuery, Watch

T = TypeVar("T")
POLL_S = 2.0
LEASE_S = 120.0
"""Longer than a batch may take; a dead notifier's messages are sent by another after it."""
GIVE_UP_S = 86_400.0
MOST_REFUSALS = 5
_MOST_COUNTED = 10_000
RESEND_S = FIRES_S / 5
REFRESH_S = 10.0
_BATCH = 20
_BATCH_S = 60.0
_FIRST_S, _LONGEST_S = 10.0, 600.0
_ORDER_S = 5.0
_DOUBLINGS = 16
_PAGE = 500
log = logging.getLogger(__name__)


class _Fate(NamedTuple):
    """What is done with one delivery: sent (`alerts`), settled at once (`state`), or tried again in `retry_s`."""

    state: DeliveryState
    answer: str = ""
    alerts: tuple[Alert, ...] = ()
    retry_s: float | None = None


class Notifier:
    """Sends what is due. `url` is the screens' address for links; `clock` gives now in ns, as the store's does."""

    def __init__(
        self,
        watch: Watch,
        routes: Routes,
        meters: Meters,
        *,
        url: str = "",
        clock: Callable[[], int] = time.time_ns,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self.routes = routes
        self._watch = watch
        self._meters = meters
        self._url = url
        self._clock = clock
        self._give_up_s = give_up_s
        self._poked = asyncio.Event()
        self._flying: dict[str, int] = {}
        """Deliveries whose channel has not answered in time but may still take them, and until when that is awaited (ns)."""
        self._late: set[asyncio.Future[None]] = set()
        self._down: dict[str, tuple[int, int]] = {}
        """Channel → failures in a row, and until when it is left alone (ns)."""
        self._refused: dict[str, int] = {}
        """How often each delivery was refused for good: of its attempts, most may be of a time without an answer."""
        self._resent_ns = 0
        self._refreshed_ns = 0

    def poke(self) -> None:
        """There is something new: do not wait for the next look."""
        self._poked.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; a store that does not answer is asked again."""
        while not stop.is_set():
            busy = False
            try:
                busy = await self.once() > 0
                await self.refresh()
            except StorageError as error:
                log.warning("messages wait for the store: %s", error)
            except Exception:  # whatever it is, other messages must go out
                log.exception("a round of messages was left out")
            if not busy:
                await self._pause(stop)

    async def once(self) -> int:
        """Send what is due now; how many deliveries that were."""
        claimed = await self._watch.claim_deliveries(limit=_BATCH, lease_s=LEASE_S)
        by_channel: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in claimed:
            by_channel[delivery.channel].append(delivery)
        if claimed:
            silences = await self._watch.silences()
            served = (self._serve(name, deliveries, silences) for name, deliveries in by_channel.items())
            for failure in await asyncio.gather(*served, return_exceptions=True):
                if failure is not None:
                    raise failure
        return len(claimed)

    async def refresh(self) -> None:
        """Show the open alerts as metrics, and tell Alertmanagers again what still fires."""
        now_ns = self._clock()
        if now_ns - self._refreshed_ns < REFRESH_S * SECOND_NS:
            return
        self._refreshed_ns = now_ns
        alerts = await self._open_alerts()
        self._meters.show(alerts)
        self._meters.ticked(await self._watch.ticked_ns())
        if now_ns - self._resent_ns >= RESEND_S * SECOND_NS:
            self._resent_ns = now_ns
            await self._resend(alerts, await self._watch.silences())

    async def _pause(self, stop: asyncio.Event) -> None:
        waits = [asyncio.create_task(one.wait()) for one in (stop, self._poked)]
        try:
            await asyncio.wait(waits, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            self._poked.clear()

    async def _serve(self, name: str, deliveries: Sequence[Delivery], silences: Sequence[Silence]) -> None:
        """One channel's messages, one after the other; those of one group and kind together."""
        channel = self.routes.channels.get(name)
        begin_s = time.monotonic()
        bundles: dict[tuple[str, Kind], list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            bundles[delivery.group, delivery.kind].append(delivery)
        for bundle in bundles.values():
            if channel is None:  # it left the routes, or a process with newer ones planned it
                await self._retry(bundle, f"there is no channel {name!r}", self._clock(), refused=True)
            elif time.monotonic() - begin_s > _BATCH_S:
                await self._settle(bundle, _Fate(DeliveryState.WAITING, "others of this channel were before it", retry_s=0.0))
            else:
                await self._send_bundle(channel, bundle, silences)

    async def _send_bundle(self, channel: Channel, bundle: Sequence[Delivery], silences: Sequence[Silence]) -> None:
        now_ns = self._clock()
        sendable: list[Delivery] = []
        alerts: dict[str, Alert] = {}
        for delivery in bundle:
            if self._flying.get(delivery.id, 0) > now_ns:
                fate = _Fate(DeliveryState.WAITING, "the channel has not answered yet", retry_s=_FIRST_S)
            else:
                fate = await self._judged(delivery, silences, now_ns)
            if fate.alerts:
                sendable.append(delivery)
                alerts |= {alert.id: alert for alert in fate.alerts}
            else:
                await self._settle([delivery], fate)
        if not sendable:
            return
        failures, until_ns = self._down.get(channel.name, (0, 0))
        if now_ns < until_ns:
            fate = _Fate(DeliveryState.WAITING, "the channel does not answer", retry_s=(until_ns - now_ns) / SECOND_NS)
            await self._settle(sendable, fate)
            return
        letter = Letter(channel, sendable[0].kind, sendable[0].group, list(alerts.values()), url=self._url, now_ns=now_ns)
        try:
            answer = await self._sent(letter, sendable)
        except AlertingUnavailable as error:
            self._failed(channel, failures + 1, now_ns)
            await self._retry(sendable, str(error), now_ns, refused=False)
        except AlertingRejected as error:
            self._meters.failing.labels(channel.name).set(1)
            await self._retry(sendable, str(error), now_ns, refused=True)
        else:
            self._down.pop(channel.name, None)
            self._meters.failing.labels(channel.name).set(0)
            await self._settle(sendable, _Fate(DeliveryState.SENT, answer))

    async def _sent(self, letter: Letter, deliveries: Sequence[Delivery] = ()) -> str:
        begin_s = time.perf_counter()
        flight = launched(lambda: send(letter))
        try:
            return await landed(flight, letter)
        finally:
            self._meters.send_s.labels(letter.channel.name).observe(time.perf_counter() - begin_s)
            if deliveries and not flight.done():
                until_ns = self._clock() + round(LEASE_S * SECOND_NS)
                self._flying |= {one.id: until_ns for one in deliveries}
                flight.add_done_callback(lambda done: self._land(done, deliveries))

    def _land(self, flight: asyncio.Future[str], deliveries: Sequence[Delivery]) -> None:
        """An answer after its deadline: what the channel took is not sent again."""
        for one in deliveries:
            self._flying.pop(one.id, None)
        if not flight.cancelled() and flight.exception() is None:
            task = asyncio.ensure_future(self._settle(deliveries, _Fate(DeliveryState.SENT, f"late: {flight.result()}")))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _judged(self, delivery: Delivery, silences: Sequence[Silence], now_ns: int) -> _Fate:
        """What may be sent of a delivery as things stand now, which may be long after it was planned."""
        found = [await self._watch.alert(alert_id) for alert_id in delivery.alerts]
        alerts = [alert for alert in found if alert is not None]
        if delivery.kind is Kind.RESOLVED:
            return await self._judged_end(delivery, alerts)
        still = [alert for alert in alerts if alert.resolved_ns is None]
        if delivery.kind is Kind.ESCALATED:
            still = [alert for alert in still if alert.acknowledged_ns is None]
        for silence in silences:
            if any(silence.covers(alert.rule, alert.subject, now_ns) for alert in still):
                return _Fate(DeliveryState.DROPPED, f"{WITHDRAWN}silenced by {silence.by}")
        if any(alert.resolved_ns is None for alert in alerts) and not still:
            return _Fate(DeliveryState.DROPPED, "acknowledged before it was told")
        if not still and delivery.attempts > 1 and delivery.kind is Kind.FIRING:
            still = alerts  # it fired while the channel was down: told late is better than never
        if not still:
            return _Fate(DeliveryState.DROPPED, "over before it was told")
        return _Fate(DeliveryState.SENT, alerts=tuple(still))

    async def _judged_end(self, delivery: Delivery, alerts: Iterable[Alert]) -> _Fate:
        """An end is told where the beginning was, after it."""
        told: list[Alert] = []
        for alert in alerts:
            before = [
                one
                for one in await self._watch.alert_deliveries(alert.id)
                if one.channel == delivery.channel and one.kind is not Kind.RESOLVED
            ]
            if any(one.state is DeliveryState.SENT for one in before):
                told.append(alert)
            elif any(one.state is DeliveryState.WAITING for one in before):
                return _Fate(DeliveryState.WAITING, "waits for the message that it began", retry_s=_ORDER_S)
        if not told:
            return _Fate(DeliveryState.DROPPED, "nobody was told that it began")
        return _Fate(DeliveryState.SENT, alerts=tuple(told))

    def _failed(self, channel: Channel, failures: int, now_ns: int) -> None:
        self._down[channel.name] = (failures, now_ns + round(backoff_s(failures) * SECOND_NS))
        self._meters.failing.labels(channel.name).set(1)

    async def _retry(self, deliveries: Sequence[Delivery], answer: str, now_ns: int, *, refused: bool) -> None:
        for one in deliveries:
            age_s = (now_ns - one.created_ns) / SECOND_NS
            if age_s >= self._give_up_s or (refused and self._refusals(one) >= MOST_REFUSALS):
                text = f"gave up after {one.attempts} attempts: {answer}"
                log.error("channel %s: %s", one.channel, text, extra={"delivery": one.id})
                await self._settle([one], _Fate(DeliveryState.DROPPED, text), end="gave_up")
            else:
                wait_s = backoff_s(one.attempts)
                log.warning("channel %s: %s; again in %g s", one.channel, answer, wait_s, extra={"delivery": one.id})
                await self._settle([one], _Fate(DeliveryState.WAITING, answer, retry_s=wait_s))

    def _refusals(self, delivery: Delivery) -> int:
        """With this one. Another process counts its own: it may try as often."""
        count = self._refused.pop(delivery.id, 0) + 1
        self._refused[delivery.id] = count
        if len(self._refused) > _MOST_COUNTED:
            self._refused.pop(next(iter(self._refused)))
        return count

    async def _settle(self, deliveries: Iterable[Delivery], fate: _Fate, end: str | None = None) -> None:
        ends = {DeliveryState.SENT: "sent", DeliveryState.WAITING: "retry", DeliveryState.DROPPED: "dropped"}
        for one in deliveries:
            if fate.state is not DeliveryState.WAITING:
                self._refused.pop(one.id, None)
            await self._watch.settle_delivery(one.id, one.attempts, fate.state, fate.answer, fate.retry_s)
            self._meters.deliveries.labels(one.channel, one.kind.value, end or ends[fate.state]).inc()

    async def _resend(self, alerts: Sequence[Alert], silences: Sequence[Silence]) -> None:
        """Alertmanager takes what it is not told again for over."""
        now_ns = self._clock()
        wanted = [one for one in self.routes.channels.values() if one.engine is Engine.ALERTMANAGER]
        told = [alert for alert in alerts if not any(one.covers(alert.rule, alert.subject, now_ns) for one in silences)]
        for channel in wanted:
            mine = [alert for alert in told if any(channel.name in route.channels for route in self.routes.of(alert))]
            for begin in range(0, len(mine), _PAGE):
                letter = Letter(channel, Kind.FIRING, "", mine[begin : begin + _PAGE], url=self._url, now_ns=now_ns)
                try:
                    await self._sent(letter)
                except (AlertingUnavailable, AlertingRejected) as error:
                    self._meters.failing.labels(channel.name).set(1)
                    log.warning("channel %s: what fires was not told again: %s", channel.name, error)
                    break
                self._meters.failing.labels(channel.name).set(0)

    async def _open_alerts(self) -> list[Alert]:
        found: list[Alert] = []
        cursor: str | None = None
        while True:
            page = await self._watch.alerts(AlertQuery(open=True, cursor=cursor, limit=_PAGE))
            found += page.items
            cursor = page.cursor
            if cursor is None:
                return found


async def attempt(letter: Letter) -> str:
    """What the channel answered. AlertingUnavailable, after its deadline at the latest; AlertingRejected. Both may be shown."""
    return await landed(launched(lambda: send(letter)), letter)


async def landed(flight: asyncio.Future[str], letter: Letter) -> str:
    """The answer of a flight, or an error that may be shown, by the deadline of the letter's channel."""
    try:
        return await asyncio.wait_for(asyncio.shield(flight), letter.channel.timeout_s + 1.0)
    except TimeoutError:
        raise AlertingUnavailable(f"no answer within {letter.channel.timeout_s:g} s") from None
    except (AlertingUnavailable, AlertingRejected):
        raise
    except Exception as error:  # noqa: BLE001 - a plug-in's own; its text may hold its address
        raise AlertingUnavailable(f"the channel's library failed: {type(error).__name__}") from None


def backoff_s(attempts: int) -> float:
    """The pause after so many attempts: always the same, so that a delivery log can be read."""
    return min(_LONGEST_S, _FIRST_S * float(1 << min(max(0, attempts - 1), _DOUBLINGS)))


def launched(call: Callable[[], T]) -> asyncio.Future[T]:
    """What `call` gives, from a thread of its own, which may be left behind.

    A thread of a pool would hold the process at its end for as long as a server keeps it waiting.
    """
    loop = asyncio.get_running_loop()
    flight: asyncio.Future[T] = loop.create_future()
    flight.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask for it

    def settle(value: T | None, error: BaseException | None) -> None:
        if flight.done():
            return
        if error is None:
            flight.set_result(value)  # type: ignore[arg-type]  # a T where there is no error
        else:
            flight.set_exception(error)

    def work() -> None:
        value, failure = None, None
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the loop is told
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, daemon=True, name="notify").start()
    return flight
