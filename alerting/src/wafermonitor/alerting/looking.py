"""What a tick reads of the store: feeds before everything else, then what is open, then what changed.

In: a leader and a reader. Out: a `Seen`. Called by: evaluator.

The order matters: a watermark read after the runs could tell of a time whose runs were not there yet when they were read. A run
that ended while they were read is an ended one: were it neither, its alert would be over, and open again with the next tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from wafermonitor.alerting import remembering
from wafermonitor.alerting.matching import Sight
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import State
from wafermonitor.storage.errors import CursorRejected
from wafermonitor.storage.protocol import Reader, RunQuery, StoreHealth
from wafermonitor.storage.watch import Lead

_PAGE = 1000
_MOST_PAGES = 50
MOST_OPEN_PAGES = 50
"""Pages of open runs that a tick reads; were there more, the look is cut."""
_SHORT_PAGES = 3
"""A page that is not full need not be the last; but while changes go on, there is no end of short ones."""
_OPEN = (State.RUNNING, State.SILENT, State.LOST, State.UNKNOWN)


class Seen(NamedTuple):
    """What was read. `ended`: runs whose end became known. `notes`: what the next tick has to know.

    `cut`: more runs are open than were read.
    """

    sight: Sight
    open_runs: list[Run]
    ended: list[Run]
    health: StoreHealth
    notes: dict[str, str]
    cut: bool = False


async def look(lead: Lead, reader: Reader, notes: Mapping[str, str], ticked_ns: int | None) -> Seen:
    """Read it. Raises StorageUnavailable."""
    limits = await reader.limits()
    feeds = {(feed.site, feed.feed): feed for site in await reader.sites() for feed in site.feeds}
    found, cut = await _open_runs(reader)
    changed, complete, token = await _changes(reader, notes.get(remembering.TOKEN))
    over = {run.key for run in changed if run.ended}
    open_runs = [run for run in found if run.key not in over]
    behind = remembering.read_outages(notes.get(remembering.OUTAGES))
    behind = remembering.outages(behind, feeds, lead.now_ns, ticked_ns, limits)
    known = remembering.read_numbers(notes.get(remembering.ENDED))
    ended = remembering.newly_ended(changed, known)
    sight = Sight(
        now_ns=lead.now_ns,
        limits=limits,
        feeds=feeds,
        expectations=await lead.expectations(),
        unsettled=await lead.unsettled(),
        changed=changed,
        complete=complete,
        holds=remembering.holds(behind),
        called=remembering.read_numbers(notes.get(remembering.CALLED)),
    )
    kept = {
        remembering.TOKEN: token,
        remembering.OUTAGES: remembering.outages_text(behind),
    }
    return Seen(sight, open_runs, ended, await reader.health(), kept, cut)


async def _changes(reader: Reader, token: str | None) -> tuple[list[Run], bool, str]:
    """Runs that changed since the token, whether these are all, and the next token."""
    complete = token is not None
    runs: list[Run] = []
    short = 0
    for _ in range(_MOST_PAGES):
        try:
            page = await reader.changes(token, _PAGE)
        except CursorRejected:
            # The store is another one, or was put back from a backup: begin anew, and trust nothing that was concluded.
            complete, token = False, None
            continue
        runs += [stored.run for stored in page.runs]
        token = page.token
        short += len(page.runs) < _PAGE
        if not page.runs or short == _SHORT_PAGES:
            return runs, complete, token
    return runs, False, token or ""


async def _open_runs(reader: Reader) -> tuple[list[Run], bool]:
    """Runs that are open, and whether there are more."""
    runs: list[Run] = []
    cursor: str | None = None
    for _ in range(MOST_OPEN_PAGES):
        page = await reader.runs(RunQuery(state=_OPEN, inferred=False, cursor=cursor, limit=_PAGE))
        runs += [stored.run for stored in page.items]
        cursor = page.cursor
        if cursor is None:
            return runs, False
    return runs, True
