"""What a site declares in YAML or TOML: calendars, expectations, rules, channels and routes, over the standard rules.

In: a file, or a folder of files. Out: a `Declared`, or AlertingRejected with a line `file:line: what, expected …` for each
mistake.
Called by: evaluator (at its start and when a file changes), `wafer alerting check`, rehearsal.

`standard.yaml` beside this module is read first; a file overrides its rules by name, field by field. Durations have a unit
(`15m`, `1h30m`), sizes too (`8GB`), shares may be percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path as File
from typing import Any, NamedTuple

from wafermonitor.alerting import calendars
from wafermonitor.alerting.documents import Document, Path, read
from wafermonitor.alerting.errors import AlertingRejected, ScheduleRejected
from wafermonitor.alerting.expecting import After, Wish, dumps
from wafermonitor.alerting.fields import Fields
from wafermonitor.alerting.judges import KINDS
from wafermonitor.alerting.judges.kinds import Kind, Limit
from wafermonitor.alerting.notify import Routes, read_routes
from wafermonitor.alerting.quantities import duration_s, ratio, size_bytes
from wafermonitor.alerting.rules import Rule, Where
from wafermonitor.alerting.schedule import ALWAYS, Calendar, Closed, Cron, Every, zone
from wafermonitor.runs.alerts import Expectation, Origin, Severity

STANDARD = File(__file__).with_name("standard.yaml")
VERSION = 1
SECTIONS = ("version", "calendars", "expectations", "rules", "channels", "routes")
CALENDAR = ("zone", "off", "country", "subdivision", "dates", "closed")
EXPECTATION = (
    "job", "site", "cron", "zone", "every", "since", "after", "calendar", "early", "start_margin", "grace",
    "max_duration", "min_duration", "silence", "owner", "runbook",
)  # fmt: skip
AFTER = ("job", "within", "on", "same_lot")
RULE = ("kind", "severity", "limits", "where", "hold", "every", "runbook", "enabled")
WHERE = ("site", "job", "owner")
SCHEDULES = ("cron", "every", "after")
SEVERITIES = {one.word: one for one in Severity}
_UNITS = ("_s", "_bytes")


class Declared(NamedTuple):
    """All that was declared. Expectations have no times of their own yet: the store gives them."""

    rules: tuple[Rule, ...]
    expectations: tuple[Expectation, ...] = ()
    calendars: Mapping[str, Calendar] = {}
    routes: Routes = Routes({}, ())


def load(path: File | None, today_year: int | None = None) -> Declared:
    """The standard rules, and over them what `path` declares: a file, or a folder of `.yaml`, `.yml` and `.toml` files.

    `today_year`: public holidays are worked out around it; None is this year.
    """
    found = [] if path is None else [read(file) for file in _files(path)]
    year = datetime.now(UTC).year if today_year is None else today_year
    return declare([read(STANDARD), *found], year)


def declare(documents: list[Document], year: int) -> Declared:
    """What `documents` declare together; later ones override rules of earlier ones by name."""
    reading = _Reading(year)
    for document in documents:
        reading.take_calendars(document)
    for document in documents:
        reading.take(document)
    return reading.done()


def file_name(limit: Limit) -> str:
    """A limit's name in a file, where its value has the unit: `over_s` is `over`."""
    for unit in _UNITS:
        if limit.name.endswith(unit):
            return limit.name.removesuffix(unit)
    return limit.name


def _files(path: File) -> list[File]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in {".yaml", ".yml", ".toml"})
    if not files:
        raise AlertingRejected(f"{path}: no file with rules, expected .yaml or .toml files in it")
    return files


