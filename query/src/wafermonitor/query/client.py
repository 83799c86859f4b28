"""A typed client of the read API, for the screens, tests and anyone's scripts.

In: the API's address. Out: models of `query.models`; the errors of `query.errors`.  Called by: ui, deploy, tests.

`Client` blocks, `AsyncClient` does not; both have the same methods. Filters are the API's query parameters (`from_` for
`from`); a list repeats the parameter. Changes (an acknowledgement, a silence) name who makes them. Imports nothing from
storage.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from wafermonitor.query.errors import NotFound, QueryError, QueryRejected, QueryUnavailable, RunNotFound
from wafermonitor.query.models import (
    AcknowledgeModel,
    AlertDetail,
    AlertModel,
    AlertPage,
    AppModel,
    ExpectationModel,
    ExpectedRunModel,
    ExplainModel,
    Health,
    Hello,
    LogModel,
    MetricSeriesModel,
    NewExpectationModel,
    NewSilenceModel,
    PageModel,
    Problem,
    RunDetail,
    RunModel,
    SilenceModel,
    SiteModel,
    SpanModel,
    TreeNode,
    UsualModel,
    WhoModel,
)

M = TypeVar("M", bound=BaseModel)
Filter = str | int | float | bool | Iterable[str] | None
_NOT_FOUND = 404
_RUN_PATH = "/v1/jobs/"
_RETRYABLE = frozenset({429, 502, 503, 504})
_RECONNECT_S = 1.0
_RECONNECT_MOST_S = 15.0
_SILENCE_S = 60.0
"""A stream without even a comment line for this long is dead: the service sends one every 15 s."""


class StreamEvent(NamedTuple):
    """One event of `/v1/stream`: `hello` is set on the first and whenever everything must be loaded afresh, else what changed.

    `id` is what to resume with.
    """

    kind: Literal["hello", "run", "alert"]
    id: str | None
    hello: Hello | None = None
    run: RunModel | None = None
    alert: AlertModel | None = None


class Ask:
    """The path and shape of each question, said once for both clients."""

    jobs = ("/v1/jobs", PageModel[RunModel])
    subjobs = ("/v1/subjobs", PageModel[RunModel])
    root_spans = ("/v1/spans", PageModel[SpanModel])
    sites = ("/v1/sites", PageModel[SiteModel])
    apps = ("/v1/apps", PageModel[AppModel])
    usual = ("/v1/usual", UsualModel)
    ready = ("/readyz", Health)
    run = ("/v1/jobs/{}", RunDetail)
    tree = ("/v1/jobs/{}/tree", TreeNode)
    spans = ("/v1/jobs/{}/spans", PageModel[SpanModel])
    logs = ("/v1/jobs/{}/logs", PageModel[LogModel])
    metrics = ("/v1/jobs/{}/metrics", PageModel[MetricSeriesModel])
    explain = ("/v1/jobs/{}/explain", ExplainModel)
    alerts = ("/v1/alerts", AlertPage)
    alert = ("/v1/alerts/{}", AlertDetail)
    explain_alert = ("/v1/alerts/{}/explain", ExplainModel)
    acknowledge = ("/v1/alerts/{}/acknowledge", AlertModel)
    expectations = ("/v1/expectations", PageModel[ExpectationModel])
    expect = ("/v1/expectations", ExpectationModel)
    accept = ("/v1/expectations/{}/accept", ExpectationModel)
    decline = ("/v1/expectations/{}/decline", ExpectationModel)
    expected_runs = ("/v1/expected-runs", PageModel[ExpectedRunModel])
    silences = ("/v1/silences", PageModel[SilenceModel])
    silence = ("/v1/silences", SilenceModel)
    unsilence = ("/v1/silences/{}/end", SilenceModel)


class Client:
    """Asks and waits for the answer. Close it, or use it in `with`."""

    def __init__(self, url: str, *, timeout_s: float = 15.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def jobs(self, **filters: Filter) -> PageModel[RunModel]:
        """One page of runs without a parent run."""
        return self._ask(*Ask.jobs, filters)

    def subjobs(self, **filters: Filter) -> PageModel[RunModel]:
        """One page of runs with a parent run."""
        return self._ask(*Ask.subjobs, filters)

    def run(self, run: str, *, site: str | None = None) -> RunDetail:
        """One run or plain span; RunNotFound when there is none."""
        return self._ask(*Ask.run, {"site": site}, run)

    def tree(self, run: str, *, site: str | None = None) -> TreeNode:
        """The run and its subjobs."""
        return self._ask(*Ask.tree, {"site": site}, run)

    def spans(self, run: str, **filters: Filter) -> PageModel[SpanModel]:
        """One page of the run's spans in order of start."""
        return self._ask(*Ask.spans, filters, run)

    def logs(self, run: str, **filters: Filter) -> PageModel[LogModel]:
        """One page of the run's log records, oldest first."""
        return self._ask(*Ask.logs, filters, run)

    def metrics(self, run: str, **filters: Filter) -> list[MetricSeriesModel]:
        """The series of the run's process while it ran."""
        return self._ask(*Ask.metrics, filters, run).items

    def root_spans(self, **filters: Filter) -> PageModel[SpanModel]:
        """One page of the newest root spans."""
        return self._ask(*Ask.root_spans, filters)

    def sites(self) -> list[SiteModel]:
        """Every site."""
        return self._ask(*Ask.sites, {}).items

    def apps(self, *, site: str | None = None) -> list[AppModel]:
        """Every program that has sent something."""
        return self._ask(*Ask.apps, {"site": site}).items

    def explain(self, run: str, *, site: str | None = None) -> ExplainModel:
        """Why the run failed, is late or is silent, in sentences."""
        return self._ask(*Ask.explain, {"site": site}, run)

    def alerts(self, **filters: Filter) -> AlertPage:
        """One page of alerts, the newest first, and whether anybody looks."""
        return self._ask(*Ask.alerts, filters)

    def alert(self, alert: str) -> AlertDetail:
        """One alert with the messages about it; NotFound when there is none."""
        return self._ask(*Ask.alert, {}, alert)

    def explain_alert(self, alert: str) -> ExplainModel:
        """What stands behind an alert, in sentences."""
        return self._ask(*Ask.explain_alert, {}, alert)

    def acknowledge(self, alert: str, *, by: str, note: str | None = None) -> AlertModel:
        """Say that `by` looks after it: it is not escalated any more."""
        return self._tell(*Ask.acknowledge, AcknowledgeModel(by=by, note=note), alert)

    def expectations(self, **filters: Filter) -> list[ExpectationModel]:
        """Every expectation, proposals among them."""
        return self._ask(*Ask.expectations, filters).items

    def expect(self, name: str, *, job: str, spec: dict[str, Any], by: str, site: str | None = None) -> ExpectationModel:
        """Wait for runs of `job` from now on, or change what was made so before; `spec` as in `ExpectationModel`."""
        return self._tell(*Ask.expect, NewExpectationModel(by=by, name=name, job=job, site=site, spec=spec))

    def accept(self, expectation: str, *, by: str) -> ExpectationModel:
        """Let a proposed expectation wait for runs from now on."""
        return self._tell(*Ask.accept, WhoModel(by=by), expectation)

    def decline(self, expectation: str, *, by: str) -> ExpectationModel:
        """Delete an expectation that was proposed, or accepted before."""
        return self._tell(*Ask.decline, WhoModel(by=by), expectation)

    def expected_runs(self, **filters: Filter) -> PageModel[ExpectedRunModel]:
        """One page of expected runs, the newest nominal time first."""
        return self._ask(*Ask.expected_runs, filters)

    def silences(self) -> list[SilenceModel]:
        """Those in force now."""
        return self._ask(*Ask.silences, {}).items

    def silence(
        self, *, by: str, why: str, until: str, site: str | None = None, job: str | None = None, rule: str | None = None
    ) -> SilenceModel:
        """Tell nobody of matching alerts until `until` (RFC 3339, or `+2h`)."""
        return self._tell(*Ask.silence, NewSilenceModel(by=by, why=why, until=until, site=site, job=job, rule=rule))

    def unsilence(self, silence: str, *, by: str) -> SilenceModel:
        """End a silence now; NotFound when none of that id is in force."""
        return self._tell(*Ask.unsilence, WhoModel(by=by), silence)

    def usual(self, site: str, job: str, **filters: Filter) -> UsualModel:
        """What is usual for one job at one site, over time."""
        return self._ask(*Ask.usual, {"site": site, "job": job, **filters})

    def ready(self) -> Health:
        """The store behind the API; QueryUnavailable while it does not answer."""
        return self._ask(*Ask.ready, {})

    def stream(self, *, last_event_id: str | None = None, **filters: Filter) -> Iterator[StreamEvent]:
        """Changes of runs and alerts without end; reconnects and resumes by itself. QueryRejected ends it."""
        connection = _Connection(last_event_id)
        while True:
            try:
                with self._http.stream("GET", "/v1/stream", **connection.request(filters)) as response:
                    if response.is_error:
                        response.read()
                    _raise_for(response)
                    for line in response.iter_lines():
                        yield from connection.feed(line)
            except (httpx.TransportError, QueryUnavailable):
                time.sleep(connection.pause_s())

    def _ask(self, path: str, model: type[M], filters: Mapping[str, Filter], name: str = "") -> M:
        try:
            response = self._http.get(_path(path, name), params=_parameters(filters))
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from None
        return _parse(response, model)

    def _tell(self, path: str, model: type[M], body: BaseModel, name: str = "") -> M:
        try:
            response = self._http.post(_path(path, name), json=body.model_dump(exclude_none=True))
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from None
        return _parse(response, model)


