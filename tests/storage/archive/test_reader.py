"""A question makes whole rows of those that its page shows, and of few others; many may ask at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.storage.contract.builders import DAY, NOW, SECOND, ended, log, resource, scope, span, span_id, trace_id
from wafermonitor.storage.archive import files, reader
from wafermonitor.storage.archive.blooms import xxh64
from wafermonitor.storage.archive.protocol import Entry, Place, Signal, day_of
from wafermonitor.storage.archive.shelf import Folder
from wafermonitor.storage.archive.tables import TABLES
from wafermonitor.storage.protocol import LogQuery, RunQuery, SpanQuery

MIDNIGHT = NOW // DAY * DAY - 10 * DAY
ROWS = 3_000


def times(number):
    return MIDNIGHT + number * 7919 % 86_000 * SECOND + number


@pytest.fixture
def shelf(tmp_path):
    return Folder(tmp_path)


def written(shelf, rows, version=1):
    """The entry of a file of these rows."""
    signals = {"Span": Signal.SPANS, "LogRecord": Signal.LOGS, "Run": Signal.RUNS}
    signal = signals[type(rows[0]).__name__]
    path = f"{signal}-{version}.parquet"
    with shelf.create(path) as sink:
        writer = files.Writer(sink, signal)
        writer.write(sorted(rows, key=TABLES[signal].key))
        total = writer.close()
    return Entry(
        path=path,
        place=Place(signal, "f1", day_of(MIDNIGHT)),
        rows=total.rows,
        size_bytes=0,
        sha256=b"",
        checksum=total.checksum,
        from_ns=total.from_ns,
        to_ns=total.to_ns,
        version=version,
        dropped=True,
    )


class Counted(reader.Files):
    """How many rows were made whole."""

    rows = 0

    def _made(self, day, places):
        self.rows += places.num_rows
        return super()._made(day, places)


def spans():
    where, of = resource(), scope()
    return [
        span(
            number,
            resource=where,
            scope=of,
            trace_id=trace_id(number // 3),
            start_ns=times(number),
            parent_span_id=span_id(0) if number % 3 else None,
        )
        for number in range(ROWS)
    ]


def test_a_page_of_root_spans_is_made_of_few_rows(shelf):
    rows = spans()
    roots = sorted((one for one in rows if one.parent_span_id is None), key=lambda one: -one.start_ns)
    asked = Counted(shelf)
    entries = [written(shelf, rows)]
    assert asked.newest_spans(entries, SpanQuery(site="f1"), 10, None) == roots[:10]
    assert asked.rows <= 256
    last = roots[9]
    after = (last.start_ns, last.trace_id.hex(), last.span_id.hex(), "f1")
    assert asked.newest_spans(entries, SpanQuery(site="f1"), 10, after) == roots[10:20]
    assert asked.rows <= 2 * 256


def test_a_page_of_a_large_trace_is_made_of_its_own_rows_alone(shelf):
    where, of, other = resource(), scope(), trace_id(7)
    long = [
        span(n, resource=where, scope=of, trace_id=other, start_ns=MIDNIGHT + n * 37 % ROWS // 2 * SECOND) for n in range(ROWS)
    ]
    logs = [log(n, resource=where, scope=of, trace_id=other, time_ns=one.start_ns) for n, one in enumerate(long)]
    entries = [
        written(shelf, rows, version) for version, rows in enumerate((spans(), long[::2], long[1::2], logs[::2], logs[1::2]))
    ]
    asked = Counted(shelf)
    found, after, query = [], None, SpanQuery(site="f1", trace_id=other)
    while page := asked.spans_of_trace(entries, query, 701, after):
        found += page
        after = (page[-1].start_ns, page[-1].span_id.hex(), "f1")
    ours = [one for one in spans() if one.trace_id == other]
    assert found == sorted([*long, *ours], key=lambda one: (one.start_ns, one.span_id))
    assert asked.rows == len(found)
    told, after = [], None
    while page := asked.logs(entries, LogQuery(trace_id=other, min_severity=9), 701, after):
        told += page
        after = (page[-1].time_ns, page[-1].digest.hex())
    assert told == sorted(logs, key=lambda one: (one.time_ns, one.digest))
    assert asked.rows == len(found) + len(told)
    assert asked.logs(entries, LogQuery(trace_id=other, min_severity=24), 10, None) == []
    assert asked.logs(entries, LogQuery(trace_id=other, event_names=("nothing",)), 10, None) == []
    assert asked.span(entries, other, long[5].span_id, "f1") == long[5]
    assert asked.spans_of_trace(entries, SpanQuery(site="f1", trace_id=trace_id(10**6)), 10, None) == []


def test_a_page_of_runs_is_made_of_few_rows_and_of_the_newest_version_of_each(shelf):
    runs = [
        ended(
            number,
            site="f1",
            trace_id=trace_id(number),
            start_ns=times(number),
            result="failure" if number % 5 == 0 else "success",
        )
        for number in range(ROWS)
    ]
    runs.sort(key=lambda one: -one.start_ns)
    again = [replace(one, result="failure", cpu_s=7.5) for one in runs[:2]]
    asked = Counted(shelf)
    entries = [written(shelf, runs), written(shelf, again, 2)]
    assert asked.runs(entries, RunQuery(), lambda run: run, limit=5) == [*again, *runs[2:5]]
    bad = [*again, *(one for one in runs[2:] if one.result == "failure")]
    assert asked.runs(entries, RunQuery(order="failing"), lambda run: run, limit=300, bad=True) == bad[:300]
    good = [one for one in runs[2:] if one.result == "success"]
    newest_ns = good[100].start_ns
    found = asked.runs(entries, RunQuery(), lambda run: run, limit=5, bad=False, newest_ns=newest_ns)
    assert found == good[100:105]
    assert asked.rows <= 256 + 2 * 256 + 256


def test_what_a_file_does_not_have_is_known_without_reading_its_columns(shelf):
    rows = spans()
    runs = [
        ended(
            n,
            site="f1",
            trace_id=trace_id(n),
            start_ns=times(n),
            lot_ids=(f"LOT{n}", "L9"),
            run_id=f"a run with a long name {n:05}",
        )
        for n in range(ROWS)
    ]
    both = [written(shelf, rows), written(shelf, runs)]
    for entry in both:
        with files.Opened(shelf.open(entry.path), entry.place.signal, "f1") as opened:
            assert all(opened.may_hold(0, {"trace_id": [trace_id(number)]}) for number in range(0, 1000, 7))
            assert sum(opened.may_hold(0, {"trace_id": [trace_id(10_000 + number)]}) for number in range(1000)) < 50
    with files.Opened(shelf.open(both[1].path), Signal.RUNS, "f1") as opened:
        for number in range(0, ROWS, 11):
            there = {"lot_ids.list.element": [b"nowhere", f"LOT{number}".encode()], "run_id": [runs[number].run_id.encode()]}
            assert opened.may_hold(0, there)
        absent = [opened.may_hold(0, {"lot_ids.list.element": [f"LOT{number}".encode()]}) for number in range(9_000, 10_000)]
        assert sum(absent) < 50
    asked = reader.Files(shelf)
    for number in (3, 700):
        assert len(asked.spans_of_trace(both, SpanQuery(trace_id=trace_id(number)), 10, None)) == 3
        for query in (
            RunQuery(lot=(f"LOT{number}",)),
            RunQuery(run_id=(runs[number].run_id,)),
            RunQuery(lot=("x", f"LOT{number}")),
        ):
            assert asked.runs(both, query, lambda run: run, limit=5) == [runs[number]]
    assert asked.runs(both, RunQuery(lot=("LOT99999",)), lambda run: run, limit=5) == []


@pytest.mark.parametrize(
    ("text", "digest"),
    [(b"", 0xEF46DB3751D8E999), (b"a", 0xD24EC4F1A98C6E5B), (b"abc", 0x44BC2CF5AD770999)],
)
def test_the_digest_is_the_one_of_the_specification(text, digest):
    assert xxh64(text) == digest


def test_many_threads_share_the_footers(shelf, monkeypatch):
    monkeypatch.setattr(reader, "_FOOTERS", 2)
    rows = spans()[:60]
    entries = [written(shelf, rows[first : first + 12], first + 1) for first in range(0, 60, 12)]
    asked = reader.Files(shelf)

    def ask(number):
        return len(asked.spans_of_trace(entries, SpanQuery(trace_id=trace_id(number % 20)), 10, None))

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(400))) == {3}
