"""What Zabbix keeps of an item: its record as text, of a job's signs a few numbers, of an alert its severity.

In: items. Out: values with item key, text and time. Called by: `zabbix`, which sends them; its docstring says what becomes of
them there.

Zabbix keeps one value for each item key, second and nanosecond. So the time of a record that ends in zeros, because its sender
measures only seconds, milliseconds or microseconds, gets its last digits from the record's id: two records of one moment
stay two, and a record that comes twice stays one. The times in the record itself are as they were sent.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events
from wafermonitor.storage.writers import rows
from wafermonitor.storage.writers.items import Item, Log, Span
from wafermonitor.storage.writers.protocol import Signal

SECOND_NS: Final = 1_000_000_000
LONGEST_BYTES: Final = 65_535
"""Of a text; Zabbix cuts the rest off."""
LATEST_S: Final = 2**31 - 1
"""The last second that Zabbix can write."""
RECORDS: Final[Mapping[Signal, str]] = {"traces": "wafer.traces", "logs": "wafer.logs", "metrics": "wafer.metrics"}
"""The item that keeps the records of a signal."""
JOBS: Final = "wafer.jobs"
"""The discovery rule that makes the items of a job."""
ALERTS: Final = "wafer.alerts"
"""The one that makes the item of an alert."""
SEVERITIES: Final[Mapping[str, int]] = {word: number + 1 for number, word in enumerate(names.WAFER_ALERT_SEVERITY_VALUES)}
"""Values of `wafer.alert`; 0 is over."""
STATES: Final[Mapping[str, int]] = {
    "running": 1,
    names.WAFER_JOB_RESULT_SUCCESS: 2,
    names.WAFER_JOB_RESULT_SKIP: 3,
    names.WAFER_JOB_RESULT_CANCELLATION: 4,
    names.WAFER_JOB_RESULT_TIMEOUT: 5,
    names.WAFER_JOB_RESULT_FAILURE: 6,
    names.WAFER_JOB_RESULT_ERROR: 7,
}
"""Values of `wafer.job.state`, the same as in the template's value map; 5 and more are bad ends."""
_FIELDS: Final = (1_000_000_000, 1_000_000, 1_000)
_LONGEST_HOST: Final = 128
_LONGEST_NAME: Final = 180
_HOST: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._-")
_NO_MACROS: Final = str.maketrans("{}", "()")
_ESCAPED: Final = frozenset('\\"%{}$[]')
_SIGNS: Final = frozenset(
    {
        events.WAFER_JOB_START,
        events.WAFER_JOB_PROGRESS,
        events.WAFER_JOB_HEARTBEAT,
        events.WAFER_JOB_EXCEPTION,
        events.WAFER_JOB_END,
    }
)


class Owner(NamedTuple):
    """What the items of a value were made for: a job or an alert. `rule` is the discovery rule, `label` stands in its keys."""

    rule: str
    label: str
    name: str


class Value(NamedTuple):
    """One value for one item of Zabbix; a record has no owner."""

    host: str
    key: str
    text: str
    time_ns: int
    owner: Owner | None = None

    @property
    def clock(self) -> int:
        """Seconds since 1970-01-01 UTC."""
        return self.time_ns // SECOND_NS

    @property
    def ns(self) -> int:
        """Nanoseconds of that second."""
        return self.time_ns % SECOND_NS


def record(item: Item, host: str) -> Value:
    """The item itself as JSON, the row of `rows` without what is empty.

    Its time is when a span ended, a log was written, a point was measured; where nobody says it is now.
    """
    kept = {name: value for name, value in rows.row(item).values.items() if value not in (None, "", {}, [])}
    text = json.dumps(rows.plain_json(kept), ensure_ascii=False, separators=(",", ":"))
    at_ns = (item.end_ns or item.start_ns) if isinstance(item, Span) else item.time_ns
    return Value(host_of(item, host), RECORDS[_signal(item)], text, _distinct(at_ns, item.id))


def signs(item: Item, host: str) -> Iterator[Value]:
    """What a run's end, or an event of its life, says about its job; how severe an alert is. Nothing for other items."""
    if isinstance(item, Log) and item.event_name == events.WAFER_ALERT:
        told: Iterator[tuple[str, str, int]] = _alert(item)
        owner = _alerting(item)
    else:
        told = _ended(item) if isinstance(item, Span) else _heard(item) if isinstance(item, Log) else iter(())
        job = item.attributes.get(names.WAFER_JOB_NAME)
        owner = Owner(JOBS, label(job), job) if isinstance(job, str) and job else None
    if owner is not None:
        for name, text, at_ns in told:
            yield Value(host_of(item, host), f'{name}["{owner.label}"]', text, at_ns, owner)


