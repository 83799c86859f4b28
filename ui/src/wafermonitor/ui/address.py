"""What a page shows, as an address: every view state is in the URL and nowhere else.

In: a path and its query string. Out: `Now`, `Runs`, `Run`, `Job` or `Alerts`, and back to the same URL.
Called by: session, pages, templates.

Fields that hold their default are left out of the URL. Unknown parameters are dropped and wrong values read as the default, so
an old link always opens something.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, quote, urlencode

RUN_ID = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}\Z")
SPAN_ID = re.compile(r"[0-9a-f]{16}\Z")
_LONGEST_QUERY = 4_000
MOST_FOLDED = 40
"""Folded rows kept in a URL; 40 span ids are 680 characters of the 2,000 a URL should not exceed."""
SINCE = ("", "1h", "6h", "24h", "7d", "30d")


@dataclass(frozen=True, slots=True)
class Now:
    """What runs at this moment, of one site or of all."""

    path: ClassVar[str] = "/"
    site: str = ""


@dataclass(frozen=True, slots=True)
class Runs:
    """The table of runs, or (tab `traces`) of root spans of programs that know nothing of us."""

    path: ClassVar[str] = "/runs"
    tab: Literal["runs", "traces"] = "runs"
    q: str = ""
    site: str = ""
    job: str = ""
    state: str = ""
    result: str = ""
    app: str = ""
    lot: str = ""
    equipment: str = ""
    recipe: str = ""
    level: Literal["jobs", "subjobs", "all"] = "jobs"
    since: str = ""
    before: str = ""
    after: str = ""
    sort: Literal["newest", "failing"] = "newest"
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `zoom` is `<from>-<to>` in seconds since its start; `fold` names the rows that the viewer folded or unfolded."""

    path: ClassVar[str] = "/run"
    run: str = ""
    view: Literal["waterfall", "subjobs"] = "waterfall"
    rows: Literal["focus", "all", "runs"] = "focus"
    span: str = ""
    fold: tuple[str, ...] = ()
    zoom: str = ""
    severity: Literal["debug", "info", "warn", "error"] = "info"
    find: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One job over time, at one site or at all, as far back as `span`.

    `month` (2026-11) and `day` (2026-11-23) choose a place in the calendar.
    """

    path: ClassVar[str] = "/job"
    site: str = ""
    job: str = ""
    span: Literal["7d", "30d", "90d"] = "30d"
    by: Literal["equipment", "recipe", "product"] = "equipment"
    month: str = ""
    day: str = ""


@dataclass(frozen=True, slots=True)
class Alerts:
    """What fires, what fired, what is silenced. `alert` is the one that is unfolded, `act` the form that is open in it."""

    path: ClassVar[str] = "/alerts"
    view: Literal["firing", "history", "silences"] = "firing"
    site: str = ""
    job: str = ""
    rule: str = ""
    severity: str = ""
    state: Literal["", "firing", "resolved"] = ""
    since: str = ""
    before: str = ""
    after: str = ""
    cursor: str = ""
    alert: str = ""
    act: Literal["", "acknowledge", "silence"] = ""


Address: TypeAlias = Now | Runs | Run | Job | Alerts
_PAGES: dict[str, type[Address]] = {page.path: page for page in (Now, Runs, Run, Job, Alerts)}
PATHS = tuple(_PAGES)
_PATTERNS = {
    (Run, "run"): RUN_ID,
    (Run, "span"): SPAN_ID,
    (Run, "zoom"): re.compile(r"\d+(\.\d+)?-\d+(\.\d+)?\Z"),
    (Job, "month"): re.compile(r"20\d\d-(0[1-9]|1[0-2])\Z"),
    (Job, "day"): re.compile(r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\Z"),
    (Alerts, "alert"): re.compile(r"[0-9a-f]{32}\Z"),
}


_WITHIN_PAGE = ("alert", "act")
"""What is unfolded or open does not change which rows there are."""


def parse(path: str, query: str) -> Address:
    """The address of `path?query`; an unknown path is `Now`."""
    page = _PAGES.get(path.rstrip("/") or "/", Now)
    hints = get_type_hints(page)
    given = dict(parse_qsl(query.removeprefix("?")[:_LONGEST_QUERY]))
    names = [field.name for field in dataclasses.fields(page)]
    values = {name: _value(page, name, hints[name], given.get(name)) for name in names}
    return page(**{name: value for name, value in values.items() if value is not None})


def parse_url(url: str) -> Address:
    """As `parse`, from `/runs?state=lost`."""
    path, _, query = url.partition("?")
    return parse(path, query.partition("#")[0])


def url(address: Address, **changes: Any) -> str:
    """The URL of `address`, with some fields changed. A changed filter starts again at the first page."""
    if changes and isinstance(address, Runs | Alerts) and not changes.keys() & {"cursor", *_WITHIN_PAGE}:
        changes["cursor"] = ""
    changed = dataclasses.replace(address, **changes)
    pairs = []
    for field in dataclasses.fields(changed):
        value = getattr(changed, field.name)
        if value != field.default:
            pairs.append((field.name, ".".join(value) if isinstance(value, tuple) else value))
    return f"{address.path}?{urlencode(pairs, quote_via=quote, safe=':,')}" if pairs else address.path


def _value(page: type[Address], name: str, hint: Any, text: str | None) -> Any:
    if text is None:
        return None
    if get_origin(hint) is Literal:
        return text if text in get_args(hint) else None
    if get_origin(hint) is tuple:
        return tuple(part for part in text.split(".")[:MOST_FOLDED] if SPAN_ID.match(part))
    if name == "since":
        return text if text in SINCE else None
    pattern = _PATTERNS.get((page, name))
    if pattern is not None and not pattern.match(text):
        return None
    return text[:500]
