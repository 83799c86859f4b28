"""Items of an OTLP request: whole, alone, and with the same id at every delivery."""

from __future__ import annotations

import pytest

from tests.receiver.otlp import GOOD, spans
from wafermonitor.receiver.transcode.protocol import Signal as Wire
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers import items
from wafermonitor.storage.writers.protocol import SIGNALS


def body(signal: str, count: int = 5) -> bytes:
    return GOOD[Wire(signal)](count).SerializeToString()


@pytest.mark.parametrize("signal", SIGNALS)
def test_each_item_has_an_id_of_its_own_that_no_delivery_changes(signal):
    first = items.items(signal, body(signal))
    again = items.items(signal, body(signal))
    assert len({one.id for one in first}) == 5
    assert [one.id for one in first] == [one.id for one in again]


def resources(message):
    return [outer.resource for _, outers in message.ListFields() for outer in outers]


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_feed_that_a_collector_adds_and_the_order_of_attributes_make_no_other_ids(signal):
    message = GOOD[Wire(signal)](5)
    for resource in resources(message):
        pairs = list(resource.attributes)[::-1]
        del resource.attributes[:]
        resource.attributes.add(key=names.WAFER_FEED_ID).value.string_value = "a Collector"
        resource.attributes.extend(pairs)
    changed = items.items(signal, message.SerializeToString())
    assert [one.id for one in changed] == [one.id for one in items.items(signal, body(signal))]
    assert changed[0].resource.attributes[names.WAFER_FEED_ID] == "a Collector"


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_same_item_of_another_site_is_another_item(signal):
    message = GOOD[Wire(signal)](5)
    for resource in resources(message):
        for pair in resource.attributes:
            if pair.key == names.WAFER_SITE_ID:
                pair.value.string_value = "fab9"
    assert not {one.id for one in items.items(signal, message.SerializeToString())} & {
        one.id for one in items.items(signal, body(signal))
    }


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_part_is_a_request_of_just_these_items(signal):
    whole = items.items(signal, body(signal))
    rest = items.items(signal, items.part(signal, body(signal), lambda place: place in {1, 3}))
    assert rest == [whole[1], whole[3]]


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_part_without_an_item_is_nothing(signal):
    assert items.part(signal, body(signal), lambda _: False) == b""


def test_a_span_says_who_sent_it_and_what_it_is():
    (span,) = items.items("traces", spans(1).SerializeToString())
    assert isinstance(span, items.Span)
    assert len(span.trace_id) == 32
    assert len(span.span_id) == 16
    assert span.end_ns >= span.start_ns > 0


@pytest.mark.parametrize("signal", SIGNALS)
def test_what_is_no_request_is_rejected(signal):
    with pytest.raises(StorageRejected, match=signal):
        items.items(signal, b"\xff\xff\xff")
    with pytest.raises(StorageRejected, match=signal):
        items.count(signal, b"\xff\xff\xff")


def test_a_part_of_metrics_has_the_points_that_are_wanted_of_every_kind_beside_a_metric_without_any():
    message = GOOD[Wire.METRICS](2)
    metrics = message.resource_metrics[0].scope_metrics[0].metrics
    metrics.add(name="nothing")
    metrics.add(name="lengths").histogram.data_points.add(count=3)
    metrics[-1].histogram.data_points.add(count=4)
    metrics.add(name="sum").sum.data_points.add(as_int=5)
    request = message.SerializeToString()
    whole = items.items("metrics", request)
    for position, item in enumerate(whole):
        assert items.items("metrics", items.part("metrics", request, {position}.__contains__)) == [item]
    assert items.count("metrics", request) == len(whole)


@pytest.mark.parametrize("signal", SIGNALS)
def test_items_are_counted_without_being_made(signal):
    assert items.count(signal, body(signal)) == len(items.items(signal, body(signal))) == 5
