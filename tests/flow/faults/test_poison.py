"""R7: one bad span, of sixteen kinds, among 999 good ones: the good ones are stored, the bad one is marked or counted."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from tests.receiver.otlp import TRANSPORTS, spans
from tests.receiver.test_transcode import POISON
from tests.servers import receiver
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.semconv import attributes as names

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

GOOD = 999


@pytest.mark.parametrize("transport", TRANSPORTS, ids=[transport.name for transport in TRANSPORTS])
def test_r07_poison_touches_nobody_else(durable, transport):
    dsn = durable.migrated()
    running = receiver.start(dsn)
    try:
        rejected = asyncio.run(send_all(transport, running))
    finally:
        running.stop()
    assert {kind for kind, number in rejected.items() if number} == {kind for kind, (_, repair) in POISON.items() if not repair}
    both = "SELECT trace_id, attributes FROM wafer_data.span UNION ALL SELECT trace_id, attributes FROM wafer_data.span_late"
    marked = f"attributes->>'{names.WAFER_REPAIRED}'"
    counted = f"replace(trace_id::text, '-', ''), count(*) FILTER (WHERE {marked} IS NULL), max({marked})"
    sql = f"SELECT {counted} FROM ({both}) AS s GROUP BY 1"
    found = [line.split("|") for line in durable.psql(sql, dsn).splitlines()]
    stored = {trace: (int(good), mark) for trace, good, mark in found}
    for kind, (_, repair) in POISON.items():
        assert stored[trace_of(kind).hex()] == (GOOD, json.dumps([repair]) if repair else ""), kind
    assert int(durable.psql("SELECT count(*) FROM wafer_data.dead_letter", dsn)) == sum(rejected.values())


async def send_all(transport, running: receiver.Server) -> dict[str, int]:
    """Kind of poison → how many spans the answer says were rejected."""
    rejected = {}
    async with transport(running.otlp_grpc, running.otlp_http) as client:
        for kind, (change, _) in POISON.items():
            request = spans(GOOD + 1, trace_id=trace_of(kind))
            change(request.resource_spans[0].scope_spans[0].spans[GOOD // 2])
            outcome = await client.send(Signal.TRACES, client.encode(request))
            assert outcome.ok, outcome
            rejected[kind] = outcome.rejected
    return rejected


def trace_of(kind: str) -> bytes:
    """A trace of its own for each kind."""
    return hashlib.sha256(kind.encode()).digest()[:16]
