"""`wafer storage`: run the embedded database, upgrade a schema, look at a store, do its maintenance once.

In: flags and the environment. Out: one line, or one JSON object with `--json`; StorageError, which `wafer` turns into a line.
Called by: people, `wafer up` (`serve`), upgrade scripts (`migrate`).
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import click

from wafermonitor.instrumentation.service import configure_logging, stop_event
from wafermonitor.instrumentation.settings import options
from wafermonitor.storage import upkeep
from wafermonitor.storage.answers import address, as_json_option, refuse_others, say
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import clickhouse_extra, connect
from wafermonitor.storage.errors import StorageRejected


@click.group()
def storage() -> None:
    """The store: embedded PostgreSQL, schema, maintenance."""


for command in (upkeep.check, upkeep.convert, upkeep.tune, upkeep.ddl, upkeep.backup, upkeep.restore):
    storage.add_command(command)


@storage.command()
@options(Config)
@as_json_option
def serve(*, as_json: bool, **flags: Any) -> None:
    """Run the embedded PostgreSQL until SIGTERM or SIGINT: upgraded, watched and maintained.

    The ready line names a file (mode 0600) that holds the address for WAFER_STORAGE_DSN; the password is never printed.
    """
    configure_logging("wafer-storage")
    asyncio.run(_serve(Config.load(**flags), as_json=as_json))


@storage.command()
@options(Config)
@as_json_option
def migrate(*, as_json: bool, **flags: Any) -> None:
    """Bring the schema of WAFER_STORAGE_DSN, or of the embedded database, to this release."""
    asyncio.run(_migrate(Config.load(**flags), as_json=as_json))


@storage.command()
@options(Config)
@as_json_option
def status(*, as_json: bool, **flags: Any) -> int:
    """Say who answers, whether the schema is this release's, and which days are ready. Exit code 1 if it cannot be used."""
    return 0 if asyncio.run(_status(Config.load(**flags), as_json=as_json)) else 1


@storage.command()
@options(Config)
@as_json_option
def sweep(*, as_json: bool, **flags: Any) -> None:
    """Do one round of maintenance now: partitions, ghosts, lost runs."""
    asyncio.run(_sweep(Config.load(**flags), as_json=as_json))


async def _serve(config: Config, *, as_json: bool) -> None:
    from wafermonitor.storage.maintain import keeper

    if config.dsn is not None:
        raise StorageRejected("WAFER_STORAGE_DSN names a server of yours: there is nothing to serve")
    stop = stop_event()
    store = await _timescale(config, migrate=True)
    try:
        server = store.server
        assert server is not None
        ready = {
            "ready": "storage",
            "pid": os.getpid(),
            "host": "127.0.0.1",
            "port": server.port,
            "dsn_file": str(server.folder.write_dsn(server.dsn)),
            "supervised": server.supervised,
        }
        say(ready, f"ready: PostgreSQL on 127.0.0.1:{server.port}, address in {ready['dsn_file']}", as_json=as_json)
        await keeper.keep(store, stop)
    finally:
        await store.close()


async def _migrate(config: Config, *, as_json: bool) -> None:
    if config.engine == "clickhouse":
        with clickhouse_extra():
            from wafermonitor.storage.clickhouse import operating
        facts, text = await operating.migrate(config)
        if config.alerting_dsn is not None:
            done, of_alerting = await _upgrade(config.alerting_dsn.get_secret_value(), config.hot_days)
            facts, text = facts | {"alerting": done}, f"{text}\nalerting: {of_alerting}"
        say(facts, text, as_json=as_json)
        return
    async with address(config) as dsn:
        say(*await _upgrade(dsn, config.hot_days), as_json=as_json)


async def _upgrade(dsn: str, hot_days: int) -> tuple[dict[str, Any], str]:
    """What an upgrade of this PostgreSQL did: facts, and the same in words."""
    from wafermonitor.storage.timescale import migrate
    from wafermonitor.storage.timescale.session import open_session

    async with open_session(dsn) as connection:
        done = await migrate.upgrade(connection, hot_days)
    ran = [*done.applied, *(["views and functions"] if done.idempotent else [])]
    return done._asdict(), f"upgraded: {', '.join(ran)}" if ran else "up to date: nothing to do"


async def _status(config: Config, *, as_json: bool) -> bool:
    if config.engine == "clickhouse":
        with clickhouse_extra():
            from wafermonitor.storage.clickhouse import operating
        facts, text = await operating.status(config)
        say(facts, text, as_json=as_json)
        return bool(facts["current"])
    from wafermonitor.storage.timescale import migrate, tier
    from wafermonitor.storage.timescale.session import open_session

    async with address(config) as dsn, open_session(dsn) as connection:
        now = await migrate.status(connection)
        found = await tier.facts(connection)
        version = await connection.fetchval("SHOW server_version")
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
        window = await connection.fetchrow("SELECT oldest, newest FROM wafer_data.hot_window()") if now.current else None
        native = await tier.native(connection) if now.current else ()
    facts = {
        "engine": "timescale",
        "embedded": config.dsn is None,
        "version": version,
        "tier": found.tier,
        "timescaledb": found.version,
        "native": native,
        "size_bytes": size,
        "current": now.current,
        "applied": now.applied,
        "pending": now.pending,
        "views_current": now.idempotent,
        "hot_from": window["oldest"].isoformat() if window else None,
        "hot_to": window["newest"].isoformat() if window else None,
    }
    old = "is too old" if now.applied else "is not there yet"
    verdict = f"ready for {facts['hot_from']} to {facts['hot_to']}" if now.current else f"{old}: run `wafer storage migrate`"
    if found.version is not None:
        version += f" with TimescaleDB {found.version} ({found.tier}{', to be used: wafer storage convert' if native else ''})"
    say(facts, f"PostgreSQL {version}, {size / 1e6:.0f} MB, schema {verdict}", as_json=as_json)
    return now.current


async def _sweep(config: Config, *, as_json: bool) -> None:
    from wafermonitor.storage.timescale import maintenance

    store = await _timescale(config, migrate=None)
    try:
        done = await maintenance.run_once(
            store.pool, hot_days=config.hot_days, now_ns=time.time_ns(), remember_arrivals_s=config.remember_arrivals_s
        )
    finally:
        await store.close()
    if done is None:
        say({"busy": True}, "another process is doing it", as_json=as_json)
        return
    text = f"{len(done.partitions)} partitions made, {done.ghosts} ghosts removed, inferred changed on {done.inferred} runs"
    say({"busy": False, **done._asdict()}, text, as_json=as_json)


async def _timescale(config: Config, *, migrate: bool | None) -> Any:
    """The opened store, of the one engine that has something to maintain."""
    refuse_others(config)
    return await connect(config, migrate=migrate)
