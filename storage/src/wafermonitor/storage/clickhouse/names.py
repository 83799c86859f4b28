"""What spans, records and points refer to, by key: resources and scopes, read when first met and kept.

In: keys in hex. Out: records. Called by: `reader`. A key is the hash of what it names, so what is kept never grows old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.lists import slices
from wafermonitor.storage.clickhouse.records import Row
from wafermonitor.storage.clickhouse.statements import statement
from wafermonitor.storage.errors import StorageUnavailable

T = TypeVar("T")
MAX_KEPT = 20_000


class Names(Generic[T]):
    """A bounded part of one of the tables of names."""

    def __init__(self, client: Client, query: str, record_of: Callable[[Row], T]) -> None:
        self._client = client
        self._query = query
        self._record_of = record_of
        self._kept: dict[str, T] = {}

    async def of(self, doing: str, keys: Iterable[str]) -> dict[str, T]:
        """The records with these keys."""
        wanted = set(keys)
        found = {key: self._kept[key] for key in wanted & self._kept.keys()}
        missing = sorted(wanted - found.keys())
        if missing:
            fresh: dict[str, T] = {}
            for part in slices(missing):
                rows = await self._client.query(doing, statement(self._query), {"keys": part})
                fresh |= {row[0]: self._record_of(row) for row in rows}
            if len(self._kept) + len(fresh) > MAX_KEPT:
                self._kept.clear()
            self._kept |= fresh
            found |= fresh
        if len(found) < len(wanted):
            # Written before what refers to it, so only a replica that lags can lack it.
            raise StorageUnavailable(f"cannot {doing} now: this replica has not got all of it yet")
        return found
