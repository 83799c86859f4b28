"""The pages: each loads what its address asks for and makes HTML of it."""

from wafermonitor.ui.address import Alerts, Job, Now, Runs
from wafermonitor.ui.pages import alerts, job, now, run, runs
from wafermonitor.ui.pages.page import Bell, Page, Viewer
from wafermonitor.ui.source import Source
from wafermonitor.ui.watched import Watch, glance

__all__ = ["Page", "Viewer", "load"]


async def load(source: Source, viewer: Viewer) -> Page:
    """The page of the viewer's address. UiUnavailable when the API does not answer; everything else is a page with words."""
    address = viewer.address
    if isinstance(address, Now):
        page = await now.load(source, address, viewer.zone)
    elif isinstance(address, Runs):
        page = await runs.load(source, address)
    elif isinstance(address, Job):
        page = await job.load(source, address, viewer.zone)
    elif isinstance(address, Alerts):
        page = await alerts.load(source, address)
    else:
        page = await run.load(source, address, viewer.top)
    failing = await source.failing()
    bell = _bell(await glance(source))
    return page._replace(title=f"({failing}) {page.title}" if failing else page.title, bell=bell)


def _bell(watch: Watch) -> Bell:
    """The unattended alerts, the worst of which is the first."""
    alerts = watch.unattended
    return Bell(len(alerts), f"{len(alerts)}{'+' if watch.more else ''}", alerts[0].severity) if alerts else Bell()
