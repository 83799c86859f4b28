"""The shapes of the read API's JSON, as pydantic models: what `wafer query` answers and `query.client` returns.

In: JSON or `StoredRun` records (converted in `query.answers`). Out: models, OpenAPI schemas.
Called by: query's routes and client, ui. Imports nothing from storage.

Conventions: times are RFC 3339 text with offset (ns precision where known); durations are seconds; ids are lowercase hex.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")
RunState = Literal["running", "silent", "lost", "unknown", "ended"]
SpanKind = Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
SpanStatus = Literal["unset", "ok", "error"]
RunResult = Literal["success", "failure", "error", "timeout", "cancellation", "skip"]


class ProgressModel(BaseModel):
    """How far a run is. `ratio` is 0…1."""

    at: str
    ratio: float | None = None
    completed: float | None = None
    total: float | None = None
    unit: str | None = None
    stage: str | None = None
    message: str | None = None


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


class Hello(BaseModel):
    """The first event of a stream, and again whenever the client must load afresh.

    `resumed` is true when everything since the client's Last-Event-ID follows; else load what you show, after this event.
    """

    server_time: str
    resumed: bool
