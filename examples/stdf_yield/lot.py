"""An STDF V4 file becomes a lot: wafers, dies, results, limits.

In: a path, plain or .gz. Out: a `Lot` of numpy arrays, or StdfInvalid / StdfTruncated. Called by: `job.py`.

Source: STDF V4 specification (records FAR, MIR, SDR, WIR, PIR, PTR, PRR, WRR, MRR); parsed by stdf-convert.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import stdf_convert

RECORDS = ["MIR", "SDR", "WIR", "WRR", "PIR", "PRR", "PTR", "MRR"]
SAME_PART_ID, SAME_PLACE = 0x01, 0x02  # "this replaces an earlier result of …"
PART_FAILED, PART_UNDECIDED = 0x08, 0x10
RESULT_UNUSABLE = 0b0011_1110  # invalid, unreliable, timeout, not executed, aborted
NO_LOW_LIMIT, NO_HIGH_LIMIT = 0x40, 0x80
GOOD_BIN = 1
END_OF_FILE = 2**62


class StdfInvalid(Exception):  # noqa: N818 - the class name is the run's error.type
    """The file is not STDF V4."""


class StdfTruncated(StdfInvalid):
    """The file stops before its last record (MRR)."""


@dataclass(slots=True)
class Wafer:
    """One wafer's dies. Arrays have one entry per die; `results` is die × test, NaN where a test gave nothing usable."""

    id: str
    x: np.ndarray
    y: np.ndarray
    hard_bin: np.ndarray
    soft_bin: np.ndarray
    passed: np.ndarray
    results: np.ndarray

    @property
    def dies(self) -> int:
        """How many dies were tested."""
        return len(self.x)


@dataclass(slots=True, kw_only=True)
class Header:
    """What the first records say: which lot, tested by what, how. Empty texts where the file says nothing."""

    lot_id: str = ""
    product: str = ""
    recipe: str = ""
    equipment: str = ""
    details: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Lot(Header):
    """One lot with its wafers. `limits` maps a test number to (low, high, unit, name)."""

    tests: np.ndarray
    limits: dict[int, tuple[float, float, str, str]]
    wafers: list[Wafer] = field(default_factory=list)

    @property
    def dies(self) -> int:
        """How many dies over all wafers."""
        return sum(wafer.dies for wafer in self.wafers)


def read_header(path: Path) -> Header:
    """The header alone, so that a run can be announced with its lot. An empty one when the file is no good."""
    found: dict[str, pa.Table] = {}
    try:
        for record, batch in stdf_convert.batches(str(path), ["MIR", "SDR", "PIR"], batch_size=1):
            found.setdefault(record, pa.Table.from_batches([batch]))
            if record == "PIR":
                break
    except (stdf_convert.StdfError, OSError):
        pass  # reading the lot will say what is wrong with it
    return _describe(found) if "MIR" in found else Header()


def read_lot(path: Path) -> Lot:
    """Read the whole file. A die whose retest says so counts once, with its last result."""
    if not path.is_file():
        raise StdfInvalid(f"{path}: no such file")
    try:
        tables = stdf_convert.tables(str(path), RECORDS)
    except stdf_convert.StdfError as error:
        cut = any(words in str(error) for words in ("fill whole buffer", "incomplete", "unexpected end"))
        problem = "stops in the middle of a record" if cut else "is not an STDF V4 file"
        raise (StdfTruncated if cut else StdfInvalid)(f"{path.name} {problem}") from None
    if not _rows(tables, "MIR"):
        raise StdfInvalid(f"{path.name} has no master information record (MIR)")
    if not _rows(tables, "MRR"):
        raise StdfTruncated(f"{path.name} ends without its last record (MRR)")
    if not _rows(tables, "PRR"):
        raise StdfInvalid(f"{path.name} has no part results (PRR)")
    header = _describe(tables)
    tests, limits = np.array([], dtype=np.int64), {}
    if _rows(tables, "PTR"):
        tests, limits = np.unique(_column(tables, "PTR", "TEST_NUM")), _limits(tables["PTR"])
    lot = Lot(tests=tests, limits=limits, **{name: getattr(header, name) for name in Header.__slots__})
    lot.wafers = list(_wafers(tables, lot))
    return lot


def _rows(tables: dict[str, pa.Table], record: str) -> int:
    return tables[record].num_rows if record in tables else 0


def _describe(tables: dict[str, pa.Table]) -> Header:
    mir: dict[str, Any] = tables["MIR"].slice(0, 1).to_pylist()[0]
    details = {
        "tester_type": mir["TSTR_TYP"],
        "test_code": mir["TEST_COD"],
        "sublot": mir["SBLOT_ID"],
        "program": mir["EXEC_TYP"],
    }
    if _rows(tables, "SDR"):
        sdr = tables["SDR"].slice(0, 1).to_pylist()[0]
        details |= {"prober": sdr["HAND_TYP"], "probe_card": sdr["CARD_ID"]}
    return Header(
        lot_id=mir["LOT_ID"].strip() or "unknown",
        product=mir["PART_TYP"].strip(),
        recipe="/".join(part for part in (mir["JOB_NAM"].strip(), mir["JOB_REV"].strip()) if part),
        equipment=mir["NODE_NAM"].strip(),
        details={name: value.strip() for name, value in details.items() if value and value.strip()},
    )