class _Reading:
    """One reading of some documents, which notes every mistake."""

    def __init__(self, year: int) -> None:
        self._year = year
        self._mistakes: list[str] = []
        self._calendars: dict[str, Calendar] = {}
        self._expectations: dict[str, Expectation] = {}
        self._rules: dict[str, tuple[Rule, bool]] = {}
        self._places: dict[tuple[str, str], str] = {}
        self._routing: dict[str, Any] = {"channels": {}, "routes": []}
        self._routing_places: dict[Path, tuple[Document, Path]] = {}

    def take_calendars(self, document: Document) -> None:
        for name, fields in Fields(document, (), _own(document), self._mistakes).named("calendars"):
            if self._first("calendars", name, fields):
                self._calendars[name] = self._calendar(fields)

    def take(self, document: Document) -> None:
        top = Fields(document, (), _own(document), self._mistakes)
        top.only(SECTIONS)
        if top.values.get("version", VERSION) != VERSION:
            top.wrong(f"{top.values['version']!r}", f"{VERSION}, the version that this release reads", "version")
        for name, fields in top.named("rules"):
            self._rule(name, fields)
        for name, fields in top.named("expectations"):
            if self._first("expectations", name, fields):
                self._expectation(name, fields)
        self._take_routing(top)

    def done(self) -> Declared:
        routes = self._routes()
        if self._mistakes:
            raise AlertingRejected("\n".join(self._mistakes))
        rules = tuple(rule for rule, enabled in self._rules.values() if enabled)
        return Declared(rules, tuple(self._expectations.values()), self._calendars, routes)

    def _first(self, section: str, name: str, fields: Fields) -> bool:
        where = fields.document.where(fields.path)
        first = self._places.setdefault((section, name), where)
        if first != where:
            fields.wrong("is declared twice", f"another name: the first is at {first}")
        return first == where

    def _calendar(self, fields: Fields) -> Calendar:
        fields.only(CALENDAR)
        country, part = fields.text("country"), fields.text("subdivision")
        days = set(fields.each("dates", calendars.day))
        if country is not None:
            try:
                days |= calendars.public_holidays(country, part, self._year)
            except ScheduleRejected as error:
                wrong_part = part is not None and str(error).startswith("subdivision")
                fields.refused(error, "subdivision" if wrong_part else "country")
        elif part is not None:
            fields.wrong("stands alone", "a country beside it", "subdivision")
        closed = [self._closed(one) for one in fields.listed("closed")]
        return Calendar(
            _zone(fields),
            frozenset(fields.each("off", calendars.weekday)),
            frozenset(days),
            tuple(one for one in closed if one is not None),
        )

    def _closed(self, fields: Fields) -> Closed | None:
        fields.only(("from", "to", "why"))
        start, end = fields.text("from"), fields.text("to")
        if start is None or end is None:
            fields.wrong("has no beginning or no end", "`from` and `to`, local times such as 2026-12-22T06:00")
            return None
        try:
            return calendars.stretch(start, end, fields.text("why") or "")
        except ScheduleRejected as error:
            fields.refused(error)
            return None

    def _expectation(self, name: str, fields: Fields) -> None:
        fields.only(EXPECTATION)
        job, schedule = fields.text("job"), self._schedule(fields)
        if job is None:
            fields.wrong("has no job", "`job`: the name of the job that is expected")
        calendar = fields.text("calendar")
        if calendar is not None and calendar not in self._calendars:
            known = ", ".join(sorted(self._calendars)) or "a calendar, of which there are none"
            fields.wrong(f"{calendar!r} is not declared", known, "calendar")
        if job is None or schedule is None:
            return
        wish = self._wish(fields, schedule, self._calendars.get(calendar or "", ALWAYS))
        try:
            spec = dumps(wish)
        except ScheduleRejected as error:
            fields.refused(error, next(kind for kind in SCHEDULES if kind in fields.values))
            return
        self._expectations[name] = Expectation(name, fields.text("site"), job, Origin.DECLARED, spec, 0, 0, 0)

    def _schedule(self, fields: Fields) -> Cron | Every | After | None:
        kinds = [kind for kind in SCHEDULES if fields.values.get(kind) is not None]
        if len(kinds) != 1:
            fields.wrong(f"has {' and '.join(kinds) or 'no schedule'}", f"one of {', '.join(SCHEDULES)}")
            return None
        if "after" in kinds:
            return _after(fields.fields("after"))
        if "every" in kinds:
            period_s = fields.seconds("every", -1.0)
            return None if period_s < 0 else Every(period_s, fields.quantity("since", _instant, 0))
        cron = fields.text("cron")
        return None if cron is None else Cron(cron, _zone(fields))

    def _wish(self, fields: Fields, schedule: Cron | Every | After, calendar: Calendar) -> Wish:
        usual = Wish(schedule)
        if isinstance(schedule, Every) and "since" not in fields.values:
            # Nobody said when a period begins: a run anywhere within it is in time.
            usual = usual._replace(early_s=0.0, start_margin_s=schedule.period_s)
        unset = -1.0
        lengths = [fields.seconds(name, unset) for name in ("max_duration", "min_duration", "silence")]
        longest, shortest, silence = (None if value == unset else value for value in lengths)
        if longest is not None and shortest is not None and shortest > longest:
            fields.wrong("is above max_duration", "less", "min_duration")
        return usual._replace(
            calendar=calendar,
            early_s=fields.seconds("early", usual.early_s),
            start_margin_s=fields.seconds("start_margin", usual.start_margin_s),
            grace_s=fields.seconds("grace", usual.grace_s),
            max_duration_s=longest,
            min_duration_s=shortest,
            silence_s=silence,
            owner=fields.text("owner"),
            runbook=fields.text("runbook"),
        )

    def _rule(self, name: str, fields: Fields) -> None:
        fields.only(RULE)
        standard = self._rules.get(name)
        kind = fields.choice("kind", KINDS, None if standard is None else KINDS[standard[0].kind])
        if kind is None:
            if "kind" not in fields.values:
                fields.wrong("has no kind", f"`kind`: one of {', '.join(KINDS)}")
            return
        before = Rule(name, kind.name, Severity.WARNING) if standard is None or standard[0].kind != kind.name else standard[0]
        hold_s, every_s = fields.seconds("hold", before.hold_s), fields.seconds("every", before.every_s)
        for field in ("hold", "every"):
            if kind.momentary and fields.values.get(field):
                fields.wrong(f"{kind.name} speaks of runs as they end", "none", field)
        rule = Rule(
            name,
            kind.name,
            fields.choice("severity", SEVERITIES, before.severity),
            {**before.limits, **_limits(kind, fields.fields("limits"))},
            _where(fields.fields("where")) if "where" in fields.values else before.where,
            hold_s,
            every_s,
            fields.text("runbook") or before.runbook,
        )
        self._rules[name] = rule, fields.flag("enabled", default=True if standard is None else standard[1])

    def _take_routing(self, top: Fields) -> None:
        """Gather channels and routes of all files into one node, which the notifier's reader reads."""
        channels, routes = top.values.get("channels"), top.values.get("routes")
        if isinstance(channels, dict):
            for name, value in channels.items():
                if self._first("channels", name, Fields(top.document, ("channels", name), {}, self._mistakes)):
                    self._routing["channels"][name] = value
                    self._routing_places["channels", name] = top.document, ("channels", name)
        elif channels is not None:
            top.wrong(f"a {type(channels).__name__}", "names with values", "channels")
        if isinstance(routes, list):
            for index, value in enumerate(routes):
                self._routing_places["routes", len(self._routing["routes"])] = top.document, ("routes", index)
                self._routing["routes"].append(value)
        elif routes is not None:
            top.wrong(f"{routes!r:.60}", "a list", "routes")

    def _routes(self) -> Routes:
        try:
            return read_routes(self._routing, self._where)
        except AlertingRejected as error:
            self._mistakes.append(str(error))
            return Routes({}, ())

    def _where(self, path: Path) -> str:
        document, start = self._routing_places.get(path[:2], (None, ()))
        if document is None:
            return "channels and routes"
        return document.where((*start, *path[2:]))


