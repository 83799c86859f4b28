"""What a span costs a whole receiver in front of ClickHouse's engine, by lane: CPU of its process, and of the server.

In: how many spans. Out: lines on stdout, shown in docs/scale.md. Called by: `python -m benchmarks.clickhouse_receiver`.

Requests of 512 spans of corpus M, one span in ten a run, come over OTLP/HTTP from this process, so many in flight that groups
fill. The engine is chDB in a process of its own. Nothing counts unless all that was acknowledged is stored once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import click
import httpx

from benchmarks import corpus
from benchmarks.clickhouse_engine import cpu_s
from benchmarks.rounds import VoidError
from tests.receiver.process import Receiver
from tests.servers import clickhouse
from wafermonitor.storage.clickhouse import schema
from wafermonitor.storage.clickhouse.client import Client

BATCH = 512
IN_FLIGHT = 32
WARM_UP_SPANS = 20_480
HEADERS = {"content-type": "application/x-protobuf"}
LANES = ("native", "python")


def bodies(stream: int, spans: int) -> Iterator[bytes]:
    """Requests with ids that were never sent before."""
    sheet = corpus.sheet("M", BATCH, "1 in 10")
    first, sent = corpus.stream_start(stream), 0
    while sent < spans:
        filled = sheet.fill(first, time.time_ns() - 60 * 10**9)
        first += sheet.spans
        for start, end in sheet.bounds:
            yield filled[start:end]
            sent += BATCH
            if sent >= spans:
                return


async def send(address: str, given: Iterator[bytes]) -> int:
    """All of them; how many spans were acknowledged."""
    sent = 0

    async def sender(client: httpx.AsyncClient) -> None:
        nonlocal sent
        for body in given:
            answer = await client.post("/v1/traces", content=body, headers=HEADERS)
            if answer.status_code != httpx.codes.OK:
                raise VoidError(f"a request was answered with {answer.status_code}")
            sent += BATCH

    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
        await asyncio.gather(*(sender(client) for _ in range(IN_FLIGHT)))
    return sent


async def measure(spans: int) -> None:
    """Each lane in turn, on one server."""
    server = clickhouse.start()
    try:
        client = await Client.open(server.dsn("wafer"), pool_size=2, timeout_s=600)
        await schema.upgrade(client, schema.Keep(90, 730, 120))
        stored = 0
        for stream, lane in enumerate(LANES, start=11):
            receiver = Receiver(server.dsn("wafer"), WAFER_RECEIVER_LANE=lane)
            try:
                stored += await send(receiver.http_address, bodies(stream, WARM_UP_SPANS))
                before_s, server_before_s = cpu_s(receiver.pid), cpu_s(server.pid)
                sent = await send(receiver.http_address, bodies(stream + len(LANES), spans))
                receiver_us, server_us = (
                    (now_s - then_s) / sent * 1e6
                    for now_s, then_s in ((cpu_s(receiver.pid), before_s), (cpu_s(server.pid), server_before_s))
                )
            finally:
                receiver.stop()
            stored += sent
            ((found,),) = await client.query("count", "SELECT count() FROM span FINAL")
            if found != stored:
                raise VoidError(f"{lane}: {stored} spans were acknowledged, {found} are stored")
            click.echo(
                f"{receiver.ready['lane']} lane: {receiver_us:.1f} µs of the receiver, {server_us:.1f} of the server per span"
            )
        await client.close()
    finally:
        server.stop()


@click.command()
@click.option("--spans", default=204_800, show_default=True)
def main(spans: int) -> None:
    """Measure both lanes in front of ClickHouse's engine on this machine."""
    why = clickhouse.missing()
    if why is not None:
        raise click.ClickException(why)
    asyncio.run(measure(spans))


if __name__ == "__main__":
    main()
