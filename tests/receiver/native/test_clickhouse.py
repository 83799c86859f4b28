"""The native lane before a real ClickHouse: what is refused is found and buried, and the rest is there once."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tests.receiver.otlp import START_NS, TRACE_ID, spans, text
from tests.storage.engines import on_clickhouse
from wafermonitor.receiver import lanes
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.dead_letters.retry import retry
from wafermonitor.receiver.pipeline import Pipeline
from wafermonitor.receiver.server import LANES
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.runs.records import Span
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.protocol import DeadLetterQuery, Part, RunQuery, SpanQuery

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse"), pytest.mark.usefixtures("decode")]
PRECEDENCE = 1


class Refusing:
    """A writer that takes no span of this name, in whichever form it comes."""

    def __init__(self, writer, name: str | None = None) -> None:
        self.inner = writer
        self.row_format = writer.row_format
        self.name = name
        self.parts = 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def write(self, given) -> None:
        if any(self._guilty(one) for one in given):
            raise StorageRejected("no")
        self.parts += sum(isinstance(one, Part) for one in given)
        await self.inner.write(given)

    def _guilty(self, one) -> bool:
        if self.name is None:
            return False
        if isinstance(one, Part):
            return self.name.encode() in one.block.row_binary("span", one.first, one.last, PRECEDENCE)
        return any(isinstance(span, Span) and span.name == self.name for span in one.spans)


def protobuf(first: int) -> Request:
    """Four spans, of which the last is a run."""
    request = spans(4, first=first)
    request.resource_spans[0].scope_spans[0].spans[-1].attributes.append(text(names.WAFER_JOB_NAME, "lot_yield"))
    return Request(Signal.TRACES, Encoding.PROTOBUF, request.SerializeToString(), START_NS)


async def together(pipeline: Pipeline, requests):
    """All of them in one group: it begins when they wait."""
    tasks = [asyncio.create_task(pipeline.submit(one)) for one in requests]
    await asyncio.sleep(0)
    pipeline.start()
    return await asyncio.gather(*tasks)


async def test_the_guilty_row_is_a_dead_letter_and_comes_back_once(clickhouse):
    async with on_clickhouse(clickhouse.database()) as engine:
        writer = Refusing(engine.writer, "span 22")
        requests = [protobuf(first) for first in (11, 21, 31, 41)]
        for _ in range(2):
            chosen = lanes.choose("native", LANES, writer.row_format)
            pipeline = Pipeline(writer, chosen, Config(writers=1), Telemetry(lambda: 0.0))
            outcomes = await together(pipeline, requests)
            await pipeline.drain(5)
            assert [outcome.rejected for outcome in outcomes] == [0, 1, 0, 0]
        assert writer.parts
        found = (await engine.reader.spans(SpanQuery(trace_id=TRACE_ID))).items
        wanted = [f"span {number}" for first in (11, 21, 31, 41) for number in range(first, first + 4)]
        assert sorted(span.name for span in found) == [name for name in wanted if name != "span 22"]
        assert len((await engine.reader.runs(RunQuery())).items) == 4
        (letter,) = (await engine.reader.dead_letters(DeadLetterQuery())).items
        writer.name = None
        assert (await retry(dataclasses.replace(engine, writer=writer), letter)).stored
        found = (await engine.reader.spans(SpanQuery(trace_id=TRACE_ID))).items
        assert sorted(span.name for span in found) == wanted
        assert (await engine.reader.dead_letters(DeadLetterQuery())).items == []


async def test_items_that_no_lane_takes_are_dead_letters(clickhouse):
    async with on_clickhouse(clickhouse.database()) as engine:
        broken = spans(3)
        broken.resource_spans[0].scope_spans[0].spans[1].trace_id = b"short"
        request = Request(Signal.TRACES, Encoding.PROTOBUF, broken.SerializeToString(), START_NS)
        pipeline = Pipeline(
            engine.writer, lanes.choose("native", LANES, engine.writer.row_format), Config(writers=1), Telemetry(lambda: 0.0)
        )
        (answer,) = await together(pipeline, [request])
        await pipeline.drain(5)
        assert (answer.rejected, pipeline.lanes.name) == (1, "native")
        (stored,) = (await engine.reader.dead_letters(DeadLetterQuery())).items
        assert stored.letter.reason == "trace id has 5 bytes, expected 16"
        assert len((await engine.reader.spans(SpanQuery(trace_id=TRACE_ID))).items) == 2
