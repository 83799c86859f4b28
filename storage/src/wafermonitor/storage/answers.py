"""What the commands of the store share: the database that they are about, and one answer as a line or as JSON.

In: a `Config`. Out: an address; text on stdout, progress on stderr. Called by: `command`, `upkeep`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click

from wafermonitor.storage.config import Config
from wafermonitor.storage.errors import StorageRejected

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_PAUSE_S = 1.0


def say(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    """One answer; `click.echo` flushes it, for `wafer up` waits at the other end of a pipe."""
    click.echo(json.dumps(facts, default=str) if as_json else text)


class Reporter:
    """How far something is, on stderr: the first word, then at most one a second."""

    def __init__(self) -> None:
        self._due_s = 0.0

    def __call__(self, text: str) -> None:
        """Say it, if it is time to."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + _PAUSE_S
            click.echo(text, err=True)


def refuse_others(config: Config) -> None:
    """StorageRejected unless the store is PostgreSQL."""
    if config.engine == "memory":
        raise StorageRejected("memory:// has no schema and needs no maintenance")
    if config.engine == "clickhouse":
        raise StorageRejected("this is for PostgreSQL: ClickHouse keeps itself; `wafer storage status` says what it drops")


@asynccontextmanager
async def address(config: Config) -> AsyncIterator[str]:
    """The address of the operator's server, or of the embedded one, which runs meanwhile."""
    from wafermonitor.storage.timescale import embedded

    refuse_others(config)
    if config.dsn is not None:
        yield config.dsn.get_secret_value()
        return
    server = await embedded.start(config.data_dir, pg_bin=config.pg_bin, timeout_s=config.start_timeout_s)
    try:
        yield server.dsn
    finally:
        await server.stop()
