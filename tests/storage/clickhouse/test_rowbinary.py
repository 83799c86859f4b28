"""What no column can hold is found before anything is sent; the rest has the bytes that ClickHouse documents."""

from __future__ import annotations

import struct

import pytest

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.storage.contract.builders import point, run, span
from wafermonitor.runs.records import Progress
from wafermonitor.storage.clickhouse import rowbinary, rows


@pytest.mark.parametrize(
    ("count", "wanted"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\1"), (300, b"\xac\2"), (2**21, b"\x80\x80\x80\1")]
)
def test_lengths_are_leb128(count, wanted):
    assert rowbinary.length_of(count) == wanted


def test_text_stands_behind_its_length_in_bytes():
    assert rowbinary.text("漢") == b"\3" + "漢".encode()
    assert rowbinary.text("x" * 200) == b"\xc8\1" + b"x" * 200


def test_nothing_is_a_byte_or_zeros():
    assert rowbinary.nullable(None) == rowbinary.nullable_number(None) == b"\1"
    assert rowbinary.nullable(-1) == b"\0" + b"\xff" * 8
    assert rowbinary.fixed(None, 8) == bytes(8)
    assert rowbinary.numbers(None, "q") == rowbinary.numbers((), "d") == b"\0"
    assert rowbinary.numbers((1, 2), "q") == b"\2" + struct.pack("<qq", 1, 2)


@pytest.mark.parametrize(
    "encode",
    [
        lambda: rows.span_row(span(trace_id=b"short"), 0),
        lambda: rows.span_row(span(start_ns=2**63), 0),
        lambda: rows.span_row(span(name="\ud800"), 0),
        lambda: rows.point_row(point(count=2**64), 0),
        lambda: rows.run_row(run(attempt=2**63)),
        lambda: rows.run_row(run(cpu_s=float("nan"))),
        lambda: rows.run_row(run(progress=Progress(1, float("inf")))),
        lambda: rows.run_row(run(process_key=b"short")),
    ],
    ids=["id", "time", "surrogate", "count", "attempt", "nan", "infinity", "key"],
)
def test_what_does_not_fit_is_refused(encode):
    with pytest.raises((ValueError, OverflowError, struct.error)):
        encode()


def test_a_searched_name_is_cut_and_the_attributes_are_not():
    long = "é" * 600
    row = rows.run_row(run(job=long, attributes=f'"{long}"'))
    assert rowbinary.text("é" * 500) in row
    assert rowbinary.text(f'"{long}"') in row
