"""What is to be told now: pure, so that the same tick plans the same messages however often it is made.

In: routes, the alerts as they stand after a tick, what was told so far, silences. Out: new deliveries, each with an id that
follows from what it is. Called by: evaluator, once in each tick; what it gives is stored with the tick's alerts.

Nothing is remembered elsewhere: an alert is told to a channel where no delivery says that it was. What must not be told now
(silenced, quiet hours, cooldown) gets no delivery, and one as soon as it may be told and still holds.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from wafermonitor.alerting.notify.routes import Channel, Engine, Route, Routes
from wafermonitor.runs.alerts import Alert, Delivery, DeliveryState, Kind, Severity, Silence
from wafermonitor.runs.state import SECOND_NS

WITHDRAWN = "withdrawn: "
"""How the answer of a delivery begins that was not sent because its alert was silenced meanwhile: it may be told later."""
MOST_ALERTS = 500
"""Most alerts of one delivery."""
_FINGERPRINT = 16  # digits of an alert's id that are its fingerprint's (`runs.alerts.alert_id`)
_Bundle = tuple[Kind, str, str]
"""Why, to which channel, of which group: alerts that share it share a message."""


def plan(
    routes: Routes,
    *,
    now_ns: int,
    opened: Sequence[Alert] = (),
    resolved: Sequence[Alert] = (),
    open_alerts: Sequence[Alert] = (),
    deliveries: Sequence[Delivery] = (),
    silences: Sequence[Silence] = (),
) -> list[Delivery]:
    """The deliveries to store with this tick.

    `opened` and `resolved` are this tick's, `open_alerts` all that are open after it (`opened` may be among them).
    `deliveries`: those that wait, those about open alerts or about `resolved`, and those of the last `routes.memory_s`.
    """
    sheet = _Sheet(routes, _Book(deliveries, now_ns), now_ns, opened)
    over = {alert.id for alert in resolved}
    alive = {alert.id: alert for alert in (*open_alerts, *opened) if alert.id not in over}
    for alert in sorted(alive.values(), key=lambda one: (one.opened_ns, one.id)):
        if not any(silence.covers(alert.rule, alert.subject, now_ns) for silence in silences):
            sheet.tell(alert)
    for alert in sorted(resolved, key=lambda one: (one.opened_ns, one.id)):
        sheet.end(alert)
    return list(sheet.rows())


def held(routes: Routes, alert: Alert, silences: Sequence[Silence], now_ns: int) -> str | None:
    """Why nobody is told of `alert` at present, for a person who asks; None: nothing holds it."""
    if alert.resolved_ns is not None:
        return None
    for silence in silences:
        if silence.covers(alert.rule, alert.subject, now_ns):
            return f"silenced by {silence.by} until {_told_time(silence.until_ns)}: {silence.why}"
    found = routes.of(alert)
    if not found:
        return "no route takes it"
    ends = [route.quiet_until_ns(alert.severity, now_ns) for route in found]
    quiet = [end for end in ends if end is not None]
    return f"quiet hours until {_told_time(min(quiet))}" if len(quiet) == len(found) else None


def _told_time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Book:
    """What was told so far, looked up by what `plan` asks."""

    def __init__(self, deliveries: Iterable[Delivery], now_ns: int) -> None:
        self.told: dict[tuple[str, str], list[Delivery]] = defaultdict(list)
        self.stepped: set[tuple[str, str, str]] = set()
        self.ended: set[tuple[str, str]] = set()
        self.latest_ns: dict[tuple[str, str], int] = {}
        """(fingerprint, channel) → when that was told last."""
        self.waiting_ns: dict[_Bundle, int] = {}
        self.last_ns: dict[_Bundle, int] = {}
        self.withdrawn: dict[_Bundle, int] = defaultdict(int)
        for one in deliveries:
            self._enter(one, now_ns)

    def _enter(self, one: Delivery, now_ns: int) -> None:
        bundle = (one.kind, one.channel, one.group)
        if one.state is DeliveryState.DROPPED and (one.answer or "").startswith(WITHDRAWN):
            self.withdrawn[bundle] += 1
            return
        at_ns = min(one.due_ns, now_ns)
        self.last_ns[bundle] = max(at_ns, self.last_ns.get(bundle, 0))
        if one.state is DeliveryState.WAITING and one.attempts == 0 and one.due_ns > now_ns:
            self.waiting_ns[bundle] = one.due_ns
        for alert_id in one.alerts:
            if one.kind is Kind.RESOLVED:
                self.ended.add((alert_id, one.channel))
                continue
            self.told[alert_id, one.channel].append(one)
            if one.kind is Kind.ESCALATED:
                self.stepped.add((alert_id, one.channel, one.group))
            if one.state is not DeliveryState.DROPPED:
                fingerprint = (alert_id[:_FINGERPRINT], one.channel)
                self.latest_ns[fingerprint] = max(at_ns, self.latest_ns.get(fingerprint, 0))


class _Sheet:
    """What is planned while the alerts are gone through."""

    def __init__(self, routes: Routes, book: _Book, now_ns: int, opened: Iterable[Alert]) -> None:
        self._routes = routes
        self._next: dict[str, list[str]] = defaultdict(list)
        """Subject → alerts that open about it in this tick."""
        for alert in opened:
            self._next[alert.subject.key].append(alert.id)
        self._by_name = {route.name: route for route in routes.routes}
        self._book = book
        self._now_ns = now_ns
        self._bundles: dict[_Bundle, list[Alert]] = defaultdict(list)
        self._hold_ns: dict[_Bundle, int] = {}
        self._taken: set[tuple[str, str]] = set()
        self._quiet: dict[tuple[str, Severity], int | None] = {}

    def tell(self, alert: Alert) -> None:
        """Plan what an open alert needs that nobody silenced."""
        for route in self._routes.of(alert):
            if self._quiet_until_ns(route, alert.severity) is None:
                self._fire(alert, route)
                self._escalate(alert, route)

    def end(self, alert: Alert) -> None:
        """Plan that it is over, for every channel that was told of it, or is about to be."""
        for name, channel in self._routes.channels.items():
            told = [one for one in self._book.told.get((alert.id, name), ()) if one.state is not DeliveryState.DROPPED]
            if not told or not channel.resolved or (alert.id, name) in self._book.ended or self._goes_on(alert, channel):
                continue
            bundle = (Kind.RESOLVED, name, _whole(told[0].group))
            self._bundles[bundle].append(alert)
            route = self._by_name.get(_route(bundle[2]))
            until_ns = None if route is None else self._quiet_until_ns(route, alert.severity)
            # One message: when one of its alerts may be told now, all are.
            self._hold_ns[bundle] = min(self._hold_ns.get(bundle, until_ns or 0), until_ns or 0)

    def _goes_on(self, alert: Alert, channel: Channel) -> bool:
        """Whether people on `channel` now hear of something worse instead: late became missed, silent became lost.

        That it is over would tell them that all is well. Programs are told, for they keep each alert by itself.
        """
        following = self._next.get(alert.subject.key, ())
        return channel.engine is Engine.APPRISE and any((one, channel.name) in self._taken for one in following)

    def rows(self) -> Iterator[Delivery]:
        """The deliveries, one for each bundle of at most `MOST_ALERTS`."""
        for bundle, alerts in self._bundles.items():
            due_ns = self._due_ns(bundle, alerts)
            for begin in range(0, len(alerts), MOST_ALERTS):
                ids = tuple(alert.id for alert in alerts[begin : begin + MOST_ALERTS])
                kind, channel, group = bundle
                name = _id(bundle, ids, self._book.withdrawn.get(bundle, 0))
                yield Delivery(name, channel, kind, group, ids, self._now_ns, due_ns)

    def _fire(self, alert: Alert, route: Route) -> None:
        for channel in route.channels:
            if (alert.id, channel) in self._taken or self._book.told.get((alert.id, channel)):
                continue
            before_ns = self._book.latest_ns.get((alert.id[:_FINGERPRINT], channel))
            if before_ns is not None and self._now_ns - before_ns < route.cooldown_s * SECOND_NS:
                continue
            self._taken.add((alert.id, channel))
            self._bundles[Kind.FIRING, channel, route.group(alert)].append(alert)

    def _escalate(self, alert: Alert, route: Route) -> None:
        if alert.acknowledged_ns is not None or not route.steps:
            return
        told = [one.created_ns for channel in route.channels for one in self._book.told.get((alert.id, channel), ())]
        if not told:
            return
        waited_ns = self._now_ns - min(told)  # since it was planned: a channel that fails must not put off the next one
        for number, step in enumerate(route.steps, start=1):
            if waited_ns < step.after_s * SECOND_NS:
                continue
            group = route.group(alert, number)
            for channel in step.channels:
                if (alert.id, channel, group) not in self._book.stepped:
                    self._bundles[Kind.ESCALATED, channel, group].append(alert)

    def _due_ns(self, bundle: _Bundle, alerts: Sequence[Alert]) -> int:
        """Now, unless others of its group wait or were told just before, or it is quiet."""
        kind, _, group = bundle
        route = self._by_name.get(_route(group))
        if bundle in self._book.waiting_ns:
            return self._book.waiting_ns[bundle]
        due_ns = max(self._now_ns, self._hold_ns.get(bundle, 0))
        if route is None or kind is Kind.ESCALATED:
            return due_ns
        if kind is Kind.FIRING:
            due_ns = max(due_ns, min(alert.opened_ns for alert in alerts) + round(route.wait_s * SECOND_NS))
        if bundle in self._book.last_ns:
            due_ns = max(due_ns, self._book.last_ns[bundle] + round(route.pause_s * SECOND_NS))
        return due_ns

    def _quiet_until_ns(self, route: Route, severity: Severity) -> int | None:
        key = (route.name, severity)
        if key not in self._quiet:
            self._quiet[key] = route.quiet_until_ns(severity, self._now_ns)
        return self._quiet[key]


def _id(bundle: _Bundle, alerts: Sequence[str], turn: int) -> str:
    """32 hex digits that follow from what is told to whom; `turn` counts the times that it was withdrawn."""
    text = json.dumps([*bundle, turn, *alerts], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _route(group: str) -> str:
    return str(json.loads(group)[0])


def _whole(group: str) -> str:
    """The group without its step: one message says that something is over, however often it was escalated."""
    return json.dumps([*json.loads(group)[:2], 0], ensure_ascii=False, separators=(",", ":"))
