"""The shapes of the read API's JSON, as pydantic models: what `wafer query` answers and `query.client` returns.

In: JSON or `StoredRun` records (converted in `query.answers`). Out: models, OpenAPI schemas.
Called by: query's routes and client, ui. Imports nothing from storage.

Conventions: times are RFC 3339 text with offset (ns precision where known); durations are seconds; ids are lowercase hex.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

T = TypeVar("T")
RunState = Literal["running", "silent", "lost", "unknown", "ended"]
SpanKind = Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
SpanStatus = Literal["unset", "ok", "error"]
RunResult = Literal["success", "failure", "error", "timeout", "cancellation", "skip"]
SeverityWord = Literal["info", "warning", "critical"]
ExpectedWord = Literal["expected", "late", "missed", "met", "unknown"]
OriginWord = Literal["declared", "api", "proposed"]
Label = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]+$")]
Person = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=r"^[^\x00-\x1f]+$")]
Remark = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
ReasonKind = Literal["outcome", "liveness", "subjob", "error", "duration", "change", "history", "feed"]


class ProgressModel(BaseModel):
    """How far a run is. `ratio` is 0…1."""

    at: str
    ratio: float | None = None
    completed: float | None = None
    total: float | None = None
    unit: str | None = None
    stage: str | None = None
    message: str | None = None


class EtaModel(BaseModel):
    """When an open run will probably end: four of five such runs end between `low` and `high`.

    All three are null where nobody can know; `why_not` says the reason then.
    """

    low: str | None = None
    mid: str | None = None
    high: str | None = None
    basis: str | None = Field(default=None, description="what it was worked out from, such as the runs before and the progress")
    why_not: str | None = None


class CompletenessModel(BaseModel):
    """Is what we see all there is (design/2 §2.4)?"""

    verdict: Literal["complete", "waiting", "incomplete"]
    words: str
    subjobs_started: int
    subjobs_ended: int
    subjobs_lost: int
    span_arrived: bool
    dropped: int = Field(description="attributes, events and links that the SDK says it cut from the run's own span")


class RunModel(BaseModel):
    """One run: a job's or a subjob's."""

    run: str = Field(description="<trace id hex>-<span id hex>, the {run} of URLs")
    site: str
    trace_id: str
    span_id: str
    job: str | None = None
    run_id: str | None = None
    state: RunState
    result: RunResult | None = None
    overdue: bool = False
    inferred: bool = Field(default=False, description="lost for so long that it counts as ended; a new sign brings it back")
    error_type: str | None = None
    start: str | None = None
    end: str | None = None
    duration_s: float | None = Field(default=None, description="end − start; for an open run, server now − start")
    last_sign: str | None = None
    heartbeat_interval_s: float | None = None
    progress: ProgressModel | None = None
    eta: EtaModel | None = Field(default=None, description="only for an open run, and not on streams")
    parent: str | None = Field(default=None, description="{run} of the parent run, where known")
    parent_run_id: str | None = None
    feed: str | None = None
    service: str | None = None
    service_version: str | None = None
    attempt: int | None = None
    trigger: str | None = None
    nominal_time: str | None = None
    expected_duration_s: float | None = None
    deadline: str | None = None
    owner: str | None = None
    equipment: str | None = None
    recipe: str | None = None
    product: str | None = None
    lot_ids: list[str] = Field(default_factory=list)
    substrate_ids: list[str] = Field(default_factory=list)
    cpu_s: float | None = None
    memory_bytes: int | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)


class RunDetail(RunModel):
    """One run with what only its own page needs. `plain` is true for a span that is no run (a plain trace)."""

    name: str | None = Field(default=None, description="the span's name; the job's for a run")
    completeness: CompletenessModel | None = None
    resource: dict[str, Any] = Field(default_factory=dict)
    plain: bool = False
    truncated: bool = Field(default=False, description="the trace is larger than what was read: more subjobs than counted here")
    server_time: str | None = Field(default=None, description="the API's clock when this was read")


class TreeNode(BaseModel):
    """A run and its subjobs, in order of start.

    Nodes below the hundredth level hang on their ancestor at that level (`run.parent` still names the real one).
    """

    run: RunModel
    subjobs: list[TreeNode] = Field(default_factory=list)
    truncated: bool = Field(default=False, description="on the top node: the trace is larger than what was read")


class SpanEvent(BaseModel):
    """An event inside a span."""

    time: str
    name: str
    attributes: dict[str, Any] = Field(default_factory=dict)


class SpanModel(BaseModel):
    """One span of a trace: `job` is set where it is a run. An open run has no `end` yet (`open` is true)."""

    run: str = Field(default="", description="<trace id hex>-<span id hex>: any span opens as {run}")
    site: str
    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str
    kind: SpanKind
    service: str | None = None
    scope: str | None = None
    start: str
    end: str | None = None
    duration_s: float | None = None
    open: bool = False
    status: SpanStatus
    status_message: str = ""
    job: str | None = None
    state: RunState | None = None
    result: RunResult | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)
    events: list[SpanEvent] = Field(default_factory=list)
    links: list[dict[str, Any]] = Field(default_factory=list)


class LogModel(BaseModel):
    """One log record or lifecycle event (`event_name` is set then)."""

    time: str
    severity: int
    severity_text: str
    event_name: str = ""
    body: Any = None
    service: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)


class MetricPointModel(BaseModel):
    """One point; `value` for numbers, the rest for histograms."""

    time: str
    value: float | None = None
    count: int | None = None
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    bounds: list[float] | None = None
    buckets: list[int] | None = None


class MetricSeriesModel(BaseModel):
    """One series with its points in order of time."""

    name: str
    unit: str
    type: str
    attributes: dict[str, Any] = Field(default_factory=dict)
    points: list[MetricPointModel] = Field(default_factory=list)


class FeedModel(BaseModel):
    """One Collector on a host: how far its clock has been heard."""

    feed: str
    watermark: str | None = None
    lag_s: float | None = None
    behind: bool = Field(default=False, description="the lag is above the limit: what its runs do cannot be known")


class SiteModel(BaseModel):
    """One site: its feeds and how many of its open runs are in which state."""

    site: str
    feeds: list[FeedModel] = Field(default_factory=list)
    open_runs: dict[str, int] = Field(default_factory=dict)


class AppModel(BaseModel):
    """One service that has sent something."""

    service: str
    version: str | None = None
    site: str
    last_seen: str


class PageModel(BaseModel, Generic[T]):
    """Some items; `cursor` gives the next page and is null on the last. `server_time` is the API's clock.

    `truncated`: a list without pages (metrics of a run) was cut; ask for less, by `name`.
    """

    items: list[T]
    cursor: str | None = None
    truncated: bool = False
    server_time: str


class AlertModel(BaseModel):
    """Something that should not be so, from `opened` until `resolved` (null while it is open)."""

    id: str
    fingerprint: str = Field(description="the same for the same rule and subject: the next alert of its kind has it, too")
    rule: str
    severity: SeverityWord
    site: str | None = None
    job: str | None = None
    run: str | None = Field(default=None, description="{run}, where it is about one run")
    feed: str | None = None
    detail: str = Field(default="", description="tells two of one subject apart: an expectation's time, a lot, a disk")
    opened: str
    since: str = Field(description="since when it has been so: earlier than `opened`, when it was first known")
    seen: str = Field(description="when it last held")
    resolved: str | None = None
    summary: str
    evidence: dict[str, Any] = Field(default_factory=dict, description="the numbers behind the summary")
    cause: str | None = None
    runbook: str | None = None
    owner: str | None = None
    acknowledged: str | None = None
    acknowledged_by: str | None = None
    note: str | None = None
    silenced_until: str | None = Field(default=None, description="nobody is told of it until then; only of an open alert")


class DeliveryModel(BaseModel):
    """One message about one or more alerts: to which channel, and what became of it."""

    id: str
    channel: str
    kind: Literal["firing", "escalated", "resolved"]
    group: str
    alerts: list[str]
    created: str
    due: str
    state: Literal["waiting", "sent", "dropped"]
    attempts: int
    answer: str | None = Field(default=None, description="what the channel answered to the last attempt")
    settled: str | None = None


class AlertDetail(AlertModel):
    """One alert with the messages about it, oldest first."""

    deliveries: list[DeliveryModel] = Field(default_factory=list)
    server_time: str


class BandModel(BaseModel):
    """How long a run that starts at `start` usually takes: one outside is told as unusual."""

    start: str
    low_s: float
    mid_s: float
    high_s: float


class ShiftModel(BaseModel):
    """The last `runs` runs, from `since` on, take `factor` times what was usual before, though each alone may be usual."""

    since: str
    factor: float
    runs: int


class UsualModel(BaseModel):
    """What is usual for one job at one site, of every recipe. Null or empty: too little history."""

    site: str
    job: str
    runs: int = Field(description="good runs from which it is known")
    mid_s: float | None = None
    memory_bytes: int | None = Field(default=None, description="more than this is unusual")
    error_types: list[str] = Field(default_factory=list, description="those that were seen")
    shift: ShiftModel | None = None
    bands: list[BandModel] = Field(default_factory=list, description="in order of start, evenly over the time asked for")
    server_time: str


class ExpectationModel(BaseModel):
    """A standing wish for runs of one job. What is proposed waits for nothing until a person accepts it."""

    name: str
    site: str | None = None
    job: str
    origin: OriginWord
    spec: dict[str, Any] = Field(description="what it wants, as it is declared: schedule, margins, durations")
    since: str = Field(description="nothing before this time is expected")
    changed: str


class ExpectedRunModel(BaseModel):
    """One run that an expectation waits for, and what became of it."""

    expectation: str
    site: str | None = None
    job: str
    subject: str = Field(default="", description="what it is about beside the job, such as a lot")
    nominal: str = Field(description="when it should start")
    opens: str = Field(description="a start from here on counts")
    late_after: str
    missed_after: str
    state: ExpectedWord
    start: str | None = Field(default=None, description="when its run started, by the store's clock")
    late_s: float | None = Field(default=None, description="start − nominal, in s; negative when early")
    run: str | None = Field(default=None, description="{run} of the run that met it")
    settled: bool = Field(description="nothing that comes later changes it")
    changed: str


class SilenceModel(BaseModel):
    """Nobody is told of alerts that match site, job and rule (null matches all) until `until`."""

    id: str
    site: str | None = None
    job: str | None = None
    rule: str | None = None
    until: str
    by: str
    why: str
    created: str


class ReasonModel(BaseModel):
    """One sentence of an explanation, and the numbers in it. `run` is the run it is about, where that is another one."""

    kind: ReasonKind
    text: str
    numbers: dict[str, float] = Field(default_factory=dict)
    run: str | None = None


class ExplainModel(BaseModel):
    """Why a run or an alert is as it is: what the store shows, worked out by rules, the same for the same data."""

    headline: str
    reasons: list[ReasonModel] = Field(default_factory=list, description="the most telling first")
    run: str | None = None
    good_run: str | None = Field(default=None, description="{run} of the last good run that this one was compared with")
    cohort: int = Field(default=0, description="how many good runs it was compared with")
    truncated: bool = Field(default=False, description="the trace is larger than what was read")
    server_time: str


class AlertPage(PageModel[AlertModel]):
    """A page of alerts, and whether anybody looks: where `evaluating` is false, no news is no good news."""

    evaluated_at: str | None = Field(default=None, description="when all rules were last judged; null: never")
    evaluating: bool = Field(description="false when that is more than a minute ago: is `wafer alerting` running?")


class WhoModel(BaseModel):
    """The body of a change that a person makes: who it is, for those who look later."""

    model_config = ConfigDict(extra="forbid")

    by: Person


class AcknowledgeModel(WhoModel):
    """The body of an acknowledgement."""

    note: Remark | None = None


class NewExpectationModel(WhoModel):
    """The body of a new expectation, or of a change of one that was made here before."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    job: Label
    site: Label | None = Field(default=None, description="null: at every site")
    spec: dict[str, Any] = Field(
        max_length=20,
        description='one of cron ("0 2 * * *", with zone), every_s, after (a job, with within_s); early_s, start_margin_s, '
        "grace_s, max_duration_s, min_duration_s, silence_s, owner, runbook, calendar",
    )


class NewSilenceModel(WhoModel):
    """The body of a new silence: at least one of site, job and rule, and an end."""

    why: Annotated[Remark, Field(min_length=1)]
    until: str = Field(description="RFC 3339, or relative to now: +2h", max_length=40)
    site: Label | None = None
    job: Label | None = None
    rule: Label | None = None


class ParameterProblem(BaseModel):
    """What is wrong with one parameter, and what is expected."""

    parameter: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details: the body of every error. `errors` has one entry for each wrong parameter."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[ParameterProblem] = Field(default_factory=list)


class Health(BaseModel):
    """`/v1/healthz` and `/readyz`."""

    status: Literal["ok", "unavailable"]
    engine: str | None = None
    version: str | None = None
    newest_received: str | None = None
    evaluated_at: str | None = Field(
        default=None, description="when alerting last judged its rules; readiness does not depend on it"
    )


class Hello(BaseModel):
    """The first event of a stream, and again whenever the client must load afresh.

    `resumed` is true when everything since the client's Last-Event-ID follows; else load what you show, after this event.
    """

    server_time: str
    resumed: bool
