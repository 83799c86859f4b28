"""What alerting and ETA ask of runs: ClickHouse finds the runs, `storage.pasts` says what is asked of them.

In: wants. Out: `StoredStart`, `PastRun`, `Tally`. Called by: `reader`.
"""

from __future__ import annotations

from collections.abc import Sequence

from wafermonitor.runs.records import Run
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage import pasts
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.lists import slices
from wafermonitor.storage.clickhouse.records import run_of
from wafermonitor.storage.clickhouse.rows import NO_TIME
from wafermonitor.storage.clickhouse.statements import statement
from wafermonitor.storage.protocol import PastRun, StartsWanted, StoredStart, Tally

_DAY_NS = 86_400 * SECOND_NS
_WINDOWS_NS = (8 * _DAY_NS, 64 * _DAY_NS)
"""How far back history is read at first, and then; the third time all of it, for jobs that ran too seldom."""


async def starts(client: Client, wanted: Sequence[StartsWanted], limit: int) -> list[list[StoredStart]]:
    """`Reader.starts`: wants of about the same time are asked together."""
    from_ns: dict[str, int] = {}
    for want in wanted:
        from_ns[want.job] = min(want.from_ns, from_ns.get(want.job, want.from_ns))
    runs: list[Run] = []
    for jobs in slices(sorted(from_ns, key=lambda job: -from_ns[job]), str):
        given = {"jobs": jobs, "least": max(min(from_ns[job] for job in jobs), NO_TIME + 1), "limit": limit}
        runs += [run_of(row) for row in await client.query("match runs", statement("starts"), given)]
    return pasts.starts(runs, wanted, limit)


async def history(client: Client, jobs: Sequence[tuple[str, str]], limit: int, now_ns: int) -> list[list[PastRun]]:
    """`Reader.history`: jobs that lack runs are asked for again, of longer ago."""
    found: dict[tuple[str, str], list[PastRun]] = {}
    lacking = list(dict.fromkeys(jobs))
    for least in (*(now_ns - window_ns for window_ns in _WINDOWS_NS), NO_TIME + 1):
        runs: list[Run] = []
        for part in slices(lacking, lambda job: job[0] + job[1]):
            given = {
                "sites": sorted({site for site, _ in part}),
                "jobs": sorted({job for _, job in part}),
                "least": least,
                "limit": limit,
            }
            runs += [run_of(row) for row in await client.query("read what was", statement("history"), given)]
        found |= zip(lacking, pasts.history(runs, lacking, limit), strict=True)
        lacking = [job for job in lacking if len(found[job]) < limit]
        if not lacking:
            break
    return [found[job] for job in jobs]


async def tallies(client: Client, from_ns: int, to_ns: int) -> list[Tally]:
    """`Reader.tallies`."""
    rows = await client.query("tally runs", statement("tallies"), {"least": from_ns, "most": to_ns})
    return [Tally(site, job, int(ended), int(bad), int(late)) for site, job, ended, bad, late in rows]
