"""The compiled lane in the pipeline: one block for a group, ranges of it when the store rejects, Python for the guilty."""

from __future__ import annotations

import asyncio

import pytest

from tests.receiver.otlp import GOOD, as_json, spans
from wafermonitor.receiver import lanes
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import LaneRejected, RequestRejected, StoreUnavailable
from wafermonitor.receiver.fair_queue import Waiting
from wafermonitor.receiver.group import Member, Place, contents, transactions
from wafermonitor.receiver.pipeline import Pipeline
from wafermonitor.receiver.server import LANES
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import Part, RowFormat

pytestmark = pytest.mark.usefixtures("decode")


class Writer:
    """Takes rows; rejects those of the requests and spans that are named."""

    row_format = RowFormat.COPY_BINARY

    def __init__(self) -> None:
        self.guilty_requests: set[int] = set()
        self.guilty_spans: set[str] = set()
        self.error: type[Exception] = StorageRejected
        self.tried: list[list[tuple[int, int] | int]] = []
        self.taken: list[list[tuple[int, int] | int]] = []
        self.letters = 0

    async def write(self, rows) -> None:
        await asyncio.sleep(0)
        shown = [(one.first, one.last) if isinstance(one, Part) else one.items for one in rows]
        self.tried.append(shown)
        for one in rows:
            if isinstance(one, Part):
                if self.guilty_requests & set(range(one.first, one.last)):
                    raise self.error("no")
            elif self.guilty_spans & {span.name for span in one.spans}:
                raise StorageRejected("no")
        self.taken.append(shown)
        self.letters += sum(len(one.dead) for one in rows if isinstance(one, Batch))


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
async def begin(writer):
    started = []

    def begin(**options) -> Pipeline:
        pipeline = Pipeline(
            writer, lanes.choose("native", LANES, Writer.row_format), Config(writers=1, **options), Telemetry(lambda: 0.0)
        )
        started.append(pipeline)
        return pipeline

    yield begin
    for pipeline in started:
        await pipeline.drain(1)


def protobuf(number: int = 1, *, first: int = 1) -> Request:
    return Request(Signal.TRACES, Encoding.PROTOBUF, spans(number, first=first).SerializeToString(), 1)


async def together(pipeline, requests):
    """All of them in one group: it begins when they wait."""
    tasks = [asyncio.create_task(pipeline.submit(one)) for one in requests]
    await asyncio.sleep(0)
    pipeline.start()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_group_is_one_part_of_one_block(begin, writer):
    outcomes = await together(begin(), [protobuf(3, first=10 * number) for number in range(1, 6)])
    assert [outcome.rejected for outcome in outcomes] == [0] * 5
    assert writer.taken == [[(0, 5)]]


async def test_all_signals_and_json_are_in_the_same_transaction(begin, writer):
    requests = [Request(signal, Encoding.PROTOBUF, GOOD[signal](2).SerializeToString(), 1) for signal in Signal]
    requests.insert(1, Request(Signal.TRACES, Encoding.JSON, as_json(spans(7, first=100)), 1))
    await together(begin(), requests)
    assert writer.taken == [[(0, 3), 7]]


async def test_what_cannot_be_read_is_refused_and_its_neighbours_are_stored(begin, writer):
    broken = protobuf(first=3)
    outcomes = await together(begin(), [protobuf(), broken._replace(body=broken.body[:-1]), protobuf(first=2)])
    assert [type(outcome).__name__ for outcome in outcomes] == ["Answer", "RequestRejected", "Answer"]
    assert writer.taken == [[(0, 3)]]


async def test_a_fault_of_the_native_lane_leaves_the_group_to_the_python_lane(writer, caplog):
    def fault(_requests):
        raise RuntimeError("of our own")

    pipeline = Pipeline(writer, lanes.Lanes(LANES, fault), Config(writers=1), Telemetry(lambda: 0.0))
    outcomes = await together(pipeline, [protobuf(), protobuf(first=2)])
    await pipeline.drain(1)
    assert [outcome.rejected for outcome in outcomes] == [0, 0]
    assert writer.taken == [[1, 1]]
    assert "decoded in Python" in caplog.text


async def test_a_request_without_rows_does_not_trouble_the_store(begin, writer):
    (answer,) = await together(begin(), [Request(Signal.TRACES, Encoding.PROTOBUF, b"", 1)])
    assert answer.rejected == 0
    assert writer.tried == []


