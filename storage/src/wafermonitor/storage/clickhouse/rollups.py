"""Rollups: hours, days, weeks and months of what the calls of writers changed are made anew, a few seconds later.

In: a client. Out: `run_measured` and `job_rollup` in step with `run`. Called by: `store`.

Nothing is added up that may come twice. A pass reads which calls are announced since the last one (as `changes` does), writes
down what is counted of their runs wherever a message ever claimed they started, and makes every hour anew that these places are
in, for the jobs that these runs ever had; then the longer buckets from the shorter ones. Every step writes rows that replace
their older versions, by a stamp that the server gave before the step read anything. So a step that is done twice, or by two
processes at once, or was cut off and is begun anew, comes to the same; who works is agreed on only to save work.

Hours whose runs may be gone are never made anew. Runs that say they started before 1971 or after 2089 are in no bucket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from wafermonitor.storage.clickhouse import rows
from wafermonitor.storage.clickhouse.changes import Call, calls_since, first_token, next_token
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.lists import packed, slices
from wafermonitor.storage.clickhouse.schema import kept_days
from wafermonitor.storage.clickhouse.statements import statement, with_parts
from wafermonitor.storage.errors import CursorRejected, StorageError

DOING = "roll up the runs"
LEASE_S = 15.0
"""Who worked last goes on; when it was silent for so long, another one does."""
LONGEST_PAUSE_S = 3.0
"""Readers are promised five seconds."""
MAX_RUNS = 50_000
"""Runs of one pass, unless one call has more."""
_REST = 20
"""A pass is followed by a pause of so many times its length, within the two bounds."""
_RUNS_AT_ONCE = 500_000
_MOST_SLICES = 256
_MOST_DAYS, _RUNS_OF_DAYS = 100, 50_000
"""Days that are made anew together: so many, or as many as have so many runs."""
_DAY_S, _HOUR_S, _QUARTER_S = 86_400, 3600, 900
_LONGER = (("day", "hour", 1), ("week", "day", 7), ("month", "day", 31))
"""What each is made of, and of how many days at most."""
_log = logging.getLogger(__name__)

Group = tuple[int, str, str]
"""(hour, site, job)"""


class Passed(NamedTuple):
    """What a pass did: runs it read again, hours of jobs made anew; whether more is waiting."""

    runs: int
    again: int
    more: bool


class _State(NamedTuple):
    now_us: int
    at_us: int
    holder: str
    token: str
    made_in: str
    zone: str


class Rollups:
    """One worker."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._name = os.urandom(6).hex()

    async def keep(self, stop: asyncio.Event, *, interval_s: float) -> None:
        """Passes until `stop` is set, `interval_s` apart at least. Trouble is logged, and the next one tries again."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                began_s = time.monotonic()
                more = await self._pass_until(stopping)
                pause_s = 0.0 if more else max(interval_s, min((time.monotonic() - began_s) * _REST, LONGEST_PAUSE_S))
                await asyncio.wait({stopping}, timeout=pause_s)
        finally:
            stopping.cancel()
        await self._let_go()

    async def _pass_until(self, stopping: asyncio.Task[bool]) -> bool:
        """One pass, cut off when that task ends, to be begun anew; whether more is waiting."""
        passing = asyncio.create_task(self.one_pass())
        try:
            await asyncio.wait({passing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            done = passing.result() if passing.done() else None
        except StorageError as error:
            _log.warning("rollups: %s", error)
            return False
        finally:
            passing.cancel()
        return done is not None and done.more

    async def _let_go(self) -> None:
        """Another process need not wait until the lease is over."""
        with suppress(StorageError):
            state = await self._state()
            if state.holder == self._name:
                row = rows.rollup_row("", state.token, state.made_in)
                await self._client.insert(DOING, rows.ROLLUPS, [row])

    async def run_once(self) -> Passed | None:
        """Passes until nothing is left to do, added up; None when another process is at it."""
        total = Passed(0, 0, more=True)
        while total.more:
            done = await self.one_pass()
            if done is None:
                return None
            total = Passed(total.runs + done.runs, total.again + done.again, done.more)
        return total

    async def one_pass(self) -> Passed | None:
        """What was announced so far, at most MAX_RUNS; None when another process is at it."""
        state = await self._state()
        if state.holder not in {"", self._name} and state.now_us - state.at_us < LEASE_S * 1e6:
            return None
        if not state.token or state.made_in != state.zone:
            return await self._build(state)
        try:
            since = await calls_since(self._client, state.token)
        except CursorRejected:  # from before a long stop: which runs changed meanwhile is no longer known
            return await self._build(state)
        chosen = since.fitting(MAX_RUNS)
        again = 0
        for part in slices(chosen):
            again += await self._follow(part, state.zone)
        if chosen or state.now_us - state.at_us > LEASE_S * 1e6 / 3:
            await self._note(next_token(since, chosen), state.zone)
        return Passed(sum(call.runs for call in chosen), again, len(chosen) < len(since.fresh))

    async def _follow(self, calls: Sequence[Call], zone: str) -> int:
        given = {"least": calls[0].stamp_us, "most": calls[-1].stamp_us, "calls": [call.name for call in calls]}
        await self._write("measure_changed", given)
        return await self._roll(await self._groups("places_changed", given, zone), zone)

    async def _build(self, state: _State) -> Passed:
        """All from the runs that there are, the newest day first. Readers see the old zone until the new one is whole."""
        ((offset,),) = await self._client.query(DOING, statement("rollup_zone"), {"zone": state.zone})
        _log.info("rollups are made anew from all runs, in the time zone %s (%+d s in 1970)", state.zone, offset)
        token = await first_token(self._client)
        ((count,),) = await self._client.query(DOING, statement("run_count"))
        parts = max(1, min(_MOST_SLICES, count // _RUNS_AT_ONCE + 1))
        bounds = [number * 256 // parts for number in range(parts + 1)]
        for first, after in itertools.pairwise(bounds):
            await self._note(state.token, state.made_in)
            edges = {"first": f"{first:02x}" + "00" * 15, "last": f"{after - 1:02x}" + "ff" * 15}
            await self._write("measure_range", edges)
        horizon = await self._horizon_s()
        again = 0
        days = await self._client.query(DOING, statement("rollup_days"), {"quarter": horizon // _QUARTER_S})
        for part in packed(days, lambda day: day[1], _MOST_DAYS, _RUNS_OF_DAYS):
            await self._note(state.token, state.made_in)
            chosen = {"days": [day for day, _ in part]}
            again += await self._roll(await self._groups("places_days", chosen, state.zone), state.zone)
        if state.made_in not in {"", state.zone}:
            await self._write("rollup_copy", {"zone": state.zone, "old": state.made_in, "horizon": horizon})
            old = await self._client.query(DOING, statement("rollup_old_hours"), {"zone": state.zone, "horizon": horizon})
            await self._longer([(hour, site, job) for hour, site, job in old], state.zone)
        await self._note(token, state.zone)
        return Passed(count, again, more=False)

    async def _groups(self, places: str, given: dict[str, Any], zone: str) -> list[Group]:
        """Hours of jobs that must be made anew, of those whose runs are all there."""
        sql = statement("rollup_hours").replace("-- places\n", statement(places))
        horizon = await self._horizon_s()
        found = await self._client.query(DOING, sql, given | {"zone": zone})
        return [(hour, site, job) for hour, site, job in found if hour >= horizon]

    async def _roll(self, groups: Sequence[Group], zone: str) -> int:
        for part in slices(groups, lambda group: group[1] + group[2]):
            firsts = {hour // _QUARTER_S - 1 for hour, _, _ in part}
            quarters = sorted({quarter for first in firsts for quarter in range(first, first + 10)})
            await self._write("rollup_hour", _columns("hours", part) | {"quarters": quarters, "zone": zone})
        await self._longer(groups, zone)
        return len(groups)

    async def _longer(self, groups: Sequence[Group], zone: str) -> None:
        """Days from hours, weeks and months from days."""
        of_hour: dict[int, list[int]] = {}
        for hours in slices(sorted({hour for hour, _, _ in groups})):
            found = await self._client.query(DOING, statement("rollup_buckets"), {"hours": hours, "zone": zone})
            of_hour |= {hour: longer for hour, *longer in found}
        for place, (unit, finer, days) in enumerate(_LONGER):
            wanted = sorted({(of_hour[hour][place], site, job) for hour, site, job in groups})
            for part in slices(wanted, lambda group: group[1] + group[2]):
                given = {"unit": unit, "part": finer, "quarters": days * 96 + 8, "zone": zone}
                await self._write("rollup_longer", given | _columns("buckets", part), {unit})

    async def _write(self, name: str, given: dict[str, Any], parts: Iterable[str] = ()) -> None:
        """One INSERT … SELECT, whose rows bear the time before it read anything."""
        ((now_us,),) = await self._client.query(DOING, statement("now"))
        await self._client.command(DOING, with_parts(statement(name), set(parts)), given | {"version": now_us})

    async def _horizon_s(self) -> int:
        """Of hours before this runs may be gone: the server drops them, so its word counts and not this process's settings."""
        run_days = (await kept_days(self._client))["run"]
        if run_days is None:
            return 0
        ((now_us,),) = await self._client.query(DOING, statement("now"))
        return int(now_us) // 1_000_000 - (run_days - 1) * _DAY_S

    async def _state(self) -> _State:
        ((now_us, (at_us, holder, token, made_in), zone),) = await self._client.query(DOING, statement("rollup_state"))
        return _State(now_us, at_us, holder, token, made_in, zone or "UTC")

    async def _note(self, token: str, zone: str) -> None:
        await self._client.insert(DOING, rows.ROLLUPS, [rows.rollup_row(self._name, token, zone)])


def _columns(times: str, groups: Sequence[Group]) -> dict[str, Any]:
    """The groups as parameters: a list of times under this name, of sites, and of jobs."""
    return {name: [group[place] for group in groups] for place, name in enumerate((times, "sites", "jobs"))}
