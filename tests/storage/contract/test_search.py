"""Which runs, spans and records a question finds, in which order, a page at a time."""

from __future__ import annotations

import pytest

from tests.storage.contract.builders import (
    HOUR,
    NOW,
    SECOND,
    SITE,
    TRACE,
    ended,
    feed_beat,
    log,
    resource,
    run,
    runs,
    span,
    span_id,
    trace_id,
)
from wafermonitor.runs.records import Batch
from wafermonitor.runs.state import State
from wafermonitor.storage.errors import CursorRejected
from wafermonitor.storage.protocol import LogQuery, RunQuery, SpanQuery

MINUTE = 60 * SECOND
WORLD = [
    run(
        1,
        start_ns=NOW - 10 * MINUTE,
        lot_ids=("L1",),
        equipment="prober-1",
        attributes='{"wafer.param.dies": 12, "mode": "hot"}',
    ),
    run(2, start_ns=NOW - 20 * MINUTE, heartbeat_interval_s=10.0, last_sign_ns=NOW - MINUTE, owner="ZOË", feed="host-live"),
    run(3, start_ns=NOW - 30 * MINUTE, heartbeat_interval_s=10.0, last_sign_ns=NOW - 20 * MINUTE, feed="host-live"),
    run(4, start_ns=NOW - 40 * MINUTE, heartbeat_interval_s=10.0, last_sign_ns=NOW - 5 * MINUTE, feed="host-cut"),
    run(5, start_ns=NOW - 50 * MINUTE, expected_duration_s=60.0, job="etch_drift", service="etch", recipe="R-9"),
    run(6, start_ns=None, job="lost_start", parent_span_id=span_id(1)),
    run(7, start_ns=NOW - 15 * MINUTE, trace_id=trace_id(1), parent_span_id=span_id(1), substrate_ids=("L1-01", "L1-02")),
    ended(
        11,
        start_ns=NOW - 60 * MINUTE,
        end_ns=NOW - 55 * MINUTE,
        lot_ids=("L1", "L2"),
        product="P-1",
        attributes=r'{"free_text":"5% of a_b","ratio":12.25,"path":"C:\\lots \"7\"/é"}',
    ),
    ended(12, start_ns=NOW - 60 * MINUTE, end_ns=NOW - 50 * MINUTE, result="failure", error_type="BadDie"),
    ended(13, start_ns=NOW - 70 * MINUTE, end_ns=NOW - 69 * MINUTE, result="timeout", job="etch_drift", service="etch"),
    ended(14, start_ns=NOW - 80 * MINUTE, end_ns=NOW - 70 * MINUTE, result="skip", recipe="R-9", deadline_ns=NOW - 75 * MINUTE),
    ended(15, start_ns=None, end_ns=NOW - 5 * MINUTE, end_rank=1, result="cancellation", equipment="prober-2"),
    ended(
        16, start_ns=NOW - 48 * HOUR, end_ns=NOW - 47 * HOUR, site="f2", attributes='{"wafer.param.dies": "12", "mode": null}'
    ),
    ended(17, start_ns=NOW - 4000 * HOUR, end_ns=NOW - 3999 * HOUR, result="error", product="P-1"),
]
FEEDS = [feed_beat(NOW, feed="host-live"), feed_beat(NOW - 5 * MINUTE, feed="host-cut")]
NEWEST = [1, 7, 2, 3, 4, 5, 11, 12, 13, 14, 16, 17, 6, 15]
FAILING = [3, 2, 4, 5, 12, 13, 17, 1, 7, 6, 11, 14, 16, 15]
OPEN = [number for number in NEWEST if number < 10]


def by_ids(*numbers: int) -> list[int]:
    """Runs that began at one moment follow each other by their ids."""
    return sorted(numbers, key=lambda number: (trace_id(number).hex(), span_id(number).hex()))


