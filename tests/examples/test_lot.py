"""Reading and analysing lots: the real file, made-up ones, broken ones."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from examples.stdf_yield import analysis, lot, synthetic, wafer_map


@pytest.fixture(scope="module")
def synthetic_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("lot") / "lot.stdf"
    synthetic.write_lot(path, seed=7, wafers=3, radius=6)
    return path


@pytest.mark.slow
def test_the_real_lot_has_its_wafer_dies_results_and_names(shared_data):
    real = lot.read_lot(shared_data / "stdf" / "lot2.stdf.gz")
    assert (real.lot_id, real.product, real.recipe, real.equipment) == ("GAL-LOT", "GOLD8BAR", "mobile-05/16", "galaxy-t")
    assert [(wafer.id, wafer.dies) for wafer in real.wafers] == [("GAL-LOT-02", 1569)]
    assert int(np.isfinite(real.wafers[0].results).sum()) == 52_403
    assert real.details["prober"] == "electrogl"
    failing = sum(dies for _, dies in analysis.bin_pareto(real.wafers))
    assert failing == 1569 - int(real.wafers[0].passed.sum())


def test_a_made_up_lot_is_the_same_for_the_same_seed(tmp_path, synthetic_file):
    again = tmp_path / "again.stdf"
    synthetic.write_lot(again, seed=7, wafers=3, radius=6)
    assert again.read_bytes() == synthetic_file.read_bytes()
    synthetic.write_lot(again, seed=8, wafers=3, radius=6)
    assert again.read_bytes() != synthetic_file.read_bytes()


def test_a_made_up_lot_reads_back_with_its_wafers_and_limits(synthetic_file):
    made = lot.read_lot(synthetic_file)
    assert [wafer.id for wafer in made.wafers] == ["SYN-0007-01", "SYN-0007-02", "SYN-0007-03"]
    assert made.dies == 3 * 113
    assert [made.limits[1000 + test][:2] for test in range(8)] == [pytest.approx(pair) for pair in synthetic.LIMITS]
    assert made.equipment == "sort-7"
    assert not np.isnan(made.wafers[0].results).any()


def test_a_compressed_lot_reads_alike(tmp_path, synthetic_file):
    packed = tmp_path / "lot.stdf.gz"
    packed.write_bytes(gzip.compress(synthetic_file.read_bytes()))
    assert lot.read_lot(packed).dies == lot.read_lot(synthetic_file).dies


@pytest.mark.parametrize("kept", [-1, -8, 2001])
def test_a_cut_file_is_called_truncated(tmp_path, synthetic_file, kept):
    cut = tmp_path / "cut.stdf"
    cut.write_bytes(synthetic_file.read_bytes()[:kept])
    with pytest.raises(lot.StdfTruncated, match=r"cut\.stdf"):
        lot.read_lot(cut)


@pytest.mark.parametrize("content", [b"", b"no stdf at all " * 20, bytes(500)])
def test_another_file_is_called_invalid(tmp_path, content):
    other = tmp_path / "other.stdf"
    other.write_bytes(content)
    with pytest.raises(lot.StdfInvalid, match=r"other\.stdf"):
        lot.read_lot(other)


def record(record_type: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("<HBB", len(body), record_type, subtype) + body


def part(head: int, site: int, x: int, *, result: float, part_id: str, flag: int = 0) -> bytes:
    """PIR, PTR and PRR of one die of row 0."""
    ptr = struct.pack("<IBBBBf", 1000, head, site, 0, 0, result)
    prr = struct.pack("<BBBHHHhhI", head, site, flag, 1, 1, 1, x, 0, 1) + bytes([len(part_id)]) + part_id.encode()
    return record(5, 10, struct.pack("<BB", head, site)) + record(15, 10, ptr) + record(5, 20, prr)


def wafer_start(head: int, name: str) -> bytes:
    return record(2, 10, struct.pack("<BBI", head, 255, 0) + bytes([len(name)]) + name.encode())


@pytest.fixture
def lot_of(tmp_path, synthetic_file):
    """Read a file of the synthetic one's header and these records."""
    whole = synthetic_file.read_bytes()
    header = whole[: whole.index(wafer_start(1, "SYN-0007-01")[:4])]

    def read(*records: bytes) -> lot.Lot:
        path = tmp_path / "made.stdf"
        path.write_bytes(header + b"".join(records) + record(1, 20, bytes(4)))
        return lot.read_lot(path)

    return read