def _own(document: Document) -> dict[str, Any]:
    """What of a file is ours: `wafer.toml` has tables of other components, too."""
    if not document.file.endswith(".toml"):
        return document.data
    others = {entry.name for entry in metadata.entry_points(group="wafermonitor.configs")}
    return {name: value for name, value in document.data.items() if name not in others}


def _zone(fields: Fields) -> str:
    name = fields.text("zone") or "UTC"
    try:
        zone(name)
    except ScheduleRejected as error:
        fields.refused(error, "zone")
        return "UTC"
    return name


def _after(fields: Fields) -> After | None:
    fields.only(AFTER)
    job, within_s = fields.text("job"), fields.seconds("within", -1.0)
    if job is None:
        fields.wrong("has no job", "`job`: the name of the job that comes before")
    if within_s < 0 and "within" not in fields.values:
        fields.wrong("has no time", "`within`: a duration such as 2h")
    if job is None or within_s < 0:
        return None
    on = fields.choice("on", {"start": "start", "end": "end"}, "end")
    return After(job, within_s, fields.flag("same_lot", default=True), on)


def _instant(value: object) -> int:
    """RFC 3339 → ns."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"{value!r}: expected a time with its offset such as 2026-01-01T00:07:00Z")
    return int(at.timestamp()) * 1_000_000_000


def _limits(kind: Kind, fields: Fields) -> dict[str, float]:
    known = {file_name(limit): limit for limit in kind.limits}
    fields.only(known)
    found = {}
    for name, limit in known.items():
        if fields.values.get(name) is not None:
            found[limit.name] = float(fields.quantity(name, _reader(limit), limit.default))
    return found


def _reader(limit: Limit) -> Any:
    if limit.name.endswith("_s"):
        return duration_s
    return size_bytes if limit.name.endswith("_bytes") else _count


def _count(value: object) -> float:
    """A number, a share; true and false for what is switched."""
    return float(value) if isinstance(value, bool) else ratio(value)


def _where(fields: Fields) -> Where:
    fields.only(WHERE)
    return Where(fields.texts("site"), fields.texts("job"), fields.texts("owner"))
