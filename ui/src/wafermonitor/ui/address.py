"""What a page shows, as an address: every view state is in the URL and nowhere else.

In: a path and its query string. Out: `Now`, `Runs` or `Run`, and back to the same URL. Called by: session, pages, templates.

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


Address: TypeAlias = Now | Runs | Run
_PAGES: dict[str, type[Now | Runs | Run]] = {page.path: page for page in (Now, Runs, Run)}
_PATTERNS = {"run": RUN_ID, "span": re.compile(r"[0-9a-f]{16}\Z"), "zoom": re.compile(r"\d+(\.\d+)?-\d+(\.\d+)?\Z")}


def parse(path: str, query: str) -> Address:
    """The address of `path?query`; an unknown path is `Now`."""
    page = _PAGES.get(path.rstrip("/") or "/", Now)
    hints = get_type_hints(page)
    given = dict(parse_qsl(query.removeprefix("?")[:_LONGEST_QUERY]))
    values = {field.name: _value(field.name, hints[field.name], given.get(field.name)) for field in dataclasses.fields(page)}
    return page(**{name: value for name, value in values.items() if value is not None})


def parse_url(url: str) -> Address:
    """As `parse`, from `/runs?state=lost`."""
    path, _, query = url.partition("?")
    return parse(path, query.partition("#")[0])


def url(address: Address, **changes: Any) -> str:
    """The URL of `address`, with some fields changed. A changed filter starts again at the first page."""
    if changes and isinstance(address, Runs) and "cursor" not in changes:
        changes["cursor"] = ""
    changed = dataclasses.replace(address, **changes)
    pairs = []
    for field in dataclasses.fields(changed):
        value = getattr(changed, field.name)
        if value != field.default:
            pairs.append((field.name, ".".join(value) if isinstance(value, tuple) else value))
    return f"{address.path}?{urlencode(pairs, quote_via=quote, safe=':,')}" if pairs else address.path


def _value(name: str, hint: Any, text: str | None) -> Any:
    if text is None:
        return None
    if get_origin(hint) is Literal:
        return text if text in get_args(hint) else None
    if get_origin(hint) is tuple:
        return tuple(part for part in text.split(".")[:MOST_FOLDED] if _PATTERNS["span"].match(part))
    if name == "since":
        return text if text in SINCE else None
    pattern = _PATTERNS.get(name)
    if pattern is not None and not pattern.match(text):
        return None
    return text[:500]