def test_two_heads_test_two_wafers_at_once(lot_of):
    read = lot_of(
        wafer_start(1, "A"),
        wafer_start(2, "B"),
        part(1, 1, 0, result=1.0, part_id="1"),
        part(2, 1, 0, result=2.0, part_id="1"),
        part(1, 2, 1, result=3.0, part_id="2"),
        wafer_start(1, "C"),
        part(2, 1, 1, result=4.0, part_id="2"),
        part(1, 1, 0, result=5.0, part_id="1"),
    )
    found = {wafer.id: wafer.results[:, 0].tolist() for wafer in read.wafers}
    assert found == {"A": [1.0, 3.0], "B": [2.0, 4.0], "C": [5.0]}


def test_sites_that_test_side_by_side_keep_their_results(lot_of):
    first, second = part(1, 1, 0, result=1.0, part_id="1"), part(1, 2, 1, result=2.0, part_id="2")
    start, ptr = 6, 4 + 12
    interleaved = first[:start] + second[:start] + second[start : start + ptr] + first[start:] + second[start + ptr :]
    read = lot_of(wafer_start(1, "A"), interleaved)
    assert [(int(x), value) for x, value in zip(read.wafers[0].x, read.wafers[0].results[:, 0], strict=True)] == [
        (0, 1.0),
        (1, 2.0),
    ]


@pytest.mark.parametrize(
    ("flag", "x", "part_id", "kept"),
    [
        (0x01, 5, "1", [9.0]),
        (0x01, 0, "7", [1.0, 9.0]),
        (0x02, 0, "7", [9.0]),
        (0x02, 5, "1", [1.0, 9.0]),
        (0x00, 0, "1", [1.0, 9.0]),
    ],
)
def test_a_retest_replaces_what_it_says_it_replaces(lot_of, flag, x, part_id, kept):
    read = lot_of(
        wafer_start(1, "A"), part(1, 1, 0, result=1.0, part_id="1"), part(1, 1, x, result=9.0, part_id=part_id, flag=flag)
    )
    assert read.wafers[0].results[:, 0].tolist() == kept


def test_capability_counts_the_nearer_limit():
    assert analysis.cpk(5.0, 1.0, 0.0, 8.0) == pytest.approx(1.0)
    assert analysis.cpk(5.0, 0.0, 0.0, 8.0) is None
    assert analysis.cpk(5.0, 1.0, float("-inf"), float("inf")) is None


def test_an_outlier_is_far_from_the_median_not_from_the_mean():
    values = np.array([[1.0], [1.1], [0.9], [1.05], [0.95], [50.0]])
    assert analysis.outliers(values)[:, 0].tolist() == [False] * 5 + [True]
    assert not analysis.outliers(np.full((4, 1), np.nan)).any()


def test_statistics_have_one_row_per_wafer_and_test(synthetic_file):
    made = lot.read_lot(synthetic_file)
    table = analysis.statistics_of_tests(made).to_pylist()
    assert len(table) == 3 * 8
    first = made.wafers[0].results[:, 0]
    assert table[0]["mean"] == pytest.approx(first.mean())
    assert table[0]["sigma"] == pytest.approx(first.std(ddof=1))


def test_maps_are_drawn_side_by_side(tmp_path, synthetic_file):
    path = tmp_path / "maps.png"
    wafer_map.draw_maps(path, lot.read_lot(synthetic_file).wafers)
    with Image.open(path) as image:
        assert image.width > 3 * wafer_map.MAP_PIXELS
        assert len(image.getcolors(maxcolors=10_000)) > 3
