"""Numbers for names: sites, services, scopes, resources and metric series, each stored once and remembered.

In: a group's batches and parts. Out: `Ids`. Called by: `writer`, before its own transaction.

New rows are committed first, in a short transaction of their own and in the order of their keys, so that two writers never wait
for each other in a circle and a group that fails leaves nothing but names behind.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import asyncpg

from wafermonitor.runs.records import Batch, Resource, Scope, Series, label
from wafermonitor.storage.protocol import Block, Part
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.rows import Ids, Row, columns
from wafermonitor.storage.timescale.statements import statement

K = TypeVar("K")
REMEMBERED = 100_000
"""Names of each kind kept in memory (about 30 MB for all when full); what falls out is read again."""


class Dictionary:
    """One per writer: what the database has numbered, as far as this process has asked."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._sites: _Memory[str] = _Memory(remembered)
        self._apps: _Memory[tuple[str, str]] = _Memory(remembered)
        self._scopes: _Memory[bytes] = _Memory(remembered)
        self._resources: _Memory[bytes] = _Memory(remembered)
        self._series: _Memory[bytes] = _Memory(remembered)

    async def number(self, pool: asyncpg.Pool, batches: Sequence[Batch | Part]) -> Ids:
        """The ids of every name in `batches`; those never seen before are stored."""
        names = _names(batches)
        ids = Ids(
            self._sites.known(names.sites),
            self._apps.known(names.apps),
            self._scopes.known(names.scopes),
            self._resources.known(names.resources),
            self._series.known(names.series),
        )
        if [len(known) for known in ids] != [len(wanted) for wanted in names]:
            # Read committed, whatever the database's default is: names that another writer stores meanwhile must be seen.
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                await connection.execute(statement("begin_names"))
                await _store(connection, names, ids)
            self._sites.learn(ids.sites)
            self._apps.learn(ids.apps)
            self._scopes.learn(ids.scopes)
            self._resources.learn(ids.resources)
            self._series.learn(ids.series)
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
    """The most recently used names and their numbers."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._numbers: OrderedDict[K, int] = OrderedDict()

    def known(self, names: Iterable[K]) -> dict[K, int]:
        found = {}
        for name in names:
            number = self._numbers.get(name)
            if number is not None:
                self._numbers.move_to_end(name)
                found[name] = number
        return found

    def clear(self) -> None:
        self._numbers.clear()

    def learn(self, numbers: Mapping[K, int]) -> None:
        self._numbers.update(numbers)
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


async def _store(connection: Connection, names: _Names, ids: Ids) -> None:
    """Store what `ids` lacks, in the order of the keys, and add it to `ids`."""
    await _insert(connection, "site", ids.sites, [(name,) for name in sorted(names.sites - ids.sites.keys())])
    site_names = {number: name for name, number in ids.sites.items()}
    apps = sorted((ids.sites[site], service) for site, service in names.apps - ids.apps.keys())
    if apps:
        for row in await connection.fetch(statement("insert_app"), *columns(apps)):
            ids.apps[site_names[row["site_id"]], row["service"]] = row["app_id"]
    scopes = [names.scopes[key] for key in sorted(names.scopes.keys() - ids.scopes.keys())]
    await _insert(connection, "scope", ids.scopes, scopes)
    resources = [names.resources[key] for key in sorted(names.resources.keys() - ids.resources.keys())]
    await _insert(connection, "resource", ids.resources, [_resource_row(resource, ids) for resource in resources])
    series = [names.series[key] for key in sorted(names.series.keys() - ids.series.keys())]
    await _insert(connection, "series", ids.series, [_series_row(one, ids) for one in series])


async def _insert(connection: Connection, kind: str, ids: dict[Any, int], rows: Sequence[Row]) -> None:
    """Store what is new and read the number of each; the statement answers (key, number)."""
    if rows:
        ids.update({row[0]: row[1] for row in await connection.fetch(statement(f"insert_{kind}"), *columns(rows))})


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
