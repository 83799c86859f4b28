"""What is asked is answered alike before and after days have left for the archive: page by page, across the boundary."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, SITES, TODAY, Folder, archive
from tests.storage.contract.builders import DAY, HOUR, PROCESS, SECOND, ended, resource, span, trace_id
from tests.storage.engines import Clock
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive.merged import MergedReader
from wafermonitor.storage.archive.protocol import day_of
from wafermonitor.storage.archive.reader import Files
from wafermonitor.storage.errors import CursorRejected, StorageRejected
from wafermonitor.storage.protocol import LogQuery, MetricQuery, RunQuery, SpanQuery
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.reader import Reader
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
LATER = NOW + 45 * DAY
YOUNG = TODAY - 2 * DAY
"""A day that stays."""
SEAM = TODAY - 3 * DAY
"""The midnight before which days leave at NOW."""
RUNS = [
    RunQuery(),
    RunQuery(order="failing"),
    RunQuery(site=("f1",)),
    RunQuery(from_ns=OLD[0] + 3 * HOUR, to_ns=YOUNG + 3 * HOUR),
    RunQuery(lot=("L3",)),
    RunQuery(job=("lot_yield",), result=("failure",)),
    RunQuery(attributes=(("n", "104"),)),
    RunQuery(text="run-1", order="failing"),
    RunQuery(run_id=("run-7",)),
    RunQuery(min_duration_s=0.5, app=("yield",)),
]
SPANS = [SpanQuery(), SpanQuery(site="f1"), SpanQuery(app="yield", from_ns=OLD[0] + HOUR), SpanQuery(app="nobody")]


def told():
    """History with a few words more to search for, a young day, and a trace that runs over the midnight between them."""
    over = history.batch(SITES[0], SEAM, 400, 10)
    shift = 2 * HOUR + 405 * 60 * SECOND
    over = Batch(
        spans=[one._replace(start_ns=one.start_ns - shift, trace_id=trace_id(80)) for one in over.spans],
        logs=[one._replace(time_ns=one.time_ns - shift, trace_id=trace_id(80)) for one in over.logs],
        runs=[dataclasses.replace(one, start_ns=one.start_ns - shift, trace_id=trace_id(80)) for one in over.runs],
    )
    batches = [*history.history(), history.batch(SITES[0], YOUNG, 200), history.batch(SITES[1], YOUNG, 300), over]
    for item in batches:
        item.runs = [
            dataclasses.replace(
                one,
                lot_ids=(f"L{place % 5}", "L9"),
                result="failure" if place % 4 == 0 else "success",
                attributes=f'{{"n":{place + 100}}}',
            )
            for place, one in enumerate(item.runs)
        ]
    return batches


def hot_reader(pool):
    return Reader(pool, clock=Clock())


def merged(pool, folder, **given):
    return MergedReader(hot_reader(pool), Days(pool), Files(Folder(folder), **given))


async def walk(ask, query, limit):
    """Every page of a question."""
    pages = []
    while True:
        page = await ask(dataclasses.replace(query, limit=limit))
        pages.append(page.items)
        if page.cursor is None:
            return list(itertools.chain.from_iterable(pages))
        assert len(page.items) == limit
        query = dataclasses.replace(query, cursor=page.cursor)


async def everything(reader, limit):
    """The answers to all questions that have a time or a trace."""
    found = {}
    for query in RUNS:
        found[query] = [item.run for item in await walk(reader.runs, query, limit)]
    for query in SPANS:
        found[query] = await walk(reader.spans, query, limit)
    for number in (0, 3, 21, 41, 80):
        of_trace = SpanQuery(trace_id=trace_id(number))
        found[of_trace] = await walk(reader.spans, of_trace, limit)
        for logs in (LogQuery(trace_id=trace_id(number)), LogQuery(trace_id=trace_id(number), site="f1", min_severity=9)):
            found[logs] = await walk(reader.logs, logs, limit)
        found["tree", number] = [item.run for item in await reader.tree(trace_id(number))]
    for site in SITES:
        points = MetricQuery(site=site, process_key=PROCESS, service=None, from_ns=OLD[0], to_ns=NOW)
        found[points] = await reader.metrics(points)
    return found


@pytest.fixture
async def filled(pool):
    await history.prepare(pool)
    await Writer(pool).write(told())
    return pool


async def test_every_question_is_answered_alike_before_and_after_days_have_left(filled, folder):
    before = await everything(hot_reader(filled), 7)
    assert sum(map(len, before.values())) > 1000
    await archive(filled, folder)
    dropped = {entry.place.day for entry in (await Days(filled).manifest()).entries if entry.dropped}
    assert dropped == {day_of(midnight) for midnight in (*OLD, SEAM - 1)}
    for limit in (7, 1000):
        after = await everything(merged(filled, folder), limit)
        for question, answer in before.items():
            assert after[question] == answer, (question, limit)


async def test_a_run_of_many_days_keeps_all_its_spans(filled, folder):
    where, long = resource("f1"), trace_id(777)
    times = [OLD[0] + HOUR, OLD[1] + HOUR, SEAM - HOUR, SEAM + HOUR, YOUNG + HOUR]
    spans = [span(1_000 + place, start_ns=at, trace_id=long, resource=where) for place, at in enumerate(times)]
    whole = ended(1_000, site="f1", trace_id=long, start_ns=times[0], end_ns=times[-1])
    await Writer(filled).write([Batch(spans=spans, runs=[whole])])
    await archive(filled, folder)
    for limit in (1, 2, 10):
        assert await walk(merged(filled, folder).spans, SpanQuery(trace_id=long), limit) == spans


async def test_runs_too_when_their_month_has_left(filled, folder):
    before = await everything(hot_reader(filled), 7)
    recent = ended(900, start_ns=LATER - DAY, end_ns=LATER - DAY + SECOND, lot_ids=("L3",), trace_id=trace_id(0))
    await filled.execute("SELECT wafer_data.keep_partitions($1::date, $1::date, $1::date)", day_of(LATER))
    done = await archive(filled, folder, LATER, hot_run_days=1)
    assert any(name.startswith("runs") for name in done.dropped)
    await Writer(filled).write([Batch(runs=[recent])])
    after = await everything(merged(filled, folder), 7)
    for question, answer in before.items():
        if isinstance(question, RunQuery):
            assert [one for one in after[question] if one != recent] == answer, question
    assert recent in after[RunQuery(lot=("L3",))]
    (known,) = [one for one in before[RunQuery()] if one.run_id == "run-7" and one.site == "f1"]
    assert (await merged(filled, folder).run(known.trace_id, known.span_id, "f1")).run == known


async def test_a_run_that_comes_again_after_its_month_has_left_says_all_that_was_known(filled, folder):
    (known,) = [one for item in told() for one in item.runs if (one.run_id, one.site) == ("run-7", "f1")]
    await archive(filled, folder, LATER, hot_run_days=1)
    await Writer(filled).write([Batch(runs=[dataclasses.replace(known, lot_ids=None, result=None, cpu_s=3.5)])])
    reader = merged(filled, folder)
    answers = [
        (await reader.run(known.trace_id, known.span_id, "f1")).run,
        *(item.run for item in await reader.tree(known.trace_id, "f1") if item.run.run_id == "run-7"),
        *(item.run for item in (await reader.runs(RunQuery(run_id=("run-7",)))).items if item.run.site == "f1"),
    ]
    assert [(one.cpu_s, one.lot_ids) for one in answers] == [(3.5, known.lot_ids)] * 3


async def test_one_span_is_found_wherever_it_is(filled, folder):
    await archive(filled, folder)
    reader = merged(filled, folder)
    old, young = told()[0].spans[3], told()[-1].spans[8]
    assert await reader.span(old.trace_id, old.span_id, old.resource.site) == old
    assert await reader.span(young.trace_id, young.span_id, young.resource.site) == young
    assert await reader.span(trace_id(999), old.span_id) is None
    assert await reader.run(trace_id(999), old.span_id) is None


async def test_late_rows_of_a_dropped_day_are_shown_once_before_and_after_they_are_taken(filled, folder):
    await archive(filled, folder)
    again, fresh = told()[0].spans[:5], [span(800, start_ns=OLD[0] + HOUR, trace_id=trace_id(0), resource=resource("f1"))]
    await Writer(filled).write([Batch(spans=[*again, *fresh])])
    query = SpanQuery(trace_id=trace_id(0))
    reader = merged(filled, folder)
    before = await walk(reader.spans, query, 3)
    assert {one.span_id for one in before} >= {one.span_id for one in [*again, *fresh]}
    assert len(before) == len({(one.span_id, one.resource.site) for one in before})
    await archive(filled, folder)
    assert await walk(reader.spans, query, 3) == before


async def test_a_question_over_too_many_files_is_refused_with_what_to_do(filled, folder):
    await archive(filled, folder)
    with pytest.raises(StorageRejected, match="narrow the time"):
        await merged(filled, folder, max_files=1).spans(SpanQuery())


async def test_a_cursor_means_the_same_with_and_without_the_archive(filled, folder):
    for reader, other in ((hot_reader(filled), merged(filled, folder)), (merged(filled, folder), hot_reader(filled))):
        first = await reader.runs(RunQuery(limit=7))
        (following,) = {
            tuple(map(repr, (await one.runs(RunQuery(limit=7, cursor=first.cursor))).items)) for one in (reader, other)
        }
        assert len(following) == 7
    with pytest.raises(CursorRejected):
        await merged(filled, folder).spans(SpanQuery(cursor=first.cursor, trace_id=trace_id(0)))


async def test_what_is_not_archived_is_the_stores_to_answer(filled, folder):
    hot, both = hot_reader(filled), merged(filled, folder)
    assert await both.sites() == await hot.sites()
    assert await both.apps() == await hot.apps()
    assert await both.limits() == await hot.limits()
    assert (await both.health()).engine == "postgresql"
