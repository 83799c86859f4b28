"""The JSON Schema of files with rules, for editors: made from the same tables that the reader goes by.

In: nothing. Out: a JSON Schema (draft 2020-12) as plain data. Called by: `wafer alerting schema`, the docs' generator, tests.

The schema knows the shape; what takes more (a cron that never comes, a calendar that is not declared) only the reader finds.
"""

from __future__ import annotations

from typing import Any

from wafermonitor.alerting import declared
from wafermonitor.alerting.calendars import WEEKDAYS
from wafermonitor.alerting.fields import NAME
from wafermonitor.alerting.judges import KINDS
from wafermonitor.alerting.judges.kinds import Kind, Limit
from wafermonitor.alerting.notify import shape

_DURATION = r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|s|min|m|h|d|w)\s*)+$"
_SIZE = r"^\s*[0-9]+(\.[0-9]+)?\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)\s*$"
_SHARE = r"^[0-9]+(\.[0-9]+)?\s*%$"
TEXT = {"type": "string", "minLength": 1, "pattern": r"^[^\u0000]*$"}
_FLAG = {"type": "boolean"}


def schema() -> dict[str, Any]:
    """The whole schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "WaferMonitor: rules, expectations, calendars, channels and routes",
        **_object(
            {
                "version": {"const": declared.VERSION},
                "calendars": _named(_calendar()),
                "expectations": _named(_expectation()),
                "rules": _named(_rule()),
                "channels": _named(shape.channel()),
                "routes": {"type": "array", "items": shape.route()},
            }
        ),
        "$defs": {
            "duration": {
                "description": "a length of time with its unit: 30s, 15m, 1h30m, 2d",
                "anyOf": [{"type": "string", "pattern": _DURATION}, {"const": 0}],
            },
            "size": {"description": "bytes with their unit: 500MB, 8GB", "type": "string", "pattern": _SIZE},
            "share": {
                "description": "a number, or a part in percent",
                "anyOf": [{"type": ["number", "boolean"]}, {"type": "string", "pattern": _SHARE}],
            },
            "texts": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
        },
    }


def _calendar() -> dict[str, Any]:
    stretch = _object({"from": TEXT, "to": TEXT, "why": TEXT}, "from", "to")
    fields = {
        "zone": _about("time zone of the days and times below, such as Europe/Berlin", TEXT),
        "off": _about(f"days of the week without runs: {', '.join(WEEKDAYS)}", {"$ref": "#/$defs/texts"}),
        "country": _about("its public holidays are without runs: ISO 3166 code such as DE", TEXT),
        "subdivision": _about("part of the country, such as BY", TEXT),
        "dates": _about("more days without runs, such as 2026-12-24", {"$ref": "#/$defs/texts"}),
        "closed": _about("stretches without runs, such as maintenance", {"type": "array", "items": stretch}),
    }
    assert set(fields) == set(declared.CALENDAR)
    return _object(fields) | {"dependentRequired": {"subdivision": ["country"]}}


def _expectation() -> dict[str, Any]:
    after = _object(
        {
            "job": _about("the job that comes before", TEXT),
            "within": _duration("a run must start within this time"),
            "on": _about("of its start or of its good end", {"enum": ["start", "end"]}),
            "same_lot": _about("one run for each lot of the run before", _FLAG),
        },
        "job",
        "within",
    )
    fields = {
        "job": _about("name of the job that is expected", TEXT),
        "site": _about("its site; without one, a run at any site counts", TEXT),
        "cron": _about("five fields: minute, hour, day of month, month, day of week", TEXT),
        "zone": _about("time zone of `cron`; UTC unless set", TEXT),
        "every": _duration("one run in each such period"),
        "since": _about("when a period begins, with its offset; without it a run may come anywhere in its period", TEXT),
        "after": after,
        "calendar": _about("name of a calendar: what it leaves out is not expected", TEXT),
        "early": _duration("a start so much before the time still counts for it (1m)"),
        "start_margin": _duration("later than this it is late (5m)"),
        "grace": _duration("so much later it is missed (15m)"),
        "max_duration": _duration("a run that takes longer is overdue"),
        "min_duration": _duration("a run that ends well sooner is too short"),
        "silence": _duration("a run may give no sign for this long"),
        "owner": _about("who is told, where routes ask for it", TEXT),
        "runbook": _about("address of what to do", TEXT),
    }
    assert set(fields) == set(declared.EXPECTATION)
    schedules = [{"required": [name]} for name in declared.SCHEDULES]
    return _object(fields, "job") | {"oneOf": schedules}


def _rule() -> dict[str, Any]:
    fields = {
        "kind": {"enum": list(KINDS)},
        "severity": {"enum": list(declared.SEVERITIES)},
        "limits": {"type": "object"},
        "where": _about(
            "only subjects that match; `*` and `?` are patterns",
            _object({name: {"$ref": "#/$defs/texts"} for name in declared.WHERE}),
        ),
        "hold": _duration("it must be found for this long before it is told"),
        "every": _duration("it is judged at most this often; each tick unless set"),
        "runbook": _about("address of what to do", TEXT),
        "enabled": _FLAG,
    }
    assert set(fields) == set(declared.RULE)
    kinds = [
        {
            "if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]},
            "then": {
                "properties": {"limits": _limits(kind)}
                | ({"hold": {"const": 0}, "every": {"const": 0}} if kind.momentary else {})
            },
        }
        for kind in KINDS.values()
    ]
    return _object(fields) | {"allOf": kinds}


def _limits(kind: Kind) -> dict[str, Any]:
    return _object({declared.file_name(limit): _about(limit.means, _quantity(limit)) for limit in kind.limits})


def _quantity(limit: Limit) -> dict[str, Any]:
    if limit.name.endswith("_s"):
        return {"$ref": "#/$defs/duration"}
    return {"$ref": "#/$defs/size" if limit.name.endswith("_bytes") else "#/$defs/share"}


def _duration(means: str) -> dict[str, Any]:
    return _about(means, {"$ref": "#/$defs/duration"})


def _about(means: str, what: dict[str, Any]) -> dict[str, Any]:
    return {"description": means, **what}


def _named(item: dict[str, Any]) -> dict[str, Any]:
    pattern = NAME.pattern.replace("\\Z", "$")
    return {"type": "object", "patternProperties": {f"^{pattern}": item}, "additionalProperties": False}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    known: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return known | ({"required": list(required)} if required else {})
