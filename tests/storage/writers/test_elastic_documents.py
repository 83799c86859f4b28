"""The documents of items, as the Collector's exporter writes them in its mapping mode `otel`."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backends import corpus
from wafermonitor.storage.writers import elastic_documents as elastic
from wafermonitor.storage.writers.items import Event, Link, Log, Point, Resource, Scope, Span, items
from wafermonitor.storage.writers.protocol import SIGNALS

RESOURCE = Resource("fab1", "sorter", {"service.name": "sorter", "data_stream.dataset": "theirs"}, "https://schema/1")
SCOPE = Scope("lib", "1.0", {"s": 1})
ORIGIN = {
    "resource": {"schema_url": "https://schema/1", "attributes": {"service.name": "sorter"}},
    "scope": {"name": "lib", "version": "1.0", "attributes": {"s": 1}},
}


def span(**more: object) -> Span:
    known: dict[str, object] = {
        "id": "1" * 32,
        "resource": RESOURCE,
        "scope": SCOPE,
        "trace_id": "0102030405060708090a0b0c0d0e0f10",
        "span_id": "0102030405060708",
        "parent_span_id": "",
        "trace_state": "",
        "name": "sort",
        "kind": "SERVER",
        "start_ns": 1_705_314_600_000_000_005,
        "end_ns": 1_705_314_600_150_000_005,
        "attributes": {"a.b": 1},
        "events": [],
        "links": [],
        "status": "OK",
        "status_message": "",
    }
    return Span(**(known | more))


def log(body: object = "text", **more: object) -> Log:
    known: dict[str, object] = {
        "id": "2" * 32,
        "resource": RESOURCE,
        "scope": SCOPE,
        "time_ns": 1_705_314_600_000_000_000,
        "observed_ns": 1_705_314_600_001_000_000,
        "trace_id": "",
        "span_id": "",
        "severity": 9,
        "severity_text": "INFO",
        "event_name": "",
        "body": body,
        "attributes": {},
    }
    return Log(**(known | more))


def point(**more: object) -> Point:
    known: dict[str, object] = {
        "id": "3" * 32,
        "resource": RESOURCE,
        "scope": SCOPE,
        "name": "queue.length",
        "unit": "1",
        "type": "gauge",
        "temporality": "unspecified",
        "monotonic": False,
        "start_ns": 0,
        "time_ns": 1_705_314_600_000_000_000,
        "value": 3,
        "summary": {},
        "attributes": {"k": "v"},
    }
    return Point(**(known | more))


def test_a_span_is_one_document_with_nanoseconds():
    (document,) = elastic.documents(span())
    assert document.stream == "traces"
    assert document.id == "1" * 32
    assert document.body == {
        "@timestamp": "1705314600000.000005",
        "trace_id": "0102030405060708090a0b0c0d0e0f10",
        "span_id": "0102030405060708",
        "name": "sort",
        "kind": "Server",
        "duration": 150_000_000,
        "attributes": {"a.b": 1},
        "status": {"code": "Ok"},
        **ORIGIN,
    }


def test_events_are_documents_among_the_logs_with_ids_that_last():
    events = [Event(1_000_000, "exception", {"x": 1}), Event(1_000_000, "exception", {"x": 1}), Event(2, "", {})]
    first, again = elastic.documents(span(events=events)), elastic.documents(span(events=events))
    assert first == again
    assert [one.stream for one in first] == ["traces", "logs", "logs", "logs"]
    assert len({one.id for one in first}) == 4
    assert first[1].body == {
        "@timestamp": "1.000000",
        "trace_id": "0102030405060708090a0b0c0d0e0f10",
        "span_id": "0102030405060708",
        "event_name": "exception",
        "attributes": {"x": 1, "event.name": "exception"},
        **ORIGIN,
    }


def test_a_link_keeps_its_attributes():
    (document,) = elastic.documents(span(links=[Link("a" * 32, "b" * 16, {"why": "before"})]))
    assert document.body["links"] == [{"trace_id": "a" * 32, "span_id": "b" * 16, "attributes": {"why": "before"}}]


def test_a_span_that_ended_before_it_began_has_no_duration():
    (document,) = elastic.documents(span(end_ns=1))
    assert document.body["duration"] == 0


def test_a_log_record_is_one_document():
    (document,) = elastic.documents(log(event_name="user.login", attributes={"event.name": "older"}))
    assert document.body == {
        "@timestamp": "1705314600000.000000",
        "observed_timestamp": "1705314600001.000000",
        "severity_text": "INFO",
        "severity_number": 9,
        "event_name": "user.login",
        "attributes": {"event.name": "older"},
        "body": {"text": "text"},
        **ORIGIN,
    }


def test_the_older_attribute_names_an_event_as_well():
    (document,) = elastic.documents(log(attributes={"event.name": "older"}))
    assert document.body["event_name"] == "older"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"a": b"\x00\xff"}, {"structured": {"a": "00ff"}}),
        ([1, 2], {"structured": {"value": [1, 2]}}),
        (1.5, {"text": "1.5"}),
        (True, {"text": "true"}),
        ("", {"text": ""}),
    ],
)
def test_a_body_is_a_text_or_an_object(body, kept):
    (document,) = elastic.documents(log(body))
    assert document.body["body"] == kept


def test_no_body_is_no_field():
    (document,) = elastic.documents(log(None))
    assert "body" not in document.body


@pytest.mark.parametrize(
    ("more", "template"),
    [
        ({"value": 3}, "gauge_long"),
        ({"value": 0.5}, "gauge_double"),
        ({"type": "sum", "monotonic": True, "temporality": "cumulative"}, "counter_long"),
        ({"type": "sum", "monotonic": True, "temporality": "delta"}, "gauge_long"),
        ({"type": "sum", "value": 1.5, "temporality": "cumulative"}, "gauge_double"),
    ],
)
def test_a_number_has_the_mapping_of_its_kind(more, template):
    (document,) = elastic.documents(point(**more))
    assert document.body["metrics"] == {"queue.length": more.get("value", 3)}
    assert (document.field, document.template) == ("metrics.queue.length", template)


def test_a_point_without_a_value_says_when_and_of_what():
    (document,) = elastic.documents(point(value=None))
    assert "metrics" not in document.body
    assert document.template == ""
    assert document.body["attributes"] == {"k": "v"}


def test_a_histogram_is_the_middles_of_its_buckets_and_the_whole():
    summary = {"count": 6, "sum": 4.5, "bounds": [0.5, 1.0], "buckets": [2, 3, 1]}
    (document,) = elastic.documents(point(type="histogram", value=None, summary=summary, temporality="delta"))
    assert document.body["metrics"] == {"queue.length": {"values": [0.25, 0.75, 1.0], "counts": [2, 3, 1]}}
    assert document.body["summary"] == summary
    assert document.body["temporality"] == "delta"
    assert document.template == "histogram"


def test_an_exponential_histogram_is_the_middles_of_its_buckets():
    summary = {
        "count": 6,
        "scale": 0,
        "zero_count": 1,
        "positive": {"offset": 1, "buckets": [2, 0, 1]},
        "negative": {"offset": 0, "buckets": [2]},
    }
    (document,) = elastic.documents(point(type="exponential_histogram", value=None, summary=summary))
    assert document.body["metrics"] == {"queue.length": {"values": [-1.5, 0.0, 3.0, 12.0], "counts": [2, 1, 2, 1]}}


def test_a_bucket_beyond_all_numbers_is_in_the_whole_alone():
    summary = {
        "count": 1,
        "scale": -10,
        "zero_count": 0,
        "positive": {"offset": 2**30, "buckets": [1]},
        "negative": {"offset": 0, "buckets": []},
    }
    (document,) = elastic.documents(point(type="exponential_histogram", value=None, summary=summary))
    assert document.body["metrics"] == {"queue.length": {"values": [], "counts": []}}
    assert document.body["summary"] == summary


def test_a_summary_is_its_sum_and_count():
    summary = {"count": 6, "sum": 4.5, "quantiles": {"0.5": math.nan}}
    (document,) = elastic.documents(point(type="summary", value=None, summary=summary))
    assert document.body["metrics"] == {"queue.length": {"sum": 4.5, "value_count": 6}}
    assert document.body["summary"]["quantiles"] == {"0.5": "NaN"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([1, "two"], ["1", "two"]),
        ([True, 1], ["true", "1"]),
        ([{"a": 1}, {"a": "b"}], ['{"a":1}', '{"a":"b"}']),
        ([[1], [2]], ["[1]", "[2]"]),
        ({"m": [b"\x01", math.inf, -math.inf]}, {"m": ["01", "Infinity", "-Infinity"]}),
    ],
)
def test_a_list_has_values_of_one_kind(sent, kept):
    assert elastic.value(sent) == kept


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_every_value_is_json(sent):
    json.dumps(elastic.value(sent), allow_nan=False)


@pytest.mark.parametrize("signal", SIGNALS)
def test_no_two_documents_have_one_id(signal):
    made = [one for item in items(signal, corpus.part("t", 0).requests[signal]) for one in elastic.documents(item)]
    assert len({one.id for one in made}) == len(made) >= corpus.PER_SIGNAL
