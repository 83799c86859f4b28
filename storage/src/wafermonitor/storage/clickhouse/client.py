"""One connection to ClickHouse, or to the engine inside this process: statements in, rows of JSON out, RowBinary in.

In: an address, SQL, parameters, encoded rows. Out: lists of values. Called by: `store`, `schema`, `writer`, `reader`.

`clickhouse://user:password@host:8123/database?insert_quorum=auto` (HTTP), `clickhouses://` (HTTPS, port 8443), or
`chdb:///folder` for the engine in this process (a process opens one folder at a time). What follows the question mark are
settings of ClickHouse for every statement.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client as Driver

from wafermonitor.storage.clickhouse.failures import border
from wafermonitor.storage.clickhouse.lists import MAX_PARAMETER_BYTES
from wafermonitor.storage.clickhouse.rows import Table
from wafermonitor.storage.errors import StorageRejected

T = TypeVar("T")
Rows = list[list[Any]]
DATABASE = "wafer"
"""Used where the address names none."""
CONNECT_TIMEOUT_S = 10
SETTINGS = {
    # Rows are on the disks of the shards when an INSERT is answered; a server may have other defaults.
    "async_insert": 0,
    "distributed_foreground_insert": 1,
    # A repeated INSERT must reach the materialized views, too: a block that a replica knows would be left out there.
    "insert_deduplicate": 0,
    # Days that a wrong clock wrote: as many as the table has partitions.
    "max_partitions_per_insert_block": 0,
    # On a cluster both sides of IN and of a join have one shard key, so each shard asks itself.
    "distributed_product_mode": "local",
    # An index that looks at rows which another row replaces would hide the other row.
    "use_skip_indexes_if_final": 0,
    "output_format_json_quote_64bit_integers": 0,
    # As text, "-0" keeps its sign.
    "output_format_json_quote_64bit_floats": 1,
    "output_format_json_quote_denormals": 0,
    "output_format_json_named_tuples_as_objects": 0,
}


class Client:
    """Statements on threads of our own, because the driver blocks. One instance may be used by several tasks."""

    def __init__(self, driver: Driver, threads: int) -> None:
        self._driver = driver
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="clickhouse")

    @classmethod
    async def open(cls, dsn: str, *, pool_size: int, timeout_s: float) -> Self:
        """Connect. StorageUnavailable when nobody answers, StorageRejected for an address that cannot be right."""
        with border("open the database"):
            driver = await asyncio.to_thread(_driver, dsn, timeout_s)
        return cls(driver, pool_size)

    @property
    def database(self) -> str:
        """The database that statements are about."""
        return str(self._driver.database)

    async def query(
        self, doing: str, sql: str, parameters: Mapping[str, Any] | None = None, *, in_database: bool = True
    ) -> Rows:
        """The answer's rows: strings, ints, None, lists; 64-bit floats as text."""
        given = dict(parameters or {})
        with border(doing):
            _fitting(doing, given)
            answer = await self._run(
                lambda: self._driver.raw_query(sql, given, fmt="JSONCompactEachRow", use_database=in_database)
            )
        # Lines end with \n alone: JSON has none inside, and other line ends stay where they are.
        return [json.loads(line) for line in answer.split(b"\n") if line]

    async def command(
        self, doing: str, sql: str, parameters: Mapping[str, Any] | None = None, *, in_database: bool = True
    ) -> None:
        """Run a statement that has no answer."""
        given = dict(parameters or {})
        with border(doing):
            _fitting(doing, given)
            await self._run(lambda: self._driver.command(sql, given or None, use_database=in_database))

    async def insert(self, doing: str, table: Table, rows: Sequence[bytes]) -> float:
        """Insert rows in one INSERT. When it returns they are on disk; how long the server took, in seconds."""
        block = b"".join(rows)

        def work() -> float:
            begin_s = time.monotonic()
            self._driver.raw_insert(table.name, list(table.columns), insert_block=block, fmt="RowBinary")
            return time.monotonic() - begin_s

        with border(doing):
            return await self._run(work)

    async def close(self) -> None:
        """Let what is under way end, then disconnect."""
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._driver.close)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _fitting(doing: str, given: Mapping[str, Any]) -> None:
    """StorageRejected for what no server takes as a parameter: asked again it would fail again."""
    for name, value in given.items():
        if isinstance(value, str | list) and len(str(value).encode()) > MAX_PARAMETER_BYTES:
            raise StorageRejected(f"cannot {doing}: {name} is too long for one question: ask for less at a time")


def _driver(dsn: str, timeout_s: float) -> Driver:
    try:
        address = urlsplit(dsn)
        port = address.port
        settings: dict[str, Any] = SETTINGS | dict(parse_qsl(address.query, strict_parsing=bool(address.query)))
    except ValueError:
        raise StorageRejected(
            "the address is none of ClickHouse: clickhouse://user:password@host:8123/database?name=value"
        ) from None
    if address.scheme == "chdb":
        return _engine(unquote(address.path), settings)
    secure = address.scheme == "clickhouses"
    driver = clickhouse_connect.get_client(
        interface="https" if secure else "http",
        host=address.hostname or "127.0.0.1",
        port=port or (8443 if secure else 8123),
        username=unquote(address.username or "default"),
        password=unquote(address.password or ""),
        settings=settings,
        connect_timeout=CONNECT_TIMEOUT_S,
        send_receive_timeout=timeout_s,
        autogenerate_session_id=False,  # statements of one session wait for each other
        compress=False,
        dedicated_pool=True,
    )
    driver.database = unquote(address.path.strip("/")) or DATABASE
    return driver


def _engine(folder: str, settings: dict[str, Any]) -> Driver:
    if not folder.strip("/"):
        raise StorageRejected("chdb:// needs a folder: chdb:///folder")
    try:
        driver = clickhouse_connect.get_client(interface="chdb", path=folder, settings=settings)
    except ImportError:
        raise StorageRejected('the engine in this process needs the extra "chdb": pip install "wafermonitor[chdb]"') from None
    driver.database = DATABASE
    return driver
