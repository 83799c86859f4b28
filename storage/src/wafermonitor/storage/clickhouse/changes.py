"""The change feed: which runs have news since a token, at least once each, with any number of writers.

In: a token. Out: `Changes`. Called by: `reader`.

A writer announces the runs of a call after they are stored; the server that takes the announcement stamps it. One that was
stamped earlier may be seen later, while it is being written, so a reader looks back `OVERLAP_US` behind its token; the token
names the calls in that time that were told already. It may be handed to any other reader.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wafermonitor.runs.records import RunKey
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.lists import slices
from wafermonitor.storage.clickhouse.runs import Runs
from wafermonitor.storage.clickhouse.statements import statement
from wafermonitor.storage.errors import CursorRejected
from wafermonitor.storage.protocol import Changes, StoredRun

DOING = "read what changed"
OVERLAP_US = 5_000_000
"""Longer than an announcement may take (`writer.ANNOUNCE_WITHIN_S`) and the clocks of a cluster's servers differ."""
KEPT_US = 86_400 * 1_000_000
"""Announcements are kept two days; a token older than one is refused, for some may be gone."""
_CALL_BYTES, _CALL_TEXT = 6, 8
"""Of a call's name, as it is and in base64."""
_TOKEN = re.compile(r"(\d{16}):([A-Za-z0-9_-]*)\Z", re.ASCII)


class _Call(NamedTuple):
    """A call of a writer: when it was announced, its name in hex, and how many runs it was about."""

    stamp_us: int
    name: str
    runs: int


async def changes(client: Client, runs: Runs, token: str | None, limit: int) -> Changes:
    """Runs that changed since `token`, whole calls, as many as fit and at least one; None starts now."""
    ((now_us,),) = await client.query(DOING, statement("now"))
    since_us, told = (now_us, frozenset[str]()) if token is None else _read(token, now_us)
    rows = await client.query(DOING, statement("calls"), {"floor": since_us - OVERLAP_US})
    calls = [_Call(*row) for row in rows]
    if token is None:
        return Changes([], _write(now_us, calls))
    fresh = [call for call in calls if call.name not in told]
    fitting = [
        call for call, total in zip(fresh, itertools.accumulate(call.runs for call in fresh), strict=True) if total <= limit
    ]
    chosen = fitting or fresh[:1]
    stored = await _runs_of(client, runs, chosen)
    if len(chosen) == len(fresh):
        return Changes(stored, _write(max(now_us, since_us), calls))
    # What is left over is stamped no earlier than the last that is told.
    known = told | {call.name for call in chosen}
    return Changes(stored, _write(chosen[-1].stamp_us, [call for call in calls if call.name in known]))


async def _runs_of(client: Client, runs: Runs, calls: Sequence[_Call]) -> list[StoredRun]:
    """Runs in the order in which they were first announced."""
    if not calls:
        return []
    found: dict[RunKey, None] = {}
    for part in slices(calls):
        given = {"least": part[0].stamp_us, "most": part[-1].stamp_us, "calls": [call.name for call in part]}
        rows = await client.query(DOING, statement("changed"), given)
        found |= {RunKey(site, bytes.fromhex(trace), bytes.fromhex(span)): None for trace, span, site in rows}
    keys = list(found)
    stored = {one.run.key: one for one in await runs.of_keys(DOING, keys)}
    return [stored[key] for key in keys if key in stored]


def _read(token: str, now_us: int) -> tuple[int, frozenset[str]]:
    match = _TOKEN.match(token)
    if match is None or len(match[2]) % _CALL_TEXT:
        raise CursorRejected(f"{token[:40]!r} is no change token: start again without one")
    since_us = int(match[1])
    if not now_us - KEPT_US <= since_us <= now_us + OVERLAP_US:
        raise CursorRejected("this change token is too old, or from another database: start again without one")
    told = base64.urlsafe_b64decode(match[2]).hex()
    return since_us, frozenset(told[start : start + 2 * _CALL_BYTES] for start in range(0, len(told), 2 * _CALL_BYTES))


def _write(high_us: int, calls: Iterable[_Call]) -> str:
    told = b"".join(bytes.fromhex(call.name) for call in calls if call.stamp_us > high_us - OVERLAP_US)
    return f"{high_us:016}:{base64.urlsafe_b64encode(told).decode()}"
