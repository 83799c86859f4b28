"""Whatever is posted: each event is stored or refused, never both, and what is stored casts to jsonb."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.receiver.legacy.events import JOB, SUBJOB, body, event
from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.legacy import Lane, bodies
from wafermonitor.receiver.legacy.translation import translate
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([JOB, SUBJOB, "job", "started"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(st.text(), values, max_size=4)


@st.composite
def events(draw: st.DrawFn) -> Any:
    """An event with some fields replaced by anything, or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(values)
    sent: dict[str, Any] = event(
        draw(st.sampled_from(["started", "progress", "metric", "finished", "error", "canceled", "no"]))
    )
    sent["event"]["metrics"] = draw(objects | st.none())
    sent["event"]["metadata"] = draw(objects | st.none())
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from([sent, sent["app"] or {}, sent["entity"] or {}, sent["event"] or {}]))
        if isinstance(place, dict) and place:
            place = sent.get(draw(st.sampled_from(["app", "entity", "event"])), sent)
        if isinstance(place, dict) and place:
            place[draw(st.sampled_from(sorted(place)))] = draw(values)
    return sent


def finite(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def check(sent: bytes, number: int | None = None) -> None:
    try:
        submission = bodies.read(sent)
    except RequestRejected:
        assert number is None, "a body of JSON is read"
        return
    assert number in (None, len(submission.items))
    done = Lane().transcode(Request(Signal.LOGS, Encoding.EVENTS, sent, 1_800_000_000_000_000_000))
    assert done.batch.items + done.rejected == len(submission.items)
    assert len(done.batch.dead) == done.rejected == len(translate(submission).refusals)
    assert len(done.batch.runs) == done.batch.items
    for log in done.batch.logs:
        found = finite(log.attributes)
        assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))
        for text in (log.attributes, log.body or "", log.resource.attributes, log.resource.site):
            assert "\0" not in text
            assert "\\u0000" not in text
            text.encode()
    for letter in done.batch.dead:
        assert ": " in letter.reason or "nested deeper" in letter.reason
        letter.reason.encode()
        letter.site.encode()
    again = Lane().transcode(
        Request(Signal.LOGS, Encoding.EVENTS, submission.body(submission.items), 1_800_000_000_000_000_000)
    )
    assert [log.digest for log in again.batch.logs] == [log.digest for log in done.batch.logs]


@given(st.lists(events(), max_size=5))
def test_events_are_stored_or_refused_one_by_one(sent):
    check(body(*sent), len(sent))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(sent):
    check(sent)


@given(st.data())
def test_bodies_with_changed_bytes_are_refused_or_read(data):
    sent = bytearray(body(event("finished", 5, metadata={"x": [1, {"y": "µ"}]}), event("progress", 2, metrics={"progress": 3})))
    for _ in range(data.draw(st.integers(1, 6))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(sent))