NEWEST[6:8] = by_ids(11, 12)
NEWEST[12:14] = by_ids(6, 15)
CASES = {
    "everything": (RunQuery(), NEWEST),
    "a job": (RunQuery(job=("etch_drift",)), [5, 13]),
    "two jobs": (RunQuery(job=("etch_drift", "lost_start", "nobody")), [5, 13, 6]),
    "a site": (RunQuery(site=("f2",)), [16]),
    "a site nobody knows": (RunQuery(site=("f9",)), []),
    "running": (RunQuery(state=(State.RUNNING,)), [1, 7, 5, 6]),
    "silent or lost": (RunQuery(state=(State.SILENT, State.LOST)), [2, 3]),
    "unknown": (RunQuery(state=(State.UNKNOWN,)), [4]),
    "ended": (RunQuery(state=(State.ENDED,)), [number for number in NEWEST if number > 10]),
    "ended or lost": (
        RunQuery(state=(State.ENDED, State.LOST), site=(SITE,), from_ns=NOW - 2 * HOUR),
        [3, *by_ids(11, 12), 13, 14],
    ),
    "a result": (RunQuery(result=("failure",)), [12]),
    "two results": (RunQuery(result=("skip", "timeout")), [13, 14]),
    "a service": (RunQuery(app=("etch",)), [5, 13]),
    "a lot": (RunQuery(lot=("L1",)), [1, 11]),
    "one of two lots": (RunQuery(lot=("L2", "L7")), [11]),
    "a wafer": (RunQuery(substrate=("L1-02",)), [7]),
    "equipment": (RunQuery(equipment=("prober-1", "prober-2")), [1, 15]),
    "a recipe": (RunQuery(recipe=("R-9",)), [5, 14]),
    "a product": (RunQuery(product=("P-1",)), [11, 17]),
    "a run id": (RunQuery(run_id=("run-13",)), [13]),
    "a number attribute": (RunQuery(attributes=(("wafer.param.dies", "12"),)), [1, 16]),
    "two attributes": (RunQuery(attributes=(("wafer.param.dies", "12"), ("mode", "hot"))), [1]),
    "an attribute of letters that are special in patterns": (RunQuery(attributes=(("free_text", "5% of a_b"),)), [11]),
    "an attribute that is a fraction": (RunQuery(attributes=(("ratio", "12.25"),)), [11]),
    "an attribute that is written with escapes": (RunQuery(attributes=(("path", 'C:\\lots "7"/é'),)), [11]),
    "an attribute whose value another has": (RunQuery(attributes=(("mode", "5% of a_b"),)), []),
    "an attribute nobody has": (RunQuery(attributes=(("nothing", "12"),)), []),
    "text of any case": (RunQuery(text="PROBER-"), [1, 15]),
    "text of an owner": (RunQuery(text="zoë"), [2]),
    "text of a wafer": (RunQuery(text="l1-0"), [7]),
    "text with a wildcard in it": (RunQuery(text="%"), []),
    "overdue": (RunQuery(overdue=True), [5]),
    "not overdue, etching": (RunQuery(overdue=False, job=("etch_drift",)), [13]),
    "roots": (RunQuery(subjobs=False, site=(SITE,), state=(State.RUNNING,)), [1, 5]),
    "subjobs": (RunQuery(subjobs=True), [7, 6]),
    "children of a run": (RunQuery(parent=(trace_id(1), span_id(1))), [7]),
    "from, included": (RunQuery(from_ns=NOW - 20 * MINUTE), [1, 7, 2]),
    "to, not included": (RunQuery(to_ns=NOW - 80 * MINUTE), [16, 17, *by_ids(6, 15)]),
    "between": (RunQuery(from_ns=NOW - 70 * MINUTE, to_ns=NOW - 60 * MINUTE), [13]),
    "long": (RunQuery(min_duration_s=600.0), [12, 14, 16, 17]),
    "short": (RunQuery(max_duration_s=300.0), [11, 13]),
    "all at once": (
        RunQuery(site=(SITE,), job=("lot_yield",), result=("success",), lot=("L1",), product=("P-1",), text="l2"),
        [11],
    ),
    "failing first": (RunQuery(order="failing"), FAILING),
    "failing first, one job": (RunQuery(order="failing", job=("etch_drift",)), [5, 13]),
    "failing first, ended": (RunQuery(order="failing", state=(State.ENDED,), from_ns=NOW - 2 * HOUR), [12, 13, 11, 14]),
}


def numbers(page) -> list[int]:
    known = {(record.site, record.span_id): int(record.run_id.removeprefix("run-")) for record in WORLD}
    return [known[stored.run.site, stored.run.span_id] for stored in page.items]


