"""Alerts: what fires, the most urgent first; what fired; which silences are in force; and whether anybody looks.

In: `Alerts`. Out: `Page`. Called by: pages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wafermonitor.query.models import AlertDetail, DeliveryModel, ExplainModel
from wafermonitor.ui import watched
from wafermonitor.ui.address import Alerts, Job, Run, url
from wafermonitor.ui.clock import epoch_ms
from wafermonitor.ui.evidence import facts
from wafermonitor.ui.pages.page import Page
from wafermonitor.ui.pages.runs import TIMES, Field, choices
from wafermonitor.ui.render import render
from wafermonitor.ui.source import Source
from wafermonitor.ui.watched import attended

PAGE_ROWS = 50
SHOWN_MOST = 100
_ALIKE = 24
"""So many first letters of a sentence tell it from others, whatever numbers follow."""
_STATES = (("", "any"), ("firing", "firing"), ("resolved", "resolved"))
_SEVERITIES = (("", "any"), ("critical", "critical"), ("warning", "warning"), ("info", "info"))
_SENT = {"waiting": "waits to be sent", "sent": "sent", "dropped": "given up"}


class Opened(NamedTuple):
    """The unfolded alert with what only it needs. `cause`: the one it opened with; None where the explanation says the same."""

    alert: AlertDetail
    deliveries: Sequence[DeliveryModel]
    explanation: ExplainModel | None
    cause: str | None


async def load(source: Source, address: Alerts) -> Page:
    """The view of the address, with the unfolded alert wherever it stands."""
    watch, silences, opened = await asyncio.gather(
        watched.firing(source), watched.silences(source), _opened(source, address.alert)
    )
    values: dict[str, Any] = {"rows": [], "more": None, "fields": [], "filtered": False, "hidden": 0, "cut": False}
    if watch.kept and address.view == "history":
        values |= await _history(source, address)
    elif address.view == "firing":
        narrowed = bool(address.site or address.job)
        of = await watched.firing_of(source, watch, address.site, address.job) if narrowed else watch
        values |= {"rows": of.alerts[:SHOWN_MOST], "hidden": len(of.alerts) - SHOWN_MOST, "cut": of.more, "filtered": narrowed}
    shown = {alert.id for alert in values["rows"]}
    html = render(
        "alerts.html",
        address=address,
        watch=watch,
        silences=silences,
        counts=[(word, sum(alert.severity == word for alert in watch.alerts)) for word in ("critical", "warning", "info")],
        unattended=len(watch.unattended),
        opened=opened,
        apart=opened is not None and opened.alert.id not in shown,
        missing=address.alert and opened is None,
        attended=attended,
        facts=facts,
        delivered=delivered,
        run_link=lambda run: url(Run(run=run)),
        job_link=lambda alert: url(Job(site=alert.site or "", job=alert.job)),
        **values,
    )
    return Page(html, "Alerts · WaferMonitor", "/alerts", epoch_ms(watch.server_time), busy=bool(watch.alerts))


def question(address: Alerts) -> dict[str, list[str]]:
    """The filters of the history as the API's parameters; only those that are set."""
    asked = {name: [value] for name in ("site", "job", "rule", "severity") if (value := getattr(address, name))}
    if address.state:
        asked["open"] = ["true" if address.state == "firing" else "false"]
    begin = address.after or (f"-{address.since}" if address.since else "")
    return asked | {name: [value] for name, value in (("from", begin), ("to", address.before)) if value}


def fields(address: Alerts, sites: Sequence[str]) -> list[Field]:
    """The form of the history."""
    return [
        Field("severity", "Severity", address.severity, _SEVERITIES),
        Field("state", "State", address.state, _STATES),
        Field("site", "Site", address.site, choices(address.site, sites)),
        Field("job", "Job", address.job, size=13),
        Field("rule", "Rule", address.rule, size=13),
        Field("since", "Opened", address.since, list(TIMES.items())),
        *(Field(name, label, value, size=16) for name, label, value in _times(address) if value),
    ]


def delivered(delivery: DeliveryModel) -> str:
    """What became of a message, in words."""
    words = _SENT[delivery.state]
    if delivery.state == "waiting" and delivery.attempts:
        words = "tried again"
    tries = f" after {delivery.attempts} attempts" if delivery.attempts > 1 else ""
    return f"{words}{tries}" + (f": {delivery.answer}" if delivery.answer else "")


async def _opened(source: Source, alert_id: str) -> Opened | None:
    if not alert_id:
        return None
    found, why = await asyncio.gather(watched.alert(source, alert_id), watched.explanation(source, alert_id))
    return Opened(found, found.deliveries, why, cause_beside(found.cause, why)) if found is not None else None


def cause_beside(cause: str | None, explanation: ExplainModel | None) -> str | None:
    """The cause where the explanation does not begin alike: evaluators take it from the same sentences, as they were then."""
    if cause is None or explanation is None:
        return cause
    said = [explanation.headline, *(reason.text for reason in explanation.reasons)]
    return None if any(cause.startswith(text[:_ALIKE]) for text in said if text) else cause


async def _history(source: Source, address: Alerts) -> Mapping[str, Any]:
    page, sites = await asyncio.gather(watched.history(source, question(address), address.cursor, PAGE_ROWS), source.sites())
    plain = Alerts(view="history", cursor=address.cursor, alert=address.alert, act=address.act)
    return {
        "rows": page.items,
        "more": page.cursor,
        "fields": fields(address, [site.site for site in sites]),
        "filtered": address != plain,
    }


def _times(address: Alerts) -> list[tuple[str, str, str]]:
    return [("after", "From", address.after), ("before", "Until", address.before)]
