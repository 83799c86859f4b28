"""WaferMonitor's own receiver and store have every item once, by gRPC and by HTTP, although both were killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest

from tests.backends import proof
from tests.servers import postgres, receiver
from tests.servers.fixtures import running
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [
    pytest.mark.servers,
    pytest.mark.collector,
    pytest.mark.postgres,
    pytest.mark.xdist_group("managed"),
    pytest.mark.timeout(300),
]
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
EXACT = 2**53


class Managed(proof.Backend):
    """A receiver on a PostgreSQL of its own, asked by SQL."""

    name: ClassVar[str] = "managed"

    def __init__(self, store: postgres.Server, taking: receiver.Server, dsn: str, fragment: str) -> None:
        self._store, self._taking, self._dsn, self._fragment = store, taking, dsn, fragment

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_MANAGED_ENDPOINT": self._taking.otlp_grpc,
            "WAFER_MANAGED_HTTP_ENDPOINT": f"http://{self._taking.otlp_http}",
        }

    def fragments(self, way: proof.Way) -> tuple[str, ...]:
        return (self._fragment,)

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        statement = Path(__file__).with_name(f"managed_{signal}.sql").read_text(encoding="utf-8")
        for row in asyncio.run(self._ask(statement)):
            yield proof.Kept(row["key"], fields(signal, row))

    def kill(self) -> None:
        self._taking.kill()
        self._store.kill()

    def restart(self) -> None:
        self._store.restart()
        self._taking.launch()

    async def _ask(self, statement: str) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self._dsn)
        try:
            return [dict(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()


def fields(signal: Signal, row: dict[str, Any]) -> dict[str, Any]:
    """A row as the proof compares it. The store has values as doubles, and of a histogram count and sum."""
    del row["key"]
    if signal == "traces":
        row["end_ns"] = row["start_ns"] + row.pop("duration_ns")
    if signal == "metrics":
        told = {word: row.pop(word) for word in ("value", "count", "sum")}
        if told["value"] is None:
            assert (told["count"], told["sum"]) == (6, 4.5)
        elif told["value"] < EXACT:
            row["value"] = told["value"]
    return row


@pytest.fixture(scope="module", params=["managed", "managed-http"])
def backend(request: pytest.FixtureRequest) -> Iterator[Managed]:
    with ExitStack() as stack:
        for store in running(postgres, settings=DURABLE):
            dsn = store.migrated()
            taking = receiver.start(dsn)
            stack.callback(taking.stop)
            yield Managed(store, taking, dsn, request.param)
            stack.close()


@pytest.mark.parametrize("way", proof.ways("managed"))
def test_nothing_is_lost_while_receiver_and_store_are_away_and_nothing_is_there_twice(backend, way):
    proof.survives(backend, way)