class AsyncClient:
    """Asks without blocking the event loop. Close it, or use it in `async with`."""

    def __init__(self, url: str, *, timeout_s: float = 15.0) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_s, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def jobs(self, **filters: Filter) -> PageModel[RunModel]:
        """One page of runs without a parent run."""
        return await self._ask(*Ask.jobs, filters)

    async def subjobs(self, **filters: Filter) -> PageModel[RunModel]:
        """One page of runs with a parent run."""
        return await self._ask(*Ask.subjobs, filters)

    async def run(self, run: str, *, site: str | None = None) -> RunDetail:
        """One run or plain span; RunNotFound when there is none."""
        return await self._ask(*Ask.run, {"site": site}, run)

    async def tree(self, run: str, *, site: str | None = None) -> TreeNode:
        """The run and its subjobs."""
        return await self._ask(*Ask.tree, {"site": site}, run)

    async def spans(self, run: str, **filters: Filter) -> PageModel[SpanModel]:
        """One page of the run's spans in order of start."""
        return await self._ask(*Ask.spans, filters, run)

    async def logs(self, run: str, **filters: Filter) -> PageModel[LogModel]:
        """One page of the run's log records, oldest first."""
        return await self._ask(*Ask.logs, filters, run)

    async def metrics(self, run: str, **filters: Filter) -> list[MetricSeriesModel]:
        """The series of the run's process while it ran."""
        return (await self._ask(*Ask.metrics, filters, run)).items

    async def root_spans(self, **filters: Filter) -> PageModel[SpanModel]:
        """One page of the newest root spans."""
        return await self._ask(*Ask.root_spans, filters)

    async def sites(self) -> list[SiteModel]:
        """Every site."""
        return (await self._ask(*Ask.sites, {})).items

    async def apps(self, *, site: str | None = None) -> list[AppModel]:
        """Every program that has sent something."""
        return (await self._ask(*Ask.apps, {"site": site})).items

    async def explain(self, run: str, *, site: str | None = None) -> ExplainModel:
        """Why the run failed, is late or is silent, in sentences."""
        return await self._ask(*Ask.explain, {"site": site}, run)

    async def alerts(self, **filters: Filter) -> AlertPage:
        """One page of alerts, the newest first, and whether anybody looks."""
        return await self._ask(*Ask.alerts, filters)

    async def alert(self, alert: str) -> AlertDetail:
        """One alert with the messages about it; NotFound when there is none."""
        return await self._ask(*Ask.alert, {}, alert)

    async def explain_alert(self, alert: str) -> ExplainModel:
        """What stands behind an alert, in sentences."""
        return await self._ask(*Ask.explain_alert, {}, alert)

    async def acknowledge(self, alert: str, *, by: str, note: str | None = None) -> AlertModel:
        """Say that `by` looks after it: it is not escalated any more."""
        return await self._tell(*Ask.acknowledge, AcknowledgeModel(by=by, note=note), alert)

    async def expectations(self, **filters: Filter) -> list[ExpectationModel]:
        """Every expectation, proposals among them."""
        return (await self._ask(*Ask.expectations, filters)).items

    async def expect(self, name: str, *, job: str, spec: dict[str, Any], by: str, site: str | None = None) -> ExpectationModel:
        """Wait for runs of `job` from now on, or change what was made so before; `spec` as in `ExpectationModel`."""
        return await self._tell(*Ask.expect, NewExpectationModel(by=by, name=name, job=job, site=site, spec=spec))

    async def accept(self, expectation: str, *, by: str) -> ExpectationModel:
        """Let a proposed expectation wait for runs from now on."""
        return await self._tell(*Ask.accept, WhoModel(by=by), expectation)

    async def decline(self, expectation: str, *, by: str) -> ExpectationModel:
        """Delete an expectation that was proposed, or accepted before."""
        return await self._tell(*Ask.decline, WhoModel(by=by), expectation)

    async def expected_runs(self, **filters: Filter) -> PageModel[ExpectedRunModel]:
        """One page of expected runs, the newest nominal time first."""
        return await self._ask(*Ask.expected_runs, filters)

    async def silences(self) -> list[SilenceModel]:
        """Those in force now."""
        return (await self._ask(*Ask.silences, {})).items

    async def silence(
        self, *, by: str, why: str, until: str, site: str | None = None, job: str | None = None, rule: str | None = None
    ) -> SilenceModel:
        """Tell nobody of matching alerts until `until` (RFC 3339, or `+2h`)."""
        return await self._tell(*Ask.silence, NewSilenceModel(by=by, why=why, until=until, site=site, job=job, rule=rule))

    async def unsilence(self, silence: str, *, by: str) -> SilenceModel:
        """End a silence now; NotFound when none of that id is in force."""
        return await self._tell(*Ask.unsilence, WhoModel(by=by), silence)

    async def usual(self, site: str, job: str, **filters: Filter) -> UsualModel:
        """What is usual for one job at one site, over time."""
        return await self._ask(*Ask.usual, {"site": site, "job": job, **filters})

    async def ready(self) -> Health:
        """The store behind the API; QueryUnavailable while it does not answer."""
        return await self._ask(*Ask.ready, {})

    async def stream(self, *, last_event_id: str | None = None, **filters: Filter) -> AsyncIterator[StreamEvent]:
        """Changes of runs and alerts without end; reconnects and resumes by itself. QueryRejected ends it."""
        connection = _Connection(last_event_id)
        while True:
            try:
                async with self._http.stream("GET", "/v1/stream", **connection.request(filters)) as response:
                    if response.is_error:
                        await response.aread()
                    _raise_for(response)
                    async for line in response.aiter_lines():
                        for event in connection.feed(line):
                            yield event
            except (httpx.TransportError, QueryUnavailable):
                await asyncio.sleep(connection.pause_s())

    async def _ask(self, path: str, model: type[M], filters: Mapping[str, Filter], name: str = "") -> M:
        try:
            response = await self._http.get(_path(path, name), params=_parameters(filters))
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from None
        return _parse(response, model)

    async def _tell(self, path: str, model: type[M], body: BaseModel, name: str = "") -> M:
        try:
            response = await self._http.post(_path(path, name), json=body.model_dump(exclude_none=True))
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from None
        return _parse(response, model)


