"""Whatever is sent again, in any order, by any number of senders, is stored once."""

from __future__ import annotations

import asyncio
import random

from tests.storage.contract.builders import (
    DAY,
    HOUR,
    NOW,
    PROCESS,
    SITE,
    TRACE,
    beat,
    dead,
    ended,
    feed_beat,
    log,
    point,
    run,
    span,
    span_id,
    trace_id,
)
from wafermonitor.runs.records import Batch
from wafermonitor.storage.protocol import LogQuery, MetricQuery, RunQuery, SpanQuery


async def spans_of(engine, trace=TRACE):
    found, cursor = [], None
    while True:
        page = await engine.reader.spans(SpanQuery(trace_id=trace, limit=1000, cursor=cursor))
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


async def points_of(engine):
    return await engine.reader.metrics(
        MetricQuery(site=SITE, process_key=PROCESS, service=None, from_ns=0, to_ns=NOW + 99 * DAY)
    )


def batch(number: int) -> Batch:
    """One request's worth, some of it late and some from a clock that is wrong."""
    return Batch(
        spans=[span(number * 10 + step, trace_id=trace_id(number)) for step in range(8)]
        + [
            span(number, trace_id=trace_id(number), start_ns=NOW - 40 * DAY),
            span(number, trace_id=trace_id(number), start_ns=0),
        ],
        logs=[log(number * 10 + step, trace_id=trace_id(number), time_ns=NOW - step * 20 * DAY) for step in range(3)],
        points=[point(number * 10 + step) for step in range(3)],
        runs=[run(number), ended(number) if number % 2 else run(number, cpu_s=1.0)],
        processes=[beat(NOW + number)],
        feeds=[feed_beat(NOW + number)],
        dead=[dead(f"reason {number}")],
    )


async def test_r05_redelivery(engine):
    """Every batch three times, shuffled, in parallel, over two writers: rows = unique spans."""
    batches = [batch(number) for number in range(24)] * 3
    random.Random(5).shuffle(batches)
    groups = [batches[first : first + 4] for first in range(0, len(batches), 4)]
    writers = (engine.another_writer(), engine.another_writer())

    async def send(writer, share):
        for group in share:
            await writer.write(group)

    await asyncio.gather(*(send(writers[lane % 2], groups[lane::4]) for lane in range(4)))
    for number in range(24):
        wanted = {(item.span_id, item.start_ns) for item in batch(number).spans}
        found = await spans_of(engine, trace_id(number))
        assert len(found) == len(wanted) == 10
        assert {(item.span_id, item.start_ns) for item in found} == wanted
        assert len((await engine.reader.logs(LogQuery(trace_id=trace_id(number)))).items) == 3
    assert len(await points_of(engine)) == 24 * 3
    stored = (await engine.reader.runs(RunQuery(limit=1000))).items
    assert sorted(item.run.run_id for item in stored) == sorted(f"run-{number}" for number in range(24))
    assert sum(item.run.ended for item in stored) == 12
    (site,) = await engine.reader.sites()
    assert site.feeds[0].watermark_ns == NOW + 23


async def test_one_span_id_at_two_times_is_two_spans(engine):
    """Jaeger's case: 200 spans of which every twentieth repeats an id at another time; all are kept."""
    written = [span(number % 190 if number % 20 == 0 else number, start_ns=NOW - HOUR + number) for number in range(200)]
    await engine.writer.write([Batch(spans=written)])
    await engine.writer.write([Batch(spans=written)])
    assert await spans_of(engine) == written


async def test_spans_a_nanosecond_apart_are_two(engine):
    written = [span(1, start_ns=NOW - HOUR + step) for step in range(3)]
    await engine.writer.write([Batch(spans=written)])
    assert await spans_of(engine) == written


async def test_a_trace_of_10008_spans_is_whole(engine):
    written = [span(number, start_ns=NOW - HOUR + number * 1000) for number in range(10_008)]
    await engine.writer.write([Batch(spans=written[start : start + 2000]) for start in range(0, 10_008, 2000)])
    assert await spans_of(engine) == written


async def test_doubles_inside_one_group_are_one(engine):
    doubled = Batch(spans=[span(1), span(1)], logs=[log(1), log(1)], points=[point(1), point(1)])
    await engine.writer.write([doubled, doubled])
    assert await spans_of(engine) == [span(1)]
    assert (await engine.reader.logs(LogQuery(trace_id=TRACE))).items == [log(1)]
    assert await points_of(engine) == [point(1)]


async def test_the_first_of_two_spans_with_one_key_stays(engine):
    await engine.writer.write([Batch(spans=[span(1, name="first")])])
    await engine.writer.write([Batch(spans=[span(1, name="second"), span(2)])])
    assert [item.name for item in await spans_of(engine)] == ["first", "step 2"]


async def test_late_and_future_rows_are_stored_once_and_read_in_their_place(engine):
    starts = [0, NOW - 4000 * DAY, NOW - 30 * DAY, NOW - 4 * DAY, NOW - DAY, NOW, NOW + DAY, NOW + 40 * DAY, 2**63 - 1]
    written = [span(number, start_ns=start) for number, start in enumerate(starts)]
    lines = [log(number, time_ns=start) for number, start in enumerate(starts)]
    points = [point(number, time_ns=start) for number, start in enumerate(starts)]
    for _ in range(3):
        await engine.writer.write([Batch(spans=written, logs=lines, points=points)])
    assert await spans_of(engine) == written
    assert (await engine.reader.logs(LogQuery(trace_id=TRACE))).items == lines
    everything = MetricQuery(site=SITE, process_key=PROCESS, service=None, from_ns=0, to_ns=2**63 - 1)
    assert await engine.reader.metrics(everything) == points


async def test_writers_that_meet_a_new_site_service_and_process_together_agree(engine):
    writers = [engine.another_writer() for _ in range(4)]
    await asyncio.gather(*(writer.write([batch(number)]) for number, writer in enumerate(writers)))
    assert [site.site for site in await engine.reader.sites()] == [SITE]
    assert [app.service for app in await engine.reader.apps()] == ["yield"]


async def test_r06_time_chaos(engine):
    """Clocks a day off, rows 72 h late, ends before starts, zero times, orphans, circles: nothing is lost or breaks."""
    dice = random.Random(6)
    offsets = [-DAY, DAY, -3 * DAY, 0, -NOW]
    written = [
        span(
            number,
            start_ns=NOW + dice.choice(offsets),
            duration_ns=dice.choice([-HOUR, 0, HOUR]),
            parent_span_id=dice.choice([None, span_id(number), span_id(number + 1), b"\xff" * 8]),
        )
        for number in range(200)
    ]
    ends = [
        ended(number, start_ns=NOW + dice.choice(offsets), end_ns=NOW + dice.choice(offsets), parent_span_id=b"\xff" * 8)
        for number in range(50)
    ]
    beats = [feed_beat(NOW - DAY, NOW, DAY), feed_beat(NOW, NOW, -DAY), feed_beat(0, NOW, NOW)]
    await engine.writer.write([Batch(spans=written, runs=ends, feeds=beats)])
    assert sorted(await spans_of(engine)) == sorted(written)
    stored = (await engine.reader.runs(RunQuery(limit=1000))).items
    assert sorted((item.run for item in stored), key=lambda item: item.key) == sorted(ends, key=lambda item: item.key)
    for order in ("newest", "failing"):
        assert len((await engine.reader.runs(RunQuery(order=order, limit=1000))).items) == 50
    (site,) = await engine.reader.sites()
    assert (site.feeds[0].watermark_ns, site.feeds[0].skew_ns) == (NOW, -DAY)
