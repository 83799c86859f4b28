"""Query parameters become questions: what a caller may ask, in one model per route.

In: the query string, already parsed by FastAPI. Out: `RunQuery`, `SpanQuery`, `LogQuery` parts; a wrong value raises ValueError
with the fix in its text, which FastAPI answers as 422.  Called by: routes, stream.

Between names AND holds, between repeats of one name OR. Times are RFC 3339 or relative to now (`-6h`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from wafermonitor.query.answers import EPOCH
from wafermonitor.query.models import ExpectedWord, OriginWord, RunResult, RunState, SeverityWord
from wafermonitor.runs.alerts import Severity as AlertSeverity
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.records import RunKey, parse_run_id
from wafermonitor.runs.state import State
from wafermonitor.storage.protocol import MAX_PAGE, RunQuery
from wafermonitor.storage.watch import AlertQuery, ExpectedQuery

MAX_LIMIT = 1_000_000
RUN_PATTERN = r"^[0-9a-fA-F]{32}-[0-9a-fA-F]{16}$"
_INT64 = 2**63 - 1
_SECOND_NS = 1_000_000_000
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_RELATIVE = r"^(now|[-+][0-9]{1,9}(ms|s|m|h|d|w))$"
_DURATION = r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d|w)?$"
# A plus sign in a query string arrives as a space when the caller did not escape it.
_ABSOLUTE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,12}))?)?"
    r"(?:([Zz])|([-+ ])([0-9]{2}:?[0-9]{2}))?)?"
)


def parse_time(text: str, now_ns: int) -> int:
    """RFC 3339 (no offset means UTC; a date alone its midnight), `now`, `-6h` or `+2h` → ns, kept within 64 bits."""
    if text == "now":
        return now_ns
    if re.fullmatch(_RELATIVE, text.replace(" ", "+", 1), re.ASCII):
        elapsed_ns = int(parse_duration(text[1:]) * _SECOND_NS)
        return _within_64_bits(now_ns - elapsed_ns if text[0] == "-" else now_ns + elapsed_ns)
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no time: expected RFC 3339, such as 2026-01-31T08:00:00+01:00, or -6h, +2d, now")
    date, clock, seconds, fraction, _, sign, offset = match.groups()
    # 23:59:60 is a leap second in RFC 3339; it counts as the last instant before the next minute.
    leap = seconds == "60"
    zone = f"{'-' if sign == '-' else '+'}{offset}" if offset else "+00:00"
    try:
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00'}:{'59' if leap else seconds or '00'}{zone}")
        elapsed = moment.astimezone(UTC) - EPOCH
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is no time that exists: check day, hour and offset") from None
    rest_ns = _SECOND_NS - 1 if leap else int(f"{fraction or '0':<09}"[:9])
    at_ns = (elapsed.days * 86_400 + elapsed.seconds) * _SECOND_NS + rest_ns
    return _within_64_bits(at_ns)


def _within_64_bits(at_ns: int) -> int:
    return min(max(at_ns, -_INT64), _INT64)


def parse_duration(text: str) -> float:
    """`90`, `1.5h`, `250ms` → seconds."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|w)?", text, re.ASCII)
    if match is None:
        raise ValueError(
            f"{text[:40]!r} is no duration: expected seconds or a number with ms, s, m, h, d or w, such as 90 or 1.5h"
        )
    return float(match[1]) * _UNITS[match[2] or "s"]


def parse_attribute(text: str) -> tuple[str, str]:
    """`key:value` → (key, value); the key ends at the first colon."""
    key, colon, value = text.partition(":")
    if not colon or not key or "\0" in text:
        raise ValueError(f"{text[:40]!r} is no attribute filter: expected key:value, such as wafer.param.dies:1569")
    return key, value


def _checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    def check(text: str) -> str:
        parse(text)
        return text

    return check


Word = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]+$")]
Words = Annotated[list[Word], Field(default_factory=list, max_length=100)]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[!-~]+$")]
Instant = Annotated[
    str,
    AfterValidator(_checked(lambda text: parse_time(text, 0))),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": _RELATIVE}]}),
]
Duration = Annotated[str, AfterValidator(_checked(parse_duration)), WithJsonSchema({"type": "string", "pattern": _DURATION})]
AttributeText = Annotated[
    str,
    StringConstraints(max_length=2000),
    AfterValidator(_checked(parse_attribute)),
    WithJsonSchema({"type": "string", "pattern": r"^[^\x00:]+:[^\x00]*$", "maxLength": 2000}),
]
RunText = Annotated[str, StringConstraints(pattern=RUN_PATTERN)]
TraceText = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{32}$")]
FormatName = Literal["json", "csv", "ndjson"]
Flag = Literal["true", "false"]
Severity = Literal["trace", "debug", "info", "warn", "error", "fatal"]
SEVERITIES = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
"""The lowest severity number of each range of OpenTelemetry's log data model."""


