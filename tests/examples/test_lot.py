"""Reading and analysing lots: the real file, made-up ones, broken ones."""

from __future__ import annotations

import gzip

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
