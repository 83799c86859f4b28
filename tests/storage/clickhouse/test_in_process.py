"""`chdb:///folder`: the engine inside the process, which keeps what it was told; commands of an operator on a server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.servers import clickhouse as server
from tests.storage.contract.builders import TRACE, ended, span
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive.command import archive
from wafermonitor.storage.clickhouse import schema
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.command import storage
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected
from wafermonitor.storage.maintain import keeper
from wafermonitor.storage.protocol import SpanQuery

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse")]
ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import asyncio, sys
from tests.storage.contract.builders import TRACE, ended, span
from wafermonitor.runs.records import Batch
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.protocol import RunQuery, SpanQuery

async def main():
    store = await connect(Config.load(dsn=sys.argv[1]))
    await store.writer.write([Batch(spans=[span(int(sys.argv[2]), start_ns=1)], runs=[ended(1)])])
    spans = (await store.reader.spans(SpanQuery(trace_id=TRACE))).items
    runs = (await store.reader.runs(RunQuery())).items
    print(len(spans), len(runs), (await store.reader.health()).engine)
    await store.close()

asyncio.run(main())
"""


def in_child(dsn: str, number: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, dsn, str(number)],
        env=server.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_engine_in_a_process_keeps_its_rows_for_the_next(tmp_path: Path) -> None:
    why = server.missing()
    if why is not None:
        pytest.skip(why)
    dsn = f"chdb://{tmp_path}/store"
    assert in_child(dsn, 1) == "1 1 clickhouse"
    assert in_child(dsn, 2) == "2 1 clickhouse"
    assert in_child(dsn, 2) == "2 1 clickhouse"


async def test_a_folder_is_needed_and_so_is_the_package():
    with pytest.raises(StorageRejected, match="chdb:///folder"):
        await Client.open("chdb://", pool_size=1, timeout_s=5)
    with pytest.raises(StorageRejected, match=r"wafermonitor\[chdb\]"):
        await Client.open("chdb:///nowhere", pool_size=1, timeout_s=5)
    for wrong in ("clickhouse://host:port/wafer", "clickhouse://host/wafer?fast"):
        with pytest.raises(StorageRejected, match="clickhouse://user:password@host:8123/database"):
            await Client.open(wrong, pool_size=1, timeout_s=5)


async def test_a_server_is_upgraded_by_the_operator_and_then_opened(clickhouse):
    config = Config.load(dsn=clickhouse.database())
    with pytest.raises(SchemaTooOld):
        await connect(config)
    store = await connect(config, migrate=True)
    await store.writer.write([Batch(spans=[span(1)])])
    other = await connect(config)
    assert (await other.reader.spans(SpanQuery(trace_id=TRACE))).items == [span(1)]
    await store.close()
    await other.close()


async def test_whoever_maintains_it_rolls_up(clickhouse):
    store = await connect(Config.load(dsn=clickhouse.database(), rollup_interval_s=0.01), migrate=True)
    stop = asyncio.Event()
    keeping = asyncio.create_task(keeper.keep(store, stop))
    await store.writer.write([Batch(runs=[ended(1)])])
    async with asyncio.timeout(60):
        while not await store.client.query("look", "SELECT bucket FROM job_hourly_stats WHERE ended = 1"):
            await asyncio.sleep(0)
    stop.set()
    await keeping
    await store.close()


def test_no_day_of_it_is_archived_and_the_command_says_so(clickhouse, monkeypatch, tmp_path):
    monkeypatch.setenv("WAFER_STORAGE_DSN", clickhouse.database())
    monkeypatch.setenv("WAFER_ARCHIVE_LOCATION", str(tmp_path))
    CliRunner().invoke(storage, ["migrate"])
    refused = CliRunner().invoke(archive, ["run"], standalone_mode=False)
    assert isinstance(refused.exception, StorageRejected)
    assert "only a PostgreSQL store has an archive" in str(refused.exception)
    assert list(tmp_path.iterdir()) == []


def test_commands_say_what_was_done(clickhouse, monkeypatch):
    monkeypatch.setenv("WAFER_STORAGE_DSN", clickhouse.database())

    def run(*words: str):
        return CliRunner().invoke(storage, [*words, "--json"], standalone_mode=False)

    before = run("status")
    assert (before.return_value, json.loads(before.output)["current"]) == (1, False)
    assert json.loads(run("migrate").output) == {"applied": schema.migrations(), "raw_days": None, "run_days": None}
    assert json.loads(run("migrate").output)["applied"] == []
    said = CliRunner().invoke(storage, ["migrate"]).output
    assert "never dropped (WAFER_STORAGE_CLICKHOUSE_RAW_DAYS is not set)" in said
    after = run("status")
    assert after.return_value == 0
    facts = json.loads(after.output)
    assert (facts["engine"], facts["current"], facts["pending"]) == ("clickhouse", True, [])
    for command in ("sweep", "convert"):
        refused = run(command)
        assert isinstance(refused.exception, StorageRejected)