class _Connection:
    """The client's end of one stream across reconnects (HTML standard, event stream interpretation)."""

    def __init__(self, last_event_id: str | None) -> None:
        self._id = last_event_id
        self._kind = ""
        self._data: list[str] = []
        self._failures = 0

    def request(self, filters: Mapping[str, Filter]) -> dict[str, Any]:
        """What to send; half-read events of the connection before are forgotten."""
        self._kind, self._data = "", []
        headers = {"Accept": "text/event-stream"}
        if self._id is not None:
            headers["Last-Event-ID"] = self._id
        timeout = httpx.Timeout(15.0, read=_SILENCE_S)
        return {"params": _parameters(filters), "headers": headers, "timeout": timeout}

    def pause_s(self) -> float:
        """How long to wait before the next try: doubled at each failure in a row."""
        self._failures += 1
        return float(min(_RECONNECT_S * 2 ** (self._failures - 1), _RECONNECT_MOST_S))

    def feed(self, line: str) -> Iterator[StreamEvent]:
        """One line → the event that it completes, if any."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            yield from self._complete()
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value

    def _complete(self) -> Iterator[StreamEvent]:
        kind, data = self._kind, "\n".join(self._data)
        self._kind, self._data = "", []
        if not data:
            return
        self._failures = 0
        if kind == "hello":
            yield StreamEvent("hello", self._id, hello=Hello.model_validate_json(data))
        elif kind == "run":
            yield StreamEvent("run", self._id, run=RunModel.model_validate_json(data))
        elif kind == "alert":
            yield StreamEvent("alert", self._id, alert=AlertModel.model_validate_json(data))


def _path(path: str, name: str) -> str:
    """`name` is the sender's choice: nothing in it may lead to another path."""
    return path.format(quote(name, safe="").replace(".", "%2E"))


