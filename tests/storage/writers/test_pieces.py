"""A request that is too large for a message becomes several, and nothing of it is lost, doubled or moved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from wafermonitor.storage.writers.items import items
from wafermonitor.storage.writers.pieces import pieces


def logs(*sizes: int) -> bytes:
    """A request with a record of each size, in two scopes."""
    request = ExportLogsServiceRequest()
    outer = request.resource_logs.add()
    scopes = [outer.scope_logs.add(), outer.scope_logs.add()]
    for number, size in enumerate(sizes):
        record = scopes[2 * number // len(sizes)].log_records.add(time_unix_nano=number + 1)
        record.body.string_value = "x" * size
    return request.SerializeToString()


def test_a_request_within_the_limit_is_one_piece_of_the_same_bytes():
    request = logs(10, 20)
    assert pieces("logs", request, len(request)) == ([request], b"", 0)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(120, 2000))
def test_pieces_and_what_remains_are_the_request(sizes, most):
    request = logs(*sizes)
    cut = pieces("logs", request, most)
    fitting = [item.id for piece in cut.fitting for item in items("logs", piece)]
    remains = [item.id for item in items("logs", cut.remains)]
    order = [item.id for item in items("logs", request)]
    assert all(len(piece) <= most for piece in cut.fitting)
    assert fitting == [one for one in order if one in set(fitting)]
    assert sorted(fitting + remains) == sorted(order)
    assert len(remains) == cut.too_large
    assert cut == pieces("logs", request, most)


@pytest.mark.parametrize("position", [0, 3, 7])
def test_an_item_above_the_limit_remains_alone(position):
    sizes = [50] * 8
    sizes[position] = 5_000
    cut = pieces("logs", logs(*sizes), 1_000)
    assert cut.too_large == 1
    (item,) = items("logs", cut.remains)
    assert item.time_ns == position + 1
    assert sum(len(items("logs", piece)) for piece in cut.fitting) == 7


def test_a_request_just_above_the_limit_becomes_two():
    request = logs(*[100] * 20)
    assert len(pieces("logs", request, len(request) - 1).fitting) == 2
