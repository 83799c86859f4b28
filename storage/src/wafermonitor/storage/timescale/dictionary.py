"""Numbers for names: sites, services, scopes, resources and metric series, each stored once and remembered.

In: a group's batches and parts. Out: `Ids`. Called by: `writer`, before its own transaction, and `days`.

New rows are committed first, in a short transaction of their own and in the order of their keys, so that two writers never wait
for each other in a circle and a group that fails leaves nothing but names behind.

Maintenance deletes scopes, resources and series that no stored row can have any more (names.sql says why none is missed). So
their numbers are asked for again after `KEPT_S`: the answer notes the day on which they are in use, or gives a new number.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import asyncpg

from wafermonitor.runs.records import Batch, Resource, Scope, Series, label
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import Block, Part
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.failures import TRANSIENT
from wafermonitor.storage.timescale.rows import Ids, Row, columns
from wafermonitor.storage.timescale.statements import statement

K = TypeVar("K")
REMEMBERED = 100_000
"""Names of each kind kept in memory (about 30 MB for all when full); what falls out is read again."""


KEPT_S = 12 * 3600.0
"""How long the number of a name that may be deleted is used without asking."""
ATTEMPTS = 8
"""How often names are asked for while others note or delete the same ones at the same moment."""


class Elapsed:
    """Seconds since it was made, by the one of two clocks that went on further: one may stand still while the host sleeps."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clocks = monotonic, wall
        self._last = monotonic(), wall()
        self._total_s = 0.0

    def __call__(self) -> float:
        """So far."""
        now = self._clocks[0](), self._clocks[1]()
        self._total_s += max(now[0] - self._last[0], now[1] - self._last[1])
        self._last = now
        return self._total_s


class Dictionary:
    """One per writer: what the database has numbered, as far as this process has asked."""

    def __init__(self, remembered: int = REMEMBERED, elapsed: Callable[[], float] | None = None) -> None:
        self.elapsed = Elapsed() if elapsed is None else elapsed
        self._sites: _Memory[str] = _Memory(remembered)
        self._apps: _Memory[tuple[str, str]] = _Memory(remembered)
        self._scopes: _Memory[bytes] = _Memory(remembered, KEPT_S)
        self._resources: _Memory[bytes] = _Memory(remembered, KEPT_S)
        self._series: _Memory[bytes] = _Memory(remembered, KEPT_S)

    async def number(self, pool: asyncpg.Pool, batches: Sequence[Batch | Part]) -> Ids:
        """The ids of every name in `batches`; those never seen before are stored."""
        names = _names(batches)
        now_s = self.elapsed()
        known = Ids(
            self._sites.known(names.sites, now_s),
            self._apps.known(names.apps, now_s),
            self._scopes.known(names.scopes, now_s),
            self._resources.known(names.resources, now_s),
            self._series.known(names.series, now_s),
        )
        if [len(one) for one in known] == [len(wanted) for wanted in names]:
            return known
        ids = await _ask(pool, names, known)
        self._sites.learn(ids.sites, known.sites, now_s)
        self._apps.learn(ids.apps, known.apps, now_s)
        self._scopes.learn(ids.scopes, known.scopes, now_s)
        self._resources.learn(ids.resources, known.resources, now_s)
        self._series.learn(ids.series, known.series, now_s)
        return ids

    def forget(self) -> None:
        """Ask again for everything: the database may have gone back to an earlier state, or be another one."""
        for memory in (self._sites, self._apps, self._scopes, self._resources, self._series):
            memory.clear()


class _Names(NamedTuple):
    """What a group needs numbers for."""

    sites: set[str]
    apps: set[tuple[str, str]]
    scopes: dict[bytes, Scope]
    resources: dict[bytes, Resource]
    series: dict[bytes, Series]


class _Memory(Generic[K]):
    """The most recently used names: number, and when it was asked for."""

    def __init__(self, size: int, kept_s: float = math.inf) -> None:
        self._size = size
        self._kept_s = kept_s
        self._numbers: OrderedDict[K, tuple[int, float]] = OrderedDict()

    def known(self, names: Iterable[K], now_s: float) -> dict[K, int]:
        found = {}
        for name in names:
            known = self._numbers.get(name)
            if known is not None and now_s - known[1] < self._kept_s:
                self._numbers.move_to_end(name)
                found[name] = known[0]
        return found

    def clear(self) -> None:
        self._numbers.clear()

    def learn(self, numbers: Mapping[K, int], before: Mapping[K, int], asked_s: float) -> None:
        """What of `numbers` was asked for at `asked_s`: all that was not known before."""
        self._numbers.update((name, (number, asked_s)) for name, number in numbers.items() if name not in before)
        while len(self._numbers) > self._size:
            self._numbers.popitem(last=False)