def host_of(item: Item, pattern: str) -> str:
    """The host in Zabbix that stands for the item's site."""
    named = pattern.replace("{site}", item.resource.site)
    return "".join(one if one in _HOST else "_" for one in named)[:_LONGEST_HOST]


def discovery(owners: Iterable[Owner]) -> str:
    """What their discovery rule is told about these jobs or alerts."""
    return json.dumps([{"{#NAME}": _shown(one.name), "{#KEY}": one.label} for one in owners])


def label(job: str) -> str:
    """The job's name as it can stand in an item key: what Zabbix would read as more than text is written %41."""
    bare = "".join(one if one.isprintable() and one not in _ESCAPED else _percent(one) for one in job)
    if len(bare) <= _LONGEST_NAME:
        return bare
    return f"{bare[:_LONGEST_NAME]} {hashlib.sha256(job.encode()).hexdigest()[:12]}"


def _shown(name: str) -> str:
    """Without what Zabbix would read as a macro: the name comes from whoever may send a span."""
    return "".join(one if one.isprintable() else " " for one in name).translate(_NO_MACROS)[:_LONGEST_NAME]


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _signal(item: Item) -> Signal:
    if isinstance(item, Span):
        return "traces"
    return "logs" if isinstance(item, Log) else "metrics"


def _distinct(at_ns: int, item_id: str) -> int:
    if not at_ns:
        return time.time_ns()
    for size in _FIELDS:
        if at_ns % size == 0:
            return at_ns + int(item_id, 16) % size
    return at_ns


def _ended(span: Span) -> Iterator[tuple[str, str, int]]:
    if not span.end_ns:
        return
    failed = names.WAFER_JOB_RESULT_FAILURE if span.status == "ERROR" else names.WAFER_JOB_RESULT_SUCCESS
    yield from _over(span.attributes, failed, span.end_ns)
    yield "wafer.job.duration", repr(max(span.end_ns - span.start_ns, 0) / SECOND_NS), span.end_ns


def _heard(log: Log) -> Iterator[tuple[str, str, int]]:
    if log.event_name not in _SIGNS or not log.time_ns:
        return
    if log.event_name == events.WAFER_JOB_END:
        yield from _over(log.attributes, names.WAFER_JOB_RESULT_SUCCESS, log.time_ns)
        return
    yield _sign(log.time_ns)
    if log.event_name == events.WAFER_JOB_START:
        yield "wafer.job.state", str(STATES["running"]), log.time_ns
        yield "wafer.job.progress", "0", log.time_ns
    ratio = _ratio(log.attributes)
    if log.event_name == events.WAFER_JOB_PROGRESS and ratio is not None:
        yield "wafer.job.progress", repr(100 * ratio), log.time_ns + 1


def _alert(log: Log) -> Iterator[tuple[str, str, int]]:
    over = log.attributes.get(names.WAFER_ALERT_KIND) == names.WAFER_ALERT_KIND_RESOLVED
    severity = SEVERITIES.get(str(log.attributes.get(names.WAFER_ALERT_SEVERITY)), 1)
    yield "wafer.alert", str(0 if over else severity), log.time_ns or time.time_ns()


def _alerting(log: Log) -> Owner | None:
    rule, job = log.attributes.get(names.WAFER_ALERT_RULE), log.attributes.get(names.WAFER_JOB_NAME)
    fingerprint = log.attributes.get(names.WAFER_ALERT_FINGERPRINT)
    if not isinstance(fingerprint, str) or not fingerprint:
        return None
    return Owner(ALERTS, label(fingerprint), " ".join(str(one) for one in (rule, job) if one))


def _over(found: Mapping[str, Any], otherwise: str, at_ns: int) -> Iterator[tuple[str, str, int]]:
    yield _sign(at_ns)
    # Later than a start of the same moment, whose sender measures only seconds.
    yield "wafer.job.state", str(STATES.get(str(found.get(names.WAFER_JOB_RESULT, otherwise)), STATES[otherwise])), at_ns + 2


def _sign(at_ns: int) -> tuple[str, str, int]:
    return "wafer.job.sign", str(at_ns // SECOND_NS), at_ns


def _ratio(found: Mapping[str, Any]) -> float | None:
    ratio = found.get(names.WAFER_JOB_PROGRESS_RATIO)
    if isinstance(ratio, int | float):
        return float(ratio)
    done, total = found.get(names.WAFER_JOB_PROGRESS_COMPLETED), found.get(names.WAFER_JOB_PROGRESS_TOTAL)
    return done / total if isinstance(done, int | float) and isinstance(total, int | float) and total else None
