"""Spans and lifecycle events become what is known of a run."""

from __future__ import annotations

import pytest

from tests.runs.strategies import SPAN_ID, T0, TRACE_ID
from wafermonitor.runs import lifecycle
from wafermonitor.runs.errors import RunIdRejected
from wafermonitor.runs.records import UNSET_SITE, Progress, parse_run_id

RESOURCE = {
    "wafer.site.id": "f1",
    "wafer.feed.id": "host-1",
    "service.name": "yield",
    "service.version": "2.0",
    "host.name": "host-1",
    "process.pid": 7,
    "service.instance.id": "abc",
}
ORIGIN = lifecycle.origin_of(RESOURCE)


def event(name, attributes=None, time_ns=T0):
    return lifecycle.run_of_event(
        ORIGIN,
        name,
        attributes or {},
        "{}",
        trace_id=TRACE_ID,
        span_id=SPAN_ID,
        time_ns=time_ns,
        received_ns=T0 + 5,
    )


def span(attributes, status=0):
    return lifecycle.run_of_span(
        ORIGIN,
        attributes,
        "{}",
        trace_id=TRACE_ID,
        span_id=SPAN_ID,
        start_ns=T0,
        end_ns=T0 + 10,
        status=status,
        received_ns=T0 + 20,
    )


def test_a_start_event_announces_the_run():
    run = event(
        "wafer.job.start",
        {
            "wafer.job.name": "lot_yield",
            "wafer.job.run.id": "r1",
            "wafer.job.heartbeat.interval": 30,
            "wafer.job.parent.span.id": "00000000000000aa",
            "wafer.lot.ids": ["L1", "L2"],
            "wafer.job.deadline": "2026-09-21T12:00:00+02:00",
            "wafer.job.expected_duration": 600,
        },
    )
    assert run is not None
    assert (run.job, run.run_id, run.start_ns, run.heartbeat_interval_s) == ("lot_yield", "r1", T0, 30)
    assert (run.parent_span_id, run.lot_ids) == (bytes.fromhex("00000000000000aa"), ("L1", "L2"))
    assert run.deadline_ns == 1_789_984_800_000_000_000
    assert (run.site, run.feed, run.service, run.ended, run.final_fields) == ("f1", "host-1", "yield", False, 0)


def test_every_event_names_the_start_it_belongs_to():
    run = event(
        "wafer.job.progress",
        {"wafer.job.start_time_unix_nano": T0 - 50, "wafer.job.progress.completed": 3, "wafer.job.progress.total": 12},
    )
    assert run is not None
    assert run.start_ns == T0 - 50
    assert run.progress == Progress(at_ns=T0, ratio=0.25, completed=3, total=12)


@pytest.mark.parametrize(("status", "result"), [(2, "failure"), (0, "success"), (1, "success")])
def test_a_span_of_stock_instrumentation_gets_its_result_from_its_status(status, result):
    run = span({"wafer.job.name": "fit"}, status)
    assert run is not None
    assert (run.result, run.end_rank, run.end_ns) == (result, 2, T0 + 10)


def test_a_plain_span_is_no_run():
    assert span({"http.request.method": "GET"}) is None


def test_another_event_is_not_about_a_run_and_neither_is_one_without_ids():
    assert event("session.start") is None
    nothing = lifecycle.run_of_event(
        ORIGIN, "wafer.job.start", {}, "{}", trace_id=bytes(16), span_id=SPAN_ID, time_ns=T0, received_ns=T0
    )
    assert nothing is None


@pytest.mark.parametrize("bad", ["3", True, float("nan"), [1], {"a": 1}, 2**70, None])
def test_a_value_of_the_wrong_type_is_absent_and_harms_nothing(bad):
    run = span({"wafer.job.name": "fit", "wafer.job.attempt": bad, "wafer.job.expected_duration": bad, "wafer.lot.ids": bad})
    assert run is not None
    assert run.attempt is None


def test_a_heartbeat_counts_for_its_process():
    beat = lifecycle.process_beat(ORIGIN, "wafer.job.heartbeat", {"wafer.job.heartbeat.interval": 5}, T0)
    assert beat is not None
    assert (beat.key, beat.beat_ns, beat.interval_s) == (ORIGIN.process_key, T0, 5)
    assert lifecycle.process_beat(ORIGIN, "wafer.job.progress", {}, T0) is None


def test_a_fork_is_another_process():
    forked = lifecycle.origin_of(RESOURCE | {"service.instance.id": "def"})
    assert forked.process_key != ORIGIN.process_key


def test_a_feed_beat_from_the_future_is_clamped_and_its_skew_is_kept():
    beat = lifecycle.feed_beat(ORIGIN, "wafer.feed.beat", T0 + 100, T0)
    assert beat is not None
    assert (beat.beat_ns, beat.skew_ns) == (T0, -100)


def test_a_resource_without_a_site_belongs_to_unset():
    assert lifecycle.origin_of({}).site == UNSET_SITE


def test_a_run_is_named_by_trace_and_span():
    name = f"{TRACE_ID.hex()}-{SPAN_ID.hex()}"
    assert parse_run_id(name.upper()) == (TRACE_ID, SPAN_ID)
    with pytest.raises(RunIdRejected, match="expected"):
        parse_run_id(name + "0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-21", 1_789_948_800_000_000_000),
        ("2026-09-21 12:00:00.1234567Z", 1_789_992_000_123_456_000),
        ("1969-12-31T23:59:59.5", -500_000_000),
        ("2026-09-21T12:00Z", None),
        ("20260921T120000Z", None),
        ("2026-W39-1", None),
        ("2026-09-21T12:00:00+0200", None),
        ("2026-09-21T12:00:00+24:00", None),
        ("2026-02-30", None),
        ("2263-01-01", None),
    ],
)
def test_an_instant_is_rfc_3339_and_nothing_else(text, expected):
    run = event("wafer.job.start", {"wafer.job.deadline": text})
    assert run is not None
    assert run.deadline_ns == expected
