"""Thousands of keys at once: a server takes no parameter above 128 KiB, and whoever asks again would be refused again."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.storage.contract.builders import NOW, PROCESS, SECOND, TRACE, log, point, resource, run, scope, series, span
from wafermonitor.runs.records import Batch, DeadLetter, RunKey
from wafermonitor.storage.clickhouse.lists import MAX_ITEMS, MAX_TEXT_BYTES, slices
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.protocol import LogQuery, MetricQuery, RunQuery, SpanQuery

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse"), pytest.mark.timeout(300)]
MANY = 5000


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def test_slices_hold_everything_in_order_and_are_short():
    for items, text_of in ((range(MANY), None), (["ü" * 200] * MANY, str), (["x" * 50_000, "y"], str), ([], None)):
        parts = list(slices(items, text_of))
        assert [item for part in parts for item in part] == list(items)
        assert all(1 <= len(part) <= MAX_ITEMS for part in parts)
        if text_of is not None:
            assert all(len(part) == 1 or sum(len(text.encode()) for text in part) <= MAX_TEXT_BYTES for part in parts)


async def test_first_arrivals(store):
    arrivals = {digest(number): NOW + number for number in range(MANY)}
    assert await store.writer.first_arrivals(arrivals) == arrivals
    assert await store.another_writer().first_arrivals(dict.fromkeys(arrivals, 1)) == arrivals


async def test_dead_letters(store):
    letters = [DeadLetter("f1", "traces", "x", b"%d" % number, NOW) for number in range(MANY)]
    for _ in range(2):
        await store.writer.write([Batch(dead=letters)])
    ((count,),) = await store.reader._client.query("count", "SELECT count() FROM dead_letter FINAL")
    assert count == MANY


async def test_runs_by_key_with_their_processes_and_long_names_of_sites(store):
    made = [
        run(number, site=f"{'fab' * 60}-{number}", process_key=digest(number)[:16], feed=f"{'line' * 40}-{number}")
        for number in range(MANY)
    ]
    start = await store.reader.changes(None)
    await store.writer.write([Batch(runs=made)])
    keys = [RunKey(one.site, one.trace_id, one.span_id) for one in made]
    found = await store.reader._runs.of_keys("look", keys)
    assert {one.run.key for one in found} == set(keys)
    assert len((await store.reader.changes(start.token, limit=MANY)).runs) == MANY


async def test_names_of_spans_and_log_records(store):
    named = [resource()._replace(key=digest(number), attributes=f'{{"n":{number}}}') for number in range(MANY)]
    scopes = [scope()._replace(key=digest(-1 - number), version=str(number)) for number in range(MANY)]
    spans = [span(number, resource=named[number], scope=scopes[number]) for number in range(MANY)]
    logs = [log(number, resource=named[number], scope=scopes[number]) for number in range(MANY)]
    await store.writer.write([Batch(spans=spans, logs=logs)])
    reader = store.reader
    assert len((await reader.spans(SpanQuery(trace_id=TRACE, limit=1000))).items) == 1000
    assert len((await reader.logs(LogQuery(trace_id=TRACE, limit=1000))).items) == 1000
    found = await reader._resources.of("look", (one.key.hex() for one in named))
    assert found == {one.key.hex(): one for one in named}


async def test_points_of_thousands_of_series_in_order_and_up_to_the_limit(store):
    made = [series()._replace(key=digest(number), name=f"m{number:05}") for number in range(MANY)]
    points = [point(moment)._replace(series=one, time_ns=NOW + moment * SECOND) for one in made for moment in range(2)]
    await store.writer.write([Batch(points=points)])
    asked = MetricQuery(site=made[0].resource.site, process_key=PROCESS, service=None, from_ns=NOW, to_ns=NOW + SECOND)
    told = await store.reader.metrics(dataclasses.replace(asked, limit=3 * MANY))
    assert [(one.series.name, one.time_ns) for one in told] == [(one.series.name, one.time_ns) for one in points]
    assert await store.reader.metrics(dataclasses.replace(asked, limit=4001)) == told[:4001]


async def test_a_question_that_no_server_takes_is_refused_and_not_tried_for_ever(store):
    with pytest.raises(StorageRejected, match="lot is too long"):
        await store.reader.runs(RunQuery(lot=tuple(f"LOT-{number:060}" for number in range(MANY))))
    with pytest.raises(StorageRejected, match="text is too long"):
        await store.reader.runs(RunQuery(text="x" * 200_000))
