"""What is read is what was written: every field, every digit, every odd value."""

from __future__ import annotations

import json

import pytest

from tests.storage.contract.builders import (
    DAY,
    HOUR,
    NOW,
    PROCESS,
    SECOND,
    SITE,
    TRACE,
    beat,
    dead,
    ended,
    feed_beat,
    log,
    point,
    resource,
    run,
    runs,
    scope,
    series,
    span,
    span_id,
)
from wafermonitor.runs.records import Batch, Feed, Progress
from wafermonitor.runs.state import Limits, State
from wafermonitor.storage.protocol import LogQuery, MetricQuery, RunQuery, ServiceApp, SiteStatus, SpanQuery

ODD_JSON = [
    "{}",
    '{"empty": "", "list": [], "none": null, "yes": true}',
    '{"big": 9223372036854775807, "small": -9223372036854775808, "huge": 123456789012345678901234567890}',
    '{"float": 1.7976931348623157e308, "tiny": 5e-324, "third": 0.1}',
    '{"text": "漢字 Ünïcode \\" \\\\ \\n \\t \\u0001 😀"}',
    '{"twice": 1, "twice": 2}',
    '{"nested": {"a": [1, {"b": [[]]}]}}',
    json.dumps({f"key {number}": "x" * 100 for number in range(1000)}),
]


@pytest.mark.parametrize("attributes", ODD_JSON, ids=range(len(ODD_JSON)))
async def test_json_text_comes_back_to_the_letter(engine, attributes):
    written = span(1, attributes=attributes, events=f"[{attributes}]", links=f"[{attributes}]")
    line = log(1, attributes=attributes, body=attributes)
    await engine.writer.write([Batch(spans=[written], logs=[line], runs=[run(1, attributes=attributes)])])
    assert (await engine.reader.spans(SpanQuery(trace_id=TRACE))).items == [written]
    assert (await engine.reader.logs(LogQuery(trace_id=TRACE))).items == [line]
    assert (await engine.reader.runs(RunQuery())).items[0].run.attributes == attributes


async def test_a_span_with_every_field_at_its_end(engine):
    written = [
        span(1, flags=2**32 - 1, dropped_attributes=2**32 - 1, dropped_events=3, dropped_links=4, kind=5, status=2),
        span(2, name="", status_message="große 漢字 😀", trace_state="a=1,b=2", parent_span_id=b"\xff" * 8),
        span(3, name="x" * 100_000, duration_ns=2**62, resource=resource(feed=None, service_version=None, process_key=None)),
        span(4, start_ns=NOW - 1, duration_ns=-5, scope=scope("", "")),
    ]
    await engine.writer.write([Batch(spans=written)])
    assert (await engine.reader.spans(SpanQuery(trace_id=TRACE))).items == written
    assert await engine.reader.span(TRACE, written[1].span_id) == written[1]
    assert await engine.reader.span(TRACE, written[1].span_id, "elsewhere") is None


async def test_a_record_without_ids_body_or_name_is_a_record(engine):
    bare = log(1, trace_id=None, span_id=None, body=None, severity=0, severity_text="", event_name="")
    half = log(2, span_id=None, body="null", severity=24, event_name="wafer.job.start")
    await engine.writer.write([Batch(logs=[bare, half])])
    assert (await engine.reader.logs(LogQuery(trace_id=TRACE))).items == [half]


async def test_points_of_every_kind(engine):
    histogram = series("wafer.job.duration", type="histogram", temporality=1, monotonic=False, attributes='{"job": "a"}')
    summary = series("old.summary", type="summary", temporality=0, unit="")
    written = [
        point(1, series=summary, value=None, count=7, sum=21.0, bounds=(0.5, 0.99), quantile_values=(3.0, 9.0)),
        point(1, value=-0.0, flags=1),
        point(2, value=1e308, start_ns=NOW - DAY),
        point(3, series=histogram, value=None, count=2**62, sum=1.5, min=0.1, max=1.4, bounds=(1.0,), buckets=(0, 2**62)),
        point(4, series=histogram, value=None, count=0, sum=None, bounds=(), buckets=(0,)),
    ]
    await engine.writer.write([Batch(points=written)])
    query = MetricQuery(site=SITE, process_key=PROCESS, service=None, from_ns=NOW - DAY, to_ns=NOW)
    assert sorted(await engine.reader.metrics(query), key=written.index) == written
    names = [found.series.name for found in await engine.reader.metrics(query)]
    assert names == sorted(names)


async def test_metrics_are_found_by_process_or_service_within_their_times_and_names(engine):
    other = series("other", resource=resource(service="etch", process_key=b"2" * 16))
    abroad = series("other", resource=resource(site="f2"))
    mine, late, foreign, far = point(1), point(2), point(3, series=other), point(4, series=abroad)
    await engine.writer.write([Batch(points=[mine, late, foreign, far])])

    async def ask(**given):
        fields = {"site": SITE, "process_key": PROCESS, "service": None, "from_ns": mine.time_ns, "to_ns": foreign.time_ns}
        return await engine.reader.metrics(MetricQuery(**fields | given))

    assert await ask() == [mine, late]
    assert await ask(to_ns=mine.time_ns) == [mine]
    assert await ask(from_ns=late.time_ns) == [late]
    assert await ask(limit=1) == [mine]
    assert await ask(names=("other",)) == []
    assert await ask(process_key=None, service="etch") == [foreign]
    assert await ask(site="f2", to_ns=far.time_ns) == [far]


