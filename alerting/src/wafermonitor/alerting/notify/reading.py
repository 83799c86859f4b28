"""Channels and routes as people write them.

In: the nodes `channels` and `routes` of a YAML file as plain dicts and lists, and a function that says where in the file one
stands. Out: `Routes`, or AlertingRejected with one line for each mistake. Called by: declared.

    channels:
      mail:    {url: "mailtos://${env:SMTP_USER}:${env:SMTP_PASSWORD}@mail.fab.example?to=fab-it@fab.example"}
      on-call: {url: "${file:/etc/wafer/on-call.url}"}
    routes:
      - {name: night, severity: critical, channels: [on-call], goes_on: true}
      - {name: rest, channels: [mail], quiet: [{start: "22:00", end: "06:00", zone: Europe/Berlin}]}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import time
from itertools import pairwise
from typing import Any, TypeVar

from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.notify.addresses import check_address
from wafermonitor.alerting.notify.messages import check_template
from wafermonitor.alerting.notify.routes import GROUPS, Channel, Engine, Quiet, Route, Routes, Step
from wafermonitor.alerting.quantities import duration_s
from wafermonitor.alerting.rules import Where
from wafermonitor.alerting.schedule import zone
from wafermonitor.runs.alerts import Severity

Path = tuple[str | int, ...]
T = TypeVar("T")
_LONGEST_S = 366 * 86_400.0
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "x-api-key")
CHANNEL_FIELDS = {"url", "engine", "resolved", "timeout", "headers", "title", "body", "zone"}
ROUTE_FIELDS = {
    "name", "where", "rules", "severity", "channels", "group_by", "wait", "pause", "cooldown",
    "escalate", "quiet", "quiet_unless", "goes_on",
}  # fmt: skip
_WHERE = {"site", "job", "owner"}
_QUIET = {"start", "end", "zone", "days"}
_STEP = {"after", "channels"}


def read_routes(node: Mapping[str, Any], where: Callable[[Path], str]) -> Routes:
    """The channels and routes of `node`; AlertingRejected names every mistake with the place that `where(path)` gives."""
    return _Reading(where).read(node)


class _Reading:
    """One reading: mistakes are gathered, so that a person mends them all at once."""

    def __init__(self, where: Callable[[Path], str]) -> None:
        self._where = where
        self._mistakes: list[str] = []

    def read(self, node: Mapping[str, Any]) -> Routes:
        channels: dict[str, Channel] = {}
        for name, value in self._mapping(node.get("channels"), ("channels",)).items():
            channel = self._channel(str(name), value, ("channels", name))
            if channel is not None:
                channels[channel.name] = channel
        known = set(map(str, self._mapping(node.get("channels"), ("channels",), quietly=True)))
        routes: list[Route] = []
        for index, value in enumerate(self._list(node.get("routes"), ("routes",))):
            route = self._route(value, ("routes", index), known, index)
            if route is not None and any(one.name == route.name for one in routes):
                self._wrong(("routes", index, "name"), f"a second route {route.name!r}: give each its own name")
            elif route is not None:
                routes.append(route)
        if self._mistakes:
            raise AlertingRejected("\n".join(self._mistakes))
        return Routes(channels, tuple(routes))

    def _channel(self, name: str, value: Any, path: Path) -> Channel | None:
        if not _NAME.match(name):
            self._wrong(path, f"channel {name!r}: expected letters, digits, '_', '.', '-', at most 64")
        fields = self._fields(value, path, CHANNEL_FIELDS)
        engine = self._one_of(fields, "engine", path, {one.value: one for one in Engine}, Engine.APPRISE)
        url = fields.get("url")
        if not isinstance(url, str) or not url:
            self._wrong(path, f"channel {name} needs a url, such as ${{env:WAFER_ALERTING_URL_{name.upper()}}}")
            return None
        if problem := check_address(url, engine):
            self._wrong((*path, "url"), f"channel {name}: {problem}")
        return Channel(
            name,
            url,
            engine,
            resolved=self._flag(fields, "resolved", path, default=True),
            timeout_s=self._seconds(fields, "timeout", path, 20.0, least=0.1),
            headers=self._headers(fields.get("headers"), (*path, "headers")),
            title=self._template(fields, "title", path),
            body=self._template(fields, "body", path),
            zone=self._zone(fields, path),
        )

    def _route(self, value: Any, path: Path, channels: set[str], index: int) -> Route | None:
        fields = self._fields(value, path, ROUTE_FIELDS)
        if not fields:
            return None
        name = fields.get("name", f"route-{index + 1}")
        if not isinstance(name, str) or not _NAME.match(name):
            self._wrong((*path, "name"), f"name {name!r}: expected letters, digits, '_', '.', '-', at most 64")
            name = f"route-{index + 1}"
        severities = {one.word: one for one in Severity}
        return Route(
            name,
            self._channels(fields, path, channels),
            where=self._place(fields.get("where"), (*path, "where")),
            rules=self._texts(fields.get("rules"), (*path, "rules")),
            severity=self._one_of(fields, "severity", path, severities, Severity.INFO),
            group_by=self._groups(fields, path),
            wait_s=self._seconds(fields, "wait", path, 30.0),
            pause_s=self._seconds(fields, "pause", path, 60.0),
            cooldown_s=self._seconds(fields, "cooldown", path, 600.0),
            steps=self._steps(fields.get("escalate"), (*path, "escalate"), channels),
            quiet=tuple(
                quiet
                for number, one in enumerate(self._list(fields.get("quiet"), (*path, "quiet")))
                if (quiet := self._quiet(one, (*path, "quiet", number))) is not None
            ),
            quiet_unless=self._one_of(fields, "quiet_unless", path, severities, Severity.CRITICAL),
            goes_on=self._flag(fields, "goes_on", path, default=False),
        )

    def _channels(self, fields: Mapping[str, Any], path: Path, known: set[str]) -> tuple[str, ...]:
        at = (*path, "channels")
        names = self._texts(fields.get("channels"), at)
        if not names:
            self._wrong(path, f"needs channels: a list of {', '.join(sorted(known)) or 'channels, of which there are none'}")
        for name in names:
            if name not in known:
                self._wrong(at, f"{name!r} is no channel; there are {', '.join(sorted(known)) or 'none'}")
        return names

    def _groups(self, fields: Mapping[str, Any], path: Path) -> tuple[str, ...]:
        if "group_by" not in fields:
            return ("site", "rule")
        names = self._texts(fields["group_by"], (*path, "group_by"))
        for name in names:
            if name not in GROUPS:
                self._wrong((*path, "group_by"), f"{name!r} is nothing to group by; there are {', '.join(GROUPS)}")
        return tuple(name for name in names if name in GROUPS)

    def _place(self, value: Any, path: Path) -> Where:
        fields = {} if value is None else self._fields(value, path, _WHERE)
        return Where(*(self._texts(fields.get(name), (*path, name)) for name in ("site", "job", "owner")))

    def _steps(self, value: Any, path: Path, channels: set[str]) -> tuple[Step, ...]:
        steps: list[Step] = []
        for number, one in enumerate(self._list(value, path)):
            at = (*path, number)
            fields = self._fields(one, at, _STEP)
            if "after" not in fields:
                self._wrong(at, "needs after: how long nobody may acknowledge, such as 15m")
            steps.append(Step(self._seconds(fields, "after", at, 0.0), self._channels(fields, at, channels)))
        if any(later.after_s <= earlier.after_s for earlier, later in pairwise(steps)):
            self._wrong(path, "each step's after must be greater than that of the step before it")
        return tuple(steps)

    def _quiet(self, value: Any, path: Path) -> Quiet | None:
        fields = self._fields(value, path, _QUIET)
        ends = [self._time(fields, name, path) for name in ("start", "end")]
        name = self._zone(fields, path)
        days = self._texts(fields.get("days"), (*path, "days"))
        for day in days:
            if day not in WEEKDAYS:
                self._wrong((*path, "days"), f"{day!r} is no day; there are {', '.join(WEEKDAYS)}")
        if ends[0] is None or ends[1] is None:
            return None
        return Quiet(ends[0], ends[1], name, frozenset(WEEKDAYS.index(day) for day in days if day in WEEKDAYS))

    def _headers(self, value: Any, path: Path) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for name, text in self._mapping(value, path).items():
            if (
                not isinstance(name, str)
                or not isinstance(text, str)
                or not _HEADER.match(name)
                or "\n" in text
                or "\r" in text
            ):
                self._wrong((*path, name), f"{name!r:.60}: expected a header's name and a text of one line")
            elif name.lower() in _SECRET_HEADERS and "${" not in text:
                self._wrong((*path, name), f"{name} holds a secret: write ${{env:NAME}} or ${{file:/path}} for it")
            else:
                found[name] = text
        return found

    def _template(self, fields: Mapping[str, Any], name: str, path: Path) -> str | None:
        text = self._text(fields, name, path)
        if text and (problem := check_template(text)):
            self._wrong((*path, name), problem)
        return text or None

    def _zone(self, fields: Mapping[str, Any], path: Path) -> str:
        name = str(fields.get("zone", "UTC"))
        try:
            zone(name)
        except AlertingRejected as error:
            self._wrong((*path, "zone"), str(error))
            return "UTC"
        return name

    def _time(self, fields: Mapping[str, Any], name: str, path: Path) -> time | None:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
            return time(value // 60, value % 60)  # YAML 1.1 reads 22:00 as a number of base 60
        try:
            found = time.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            found = None
        if found is None or found.tzinfo is not None:
            self._wrong((*path, name), f"{name} = {value!r}: expected a time of day such as '22:00'")
            return None
        return found

    def _fields(self, value: Any, path: Path, known: set[str]) -> Mapping[str, Any]:
        found = self._mapping(value, path)
        for name in found:
            if name not in known:
                self._wrong((*path, name), f"{name!r} is no field here; there are {', '.join(sorted(known))}")
        return found

    def _mapping(self, value: Any, path: Path, *, quietly: bool = False) -> Mapping[Any, Any]:
        if value is None or isinstance(value, Mapping):
            return value or {}
        if not quietly:
            self._wrong(path, f"{_shown(value, path)}: expected names with values")
        return {}

    def _list(self, value: Any, path: Path) -> Sequence[Any]:
        if value is None or isinstance(value, list | tuple):
            return value or ()
        self._wrong(path, f"{_shown(value, path)}: expected a list")
        return ()

    def _texts(self, value: Any, path: Path) -> tuple[str, ...]:
        """A list of texts, or one alone."""
        values: Iterable[Any] = (value,) if isinstance(value, str) else self._list(value, path)
        found = tuple(one for one in values if isinstance(one, str) and one)
        if len(found) != len(tuple(values)):
            self._wrong(path, f"{_shown(value, path)}: expected a list of texts")
        return tuple(dict.fromkeys(found))

    def _text(self, fields: Mapping[str, Any], name: str, path: Path) -> str | None:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            self._wrong((*path, name), f"{name} = {_shown(value, path)}: expected a text")
            return None
        return value

    def _seconds(self, fields: Mapping[str, Any], name: str, path: Path, default: float, *, least: float = 0.0) -> float:
        if name not in fields:
            return default
        try:
            value = duration_s(fields[name])
        except ValueError as error:
            self._wrong((*path, name), f"{name} = {error}")
            return default
        if not least <= value <= _LONGEST_S:
            self._wrong((*path, name), f"{name} = {fields[name]!r:.60}: expected {least:g} s to a year")
            return default
        return value

    def _flag(self, fields: Mapping[str, Any], name: str, path: Path, *, default: bool) -> bool:
        value = fields.get(name, default)
        if not isinstance(value, bool):
            self._wrong((*path, name), f"{name} = {value!r:.60}: expected true or false")
            return default
        return value

    def _one_of(self, fields: Mapping[str, Any], name: str, path: Path, known: Mapping[str, T], default: T) -> T:
        if name not in fields:
            return default
        value = fields[name]
        if not isinstance(value, str) or value not in known:
            self._wrong((*path, name), f"{name} = {value!r:.60}: expected one of {', '.join(known)}")
            return default
        return known[value]

    def _wrong(self, path: Path, text: str) -> None:
        self._mistakes.append(f"{self._where(path)}: {text}")


def _shown(value: Any, path: Path) -> str:
    """A wrong value for the words of an error; not of a channel, where it may be an address that got into the wrong place."""
    return f"a {type(value).__name__}" if path[:1] == ("channels",) else f"{value!r:.60}"
