"""What an operator does with a ClickHouse store: upgrade its schema, look at it, write the schema out for a cluster.

In: a `Config`, or names. Out: facts and a line of text, or SQL. Called by: `wafer storage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wafermonitor.storage.clickhouse import schema
from wafermonitor.storage.clickhouse.statements import statement
from wafermonitor.storage.clickhouse.store import keep_of, open_client
from wafermonitor.storage.config import Config


async def migrate(config: Config) -> tuple[dict[str, Any], str]:
    """Bring the schema to this release, and the times that rows are kept to what the settings say."""
    client = await open_client(config)
    try:
        ran = await schema.upgrade(client, keep_of(config))
        kept = await schema.kept_days(client)
    finally:
        await client.close()
    done = f"upgraded: {', '.join(ran)}" if ran else "up to date: nothing to do"
    facts = {"applied": ran, "raw_days": kept["span"], "run_days": kept["run"]}
    return facts, f"{done}; {_kept_words(kept)}"


async def status(config: Config) -> tuple[dict[str, Any], str]:
    """Who answers, what has run, and how large it is (the disk of this one server)."""
    client = await open_client(config)
    try:
        now = await schema.status(client)
        asked = {"database": client.database}
        ((version, size_bytes),) = await client.query("look at the store", statement("size"), asked, in_database=False)
        kept = await schema.kept_days(client)
    finally:
        await client.close()
    facts = {
        "engine": "clickhouse",
        "version": version,
        "size_bytes": size_bytes or 0,
        "current": not now.pending,
        "applied": now.applied,
        "pending": now.pending,
        "raw_days": kept["span"],
        "run_days": kept["run"],
    }
    verdict = "too old: run `wafer storage migrate`" if now.pending else "ready"
    return facts, f"ClickHouse {version}, {facts['size_bytes'] / 1e6:.0f} MB, schema {verdict}; {_kept_words(kept)}"


def ddl(cluster: str, database: str, config: Config) -> str:
    """The schema of a cluster as SQL, for `clickhouse-client --multiquery`."""
    return schema.render(cluster, database, keep_of(config))


def _kept_words(kept: Mapping[str, int | None]) -> str:
    """Which rule holds, of what nothing archives."""
    parts = []
    for rows, days, option in (
        ("spans, log records and points", kept["span"], "CLICKHOUSE_RAW_DAYS"),
        ("runs", kept["run"], "CLICKHOUSE_RUN_DAYS"),
    ):
        rule = (
            f"never dropped (WAFER_STORAGE_{option} is not set)" if days is None else f"dropped, unarchived, after {days} days"
        )
        parts.append(f"{rows} are {rule}")
    return ", ".join(parts)
