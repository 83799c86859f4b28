"""What a yield engineer wants to know of a lot.

In: a `Lot`. Out: yields, bin Pareto, statistics per test and wafer as an Arrow table. Called by: `job.py`.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from .lot import Lot, Wafer

OUTLIER_SIGMAS = 6.0
MAD_TO_SIGMA = 1.4826


def yield_ratio(passed: np.ndarray) -> float:
    """Good dies ÷ tested dies, 0…1."""
    return float(passed.mean()) if len(passed) else 0.0


def bin_pareto(wafers: list[Wafer]) -> list[tuple[int, int]]:
    """(soft bin, dies) of the failing dies, most frequent first."""
    counts = Counter(int(number) for wafer in wafers for number in wafer.soft_bin[~wafer.passed])
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def outliers(results: np.ndarray) -> np.ndarray:
    """Die × test, true where a result is further than 6 robust sigmas from the wafer's median of that test."""
    if not results.size:
        return np.zeros(results.shape, dtype=bool)
    known = ~np.all(np.isnan(results), axis=0)
    far = np.zeros(results.shape, dtype=bool)
    median = np.nanmedian(results[:, known], axis=0)
    spread = np.nanmedian(np.abs(results[:, known] - median), axis=0) * MAD_TO_SIGMA
    with np.errstate(invalid="ignore"):
        far[:, known] = (np.abs(results[:, known] - median) > OUTLIER_SIGMAS * spread) & (spread > 0)
    return far


def cpk(mean: float, sigma: float, low: float, high: float) -> float | None:
    """min(high − mean, mean − low) ÷ 3 sigma; None without spread or without limits."""
    distance = min(high - mean, mean - low)
    if not np.isfinite(distance) or not sigma > 0:
        return None
    return float(distance / (3 * sigma))


def statistics_of_tests(lot: Lot) -> pa.Table:
    """One row per wafer and test: n, mean, sigma (n − 1), Cpk, outliers, limits."""
    rows = []
    for wafer in lot.wafers:
        far = outliers(wafer.results)
        for column, number in enumerate(lot.tests):
            values = wafer.results[:, column]
            values = values[~np.isnan(values)]
            low, high, unit, name = lot.limits[int(number)]
            mean = float(values.mean()) if len(values) else None
            sigma = float(values.std(ddof=1)) if len(values) > 1 else None
            capability = cpk(mean, sigma, low, high) if mean is not None and sigma is not None else None
            rows.append(
                {
                    "lot": lot.lot_id,
                    "wafer": wafer.id,
                    "test": int(number),
                    "name": name,
                    "unit": unit,
                    "n": len(values),
                    "mean": mean,
                    "sigma": sigma,
                    "cpk": capability,
                    "outliers": int(far[:, column].sum()),
                    "low": low if np.isfinite(low) else None,
                    "high": high if np.isfinite(high) else None,
                }
            )
    return pa.Table.from_pylist(rows, schema=STATISTICS)


STATISTICS = pa.schema(
    [
        ("lot", pa.string()),
        ("wafer", pa.string()),
        ("test", pa.int64()),
        ("name", pa.string()),
        ("unit", pa.string()),
        ("n", pa.int64()),
        ("mean", pa.float64()),
        ("sigma", pa.float64()),
        ("cpk", pa.float64()),
        ("outliers", pa.int64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
