"""A sample becomes a request that a lane takes, or an error that says why it cannot; and something to look at in any case."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.receiver.dead_letters.letters import letter, whole
from tests.receiver.legacy.events import body, event
from tests.receiver.otlp import GOOD, as_json, last_item, logs, metrics, spans
from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.receiver.dead_letters import retry, samples
from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.transcode.policies import MAX_SAMPLE_BYTES
from wafermonitor.receiver.transcode.protocol import Encoding, Signal, Transcoded
from wafermonitor.runs.records import UNSET_SITE, DeadLetter

SIGNALS = [*Signal]


def transcode(dead: DeadLetter) -> Transcoded:
    request = samples.request_of(dead)
    return retry.lanes()[request.encoding].transcode(request)


def why_not(dead: DeadLetter) -> str:
    with pytest.raises(RequestRejected) as refused:
        samples.request_of(dead)
    return str(refused.value)


def resources(done: Transcoded) -> set[str]:
    batch = done.batch
    found = [*batch.spans, *batch.logs, *(point.series for point in batch.points)]
    return {row.resource.attributes for row in found}


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("signal", SIGNALS)
def test_a_request_is_sent_again_as_it_was(signal, as_text):
    dead = whole(signal, json=as_text)
    request = samples.request_of(dead)
    assert (request.signal, request.body, request.received_ns) == (signal, dead.sample, dead.received_ns)
    assert request.encoding is (Encoding.JSON if as_text else Encoding.PROTOBUF)
    assert transcode(dead).batch.items == 1


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("signal", SIGNALS)
def test_an_item_alone_is_sent_again_under_its_site(signal, as_text):
    item = last_item(GOOD[signal](1))
    dead = letter(json.dumps(request_from_proto(item)).encode() if as_text else item.SerializeToString(), signal.value)
    assert transcode(dead).batch.items == 1
    assert resources(transcode(dead)) == {'{"wafer.site.id":"f1"}'}
    assert resources(transcode(dead._replace(site=UNSET_SITE))) == {"{}"}


def test_a_long_item_alone_is_wrapped_whole():
    request = logs(1)
    item = last_item(request)
    item.body.string_value = "x" * 60_000
    (log,) = transcode(letter(item.SerializeToString(), "logs")).batch.logs
    assert log.body == json.dumps("x" * 60_000)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_data_point_alone_cannot_be_sent_again(as_text):
    point = last_item(metrics(1)).gauge.data_points[0]
    point.attributes.add(key="step").value.string_value = "probe"
    sample = json.dumps(request_from_proto(point)).encode() if as_text else point.SerializeToString()
    assert why_not(letter(sample, "metrics")) == samples.HOMELESS


def test_an_older_event_is_sent_again_by_the_older_lane():
    dead = letter(body(event("started"), site_id="f1"), "events")
    assert samples.request_of(dead).encoding is Encoding.EVENTS
    assert [run.job for run in transcode(dead).batch.runs] == ["daily-batch"]


@pytest.mark.parametrize("sample", [body(event()), json.dumps([event()]).encode(), json.dumps(event()).encode()])
def test_a_whole_older_body_among_the_logs_is_known(sample):
    assert transcode(letter(sample, "logs")).batch.items == 1


def test_a_span_with_events_is_no_older_body():
    request = spans(1)
    last_item(request).events.add(name="tick", time_unix_nano=1)
    sample = json.dumps(request_from_proto(last_item(request))).encode()
    assert samples.request_of(letter(sample)).encoding is Encoding.JSON


@pytest.mark.parametrize(
    ("sample", "signal", "words"),
    [
        (b"x" * MAX_SAMPLE_BYTES, "traces", samples.CUT),
        (b'{"resourceSpans":', "traces", samples.UNREADABLE),
        (b"[1]", "traces", samples.UNREADABLE),
        (b"", "profiles", samples.UNREADABLE),
    ],
)
def test_what_cannot_be_sent_again_says_why(sample, signal, words):
    assert why_not(letter(sample, signal)) == words


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_sample_is_shown_decoded(signal):
    request = GOOD[signal](1)
    assert samples.view(letter(request.SerializeToString(), signal.value)) == json.loads(as_json(request))
    assert samples.view(letter(as_json(request), signal.value)) == json.loads(as_json(request))
    item = last_item(request)
    assert samples.view(letter(item.SerializeToString(), signal.value)) == request_from_proto(item)


def test_a_sample_that_cannot_be_decoded_is_shown_as_text():
    assert samples.view(letter(b"\xff\xfe no span " + b"x" * 9000)).startswith("\ufffd\ufffd no span xxx")
    assert len(samples.view(letter(b"\xff" * 9000))) == samples.SHOWN_BYTES


@st.composite
def broken(draw: st.DrawFn) -> DeadLetter:
    """Any bytes, or a good sample of any kind with some bytes changed."""
    signal: Any = draw(st.sampled_from([*Signal, "events", "profiles"]))
    if signal not in list(Signal) or draw(st.booleans()):
        return letter(draw(st.binary(max_size=200)), str(signal))
    sample = bytearray(whole(Signal(signal), json=draw(st.booleans())).sample)
    for _ in range(draw(st.integers(0, 4))):
        sample[draw(st.integers(0, len(sample) - 1))] = draw(st.integers(0, 255))
    return letter(bytes(sample), str(signal))


@given(broken())
def test_any_sample_can_be_shown_and_is_taken_or_refused_with_words(dead):
    json.dumps(samples.view(dead))
    try:
        done = transcode(dead)
    except RequestRejected:
        return
    assert done.rejected == sum(1 for _ in done.batch.dead)