async def test_halves_are_ranges_and_the_guilty_one_is_decoded_again_in_python(begin, writer):
    writer.guilty_requests = {5}
    writer.guilty_spans = {"span 51"}
    outcomes = await together(begin(), [protobuf(4, first=10 * number + 1) for number in range(8)])
    assert [outcome.rejected for outcome in outcomes] == [0, 0, 0, 0, 0, 1, 0, 0]
    assert outcomes[5].message == "1 refused by the store"
    parts = [one for rows in writer.taken for one in rows if isinstance(one, tuple)]
    assert sorted(number for first, last in parts for number in range(first, last)) == [0, 1, 2, 3, 4, 6, 7]
    assert sum(one for rows in writer.taken for one in rows if isinstance(one, int)) == 3
    assert writer.letters == 1


async def test_a_store_that_goes_away_makes_all_of_them_wait(begin, writer):
    writer.guilty_requests, writer.error = {0}, StorageUnavailable
    outcomes = await together(begin(), [protobuf(first=number) for number in range(1, 4)])
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3


async def test_a_block_with_more_items_than_a_group_may_have_is_written_in_pieces(begin, writer):
    await together(begin(group_spans=20), [protobuf(10, first=100 * number) for number in range(1, 6)])
    assert writer.taken == [[(0, 2)], [(2, 4)], [(4, 5)]]


async def test_json_goes_on_however_much_protobuf_there_is(begin, writer):
    """Put back behind the protobuf of each group it would wait until that ends."""
    pipeline = begin(group_spans=5)
    json = [Request(Signal.TRACES, Encoding.JSON, as_json(spans(5, first=100 * n)), 1) for n in (1, 2)]
    group = [Waiting(request, "f1", lambda _: None) for request in [protobuf(20), *json]]
    decoded = pipeline.lanes.decode(group, 5)
    assert [member.waiting for member in decoded.members] == group[:2]
    assert decoded.rest == group[2:]


def test_python_decodes_so_many_bytes_for_one_group(monkeypatch):
    json = Request(Signal.TRACES, Encoding.JSON, as_json(spans()), 1)
    group = [Waiting(json, "f1", lambda _: None) for _ in range(4)]
    monkeypatch.setattr(lanes, "MOST_BYTES", len(json.body) + 1)
    decoded = lanes.Lanes(LANES).decode(group, 1000)
    assert [member.waiting for member in decoded.members] == group[:2]
    assert decoded.rest == group[2:]


async def test_rejected_items_are_told_as_the_python_lane_tells_them(begin, writer):
    request = spans(3)
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b"short"
    (answer,) = await together(begin(), [Request(Signal.TRACES, Encoding.PROTOBUF, request.SerializeToString(), 1)])
    python = LANES[Encoding.PROTOBUF].transcode(Request(Signal.TRACES, Encoding.PROTOBUF, request.SerializeToString(), 1))
    assert (answer.rejected, answer.message) == (python.rejected, python.message)


def test_the_lane_is_chosen_once():
    for row_format in RowFormat:
        assert lanes.choose("auto", LANES, row_format).name == "native"
        assert lanes.choose("python", LANES, row_format).name == "python"
    assert lanes.choose("auto", LANES, None).name == "python"
    with pytest.raises(LaneRejected, match="WAFER_RECEIVER_LANE=auto"):
        lanes.choose("native", LANES, None)


def members(*items: int) -> list[Member]:
    return [Member(None, Place("block", number), count, count, 0, "", 0) for number, count in enumerate(items)]


def test_members_of_different_blocks_are_different_parts():
    first, second = members(1, 1), [one._replace(content=Place("other", 0)) for one in members(1)]
    assert contents(first + second) == [Part("block", 0, 2), Part("other", 0, 1)]


def test_transactions_are_cut_between_members():
    assert [[one.items for one in piece] for piece in transactions(members(5, 5, 50, 1), 10)] == [[5, 5], [50], [1]]
    assert list(transactions([], 10)) == []


async def test_a_request_the_python_lane_refuses_is_refused(begin, writer, monkeypatch):
    """The lanes agree; should they ever not, the sender is told, and the others go on."""
    writer.guilty_requests = {0}
    pipeline = begin()

    def refuse(waiting):
        raise RequestRejected("no request")

    monkeypatch.setattr(pipeline.lanes, "decode_one", refuse)
    outcomes = await together(pipeline, [protobuf(), protobuf(first=2)])
    assert [type(outcome).__name__ for outcome in outcomes] == ["RequestRejected", "Answer"]
