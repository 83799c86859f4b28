"""One Parquet file: records in, records out, each row counted and summed on both ways.

In: records in the order of their key, or a file that was opened. Out: a file and its `Sum`; records of chosen row groups.
Called by: `archiver`, `reader`.

Columns of few values are dictionaries; numbers that hardly repeat are deltas or split into bytes, whichever suits them; ids and
long words are plain; zstd is over all. Row groups are in the order of the key, so that the statistics of the first key column
name the one group that a trace can be in. Bloom filters say whether it is there: of traces, and of what runs are looked for by.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, Self

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wafermonitor.storage.archive.blooms import may_hold
from wafermonitor.storage.archive.protocol import Signal
from wafermonitor.storage.archive.shelf import reading
from wafermonitor.storage.archive.tables import TABLES, Layout, layout_for, layout_of

GROUP_ROWS = 32_768
"""A trace is found by reading one group: half as many make that twice as fast, and a span two per cent larger."""
ZSTD_LEVEL = 9
_MODULUS = 2**128
_SAMPLE_ROWS = 4_096
_REPEATS = 0.5
"""A column with fewer distinct values than this share of its rows is a dictionary."""
_BLOOM = {
    Signal.SPANS: ("trace_id",),
    Signal.LOGS: ("trace_id",),
    Signal.RUNS: ("trace_id", "run_id", "job", "equipment", "lot_ids.list.element", "substrate_ids.list.element"),
}
_packed = msgspec.msgpack.Encoder(order="deterministic").encode


class Sum(NamedTuple):
    """What a file or a stream of rows comes to."""

    rows: int = 0
    total: int = 0
    from_ns: int = 2**63 - 1
    to_ns: int = -(2**63)

    @property
    def checksum(self) -> bytes:
        """16 bytes."""
        return self.total.to_bytes(16)

    def plus(self, signal: Signal, records: Sequence[Any]) -> Sum:
        """With these rows as well."""
        at_ns = TABLES[signal].at_ns
        total = self.total
        for record in records:
            total += int.from_bytes(hashlib.blake2b(_packed(record), digest_size=16).digest())
        times = [at_ns(record) for record in records]
        return Sum(
            self.rows + len(records),
            total % _MODULUS,
            min([self.from_ns, *times]),
            max([self.to_ns, *times]),
        )


class Writer:
    """Writes one file to `sink`. Layout and encodings are chosen by its first row group."""

    def __init__(self, sink: Any, signal: Signal) -> None:
        self._sink = sink
        self._signal = signal
        self._pending: list[Any] = []
        self._tables: list[Any] = []
        self._waiting = 0
        self._layout: Layout | None = None
        self._writer: Any = None
        self.sum = Sum()

    def write(self, records: Sequence[Any]) -> None:
        """Rows in the order of the key, after all that were written before."""
        self.sum = self.sum.plus(self._signal, records)
        self._pending += records
        if self._layout is None and len(self._pending) < GROUP_ROWS:
            return
        self._convert()
        if self._waiting >= GROUP_ROWS:
            self._flush(GROUP_ROWS)

    def close(self) -> Sum:
        """The rest and the footer."""
        self._convert()
        self._flush(0)
        self._writer.close()
        return self.sum

    def _convert(self) -> None:
        """To Arrow at once, which takes a fifth of the room."""
        if self._layout is None:
            step = max(1, len(self._pending) // _SAMPLE_ROWS)
            self._layout = layout_for(self._signal, self._pending[::step])
        if self._pending or not self._tables:
            self._tables.append(self._layout.table(self._pending))
            self._waiting += len(self._pending)
            self._pending = []

    def _flush(self, keep_above: int) -> None:
        table = pa.concat_tables(self._tables)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._sink, table.schema, **_options(self._signal, table))
        while table.num_rows > keep_above or (keep_above == 0 and table.num_rows):
            self._writer.write_table(table.slice(0, GROUP_ROWS), row_group_size=GROUP_ROWS)
            table = table.slice(GROUP_ROWS)
        self._tables = [table] if table.num_rows else []
        self._waiting = table.num_rows


def _options(signal: Signal, table: Any) -> dict[str, Any]:
    """How each column is encoded, by what the first rows hold."""
    dictionary, encoding = [], {}
    for field in table.schema:
        column = table.column(field.name)
        path = f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        values = pc.list_flatten(column) if pa.types.is_list(field.type) else column
        filled = len(values) - values.null_count
        if filled == 0 or pc.count_distinct(values).as_py() <= filled * _REPEATS:
            dictionary.append(path)
        elif pa.types.is_floating(field.type):
            encoding[path] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type):
            encoding[path] = "DELTA_BINARY_PACKED"
    key = TABLES[signal].key_columns
    order = [pq.SortingColumn(table.schema.get_field_index(name), nulls_first=True) for name in key]
    distinct = max(1, min(GROUP_ROWS, table.num_rows))
    blooms = {name: {"ndv": distinct, "fpp": 0.01} for name in _BLOOM.get(signal, ())}
    return {
        "compression": "zstd",
        "compression_level": ZSTD_LEVEL,
        "use_dictionary": dictionary or False,
        "column_encoding": encoding or None,
        "dictionary_pagesize_limit": 4 * 1024 * 1024,
        "write_page_index": True,
        "write_page_checksum": True,
        "sorting_columns": order,
        "bloom_filter_options": blooms or None,
    }


class Opened:
    """A file of the archive, opened for reading. Its footer is read once."""

    def __init__(self, source: Any, signal: Signal, site: str, footer: Any = None) -> None:
        with reading():
            self._file = pq.ParquetFile(source, metadata=footer, pre_buffer=True, page_checksum_verification=True)
            self.layout = layout_of(signal, self._file.schema_arrow)
        self._source = source
        self._site = site
        self.signal = signal
        self.groups = self._file.metadata.num_row_groups
        self._bounds = _bounds_of(self._file.metadata, TABLES[signal].sorted_by)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    @property
    def footer(self) -> Any:
        """What makes opening it again cheap."""
        return self._file.metadata

    def records(self, groups: Sequence[int] | None = None) -> Iterator[list[Any]]:
        """Every row, or those of some row groups, a row group's worth or less at a time."""
        batches = self._file.iter_batches(batch_size=8_192, row_groups=None if groups is None else list(groups))
        while True:
            with reading():
                batch = next(batches, None)
            if batch is None:
                return
            yield self.layout.records(pa.Table.from_batches([batch]), self._site)

    def groups_between(self, first: Any, last: Any) -> list[int]:
        """Row groups that may hold rows whose first key column is within [first, last]; None is before everything."""
        return [
            group for group, (least, greatest, nulls) in enumerate(self._bounds) if _meet(least, greatest, nulls, first, last)
        ]

    def groups_of(self, trace_id: bytes) -> list[int]:
        """Row groups that may hold a trace."""
        return [one for one in self.groups_between(trace_id, trace_id) if self.may_hold(one, {"trace_id": [trace_id]})]

    def keys_among(self, wanted: AbstractSet[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """Which of these keys the file has. A row group at a time, and of that only the columns of the key."""
        found: set[tuple[Any, ...]] = set()
        for _, _, keys in self._looked_through(wanted):
            found |= wanted & set(keys)
        return found

    def among(self, wanted: AbstractSet[tuple[Any, ...]]) -> Iterator[Any]:
        """The records that have one of these keys."""
        for group, places, keys in self._looked_through(wanted):
            chosen = [place for place, key in zip(places, keys, strict=True) if key in wanted]
            if chosen:
                yield from self.made(self.table([group]).take(chosen))

    def _looked_through(self, wanted: AbstractSet[tuple[Any, ...]]) -> Iterator[tuple[int, list[int], list[tuple[Any, ...]]]]:
        """Of each row group that can hold such keys the places and keys of rows whose first part is among theirs."""
        columns = TABLES[self.signal].key_columns
        firsts = sorted({key[0] for key in wanted if key[0] is not None})
        without = any(key[0] is None for key in wanted)
        for group, (least, greatest, nulls) in enumerate(self._bounds):
            at = 0 if least is None else bisect_left(firsts, least)
            if not (at < len(firsts) and (greatest is None or firsts[at] <= greatest)) and not (without and nulls):
                continue
            table = self.table([group], columns)
            first = table.column(columns[0])
            mask = pc.is_in(first, value_set=pa.array([*firsts, None] if without else firsts, type=first.type))
            places = pc.indices_nonzero(mask).to_pylist()
            parts = [_plain(table.column(name).take(pa.array(places, type=pa.int64()))) for name in columns]
            yield group, places, list(zip(*parts, strict=True))

    def may_hold(self, group: int, words: Mapping[str, Sequence[bytes]]) -> bool:
        """Whether a row group can have a row that has, of every column here, one of the values; by its Bloom filters."""
        with reading():
            return all(may_hold(self._source, self.footer, group, column, values) for column, values in words.items())

    def table(self, groups: Sequence[int], columns: Sequence[str] | None = None) -> Any:
        """Arrow's table of these row groups."""
        names = None if columns is None else list(columns)
        with reading():
            return self._file.read_row_groups(list(groups), columns=names, use_threads=False)

    def made(self, table: Any) -> list[Any]:
        """The records of a table with all columns."""
        return self.layout.records(table, self._site)


def _plain(column: Any) -> list[Any]:
    return list((column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist())


def _meet(least: Any, greatest: Any, nulls: bool, first: Any, last: Any) -> bool:
    """Whether a row group can hold something of a range. Without statistics it can."""
    if first is None and nulls:
        return True
    if last is None:
        return nulls
    if least is None:
        return not nulls
    return bool(greatest >= (first or b"") and least <= last)


def _bounds_of(metadata: Any, name: str) -> list[tuple[Any, Any, bool]]:
    """Least, greatest and whether there are nulls, of a column in each row group."""
    found = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        column = next(
            row_group.column(at) for at in range(row_group.num_columns) if row_group.column(at).path_in_schema == name
        )
        statistics = column.statistics
        if statistics is None or not statistics.has_min_max:
            found.append((None, None, bool(statistics is not None and statistics.null_count)))
        else:
            found.append((statistics.min, statistics.max, bool(statistics.null_count)))
    return found
