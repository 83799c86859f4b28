"""One opened ClickHouse: a client, the writer and reader that share it, and what keeps it.

In: an address. Out: `Storage`. Called by: `storage.connect`.
"""

from __future__ import annotations

import asyncio
import math

from wafermonitor.storage.clickhouse import schema
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.reader import Reader
from wafermonitor.storage.clickhouse.rollups import Rollups
from wafermonitor.storage.clickhouse.writer import Writer
from wafermonitor.storage.config import Config
from wafermonitor.storage.maintain.config import Config as Maintenance
from wafermonitor.storage.protocol import Storage as StorageProtocol
from wafermonitor.storage.watch import Watch


class Storage:
    """The engine on ClickHouse. `kept` is another store, closed with this one, that keeps what alerting needs kept."""

    def __init__(self, client: Client, config: Config, kept: StorageProtocol | None = None) -> None:
        self.client = client
        self._config = config
        self._kept = kept
        self._writer = Writer(client)
        self._reader = Reader(client)

    @property
    def writer(self) -> Writer:
        """The way in."""
        return self._writer

    @property
    def reader(self) -> Reader:
        """The way out."""
        return self._reader

    @property
    def watch(self) -> Watch | None:
        """What another store keeps for it: there is no transaction over many rows here."""
        return None if self._kept is None else self._kept.watch

    async def keep(self, stop: asyncio.Event) -> None:
        """What has to be done again and again, until `stop` is set: the rollups. Any number of processes may call."""
        await Rollups(self.client).keep(stop, interval_s=self._config.rollup_interval_s)

    async def close(self) -> None:
        """Let what is under way end, then disconnect."""
        await self._writer.close()
        await self._reader.close()
        await self.client.close()
        if self._kept is not None:
            await self._kept.close()


def keep_of(config: Config) -> schema.Keep:
    """How long rows are kept, as the operator says."""
    arrival_seconds = max(1, int(config.remember_arrivals_s))
    maintenance = Maintenance.load()
    return schema.Keep(
        config.clickhouse_raw_days,
        config.clickhouse_run_days,
        arrival_seconds,
        max(1, math.ceil(maintenance.dead_letter_days)),
        max(1, math.ceil(maintenance.rollup_years * 365.25)),
    )


async def open_client(config: Config) -> Client:
    """Connect to what `config` names, without looking at the schema."""
    assert config.dsn is not None
    return await Client.open(config.dsn.get_secret_value(), pool_size=config.pool_max_size, timeout_s=config.command_timeout_s)


async def open_store(config: Config, *, upgrade: bool, kept: StorageProtocol | None = None) -> Storage:
    """Connect, then upgrade or check the schema. StorageUnavailable when nobody answers, SchemaTooOld as it says."""
    client = await open_client(config)
    try:
        if upgrade:
            await schema.upgrade(client, keep_of(config))
        else:
            await schema.check(client)
    except BaseException:
        await client.close()
        raise
    return Storage(client, config, kept)
