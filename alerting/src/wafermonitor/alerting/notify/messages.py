"""What a message says: plain text, short, the same for the same alerts.

In: why somebody is told, alerts, links. Out: a title and a body. Called by: sending, `wafer alerting notify-test`.

Summaries, causes and numbers come from telemetry, which anybody who may send a span may write. So they are shown as one line
of bounded length, without control characters or marks that turn text around, with nothing that a receiver reads as HTML or
as a call to everybody.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from string import Template
from typing import NamedTuple

from wafermonitor.alerting.notify.routes import Channel
from wafermonitor.alerting.schedule import zone
from wafermonitor.runs.alerts import Alert, Kind
from wafermonitor.runs.state import SECOND_NS

LONGEST_TITLE = 140
LONGEST_LINE = 500
MOST_SHOWN = 20
"""Alerts written out in one message; the others are counted."""
_MOST_FACTS = 8
_WORDS = {Kind.FIRING: "", Kind.ESCALATED: "not acknowledged: ", Kind.RESOLVED: "over: "}
_MENTION = re.compile(r"@(?=(?:everyone|here|channel|all)\b)", re.IGNORECASE)
_ANGLES = str.maketrans("<>", "\u2039\u203a")
_TIME = re.compile(r"\b(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)(?:\.\d{1,9})?Z| (\d\d:\d\d:\d\d) UTC)")
_SENTENCES = ("summary", "cause", "evidence")
_GREATEST = 2.5e18  # ns in the year 2049: nothing that is measured is more
_UNITS_S = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Message(NamedTuple):
    """`title` is one line."""

    title: str
    body: str


def write(channel: Channel, kind: Kind, alerts: Sequence[Alert], *, url: str, now_ns: int) -> Message:
    """The message to `channel`; `url` is the screens' address ("": no links). An alert that is over says so."""
    if all(alert.resolved_ns is not None for alert in alerts):
        kind = Kind.RESOLVED
    shown = [_fields(alert, channel, kind, url, now_ns) for alert in alerts[:MOST_SHOWN]]
    first = {**shown[0], "count": str(len(alerts))}
    title = Template(channel.title).substitute(first) if channel.title else _title(kind, alerts, first)
    texts = [
        Template(channel.body).substitute({**one, "count": first["count"]}) if channel.body else one["text"] for one in shown
    ]
    if len(alerts) > MOST_SHOWN:
        texts.append(f"and {len(alerts) - MOST_SHOWN} more" + (f": {page(url)}" if url else ""))
    return Message(plain(title, LONGEST_TITLE), "\n\n".join(texts))


def plain(text: str, longest: int = LONGEST_LINE) -> str:
    """One line of at most `longest` characters that no receiver reads as anything but text."""
    kept = "".join(char if unicodedata.category(char)[0] not in "CZ" else _space(char) for char in text[: 4 * longest])
    line = _MENTION.sub("(at)", " ".join(kept.split()).translate(_ANGLES))
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def page(url: str, alert: Alert | None = None) -> str:
    """The address of the Alerts page, perhaps with one alert unfolded."""
    return f"{url.rstrip('/')}/alerts" + ("" if alert is None else f"?alert={alert.id}")


def check_template(text: str) -> str | None:
    """What is wrong with a channel's own text; None: nothing."""
    template = Template(text)
    if not template.is_valid():
        return "a '$' that begins no field: write '$$' for the character itself"
    unknown = [name for name in template.get_identifiers() if name not in FIELDS]
    return f"${unknown[0]} is no field; there are {', '.join('$' + name for name in FIELDS)}" if unknown else None


def facts(evidence: str) -> dict[str, str]:
    """Names and values of an alert's evidence, as text."""
    return {plain(name, 60): plain(_value(value), 120) for name, value in _read(evidence)}


def said(evidence: str) -> str:
    """An alert's evidence as people read it: `late 10 min 12 s, memory 8.1 GB`."""
    return ", ".join(_said(name, value) for name, value in _read(evidence))


def span(seconds: float) -> str:
    """A length of time in its two greatest units."""
    left, parts = max(0, round(seconds)), []
    for size, unit in _UNITS_S:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _title(kind: Kind, alerts: Sequence[Alert], first: Mapping[str, str]) -> str:
    start = _WORDS[kind] + first["severity"]
    if len(alerts) == 1:
        place = f"{first['site']}: " if first["site"] and first["site"] not in first["summary"] else ""
        return f"[{start}] {place}{first['summary']}"
    rules, sites = {alert.rule for alert in alerts}, {alert.subject.site for alert in alerts}
    loudest = max(alert.severity for alert in alerts).word
    about = f" {rules.pop()}" if len(rules) == 1 else ""
    site = sites.pop() if len(sites) == 1 else None
    return f"[{_WORDS[kind]}{loudest}] {len(alerts)} alerts{about}" + (f" at {site}" if site else "")