async def test_a_run_with_every_field(engine):
    written = ended(
        1,
        run_id="",
        parent_span_id=b"\x80" + b"\x00" * 7,
        parent_run_id="p",
        service_version="2",
        attempt=2**63 - 1,
        trigger="schedule",
        nominal_time_ns=NOW - 1,
        expected_duration_s=0.1,
        deadline_ns=NOW + 1,
        owner="o'wner",
        equipment="tool\\7",
        recipe="r {1}",
        product='"p"',
        lot_ids=("a,b", '"', "{}", "\\", "NULL", "漢", " "),
        substrate_ids=(),
        process_key=PROCESS,
        error_type="E",
        heartbeat_interval_s=30.0,
        progress=Progress(NOW, 1 / 3, 1.0, 3.0, "die", "probe", "so far"),
        cpu_s=1e-9,
        memory_bytes=2**40,
    )
    await engine.writer.write(runs(written))
    stored = await engine.reader.run(written.trace_id, written.span_id)
    assert stored.run == written
    assert (stored.state, stored.overdue) == (State.ENDED, False)


async def test_a_run_of_which_hardly_anything_is_known(engine):
    written = run(1, start_ns=None, job=None, run_id=None, feed=None, service=None, attributes=None, last_sign_ns=None)
    await engine.writer.write(runs(written))
    stored = await engine.reader.run(written.trace_id, written.span_id)
    assert stored.run == written
    assert (stored.state, stored.overdue) == (State.RUNNING, False)


async def test_ids_and_sites_tell_runs_apart(engine):
    near, far = run(1, site="f1", job="near"), run(1, site="f2", job="far")
    await engine.writer.write(runs(far, near))
    assert (await engine.reader.run(near.trace_id, near.span_id)).run == near
    assert (await engine.reader.run(near.trace_id, near.span_id, "f2")).run == far
    assert await engine.reader.run(near.trace_id, near.span_id, "f3") is None
    assert await engine.reader.run(near.trace_id, span_id(9)) is None


async def test_sites_feeds_and_services_are_listed(engine):
    newer = span(2, resource=resource(service_version="1.3"), received_ns=NOW + SECOND)
    elsewhere = log(1, resource=resource(site="a", service="etch"))
    beats = [feed_beat(NOW - 5, NOW - 3, 2), feed_beat(NOW - 9, NOW, -7), feed_beat(feed="host-0", skew_ns=4)]
    await engine.writer.write(
        [Batch(spans=[span(1), newer], logs=[elsewhere], runs=[run(1), ended(2)], feeds=beats, dead=[dead()])]
    )
    assert await engine.reader.sites() == [
        SiteStatus("a", [], {}),
        SiteStatus(SITE, [Feed(SITE, "host-0", NOW, NOW, 4), Feed(SITE, "host-1", NOW - 5, NOW, -7)], {State.RUNNING: 1}),
    ]
    mine = ServiceApp("yield", "1.3", SITE, NOW + SECOND)
    assert await engine.reader.apps() == [ServiceApp("etch", "1.2", "a", NOW), mine]
    assert await engine.reader.apps(SITE) == [mine]
    assert (await engine.reader.health()).newest_received_ns == NOW + SECOND
    assert await engine.reader.limits() == Limits()


async def test_an_empty_store_answers(engine):
    reader = engine.reader
    assert (await reader.runs(RunQuery())).items == []
    assert (await reader.runs(RunQuery(order="failing"))).items == []
    assert (await reader.spans(SpanQuery())).items == []
    assert (await reader.logs(LogQuery(trace_id=TRACE))).items == []
    assert await reader.tree(TRACE) == []
    assert await reader.sites() == []
    assert await reader.apps() == []
    assert (await reader.health()).newest_received_ns is None
    assert (await reader.changes((await reader.changes(None)).token)).runs == []


async def test_nothing_to_write_is_written(engine):
    await engine.writer.write([])
    await engine.writer.write([Batch(), Batch()])
    assert await engine.reader.sites() == []


async def test_a_process_beat_shows_on_every_run_of_the_process(engine):
    others = b"2" * 16
    await engine.writer.write(
        [Batch(runs=[run(1, process_key=PROCESS), ended(2, process_key=PROCESS), run(3, process_key=others)])]
    )
    await engine.writer.write([Batch(processes=[beat(NOW - HOUR), beat(NOW - 2 * HOUR, 60.0)])])
    page = await engine.reader.runs(RunQuery())
    seen = {stored.run.run_id: (stored.run.process_beat_ns, stored.run.process_interval_s) for stored in page.items}
    assert seen == {"run-1": (NOW - HOUR, 60.0), "run-2": (NOW - HOUR, 60.0), "run-3": (None, None)}
