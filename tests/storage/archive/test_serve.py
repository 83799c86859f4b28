"""`wafer archive serve`: rounds by itself, until it is told to end."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.storage.archive import history

pytestmark = pytest.mark.postgres
DROPPED = "SELECT count(*) FROM wafer_data.archive_day WHERE signal = 'spans' AND dropped_at IS NOT NULL"


async def test_what_is_old_enough_is_archived_without_being_asked_for(dsn: str, pool: asyncpg.Pool, folder: Path):
    await history.fill(pool)
    own = {"WAFER_STORAGE_DSN": dsn, "WAFER_ARCHIVE_FOLDER": str(folder), "WAFER_ARCHIVE_INTERVAL_HOURS": "0.00001"}
    own |= {"WAFER_ARCHIVE_HOT_HOURS": "72"}  # as on every tier: an edition that compresses keeps days longer
    serving = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wafermonitor.instrumentation.cli", "archive", "serve"),
        env=os.environ | own,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        while await pool.fetchval(DROPPED) < len(history.OLD):
            assert serving.returncode is None, await serving.stderr.read()
            await asyncio.sleep(0.05)
        # A later round takes what came meanwhile.
        before = await pool.fetchval("SELECT count(*) FROM wafer_data.archive_manifest")
        await history.Writer(pool).write([history.batch("f1", history.OLD[0], 5000)])
        while await pool.fetchval("SELECT count(*) FROM wafer_data.archive_manifest") == before:
            await asyncio.sleep(0.05)
        serving.terminate()
        said, _ = await serving.communicate()
    assert serving.returncode == 0
    assert f"archiving to {folder}" in said.decode()