@pytest.fixture
async def world(engine):
    await engine.writer.write([Batch(runs=[record]) for record in WORLD])
    await engine.writer.write([Batch(feeds=FEEDS)])
    return engine


async def test_every_question_about_runs_finds_what_it_should(world):
    found = {name: numbers(await world.reader.runs(query)) for name, (query, _) in CASES.items()}
    assert found == {name: wanted for name, (_, wanted) in CASES.items()}


@pytest.mark.parametrize("order", ["newest", "failing"])
@pytest.mark.parametrize("limit", [1, 3, 14, 15])
async def test_pages_give_every_run_once_in_one_order(world, order, limit):
    pages, cursor = [], None
    while True:
        page = await world.reader.runs(RunQuery(order=order, limit=limit, cursor=cursor))
        assert len(page.items) <= limit
        pages += numbers(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == (NEWEST if order == "newest" else FAILING)


async def test_a_page_goes_on_where_it_ended_while_runs_arrive(world):
    first = await world.reader.runs(RunQuery(limit=3))
    await world.writer.write(runs(run(99, start_ns=NOW - SECOND, run_id="run-99")))
    second = await world.reader.runs(RunQuery(limit=3, cursor=first.cursor))
    assert numbers(first) + numbers(second) == NEWEST[:6]


async def test_a_limit_has_limits(world):
    assert len((await world.reader.runs(RunQuery(limit=0))).items) == 1
    assert len((await world.reader.runs(RunQuery(limit=10**9))).items) == len(WORLD)


@pytest.mark.parametrize("cursor", ["x", "", "W10=", "WzFd", "eyJhIjoxfQ==", "WyJhIiwgImIiLCAiYyIsICJkIl0=", "漢"])
async def test_a_cursor_of_somebody_else_is_refused(world, cursor):
    for ask, query in (
        (world.reader.runs, RunQuery(cursor=cursor)),
        (world.reader.runs, RunQuery(cursor=cursor, order="failing")),
        (world.reader.spans, SpanQuery(trace_id=TRACE, cursor=cursor)),
        (world.reader.spans, SpanQuery(cursor=cursor)),
        (world.reader.logs, LogQuery(trace_id=TRACE, cursor=cursor)),
    ):
        with pytest.raises(CursorRejected):
            await ask(query)


async def test_the_runs_of_a_trace_stand_in_order_of_start(engine):
    tree = [ended(number, trace_id=TRACE, start_ns=NOW - number) for number in (5, 4, 3)] + [
        run(2, trace_id=TRACE, start_ns=NOW - 2)
    ]
    await engine.writer.write(runs(*reversed(tree), run(9)))
    assert [stored.run for stored in await engine.reader.tree(TRACE)] == tree
    assert [stored.run for stored in await engine.reader.tree(TRACE, SITE, limit=2)] == tree[:2]
    assert await engine.reader.tree(TRACE, "f2") == []


async def test_spans_of_a_trace_come_oldest_first_in_pages(engine):
    written = [span(number, start_ns=NOW - HOUR + number // 2) for number in range(25)]
    await engine.writer.write([Batch(spans=[*reversed(written), span(99, trace_id=trace_id(99))])])
    wanted = sorted(written, key=lambda item: (item.start_ns, item.span_id))
    found, cursor = [], None
    while True:
        page = await engine.reader.spans(SpanQuery(trace_id=TRACE, limit=7, cursor=cursor))
        found += page.items
        cursor = page.cursor
        if cursor is None:
            break
    assert found == wanted


async def test_spans_of_a_trace_by_site_service_and_time(engine):
    mine, etch, abroad = span(1), span(2, resource=resource(service="etch")), span(3, resource=resource(site="f2"))
    await engine.writer.write([Batch(spans=[mine, etch, abroad])])

    async def ask(**given):
        return (await engine.reader.spans(SpanQuery(trace_id=TRACE, **given))).items

    assert await ask(site="f2") == [abroad]
    assert await ask(app="etch") == [etch]
    assert await ask(from_ns=etch.start_ns) == [etch, abroad]
    assert await ask(to_ns=etch.start_ns) == [mine]
    assert await ask(from_ns=etch.start_ns, to_ns=etch.start_ns) == []


async def test_root_spans_come_newest_first_in_pages(engine):
    services = ("yield", "etch")
    roots = [
        span(
            number,
            trace_id=trace_id(number),
            start_ns=NOW - HOUR - number // 3,
            resource=resource(service=services[number % 2]),
        )
        for number in range(30)
    ]
    inner = [span(number, parent_span_id=span_id(1)) for number in range(40, 45)]
    await engine.writer.write([Batch(spans=roots + inner)])
    wanted = sorted(roots, key=lambda item: (-item.start_ns, item.trace_id, item.span_id))
    for app in (None, "etch"):
        found, cursor = [], None
        while True:
            page = await engine.reader.spans(SpanQuery(app=app, limit=4, cursor=cursor))
            found += page.items
            cursor = page.cursor
            if cursor is None:
                break
        assert found == [item for item in wanted if app in (None, item.resource.service)]
    times = SpanQuery(from_ns=NOW - HOUR - 5, to_ns=NOW - HOUR - 3, site=SITE)
    assert (await engine.reader.spans(times)).items == [item for item in wanted if -5 <= item.start_ns - NOW + HOUR < -3]
    assert (await engine.reader.spans(SpanQuery(site="f2"))).items == []


async def test_log_records_by_span_severity_event_and_site(engine):
    lines = [
        log(1, severity=5),
        log(2, event_name="wafer.job.start"),
        log(3, span_id=span_id(2), severity=17),
        log(4, resource=resource(site="f2")),
        log(5, trace_id=trace_id(5)),
    ]
    await engine.writer.write([Batch(logs=lines)])

    async def ask(**given):
        return [lines.index(line) + 1 for line in (await engine.reader.logs(LogQuery(trace_id=TRACE, **given))).items]

    assert await ask() == [1, 2, 3, 4]
    assert await ask(span_id=span_id(1)) == [1, 2, 4]
    assert await ask(min_severity=9) == [2, 3, 4]
    assert await ask(event_names=("wafer.job.start", "other")) == [2]
    assert await ask(site="f2") == [4]


async def test_log_records_come_oldest_first_in_pages(engine):
    lines = [log(number, time_ns=NOW - HOUR + number // 3) for number in range(20)]
    await engine.writer.write([Batch(logs=list(reversed(lines)))])
    found, cursor = [], None
    while True:
        page = await engine.reader.logs(LogQuery(trace_id=TRACE, limit=6, cursor=cursor))
        found += page.items
        cursor = page.cursor
        if cursor is None:
            break
    assert found == sorted(lines, key=lambda line: (line.time_ns, line.digest))


async def test_a_run_is_found_by_what_only_a_message_with_another_start_or_none_says(engine):
    """Where each word stands is not where the run starts; newer runs, and older ones, stand between."""
    for number, start_ns in enumerate((None, NOW - MINUTE, NOW - 9 * HOUR), start=1):
        words = {"equipment": "prober-9", "recipe": "R-9", "lot_ids": ("L9",), "start_ns": start_ns}
        for message in (
            run(number, start_ns=NOW - 5 * HOUR - number),
            run(number, **words, run_id=f"z{number}"),
            ended(number, **words),
        ):
            await engine.writer.write(runs(message))
    await engine.writer.write(runs(*(ended(number, start_ns=NOW - number * MINUTE // 4) for number in range(10, 40))))
    for given in ({"equipment": ("prober-9",)}, {"recipe": ("R-9",), "result": ("success",)}, {"lot": ("L9",)}):
        for limit in (1, 2, 50):
            found, cursor = [], None
            while not found or cursor is not None:
                page = await engine.reader.runs(RunQuery(**given, limit=limit, cursor=cursor))
                found += [stored.run.trace_id for stored in page.items]
                cursor = page.cursor
            assert found == [trace_id(number) for number in (1, 2, 3)]
    since = RunQuery(equipment=("prober-9",), from_ns=NOW - 6 * HOUR, to_ns=NOW - 4 * HOUR)
    assert [one.run.trace_id for one in (await engine.reader.runs(since)).items] == [trace_id(1), trace_id(2)]
