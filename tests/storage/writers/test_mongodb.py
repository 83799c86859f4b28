"""What documents MongoDB is given, and how it is told apart what to try again. The stand-in: tests/backends/test_mongodb.py."""

from __future__ import annotations

import math

import bson
import pytest

from tests.backends import corpus
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import items, mongodb, rows
from wafermonitor.storage.writers.items import Log, Resource, Scope
from wafermonitor.storage.writers.protocol import SIGNALS, Fate


def document(body: object, time_ns: int = 1_700_000_000_123_456_789) -> dict[str, object]:
    one = Log(
        "1" * 32, Resource("f1", "sorter", {}, ""), Scope("", "", {}), time_ns, 0, "", "", 9, "", "", body, {"a.b": {"$c": 1}}
    )
    return bson.decode(mongodb.encoded(rows.row(one).values))


def test_a_map_of_the_sender_is_a_list_of_pairs_however_deep():
    assert document("")["attributes"] == [{"k": "a.b", "v": [{"k": "$c", "v": 1}]}]
    assert document([{"x": {}}])["body"] == [[{"k": "x", "v": []}]]


def test_values_are_as_they_came():
    body = document([2**53 + 1, math.inf, b"\x00\xff", None, True, "ü\0"])["body"]
    assert body == [2**53 + 1, math.inf, b"\x00\xff", None, True, "ü\0"]


def test_a_time_is_a_date_as_well():
    assert document("")["time"].isoformat() == "2023-11-14T22:13:20.123000"
    assert document("")["time_ns"] == 1_700_000_000_123_456_789


@pytest.mark.parametrize(("body", "reason"), [(2**64, "64 bits"), ("x" * 2**24, "16 MiB")])
def test_what_no_document_holds_is_refused_with_the_reason(body, reason):
    with pytest.raises(StorageRejected, match=reason):
        document(body)


@pytest.mark.parametrize("signal", SIGNALS)
def test_an_item_has_the_same_document_at_every_delivery(signal):
    request = corpus.part("t", 0).requests[signal]
    twice = [[mongodb.encoded(rows.row(item).values) for item in items.items(signal, request)] for _ in range(2)]
    assert twice[0] == twice[1]
    assert len({bson.decode(one)["_id"] for one in twice[0]}) == corpus.PER_SIGNAL


def test_who_is_not_there_is_tried_again_and_not_named(unused_tcp_port):
    uri = f"mongodb://someone:hidden@127.0.0.1:{unused_tcp_port}"
    writer = mongodb.Writer(mongodb.Config(uri=uri, timeout_s=0.2))
    kept, broken = writer.write("logs", [corpus.part("t", 0).requests["logs"], b"\xff\xff\xff"])
    assert kept.fate is Fate.RETRY
    assert not any(word in kept.reason for word in ("127.0.0.1", "someone", "hidden"))
    assert broken.fate is Fate.REJECTED
    with pytest.raises(StorageUnavailable, match="ServerSelectionTimeoutError"):
        writer.check()
    writer.close()
    writer.close()


def test_an_address_that_is_none_is_refused_without_repeating_it():
    with pytest.raises(StorageRejected, match="WAFER_MONGODB_URI") as refused:
        mongodb.Writer(mongodb.Config(uri="http://someone:hidden@host"))
    assert "hidden" not in str(refused.value)
