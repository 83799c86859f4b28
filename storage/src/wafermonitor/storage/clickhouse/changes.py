"""The change feed: which runs have news since a token, at least once each, with any number of writers.

In: a token. Out: `Changes`, or the calls themselves. Called by: `reader`, `rollups`.

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


class Call(NamedTuple):
    """A call of a writer: when it was announced, its name in hex, and how many runs it was about."""

    stamp_us: int
    name: str
    runs: int


class Since(NamedTuple):
    """What a token leaves open: until when it is, all calls that may still matter, those already told, and those not yet."""

    until_us: int
    calls: list[Call]
    told: frozenset[str]
    fresh: list[Call]

    def fitting(self, limit: int) -> list[Call]:
        """The first of the fresh ones that have at most `limit` runs together, and at least one call."""
        totals = itertools.accumulate(call.runs for call in self.fresh)
        return [call for call, total in zip(self.fresh, totals, strict=True) if total <= limit] or self.fresh[:1]


async def changes(client: Client, runs: Runs, token: str | None, limit: int) -> Changes:
    """Runs that changed since `token`, whole calls, as many as fit and at least one; None starts now."""
    if token is None:
        return Changes([], await first_token(client))
    since = await calls_since(client, token)
    chosen = since.fitting(limit)
    return Changes(await _runs_of(client, runs, chosen), next_token(since, chosen))


async def first_token(client: Client) -> str:
    """A token of now: runs of calls that were seen before it are stored."""
    ((now_us,),) = await client.query(DOING, statement("now"))
    return _write(now_us, await _calls(client, now_us))


async def calls_since(client: Client, token: str) -> Since:
    """The calls that were announced since `token`. CursorRejected for one that is too old."""
    ((now_us,),) = await client.query(DOING, statement("now"))
    since_us, told = _read(token, now_us)
    calls = await _calls(client, since_us)
    return Since(max(now_us, since_us), calls, told, [call for call in calls if call.name not in told])


def next_token(since: Since, chosen: Sequence[Call]) -> str:
    """The token after `chosen`, the first of those that are fresh."""
    if len(chosen) == len(since.fresh):
        return _write(since.until_us, since.calls)
    # What is left over is stamped no earlier than the last that is told.
    known = since.told | {call.name for call in chosen}
    return _write(chosen[-1].stamp_us, [call for call in since.calls if call.name in known])


async def _calls(client: Client, since_us: int) -> list[Call]:
    return [Call(*row) for row in await client.query(DOING, statement("calls"), {"floor": since_us - OVERLAP_US})]


async def _runs_of(client: Client, runs: Runs, calls: Sequence[Call]) -> list[StoredRun]:
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


def _write(high_us: int, calls: Iterable[Call]) -> str:
    told = b"".join(bytes.fromhex(call.name) for call in calls if call.stamp_us > high_us - OVERLAP_US)
    return f"{high_us:016}:{base64.urlsafe_b64encode(told).decode()}"