def _names(group: Sequence[Batch | Part]) -> _Names:
    batches = [item for item in group if isinstance(item, Batch)]
    resources = {resource.key: resource for resource in _resources(batches)}
    names = _Names(
        sites=set(_sites(batches)),
        apps=set(),
        scopes={scope.key: scope for scope in _scopes(batches)},
        resources=resources,
        series={point.series.key: point.series for batch in batches for point in batch.points},
    )
    for block in {id(item.block): item.block for item in group if isinstance(item, Part)}.values():
        _add_block(names, block)
    names.sites.update(resource.site for resource in resources.values())
    names.apps.update((resource.site, resource.service) for resource in resources.values())
    return names


def _add_block(names: _Names, block: Block) -> None:
    resources = [Resource._make(row) for row in block.resources]
    scopes = [Scope._make(row) for row in block.scopes]
    names.sites.update(block.sites)
    names.resources.update((resource.key, resource) for resource in resources)
    names.scopes.update((scope.key, scope) for scope in scopes)
    for row in block.series:
        names.series[row[0]] = Series(row[0], resources[row[1]], scopes[row[2]], *row[3:])


async def _ask(pool: asyncpg.Pool, names: _Names, known: Ids) -> Ids:
    """`known` and what it lacks, in one transaction. StorageUnavailable when others are always in the way."""
    for _ in range(ATTEMPTS):
        ids = Ids(*(dict(one) for one in known))  # type: ignore[arg-type]  # each is what it was
        try:
            # Read committed, whatever the database's default is: names that another writer stores meanwhile must be seen.
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                await connection.execute(statement("begin_names"))
                await _store(connection, names, ids)
        except TRANSIENT:
            continue
        return ids
    raise StorageUnavailable("cannot number names now: other writers hold the same ones")


async def _store(connection: Connection, names: _Names, ids: Ids) -> None:
    """Store what `ids` lacks, in the order of the keys, and add it to `ids`."""
    await _insert(connection, "site", ids.sites, {name: (name,) for name in names.sites})
    site_names = {number: name for name, number in ids.sites.items()}
    apps = sorted((ids.sites[site], service) for site, service in names.apps - ids.apps.keys())
    if apps:
        for row in await connection.fetch(statement("insert_app"), *columns(apps)):
            ids.apps[site_names[row["site_id"]], row["service"]] = row["app_id"]
    await _insert(connection, "scope", ids.scopes, names.scopes)
    resources = {key: _resource_row(one, ids) for key, one in names.resources.items() if key not in ids.resources}
    await _insert(connection, "resource", ids.resources, resources)
    series = {key: _series_row(one, ids) for key, one in names.series.items() if key not in ids.series}
    await _insert(connection, "series", ids.series, series)


async def _insert(connection: Connection, kind: str, ids: dict[Any, int], rows: Mapping[Any, Row]) -> None:
    """Store what is new and read the number of each; the statement answers (key, number).

    It answers nothing of a name that somebody else notes or deletes at that moment; the next statement sees what came of it.
    """
    for _ in range(ATTEMPTS):
        missing = [rows[key] for key in sorted(rows.keys() - ids.keys())]
        if not missing:
            return
        ids.update({row[0]: row[1] for row in await connection.fetch(statement(f"insert_{kind}"), *columns(missing))})
    raise StorageUnavailable("cannot number names now: others change the same ones")


def _resource_row(resource: Resource, ids: Ids) -> Row:
    return (
        resource.key,
        ids.sites[resource.site],
        resource.feed,
        resource.service,
        resource.service_version,
        resource.process_key,
        resource.attributes,
    )


def _series_row(series: Series, ids: Ids) -> Row:
    return (
        series.key,
        ids.resources[series.resource.key],
        ids.scopes[series.scope.key],
        label(series.name),
        series.unit,
        series.type,
        series.temporality,
        series.monotonic,
        series.attributes,
    )


def _resources(batches: Sequence[Batch]) -> Iterator[Resource]:
    for batch in batches:
        yield from {id(span.resource): span.resource for span in batch.spans}.values()
        yield from {id(record.resource): record.resource for record in batch.logs}.values()
        yield from {id(point.series.resource): point.series.resource for point in batch.points}.values()


def _scopes(batches: Sequence[Batch]) -> Iterator[Scope]:
    for batch in batches:
        yield from {id(span.scope): span.scope for span in batch.spans}.values()
        yield from {id(record.scope): record.scope for record in batch.logs}.values()
        yield from {id(point.series.scope): point.series.scope for point in batch.points}.values()


def _sites(batches: Sequence[Batch]) -> Iterator[str]:
    for batch in batches:
        for records in (batch.runs, batch.processes, batch.feeds, batch.dead):
            for record in records:
                yield record.site