class Strict(BaseModel):
    """A name that is not known is refused: a typing error must not answer with everything."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class DocumentFilters(Strict):
    """One run as one document."""

    site: Word | None = Field(None, description="the run's site, where two sites share an id")


class Filters(Strict):
    """Any list."""

    format: FormatName | None = Field(None, description="overrides the Accept header")


class SiteFilters(Filters):
    """All of something: only the site can be chosen."""

    site: Word | None = Field(None, description="only this site")


class PageFilters(Filters):
    """Anything that comes in pages."""

    cursor: Cursor | None = Field(None, description="the `cursor` of the page before")
    limit: int | None = Field(
        None, ge=1, le=MAX_LIMIT, description=f"rows; JSON gives at most {MAX_PAGE} a page, CSV and NDJSON all rows unless told"
    )


class RunFilters(PageFilters):
    """`/v1/jobs` and `/v1/subjobs`."""

    site: Words = Field(default_factory=list, description="site, repeatable")
    job: Words = Field(default_factory=list, description="job name, repeatable")
    state: list[RunState] = Field(default_factory=list, max_length=100, description="state, repeatable")
    result: list[RunResult] = Field(default_factory=list, max_length=100, description="result, repeatable")
    app: Words = Field(default_factory=list, description="service.name of the program, repeatable")
    lot: Words = Field(default_factory=list, description="lot id, repeatable")
    substrate: Words = Field(default_factory=list, description="substrate (wafer) id, repeatable")
    equipment: Words = Field(default_factory=list, description="equipment id, repeatable")
    recipe: Words = Field(default_factory=list, description="recipe name, repeatable")
    product: Words = Field(default_factory=list, description="product id, repeatable")
    run_id: Words = Field(default_factory=list, description="wafer.job.run.id, repeatable")
    attr: list[AttributeText] = Field(default_factory=list, max_length=20, description="key:value, all must match")
    q: Word | None = Field(None, description="text that occurs in job, run id, service, lot, wafer, equipment …")
    overdue: Flag | None = Field(None, description="true: only open runs that take too long")
    inferred: Flag | None = Field(None, description="true: only runs lost so long that they count as ended; false: no such run")
    from_: Instant | None = Field(None, alias="from", description="started at or after: RFC 3339, -6h, now")
    to: Instant | None = Field(None, description="started before: RFC 3339, -6h, now")
    min_duration: Duration | None = Field(None, description="ended runs that took at least: 90, 1.5h")
    max_duration: Duration | None = Field(None, description="ended runs that took at most: 90, 1.5h")
    order: Literal["newest", "failing"] = Field("newest", description="failing: lost, silent, unknown, overdue, failed first")

    def question(self, now_ns: int, *, subjobs: bool | None, parent: str | None = None) -> RunQuery:
        """The store's question; cursor and limit are filled in page by page."""
        return RunQuery(
            site=tuple(self.site),
            job=tuple(self.job),
            state=tuple(State(state) for state in self.state),
            result=tuple(self.result),
            app=tuple(self.app),
            lot=tuple(self.lot),
            substrate=tuple(self.substrate),
            equipment=tuple(self.equipment),
            recipe=tuple(self.recipe),
            product=tuple(self.product),
            run_id=tuple(self.run_id),
            attributes=tuple(parse_attribute(text) for text in self.attr),
            text=self.q,
            overdue=_truth(self.overdue),
            inferred=_truth(self.inferred),
            subjobs=subjobs,
            parent=None if parent is None else parse_run_id(parent),
            from_ns=None if self.from_ is None else parse_time(self.from_, now_ns),
            to_ns=None if self.to is None else parse_time(self.to, now_ns),
            min_duration_s=None if self.min_duration is None else parse_duration(self.min_duration),
            max_duration_s=None if self.max_duration is None else parse_duration(self.max_duration),
            order=self.order,
        )


def _truth(flag: str | None) -> bool | None:
    return None if flag is None else flag == "true"


class JobFilters(RunFilters):
    """`/v1/jobs`: runs without a parent run, unless told otherwise."""

    subjobs: Literal["no", "any"] = Field("no", description="any: subjobs too")


class SubjobFilters(RunFilters):
    """`/v1/subjobs`: runs with a parent run."""

    parent: RunText | None = Field(None, description="{run} of the parent: only its direct subjobs")