def _parameters(filters: Mapping[str, Filter]) -> httpx.QueryParams:
    """`from_` → `from`; lists repeat; True and False are `true` and `false`; None is left out."""
    found: list[tuple[str, str | int | float | bool | None]] = []
    for name, value in filters.items():
        values = [value] if isinstance(value, str | int | float) else list(value or ())
        for one in values:
            text = str(one).lower() if isinstance(one, bool) else str(one)
            found.append((name.removesuffix("_"), text))
    return httpx.QueryParams(found)


def _parse(response: httpx.Response, model: type[M]) -> M:
    _raise_for(response)
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        raise QueryRejected(f"{response.url} answers in a shape this client does not know: update one of the two") from None


def _raise_for(response: httpx.Response) -> None:
    if not response.is_error:
        return
    status = response.status_code
    try:
        detail = Problem.model_validate(json.loads(response.text)).detail
    except ValueError:
        detail = f"{response.url} answers {status} without saying why: is it the read API?"
    error: type[QueryError] = QueryRejected
    if status == _NOT_FOUND:
        error = RunNotFound if response.url.path.startswith(_RUN_PATH) else NotFound
    elif status in _RETRYABLE:
        error = QueryUnavailable
    raise error(detail, status=status)


def _unreachable(url: httpx.URL, error: Exception) -> QueryUnavailable:
    return QueryUnavailable(f"nobody answers at {url} ({type(error).__name__}): is `wafer query` running?")
