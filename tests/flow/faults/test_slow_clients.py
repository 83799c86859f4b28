"""R9: hundreds of half-open connections are closed in time, and whoever is well does not notice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.flow.faults import slow_clients
from tests.flow.faults.chain import arrived
from tests.flow.faults.corpus import Corpus
from tests.flow.faults.load import Grpc, Http, Load
from tests.servers import receiver

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(300)]

CLOSED_S = 15.0
HEALTHY_S = 5.0
"""The slowest answer to whoever is well: far below what they would wait if anything waited for the slow ones."""
SHORT = {"WAFER_RECEIVER_RECEIVE_S": "2"}
SHORT_CLOSED_S = 10.0


@pytest.mark.parametrize(
    ("limits", "closed_s"),
    [pytest.param(SHORT, SHORT_CLOSED_S, id="short"), pytest.param({}, CLOSED_S, id="as shipped", marks=pytest.mark.servers)],
)
async def test_r09_half_open_connections_are_closed_and_the_others_go_on(durable, soak, limits, closed_s):
    number = 250 if soak else 50
    dsn = durable.migrated()
    running = await asyncio.to_thread(receiver.start, dsn, **limits)
    loads = [
        Load(Corpus(f"r09, HTTP {closed_s}"), [running.otlp_http], connect=Http, senders=1, per_s=10),
        Load(Corpus(f"r09, gRPC {closed_s}"), [running.otlp_grpc], connect=Grpc, senders=1, per_s=10),
    ]
    try:
        with loads[0].running(), loads[1].running():
            for load in loads:
                await asyncio.to_thread(load.take, 10)
            async with AsyncExitStack() as stack:
                attacks = [
                    await stack.enter_async_context(slow_clients.attack(mode, address, share))
                    for mode, address, share in (
                        (slow_clients.header, running.otlp_http, number),
                        (slow_clients.body, running.otlp_http, number),
                        (slow_clients.silent, running.otlp_http, number // 2),
                        (slow_clients.read, running.otlp_http, 2),
                        (slow_clients.stream, running.otlp_grpc, number),
                        (slow_clients.silent, running.otlp_grpc, number // 2),
                    )
                ]
                for one in attacks:
                    await one.ended(closed_s)
            for load in loads:
                await asyncio.to_thread(load.take, 10)
        for load in loads:
            assert not load.refusals
            assert load.longest_s <= HEALTHY_S
            await asyncio.to_thread(arrived, load, dsn, within_s=30)
    finally:
        await asyncio.to_thread(running.stop)