class SpanFilters(PageFilters):
    """The spans of one run."""

    site: Word | None = Field(None, description="the run's site, where two sites share an id")


class RootSpanFilters(SpanFilters):
    """`/v1/spans`: the newest root spans."""

    site: Word | None = Field(None, description="only this site")
    app: Word | None = Field(None, description="service.name of the program")
    from_: Instant | None = Field(None, alias="from", description="started at or after: RFC 3339, -6h, now")
    to: Instant | None = Field(None, description="started before: RFC 3339, -6h, now")


class LogFilters(SpanFilters):
    """The log records of one run."""

    scope: Literal["below", "run"] = Field("below", description="below: also subjobs and plain spans under the run")
    severity: Severity | None = Field(None, description="this severity or worse")
    event: Words = Field(default_factory=list, description="event name, repeatable")


class MetricFilters(Filters):
    """The metric series of one run's process."""

    site: Word | None = Field(None, description="the run's site, where two sites share an id")
    name: Words = Field(default_factory=list, description="metric name, repeatable")


class WatchedFilters(PageFilters):
    """Anything that alerting keeps about runs of jobs."""

    site: Words = Field(default_factory=list, description="site, repeatable")
    job: Words = Field(default_factory=list, description="job name, repeatable")
    run: RunText | None = Field(None, description="{run} that it is about")
    from_: Instant | None = Field(None, alias="from", description="at or after: RFC 3339, -6h, now, +2h")
    to: Instant | None = Field(None, description="before: RFC 3339, -6h, now, +2h")

    def times(self, now_ns: int) -> tuple[int | None, int | None]:
        """(from, to) in ns."""
        from_ns = None if self.from_ is None else parse_time(self.from_, now_ns)
        return from_ns, None if self.to is None else parse_time(self.to, now_ns)


class UsualFilters(Strict):
    """`/v1/usual`: one job at one site."""

    site: Word = Field(description="site")
    job: Word = Field(description="job name")
    from_: Instant = Field("-30d", alias="from", description="bands from here on: RFC 3339, -6h, now, +2h")
    to: Instant = Field("now", description="bands before: RFC 3339, -6h, now, +2h")


class AlertFilters(WatchedFilters):
    """`/v1/alerts`, the newest opened first; `from` and `to` are about when they opened."""

    rule: Words = Field(default_factory=list, description="name of the rule, repeatable")
    severity: list[SeverityWord] = Field(default_factory=list, max_length=100, description="severity, repeatable")
    open: Flag | None = Field(None, description="true: only open ones; false: only resolved ones")
    acknowledged: Flag | None = Field(None, description="false: only those that nobody looks after")

    def question(self, now_ns: int, run: RunKey | None) -> AlertQuery:
        """The store's question; cursor and limit are filled in page by page."""
        from_ns, to_ns = self.times(now_ns)
        return AlertQuery(
            site=tuple(self.site),
            job=tuple(self.job),
            rule=tuple(self.rule),
            severity=tuple(AlertSeverity[word.upper()] for word in self.severity),
            open=_truth(self.open),
            acknowledged=_truth(self.acknowledged),
            run=run,
            from_ns=from_ns,
            to_ns=to_ns,
        )


class ExpectedFilters(WatchedFilters):
    """`/v1/expected-runs`, the newest nominal time first; `from` and `to` are about that time."""

    expectation: Words = Field(default_factory=list, description="name of the expectation, repeatable")
    state: list[ExpectedWord] = Field(default_factory=list, max_length=100, description="state, repeatable")

    def question(self, now_ns: int, run: RunKey | None) -> ExpectedQuery:
        """The store's question; cursor and limit are filled in page by page."""
        from_ns, to_ns = self.times(now_ns)
        return ExpectedQuery(
            site=tuple(self.site),
            job=tuple(self.job),
            expectation=tuple(self.expectation),
            state=tuple(ExpectedState(word) for word in self.state),
            run=run,
            from_ns=from_ns,
            to_ns=to_ns,
        )


class ExpectationFilters(Filters):
    """`/v1/expectations`."""

    site: Words = Field(default_factory=list, description="those for runs at this site, repeatable")
    job: Words = Field(default_factory=list, description="job name, repeatable")
    origin: OriginWord | None = Field(None, description="proposed: those that wait for a person's yes")


class StreamFilters(Strict):
    """Which runs and alerts a stream tells about. `trace` selects one run with all its subjobs."""

    site: Words = Field(default_factory=list, description="site, repeatable")
    job: Words = Field(default_factory=list, description="job name, repeatable")
    trace: list[TraceText] = Field(default_factory=list, max_length=100, description="trace id, repeatable")