def _fields(alert: Alert, channel: Channel, kind: Kind, url: str, now_ns: int) -> dict[str, str]:
    end_ns = now_ns if alert.resolved_ns is None else alert.resolved_ns
    found = {
        "kind": kind.value,
        "severity": alert.severity.word,
        "rule": alert.rule,
        "site": alert.subject.site or "",
        "job": alert.subject.job or "",
        "run": "" if alert.subject.run is None else alert.subject.run.id,
        "feed": alert.subject.feed or "",
        "summary": alert.summary,
        "since": _moment(alert.since_ns, channel),
        "resolved": "" if alert.resolved_ns is None else _moment(alert.resolved_ns, channel),
        "duration": span((end_ns - alert.since_ns) / SECOND_NS),
        "evidence": said(alert.evidence),
        "cause": alert.cause or "",
        "owner": alert.owner or "",
        "runbook": alert.runbook or "",
    }
    found = {name: plain(_local(value, channel) if name in _SENTENCES else value) for name, value in found.items()}
    found["link"] = page(url, alert) if url else ""
    return {**found, "text": _text(found)}


def _text(found: Mapping[str, str]) -> str:
    since = f"since {found['since']}"
    about = [f"{name} {found[name]}" for name in ("site", "job", "run", "feed") if found[name]]
    lines = [
        f"{found['severity']}: {found['summary']}",
        f"{since}, until {found['resolved']} ({found['duration']})"
        if found["resolved"]
        else f"{since}, for {found['duration']}",
        f"rule {found['rule']}" + "".join(f" · {one}" for one in about),
    ]
    lines += [f"{name}: {found[name]}" for name in ("evidence", "cause", "owner", "runbook", "link") if found[name]]
    return "\n".join(lines)


def _moment(at_ns: int, channel: Channel) -> str:
    at = datetime.fromtimestamp(at_ns // SECOND_NS, UTC).astimezone(zone(channel.zone))
    return f"{at:%Y-%m-%d %H:%M:%S} {at.tzname()}"


def _read(evidence: str) -> list[tuple[str, object]]:
    try:
        found = json.loads(evidence)
    except ValueError:
        return []
    known = found.items() if isinstance(found, dict) else ()
    return [(str(name), value) for name, value in known if value is not None][:_MOST_FACTS]


def _said(name: str, value: object) -> str:
    bare, _, unit = name.rpartition("_")
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if bare and number is not None and math.isfinite(number) and abs(number) < _GREATEST and unit in _SPOKEN:
        name, text = bare, _SPOKEN[unit](number)
    elif name.endswith("ratio") and number is not None:
        name, text = bare or "share", f"{100 * number:.3g} %"
    else:
        text = _value(value)
    return f"{plain(name.replace('_', ' '), 60)} {plain(text, 120)}"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:  # noqa: PLR2004 - the step from one unit to the next
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _instant(at_ns: float) -> str:
    return datetime.fromtimestamp(int(at_ns) // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _local(text: str, channel: Channel) -> str:
    """The text with its times of UTC as times of the channel's zone."""

    def moved(found: re.Match[str]) -> str:
        try:
            at = datetime.fromisoformat(f"{found[1]}T{found[2] or found[3]}+00:00")
        except ValueError:
            return found[0]  # the 31st of February
        return _moment(round(at.timestamp()) * SECOND_NS, channel)

    return _TIME.sub(moved, text[: 4 * LONGEST_LINE])


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _space(char: str) -> str:
    """White space stays a space; other characters that nobody sees are gone."""
    return " " if char.isspace() else ""


FIELDS = (
    "kind", "count", "severity", "rule", "site", "job", "run", "feed", "summary", "since", "resolved", "duration", "evidence",
    "cause", "owner", "runbook", "link", "text",
)  # fmt: skip
"""What `$name` in a channel's own `title` and `body` may name; `text` is the standard body of one alert."""
_SPOKEN: Mapping[str, Callable[[float], str]] = {"s": span, "bytes": _size, "ns": _instant}
"""How numbers are said whose name ends with a unit."""
