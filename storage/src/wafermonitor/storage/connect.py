"""The door to every engine: one address in, one opened store out.

In: a `Config`. Out: a `Storage`. Called by: receiver, query, `wafer storage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wafermonitor.storage.config import Config
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.protocol import Storage


async def connect(config: Config, *, migrate: bool | None = None, watch: bool = False) -> Storage:
    """Open the store that `config` names.

    `migrate`: True upgrades the schema, False only checks it, None upgrades an embedded one and checks any other.
    `watch`: what alerting keeps is wanted, too; of ClickHouse that is in the PostgreSQL of `config.alerting_dsn`, if any.
    Raises StorageUnavailable (nobody answers), SchemaTooOld (run `wafer storage migrate`), DataFolderRejected, StorageRejected.
    """
    dsn = config.dsn.get_secret_value() if config.dsn is not None else None
    if config.engine == "memory":
        from wafermonitor.storage import memory

        return memory.Storage()
    if config.engine == "clickhouse":
        return await _clickhouse(config, migrate=migrate, watch=watch)
    with _timescale_extra():
        from wafermonitor.storage.timescale import embedded, store
    if dsn is not None:
        return await store.open_store(dsn, config, upgrade=bool(migrate))
    server = await embedded.start(config.data_dir, pg_bin=config.pg_bin, timeout_s=config.start_timeout_s)
    try:
        return await store.open_store(server.dsn, config, upgrade=migrate is not False, server=server)
    except BaseException:
        await server.stop()
        raise


@contextmanager
def clickhouse_extra() -> Iterator[None]:
    """Around an import of that engine: StorageRejected names the extra where its driver is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "clickhouse_connect":
            raise
        raise StorageRejected('ClickHouse needs the extra "clickhouse": pip install "wafermonitor[clickhouse]"') from None


@contextmanager
def _timescale_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StorageRejected('PostgreSQL needs the extra "timescale": pip install "wafermonitor[timescale]"') from None


async def _clickhouse(config: Config, *, migrate: bool | None, watch: bool) -> Storage:
    with clickhouse_extra():
        from wafermonitor.storage.clickhouse import store
    upgrade = config.in_process if migrate is None else migrate
    if not watch or config.alerting_dsn is None:
        return await store.open_store(config, upgrade=upgrade)
    with _timescale_extra():
        from wafermonitor.storage.timescale.store import open_store as open_postgres
    kept = await open_postgres(config.alerting_dsn.get_secret_value(), config, upgrade=bool(migrate))
    try:
        return await store.open_store(config, upgrade=upgrade, kept=kept)
    except BaseException:
        await kept.close()
        raise
