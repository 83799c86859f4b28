"""R4: the disk of the store is full, and then it is not: nothing acknowledged is lost, and nobody has to do anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import asyncpg
import pytest

from tests.flow.faults.chain import arrived, last
from tests.flow.faults.corpus import Corpus
from tests.flow.faults.load import Grpc, Http, Load
from tests.servers import postgres, receiver, small_disk, store

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(600)]

SIZE_BYTES = 512 << 20
BACK_S = 60.0


@pytest.fixture
def disk() -> Iterator[small_disk.Server]:
    why = postgres.missing() or small_disk.missing()
    if why is not None:
        pytest.skip(why)
    mounted = small_disk.start(SIZE_BYTES)
    yield mounted
    mounted.stop()


async def fill_log(dsn: str) -> None:
    """Use up the segments of the write-ahead log until PostgreSQL can make no more and gives up (PANIC)."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(BACK_S):
            while True:
                await connection.execute("SELECT pg_logical_emit_message(true, 'wafer', 'full'); SELECT pg_switch_wal()")
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError):
        return
    finally:
        connection.terminate()


@pytest.mark.parametrize(
    "log_too",
    [pytest.param(False, id="tables", marks=pytest.mark.servers), pytest.param(True, id="tables and write-ahead log")],
)
def test_r04_a_full_disk_costs_only_time(disk, tmp_path, soak, log_too):
    with ExitStack() as parts:
        served = store.start(disk.home / "store", tmp_path / "store.log")
        parts.callback(served.end)
        running = receiver.start(served.dsn)
        parts.callback(running.stop)
        loads = [
            Load(Corpus("r04, HTTP"), [running.otlp_http], connect=Http, senders=2, per_s=20),
            Load(Corpus("r04, gRPC"), [running.otlp_grpc], connect=Grpc, senders=2, per_s=20),
        ]
        with loads[0].running(), loads[1].running():
            for _ in range(5 if soak else 1):
                for load in loads:
                    load.take(10)
                with disk.full():
                    for load in loads:
                        load.meet(20)
                    if log_too:
                        asyncio.run(fill_log(served.dsn))
                    last(30.0 if soak else 1.0)
                for load in loads:
                    load.take(10, BACK_S)
        assert log_too == ("starting it again" in served.log.read_text())
        for load in loads:
            assert set(load.refusals) <= {(503, True), (1014, True)}, load.refusals
            arrived(load, served.dsn, within_s=BACK_S)
        assert served.end() == 0
