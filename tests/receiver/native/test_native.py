"""The native lane's own ways: its names, its borders, and what it answers to a caller who is wrong."""

from __future__ import annotations

import logging
import re
import sys

import pytest

from tests.receiver.native.compared import inserting, numbers_of, request
from tests.receiver.otlp import START_NS, spans
from wafermonitor.receiver.transcode import native
from wafermonitor.receiver.transcode.protocol import Encoding, Signal
from wafermonitor.semconv import attributes, events


def good_block(decode: native.Decode):
    return decode([request(Signal.TRACES, spans(3).SerializeToString(), START_NS)])


def test_its_names_are_those_of_the_registry(repository):
    source = (repository / "receiver/native/src/names.rs").read_text()
    head, _, of_events = source.partition("pub mod events")
    for text, module in ((head, attributes), (of_events, events)):
        found = re.findall(r'pub const ([A-Z_]+): &str = "([a-z_.]+)";', text)
        assert len(found) == text.count("pub const") > 5
        assert [(name, getattr(module, name)) for name, _ in found] == found


def test_its_limits_are_those_of_the_policies(repository):
    from wafermonitor.receiver.transcode import policies
    from wafermonitor.runs.records import MAX_LABEL_BYTES

    source = "".join(path.read_text() for path in sorted((repository / "receiver/native/src").glob("*.rs")))
    found = dict(re.findall(r"pub const (MAX_[A-Z_]+): (?:usize|u32) = ([0-9_* ]+);", source))
    expected = {
        name: getattr(policies, name)
        for name in ("MAX_DEPTH", "MAX_ENTRIES", "MAX_ITEM_BYTES", "MAX_PARTS", "MAX_REQUEST_PARTS", "MAX_SAMPLE_BYTES")
    }
    numbers = {}
    for name, product in found.items():
        numbers[name] = 1
        for factor in product.split("*"):
            numbers[name] *= int(factor)
    assert numbers == expected | {"MAX_LABEL_BYTES": MAX_LABEL_BYTES}


def test_its_modules_are_short_enough_to_be_read(repository):
    """The length of functions is clippy's to check: clippy.toml."""
    for path in (repository / "receiver/native").glob("[sft]*/*.rs"):
        assert len(path.read_text().splitlines()) <= 600, path
    assert "too-many-lines-threshold = 60" in (repository / "receiver/native/clippy.toml").read_text()


def test_without_the_wheel_it_says_once_what_decodes(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wafermonitor.native", None)
    monkeypatch.delattr("wafermonitor.native", raising=False)
    with caplog.at_level(logging.INFO):
        assert native.load() is None
    (record,) = caplog.records
    assert "so the Python lane decodes" in record.getMessage()


def test_nothing_in_gives_nothing_out(decode):
    block = decode([])
    numbers = numbers_of(block)
    assert (block.outcomes, block.sites, block.resources, block.scopes, block.series) == ([], [], [], [], [])
    assert block.rows("span", 0, 0, numbers, 0, 1) == (b"", 0, b"", 0)
    assert block.runs(0, 0, numbers) == (b"", 0)
    other = inserting()([])
    assert (other.row_binary("span", 0, 0, 1), other.run_rows(0, 0, bytes(6))) == (b"", (b"", b""))
    assert [other.name_rows(table, 1) for table in ("resource", "scope", "metric_series")] == [[], [], []]
    assert block.processes(0, 0) == block.feeds(0, 0) == block.dead(0, 0) == block.apps(0, 0) == []


def test_a_body_of_another_encoding_is_refused(decode):
    with pytest.raises(ValueError, match="protobuf only"):
        decode([request(Signal.TRACES, b"{}", START_NS)._replace(encoding=Encoding.JSON)])


def test_requests_that_are_not_there_are_refused(decode):
    block = good_block(decode)
    for first, last in ((0, 2), (1, 0), (2, 2)):
        with pytest.raises(IndexError, match="a block of 1 requests"):
            block.rows("span", first, last, numbers_of(block), 0, 1)
        with pytest.raises(IndexError):
            block.apps(first, last)
        with pytest.raises(IndexError):
            good_block(inserting()).row_binary("span", first, last, 1)


def test_a_name_without_a_number_is_refused(decode):
    block = good_block(decode)
    numbers = numbers_of(block)
    for field in ("sites", "apps", "resources", "scopes"):
        with pytest.raises(ValueError, match="no number"):
            block.rows("span", 0, 1, numbers._replace(**{field: []}), 0, 1)


def test_an_unknown_table_or_signal_is_refused(decode):
    block = good_block(decode)
    with pytest.raises(ValueError, match="no table"):
        block.rows("spans", 0, 1, numbers_of(block), 0, 1)
    from wafermonitor.native import decode as raw

    with pytest.raises(ValueError, match="no signal"):
        raw([("profiles", b"", 0)], {})
    with pytest.raises(ValueError, match="no format"):
        raw([], {}, "csv")
    other = good_block(inserting())
    with pytest.raises(ValueError, match="no table"):
        other.row_binary("run", 0, 1, 1)
    with pytest.raises(ValueError, match="no table"):
        other.name_rows("site", 1)


def test_a_block_has_rows_of_one_format(decode):
    copied, inserted = good_block(decode), good_block(inserting())
    for ask in (
        lambda: copied.row_binary("span", 0, 1, 1),
        lambda: copied.run_rows(0, 1, bytes(6)),
        lambda: copied.name_rows("scope", 1),
        lambda: inserted.rows("span", 0, 1, numbers_of(inserted), 0, 1),
        lambda: inserted.runs(0, 1, numbers_of(inserted)),
    ):
        with pytest.raises(ValueError, match="the rows of the block are"):
            ask()