def _limits(ptr: pa.Table) -> dict[int, tuple[float, float, str, str]]:
    """A test's limits stand in its first record; later ones may leave them out."""
    numbers = ptr["TEST_NUM"].to_numpy()
    limits = {}
    for number, row in zip(*np.unique(numbers, return_index=True), strict=True):
        first = ptr.slice(int(row), 1).to_pylist()[0]
        option = int.from_bytes(first["OPT_FLAG"] or b"\xff", "little")
        low = float("-inf") if option & NO_LOW_LIMIT or first["LO_LIMIT"] is None else float(first["LO_LIMIT"])
        high = float("inf") if option & NO_HIGH_LIMIT or first["HI_LIMIT"] is None else float(first["HI_LIMIT"])
        limits[int(number)] = (low, high, first["UNITS"] or "", " ".join((first["TEST_TXT"] or "").split()))
    return limits


def _wafers(tables: dict[str, pa.Table], lot: Lot) -> Iterator[Wafer]:
    ends = _column(tables, "PRR", "sequence_number")
    heads, sites = _column(tables, "PRR", "HEAD_NUM"), _column(tables, "PRR", "SITE_NUM")
    results = _results(tables, lot, ends, heads, sites)
    flags = np.array([flag[0] if flag else 0 for flag in tables["PRR"]["PART_FLG"].to_pylist()])
    hard_bin = _column(tables, "PRR", "HARD_BIN")
    passed = np.where(flags & PART_UNDECIDED, hard_bin == GOOD_BIN, (flags & PART_FAILED) == 0)
    x, y = _column(tables, "PRR", "X_COORD"), _column(tables, "PRR", "Y_COORD")
    parts = tables["PRR"]["PART_ID"].to_pylist()
    for wafer_id, rows in _rows_of_wafers(tables, lot, ends, heads):
        kept = _without_superseded(rows, flags, parts, list(zip(x.tolist(), y.tolist(), strict=True)))
        yield Wafer(
            id=wafer_id,
            x=x[kept],
            y=y[kept],
            hard_bin=hard_bin[kept],
            soft_bin=_column(tables, "PRR", "SOFT_BIN")[kept],
            passed=passed[kept],
            results=results[kept],
        )


def _without_superseded(rows: np.ndarray, flags: np.ndarray, parts: list[str], places: list[tuple[int, int]]) -> np.ndarray:
    """Drop the earlier results of dies whose retest says, in its part flag, that it replaces them."""
    kept: dict[int, None] = {}
    by_part: dict[str, int] = {}
    by_place: dict[tuple[int, int], int] = {}
    for row in rows.tolist():
        if flags[row] & SAME_PART_ID:
            kept.pop(by_part.get(parts[row], row), None)
        if flags[row] & SAME_PLACE:
            kept.pop(by_place.get(places[row], row), None)
        kept[row] = None
        by_part[parts[row]] = by_place[places[row]] = row
    return np.array(list(kept), dtype=np.int64)


def _rows_of_wafers(
    tables: dict[str, pa.Table], lot: Lot, ends: np.ndarray, heads: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """(wafer id, its parts). A part belongs to the newest wafer on its head; without wafer records all are one batch."""
    if not _rows(tables, "WIR"):
        yield lot.lot_id, np.arange(len(ends))
        return
    starts, wafer_heads = _column(tables, "WIR", "sequence_number"), _column(tables, "WIR", "HEAD_NUM")
    names = tables["WIR"]["WAFER_ID"].to_pylist()
    for place, (start, head, name) in enumerate(zip(starts, wafer_heads, names, strict=True)):
        following = starts[(wafer_heads == head) & (starts > start)]
        mine = (heads == head) & (ends > start) & (ends < following.min(initial=END_OF_FILE))
        yield name.strip() or f"{lot.lot_id}-{place + 1:02}", np.flatnonzero(mine)


def _results(tables: dict[str, pa.Table], lot: Lot, ends: np.ndarray, heads: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Die × test. A result belongs to the next part that ends at its head and site."""
    values = np.full((len(ends), len(lot.tests)), np.nan)
    if not _rows(tables, "PTR"):
        return values
    sequence = _column(tables, "PTR", "sequence_number")
    result_heads, result_sites = _column(tables, "PTR", "HEAD_NUM"), _column(tables, "PTR", "SITE_NUM")
    flags = np.array([flag[0] if flag else 0 for flag in tables["PTR"]["TEST_FLG"].to_pylist()])
    results = tables["PTR"]["RESULT"].to_numpy(zero_copy_only=False).astype(float)
    columns = np.searchsorted(lot.tests, _column(tables, "PTR", "TEST_NUM"))
    usable = ((flags & RESULT_UNUSABLE) == 0) & np.isfinite(results)
    for head, site in {(int(head), int(site)) for head, site in zip(heads, sites, strict=True)}:
        dies = np.flatnonzero((heads == head) & (sites == site))
        mine = np.flatnonzero((result_heads == head) & (result_sites == site) & usable)
        following = np.searchsorted(ends[dies], sequence[mine])
        mine, following = mine[following < len(dies)], following[following < len(dies)]
        values[dies[following], columns[mine]] = results[mine]
    return values


def _column(tables: dict[str, pa.Table], record: str, name: str) -> np.ndarray:
    return np.asarray(tables[record][name].to_numpy(zero_copy_only=False)).astype(np.int64)
