"""The shape of channels and routes as JSON Schema, for editors: of the same fields that `reading` takes.

In: nothing. Out: schemas as plain data, with references to `duration` and `texts` of the whole schema. Called by: schema.
"""

from __future__ import annotations

from typing import Any

from wafermonitor.alerting.notify.messages import FIELDS
from wafermonitor.alerting.notify.reading import CHANNEL_FIELDS, ROUTE_FIELDS, WEEKDAYS
from wafermonitor.alerting.notify.routes import GROUPS, Engine
from wafermonitor.runs.alerts import Severity

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"$ref": "#/$defs/texts"}
_SEVERITY = {"enum": [one.word for one in Severity]}
_CLOCK = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 1439}]}
_OWN_TEXT = f"a text of your own, with {', '.join('$' + name for name in FIELDS)}"


def channel() -> dict[str, Any]:
    """One channel."""
    fields = {
        "url": _about("where to; secrets only as ${env:NAME} or ${file:/path}", _TEXT),
        "engine": _about("what sends: apprise unless set", {"enum": [one.value for one in Engine]}),
        "resolved": _about("whether it is told of the end, too: true unless set", {"type": "boolean"}),
        "timeout": _duration("longest wait for its answer (20s)"),
        "headers": _about("of each request of a webhook or an Alertmanager", {"type": "object", "additionalProperties": _TEXT}),
        "title": _about(_OWN_TEXT, {"type": "string"}),
        "body": _about(_OWN_TEXT, {"type": "string"}),
        "zone": _about("time zone of the times in its messages; UTC unless set", _TEXT),
    }
    assert set(fields) == CHANNEL_FIELDS
    return _object(fields, "url")


def route() -> dict[str, Any]:
    """One route."""
    where = _object(dict.fromkeys(("site", "job", "owner"), _TEXTS))
    step = _object({"after": _duration("how long nobody acknowledged"), "channels": _TEXTS}, "after", "channels")
    days = {"anyOf": [{"enum": list(WEEKDAYS)}, {"type": "array", "items": {"enum": list(WEEKDAYS)}}]}
    quiet = _object({"start": _CLOCK, "end": _CLOCK, "zone": _TEXT, "days": days}, "start", "end")
    groups = {"enum": list(GROUPS)}
    fields = {
        "name": _about("how it is called in logs", _TEXT),
        "where": _about("only alerts that match; `*` and `?` are patterns", where),
        "rules": _about("only alerts of these rules, or patterns", _TEXTS),
        "severity": _about("this and above", _SEVERITY),
        "channels": _about("who is told", _TEXTS),
        "group_by": _about(
            "alerts that share these are one message: site and rule unless set",
            {"anyOf": [groups, {"type": "array", "items": groups}]},
        ),
        "wait": _duration("from the first alert of a group to its message (30s)"),
        "pause": _duration("least time between two messages of one group (1m)"),
        "cooldown": _duration("what ended and comes again is not told again to a channel within this time (10m)"),
        "escalate": _about("who is told when nobody acknowledges", {"type": "array", "items": step}),
        "quiet": _about("hours in which only what is louder is told", {"type": "array", "items": quiet}),
        "quiet_unless": _about("severity that is told in quiet hours: critical unless set", _SEVERITY),
        "goes_on": _about("routes after this one are asked, too", {"type": "boolean"}),
    }
    assert set(fields) == ROUTE_FIELDS
    return _object(fields, "channels")


def _duration(means: str) -> dict[str, Any]:
    return _about(means, {"$ref": "#/$defs/duration"})


def _about(means: str, what: dict[str, Any]) -> dict[str, Any]:
    return {"description": means, **what}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    known: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return known | ({"required": list(required)} if required else {})
