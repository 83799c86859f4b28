"""R8: what is as large as allowed passes, one byte more does not, bombs do not go off, and memory stays in bounds."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import httpx
import pytest

from tests.receiver.otlp import JSON, PROTOBUF, TRANSPORTS, Grpc, HttpJson, Outcome, http_refusal, last_item, spans, text
from tests.servers import receiver
from wafermonitor.receiver.transcode.protocol import Signal

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

MIB = 1 << 20
LIMIT_BYTES = 64 * MIB
BOMB_BYTES = 1 << 30
BOMB_S = 1.0
"""Of the receiver's CPU, which does not depend on what else this machine does."""
GROWTH_BYTES = 192 * MIB
LARGEST_GROWTH_BYTES = 5 * LIMIT_BYTES
"""For one request as large as may be, until it is committed: as it came, decoded, as rows, and on the way to the database."""
OWN_TRACE = bytes(range(2, 18))
RESOURCE_EXHAUSTED, INVALID_ARGUMENT = 8, 3


@pytest.fixture
def running(durable) -> Iterator[receiver.Server]:
    dsn = durable.migrated()
    server = receiver.start(dsn)
    yield server
    server.stop()
    durable.drop(dsn)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """1 GiB of zeros as about 1 MiB of gzip."""
    packer = zlib.compressobj(1, wbits=31)
    piece = bytes(16 * MIB)
    return b"".join(packer.compress(piece) for _ in range(BOMB_BYTES // len(piece))) + packer.flush()


def filled(transport, size_bytes: int) -> bytes:
    """A request of exactly that size: 60 spans with an attribute of about 1 MiB each."""
    request = spans(60, trace_id=OWN_TRACE)
    made = request.resource_spans[0].scope_spans[0].spans
    for span in made:
        span.attributes.append(text("log", "x" * MIB))
    value = made[0].attributes[-1].value
    client = transport("127.0.0.1:1", "127.0.0.1:1") if transport is HttpJson else None
    while room := size_bytes - (len(client.encode(request)) if client else request.ByteSize()):
        value.string_value = "x" * (len(value.string_value) + room)
    return client.encode(request) if client else request.SerializeToString()


async def send(transport, server: receiver.Server, body: bytes, **more) -> Outcome:
    async with transport(server.otlp_grpc, server.otlp_http) as client:
        return await client.send(Signal.TRACES, body, **more)


async def still_well(server: receiver.Server) -> None:
    for transport in TRANSPORTS:
        async with transport(server.otlp_grpc, server.otlp_http) as client:
            assert (await client.send(Signal.TRACES, client.encode(spans(3)))).ok


def grown(server: receiver.Server, before_bytes: int, most_bytes: int = GROWTH_BYTES) -> None:
    assert server.peak_bytes - before_bytes <= most_bytes


@pytest.mark.parametrize("transport", TRANSPORTS, ids=[transport.name for transport in TRANSPORTS])
async def test_r08_the_largest_request_passes_and_one_byte_more_is_refused_for_good(running, transport):
    await still_well(running)
    before_bytes = running.resident_bytes
    body = filled(transport, LIMIT_BYTES)
    refused = await send(transport, running, body + b" ")
    assert (refused.code, refused.retry_info_s, refused.retry_after) == (RESOURCE_EXHAUSTED, None, None)
    assert refused.http in (None, 413)
    grown(running, before_bytes)
    assert (await send(transport, running, body)).ok
    grown(running, before_bytes, LARGEST_GROWTH_BYTES)
    await still_well(running)


async def test_r08_bombs_are_refused_before_they_grow(running, bomb):
    await still_well(running)
    before_bytes = running.resident_bytes
    async with httpx.AsyncClient(base_url=f"http://{running.otlp_http}", timeout=30) as client:
        for media in (PROTOBUF, JSON):
            for body, code, status in (
                (bomb, RESOURCE_EXHAUSTED, 413),
                (gzip.compress(bomb, 1), INVALID_ARGUMENT, 400),  # inflated once, it is gzip and no OTLP
                (bomb * 2, RESOURCE_EXHAUSTED, 413),
                (gzip.compress(b"", 1) * 10_000 + bomb, INVALID_ARGUMENT, 400),
            ):
                began_s = running.cpu_s
                answer = await client.post(
                    "/v1/traces", content=body, headers={"content-type": media, "content-encoding": "gzip"}
                )
                assert running.cpu_s - began_s <= BOMB_S
                outcome = http_refusal(answer)
                assert (outcome.code, outcome.http, outcome.retry_after) == (code, status, None)
    grown(running, before_bytes)
    await still_well(running)


async def test_r08_a_bomb_by_grpc_is_refused_before_it_grows(running):
    """Four times the limit: gRPC's client has it whole in memory before it is packed."""
    await still_well(running)
    before_bytes = running.resident_bytes
    outcome = await send(Grpc, running, bytes(4 * LIMIT_BYTES), compressed=True)
    assert (outcome.code, outcome.retry_info_s) == (RESOURCE_EXHAUSTED, None)
    grown(running, before_bytes)
    await still_well(running)


@pytest.mark.parametrize("transport", TRANSPORTS, ids=[transport.name for transport in TRANSPORTS])
async def test_r08_a_value_of_10_mb_is_kept(running, durable, transport):
    request = spans(1, trace_id=OWN_TRACE)
    last_item(request).attributes.append(text("dump", "x" * 10_000_000))
    await still_well(running)
    before_bytes = running.resident_bytes
    async with transport(running.otlp_grpc, running.otlp_http) as client:
        outcome = await client.send(Signal.TRACES, client.encode(request))
    assert outcome.ok
    assert outcome.rejected == 0
    grown(running, before_bytes)
    assert durable.psql("SELECT max(length(attributes->>'dump')) FROM wafer_data.span", running.dsn) == "10000000"


@pytest.mark.servers
@pytest.mark.parametrize("transport", TRANSPORTS, ids=[transport.name for transport in TRANSPORTS])
async def test_r08_a_million_attributes_are_kept_or_counted(running, durable, transport):
    request = spans(3, trace_id=OWN_TRACE)
    span = request.resource_spans[0].scope_spans[0].spans[1]
    for number in range(1_000_000):
        span.attributes.add(key=f"k{number:06}").value.int_value = 1
    async with transport(running.otlp_grpc, running.otlp_http) as client:
        outcome = await client.send(Signal.TRACES, client.encode(request))
    assert outcome.ok
    stored = int(durable.psql("SELECT count(*) FROM wafer_data.span", running.dsn))
    assert stored + outcome.rejected == 3
    assert outcome.rejected <= 1
    await still_well(running)
