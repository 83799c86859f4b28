"""One opened PostgreSQL: a pool of connections, the writer and reader that share it, and the server if we supervise one.

In: an address, or an embedded server. Out: `Storage`. Called by: `storage.connect`.
"""

from __future__ import annotations

import asyncio

import asyncpg

from wafermonitor.storage.config import Config
from wafermonitor.storage.timescale import codecs, migrate
from wafermonitor.storage.timescale.embedded import Server
from wafermonitor.storage.timescale.failures import border
from wafermonitor.storage.timescale.reader import Reader
from wafermonitor.storage.timescale.session import CONNECT_TIMEOUT_S, SETTINGS, open_session
from wafermonitor.storage.timescale.watch import Watch
from wafermonitor.storage.timescale.writer import Writer

_CLOSE_TIMEOUT_S = 5.0
"""What is still under way may end in this time; then it is cut off, which rolls it back."""


class Storage:
    """The engine on PostgreSQL. Close it inside the loop that opened it."""

    def __init__(self, pool: asyncpg.Pool, config: Config, server: Server | None = None) -> None:
        self.pool = pool
        self.config = config
        self.server = server
        self._writer = Writer(pool)
        self._reader = Reader(pool)
        self._watch = Watch(pool)

    @property
    def writer(self) -> Writer:
        """The way in."""
        return self._writer

    @property
    def reader(self) -> Reader:
        """The way out."""
        return self._reader

    @property
    def watch(self) -> Watch:
        """What alerting keeps."""
        return self._watch

    async def close(self) -> None:
        """Close both, then the pool, then let go of the embedded server, which stops if this process supervises it."""
        await self._writer.close()
        await self._reader.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.pool.terminate()  # a server that does not even take leave
        finally:
            if self.server is not None:
                await self.server.stop()


async def open_store(dsn: str, config: Config, *, upgrade: bool, server: Server | None = None) -> Storage:
    """Upgrade or check the schema, then open the pool. StorageUnavailable when nobody answers, SchemaTooOld as it says."""
    # An upgrade may take long, and may wait for another that is under way; a look may not.
    async with open_session(dsn, command_timeout_s=None if upgrade else config.command_timeout_s) as connection:
        if upgrade:
            await migrate.upgrade(connection, config.hot_days)
        else:
            await migrate.check(connection)
    with border("open connections to the database"):
        pool = await asyncpg.create_pool(
            dsn,
            min_size=config.pool_min_size,
            max_size=config.pool_max_size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=config.command_timeout_s,
            init=codecs.register,
            server_settings=SETTINGS,
        )
    return Storage(pool, config, server)
