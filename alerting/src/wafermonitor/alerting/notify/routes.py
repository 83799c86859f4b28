"""Who is told of what, and when: channels, routes, quiet hours, and what of them an alert takes.

In: what `reading` took from YAML. Out: frozen records. Called by: reading (makes them), planning and notifier (follow them).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

from wafermonitor.alerting.rules import Where
from wafermonitor.alerting.schedule import zone
from wafermonitor.runs.alerts import Alert, Severity
from wafermonitor.runs.state import SECOND_NS

_MOST_STRETCHES = 32


class Engine(StrEnum):
    """What sends the messages of a channel."""

    APPRISE = "apprise"
    WEBHOOK = "webhook"
    ALERTMANAGER = "alertmanager"


class Channel(NamedTuple):
    """One place where messages go. `url` holds no secret: `${env:NAME}` and `${file:/path}` in it are read when it is sent.

    `resolved`: whether it is told of the end, too. `headers` go with each request of a webhook or an Alertmanager; references
    are read in them, too. `title` and `body` replace the standard texts (`messages.FIELDS`); `zone` is that of their times.
    """

    name: str
    url: str
    engine: Engine = Engine.APPRISE
    resolved: bool = True
    timeout_s: float = 20.0
    headers: Mapping[str, str] = {}
    title: str | None = None
    body: str | None = None
    zone: str = "UTC"


class Quiet(NamedTuple):
    """Each day from `start` to `end`, local to `zone`; over midnight where `end` is not after `start`.

    `weekdays` (Monday is 0) are those on which it starts; none: every day.
    """

    start: time
    end: time
    zone: str = "UTC"
    weekdays: frozenset[int] = frozenset()

    def until_ns(self, now_ns: int) -> int | None:
        """When the stretch that holds `now_ns` ends; None outside."""
        where = zone(self.zone)
        today = datetime.fromtimestamp(now_ns // SECOND_NS, UTC).astimezone(where).date()
        for day in (today - timedelta(days=1), today):
            if self.weekdays and day.weekday() not in self.weekdays:
                continue
            last = day if self.end > self.start else day + timedelta(days=1)
            begin_ns = round(datetime.combine(day, self.start, where).timestamp()) * SECOND_NS
            end_ns = round(datetime.combine(last, self.end, where).timestamp()) * SECOND_NS
            if begin_ns <= now_ns < end_ns:
                return end_ns
        return None


class Step(NamedTuple):
    """Who is told when nobody has acknowledged `after_s` after the first message of the route."""

    after_s: float
    channels: tuple[str, ...]


class Route(NamedTuple):
    """Which alerts are told to which channels.

    A route takes alerts of `severity` or above that `where` and `rules` (patterns) take. Messages about alerts that have
    the same `group_by` are one message: the first goes out `wait_s` after the first alert, the next not before `pause_s`
    have passed. The same fingerprint is not told again to a channel within `cooldown_s`. In `quiet` hours only
    `quiet_unless` and above is told; the rest waits, and what is over by then is never told.
    """

    name: str
    channels: tuple[str, ...]
    where: Where = Where()
    rules: tuple[str, ...] = ()
    severity: Severity = Severity.INFO
    group_by: tuple[str, ...] = ("site", "rule")
    wait_s: float = 30.0
    pause_s: float = 60.0
    cooldown_s: float = 600.0
    steps: tuple[Step, ...] = ()
    quiet: tuple[Quiet, ...] = ()
    quiet_unless: Severity = Severity.CRITICAL
    goes_on: bool = False

    def takes(self, alert: Alert) -> bool:
        """Whether it tells of `alert`."""
        loud = alert.severity >= self.severity
        named = not self.rules or any(fnmatchcase(alert.rule, one) for one in self.rules)
        return loud and named and self.where.takes(alert.subject, alert.owner)

    def quiet_until_ns(self, severity: Severity, now_ns: int) -> int | None:
        """When something of `severity` may be told; None: now."""
        if severity >= self.quiet_unless:
            return None
        at_ns = now_ns
        for _ in range(_MOST_STRETCHES):
            ends = [end_ns for one in self.quiet if (end_ns := one.until_ns(at_ns)) is not None]
            if not ends:
                break
            at_ns = max(ends)
        return at_ns if at_ns > now_ns else None

    def group(self, alert: Alert, step: int = 0) -> str:
        """What `alert` has in common with others of one message: JSON of the route's name, the values, the step."""
        values = {name: GROUPS[name](alert) for name in self.group_by}
        return json.dumps([self.name, values, step], ensure_ascii=False, separators=(",", ":"))


class Routes(NamedTuple):
    """All of it. Routes are asked in order; the first that takes an alert has it, unless that one `goes_on`."""

    channels: Mapping[str, Channel] = {}
    routes: tuple[Route, ...] = ()

    def of(self, alert: Alert) -> list[Route]:
        """The routes that tell of `alert`."""
        found = []
        for route in self.routes:
            if route.takes(alert):
                found.append(route)
                if not route.goes_on:
                    break
        return found

    @property
    def memory_s(self) -> float:
        """How far back `plan` must know what was told (s), beside all that is about alerts that are open."""
        return max((max(route.cooldown_s, route.pause_s) for route in self.routes), default=0.0)


GROUPS: Mapping[str, Callable[[Alert], str | None]] = {
    "site": lambda alert: alert.subject.site,
    "job": lambda alert: alert.subject.job,
    "rule": lambda alert: alert.rule,
    "severity": lambda alert: alert.severity.word,
    "owner": lambda alert: alert.owner,
    "alert": lambda alert: alert.id,
}
"""What messages may be grouped by."""
