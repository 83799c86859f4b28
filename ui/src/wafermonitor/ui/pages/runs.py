"""Runs: the big table, a page at a time through the API, and the plain traces of programs that know nothing of us.

In: `Runs`. Out: `Page`. Called by: pages, pages.alerts (its filters look alike), downloads (the same filters as CSV).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from wafermonitor.query.models import RunModel, SpanModel
from wafermonitor.ui.address import SINCE, Runs, url
from wafermonitor.ui.clock import epoch_ms
from wafermonitor.ui.pages.page import Page
from wafermonitor.ui.render import render
from wafermonitor.ui.source import Source
from wafermonitor.ui.states import BAD_RESULTS, OPEN_STATES

PAGE_ROWS = 50
_STATES = (("", "any"), ("open", "open"), *((key, key) for key in ("running", "overdue", "silent", "lost", "unknown", "ended")))
_RESULTS = (
    ("", "any"), ("success", "success"), ("failed", "any failure"), ("failure", "failure"), ("error", "error"),
    ("timeout", "timeout"), ("cancellation", "cancelled"), ("skip", "skipped"),
)  # fmt: skip
_LEVELS = (("jobs", "jobs"), ("subjobs", "subjobs"), ("all", "both"))
TIMES = dict(zip(SINCE, ("any time", "last hour", "last 6 hours", "last 24 hours", "last 7 days", "last 30 days"), strict=True))


class Field(NamedTuple):
    """One filter of the form; `options` None is a text field."""

    name: str
    label: str
    value: str
    options: Sequence[tuple[str, str]] | None = None
    size: int = 9
    usual: str = ""

    @property
    def set(self) -> bool:
        """It narrows the table."""
        return self.value != self.usual


async def load(source: Source, address: Runs) -> Page:
    """One page of rows, with the choices of the filters."""
    sites, apps = await asyncio.gather(source.sites(), source.apps())
    site_names = [site.site for site in sites]
    app_names = sorted({app.service for app in apps})
    runs: list[RunModel] = []
    spans: list[SpanModel] = []
    if address.tab == "runs":
        found = await source.runs(address.level, question(address), address.cursor, PAGE_ROWS)
        runs, more, server_time = found.items, found.cursor, found.server_time
    else:
        traces = await source.plain_traces(span_question(address), address.cursor, PAGE_ROWS)
        spans, more, server_time = traces.items, traces.cursor, traces.server_time
    clear = Runs(tab=address.tab, sort=address.sort)
    html = render(
        "runs.html",
        address=address,
        fields=fields(address, site_names, app_names),
        filtered=address != Runs(tab=address.tab, sort=address.sort, cursor=address.cursor),
        clear_url=url(clear),
        csv_url=url(address, cursor="").replace("/runs", "/runs.csv", 1),
        runs=runs,
        spans=spans,
        count=len(runs) + len(spans),
        more=more,
        what="run" if address.tab == "runs" else "trace",
    )
    name = "Runs" if address.tab == "runs" else "Plain traces"
    busy = not address.cursor and any(run.state != "ended" for run in runs)
    return Page(html, f"{name} · WaferMonitor", "/runs", epoch_ms(server_time) or 0.0, busy=busy)


def question(address: Runs) -> dict[str, list[str]]:
    """The filters as the API's parameters; only those that are set."""
    asked: dict[str, list[str]] = {}
    for name in ("q", "site", "job", "app", "lot", "equipment", "recipe"):
        if value := getattr(address, name):
            asked[name] = [value]
    if address.state == "overdue":
        asked["overdue"] = ["true"]
    elif address.state == "open":
        asked["state"] = list(OPEN_STATES)
    elif address.state:
        asked["state"] = [address.state]
    if address.result:
        asked["result"] = list(BAD_RESULTS) if address.result == "failed" else [address.result]
    return asked | _times(address) | ({"order": ["failing"]} if address.sort == "failing" else {})


def span_question(address: Runs) -> dict[str, list[str]]:
    """The same for plain traces, which know fewer filters."""
    asked = {name: [value] for name, value in (("site", address.site), ("app", address.app)) if value}
    return asked | _times(address)


def fields(address: Runs, sites: Sequence[str], apps: Sequence[str]) -> list[Field]:
    """The form: what the tab can filter by, in the order of use."""
    site = Field("site", "Site", address.site, choices(address.site, sites))
    app = Field("app", "App", address.app, choices(address.app, apps))
    since = Field("since", "Started", address.since, list(TIMES.items()))
    after = Field("after", "From", address.after, size=16)
    before = Field("before", "Until", address.before, size=16)
    if address.tab == "traces":
        return [site, app, since, after, before]
    return [
        Field("q", "Text", address.q, size=15),
        Field("state", "State", address.state, _STATES),
        Field("result", "Result", address.result, _RESULTS),
        Field("job", "Job", address.job, size=11),
        Field("lot", "Lot", address.lot),
        Field("equipment", "Equipment", address.equipment),
        Field("recipe", "Recipe", address.recipe),
        site,
        app,
        Field("level", "Level", address.level, _LEVELS, usual="jobs"),
        since,
        *(field for field in (after, before) if field.value),
    ]


def _times(address: Runs) -> dict[str, list[str]]:
    begin = address.after or (f"-{address.since}" if address.since else "")
    return {name: [value] for name, value in (("from", begin), ("to", address.before)) if value}


def choices(value: str, known: Sequence[str]) -> list[tuple[str, str]]:
    """`any` and the names that are known, with the one that is set even where nobody knows it."""
    names = [*known, *([value] if value and value not in known else [])]
    return [("", "any"), *((name, name) for name in names)]
