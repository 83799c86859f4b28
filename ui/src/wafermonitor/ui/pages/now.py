"""Now: what is open at this moment, failing first, and what failed in the last day.

In: `Now`. Out: `Page`. Called by: pages.page.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import NamedTuple

from wafermonitor.query.models import AlertModel, ExpectedRunModel, PageModel, RunModel, SiteModel
from wafermonitor.ui import watched
from wafermonitor.ui.address import Alerts, Job, Now, Runs, url
from wafermonitor.ui.calendar import day_of
from wafermonitor.ui.clock import epoch_ms
from wafermonitor.ui.pages.page import Page
from wafermonitor.ui.render import render
from wafermonitor.ui.source import Source
from wafermonitor.ui.states import LOOKS, look
from wafermonitor.ui.watched import NotThere, Watch, attended

FAILED_SHOWN = 9
MISSING_SHOWN = 20
NOTHING_MISSING = NotThere()


class Tile(NamedTuple):
    """One count. `alarm`: a count above zero wants attention."""

    look: str
    icon: str
    word: str
    total: int
    words: str
    note: str
    href: str
    help: str
    alarm: bool


class Total(NamedTuple):
    """How many there are; `more`: at least so many."""

    number: int
    more: bool = False

    @property
    def words(self) -> str:
        """`1,200`, or `200+`."""
        return f"{self.number:,}{'+' if self.more else ''}"


class Behind(NamedTuple):
    """A feed that is behind, and how many open jobs wait for it; `more`: at least so many."""

    site: str
    feed: str
    watermark: str | None
    unknown: int
    more: bool = False


async def load(source: Source, address: Now, zone: tzinfo = UTC) -> Page:
    """Everything the page shows, asked at once."""
    opened, failed, sites, watch, missing = await asyncio.gather(
        source.open_jobs(address.site),
        source.failed_jobs(address.site),
        source.sites(),
        watched.glance(source),
        watched.not_there(source, address.site),
    )
    apart = await source.open_by_look(address.site) if opened.cursor else {}
    chosen = [site for site in sites if not address.site or site.site == address.site]
    waiting = not_there(watch, missing.runs)
    shown = waiting[:MISSING_SHOWN]
    in_trouble = sum(look(run).failing or run.state == "unknown" for run in opened.items)
    html = render(
        "now.html",
        address=address,
        server_time=opened.server_time,
        sites=sites,
        tiles=tiles(address, totals(opened, apart), failed, missing, attended=all(one.attended for one in waiting)),
        watch=watch,
        badges=badges(watch, opened.items),
        missing=[one for one in shown if not one.attended],
        attended=[one for one in shown if one.attended],
        in_trouble=in_trouble,
        missing_hidden=max(len(missing.runs) - MISSING_SHOWN, 0),
        missing_cut=missing.more,
        alerts_url=url(Alerts(site=address.site)),
        waiting=missing.unknown,
        waiting_words=f"{missing.unknown}{'+' if missing.more_unknown else ''}",
        alert_url=lambda alert: url(Alerts(alert=alert.id)),
        day_url=lambda one: day_url(one, zone),
        behind=behind(chosen, apart.get("unknown", opened)),
        runs=opened.items,
        more=opened.cursor is not None,
        failed=failed.items[:FAILED_SHOWN],
        failed_url=_failed_url(address),
    )
    return Page(html, "Now · WaferMonitor", "/", epoch_ms(opened.server_time) or 0.0, busy=bool(opened.items))


def totals(opened: PageModel[RunModel], apart: Mapping[str, PageModel[RunModel]]) -> dict[str, Total]:
    """How many jobs look how: as listed, or where that list was cut as each of those `apart` says."""
    if not apart:
        return {key: Total(number) for key, number in Counter(look(run).key for run in opened.items).items()}
    return {key: Total(len(page.items), page.cursor is not None) for key, page in apart.items()}


def tiles(
    address: Now,
    totals: Mapping[str, Total],
    failed: PageModel[RunModel],
    missing: NotThere = NOTHING_MISSING,
    *,
    attended: bool = False,
) -> list[Tile]:
    """The six counts of jobs, and of those that should be there. Where a list was cut the number is a lower bound: `+`.

    `attended`: somebody looks after each of those that should be there.
    """
    found = []
    notes = {
        "running": "in time",
        "overdue": "alive, too long",
        "silent": "no recent sign",
        "lost": "taken as dead",
        "unknown": "link is behind",
    }
    for key, note in notes.items():
        href = url(Runs(site=address.site, state=key, sort="failing"))
        meaning = LOOKS[key]
        count = totals.get(key, Total(0))
        alarm = meaning.failing or key == "unknown"
        found.append(Tile(key, key, meaning.word, count.number, count.words, note, href, meaning.help, alarm))
    words = f"{len(failed.items):,}{'+' if failed.cursor else ''}"
    about = "Jobs that ended with failure, error or timeout."
    found.append(
        Tile("failed", "failure", "failed", len(failed.items), words, "last 24 hours", _failed_url(address), about, alarm=True)
    )
    states = Counter(one.state for one in missing.runs)
    if not_there := states["late"] + states["missed"]:
        key = "missed" if states["missed"] else "late"
        note = f"{states['late']} late, {states['missed']} missed" if states["late"] and states["missed"] else "last 24 hours"
        href = f"{url(address)}#missing"
        word = "not started" if states["late"] and states["missed"] else key
        found.append(
            Tile(
                key,
                key,
                word,
                not_there,
                f"{not_there:,}{'+' if missing.more else ''}",
                note,
                href,
                LOOKS[key].help,
                alarm=not attended,
            )
        )
    return found


class Missing(NamedTuple):
    """An expected run that is not there, and the alert about it, if any."""

    expected: ExpectedRunModel
    alert: AlertModel | None

    @property
    def attended(self) -> bool:
        """Somebody looks after it."""
        return self.alert is not None and attended(self.alert)


def not_there(watch: Watch, runs: Sequence[ExpectedRunModel]) -> list[Missing]:
    """Those that nobody looks after first, of those the missed ones, else as they come."""
    found = [Missing(run, next(iter(watch.of_expected(run)), None)) for run in runs]
    return sorted(found, key=lambda one: (one.attended, one.expected.state != "missed"))


class Badge(NamedTuple):
    """The open alerts of one run: how many, the look of the worst, what it says, and where they stand."""

    number: int
    look: str
    words: str
    href: str


def badges(watch: Watch, runs: Sequence[RunModel]) -> dict[str, Badge]:
    """Run id → its open alerts, for runs that have any."""
    found = {}
    for run in runs:
        if alerts := watch.of_run(run):
            first = alerts[0]
            href = url(Alerts(alert=first.id)) if len(alerts) == 1 else url(Alerts(site=run.site, job=run.job or ""))
            found[run.run] = Badge(len(alerts), first.severity, first.summary, href)
    return found


def day_url(expected: ExpectedRunModel, zone: tzinfo) -> str:
    """Its day, by the viewer's clock, in the calendar of its job."""
    return url(Job(site=expected.site or "", job=expected.job, day=day_of(expected, zone).isoformat()))


def behind(sites: Sequence[SiteModel], unknown: PageModel[RunModel]) -> list[Behind]:
    """Feeds that are behind, those with the most unknown jobs first."""
    waiting = Counter((run.site, run.feed) for run in unknown.items if run.state == "unknown")
    found = [
        Behind(site.site, feed.feed, feed.watermark, waiting[site.site, feed.feed], unknown.cursor is not None)
        for site in sites
        for feed in site.feeds
        if feed.behind
    ]
    return sorted(found, key=lambda link: (-link.unknown, link.site, link.feed))


def _failed_url(address: Now) -> str:
    return url(Runs(site=address.site, result="failed", since="24h"))
