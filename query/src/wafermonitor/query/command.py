"""`wafer query`: serve the read API until SIGTERM or SIGINT.

In: flags, environment, `wafer.toml`. Out: a ready line with the real port on stdout, logs on stderr.
Called by: the `wafer` group.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import click

from wafermonitor.instrumentation import service, settings
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.query.config import Config
from wafermonitor.query.errors import QueryError
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.errors import StorageError

SERVICE = "wafer-query"


@click.command()
@settings.options(Config)
@click.option("--ready-json", is_flag=True, help="Print the ready line as one JSON object")
def query(*, ready_json: bool, **flags: Any) -> None:
    """Serve the read API. The store is the one of WAFER_STORAGE_DSN, or the embedded PostgreSQL.

    Days that have left it are read from WAFER_ARCHIVE_FOLDER or WAFER_ARCHIVE_BUCKET.

    Exit codes: 0 stopped in order, 1 the address or the store cannot be used, 2 a setting is wrong.
    """
    service.configure_logging(SERVICE)
    try:
        config, storage_config, archive_config = Config.load(**flags), StorageConfig.load(), ArchiveConfig.load()
    except ConfigRejected as error:
        raise click.UsageError(str(error)) from None
    try:
        asyncio.run(_serve(config, storage_config, archive_config, ready_json=ready_json))
    except (QueryError, StorageError) as error:
        raise click.ClickException(str(error)) from None


async def _serve(config: Config, storage_config: StorageConfig, archive_config: ArchiveConfig, *, ready_json: bool) -> None:
    from wafermonitor.query import server
    from wafermonitor.query.sources import archive
    from wafermonitor.storage.connect import connect

    stop = service.stop_event()
    stop_spans = service.export_spans(SERVICE)
    storage = await connect(storage_config, watch=True)
    try:
        running = await server.start(await archive.attach(storage, archive_config), config)
        try:
            health = await storage.reader.health()
            ready = {"ready": "query", "url": running.url, "pid": os.getpid(), "engine": health.engine}
            click.echo(json.dumps(ready) if ready_json else f"wafer query answers at {running.url} (store: {health.engine})")
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([stopped, running.task], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
        finally:
            await running.stop()
    finally:
        await storage.close()
        await asyncio.to_thread(stop_spans)
