"""A made-up lot as a real STDF V4 file: several wafers, a radial drift, a bad edge, one scratched wafer. Seeded.

In: a path and a seed. Out: the file. Called by: `job.py` when no file is given, tests.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

TESTS = ["continuity", "idd standby", "idd active", "vth n", "vth p", "ring oscillator", "leakage", "bandgap"]
LIMITS = [(0.1, 0.9), (1.0, 9.0), (20.0, 60.0), (0.3, 0.6), (0.3, 0.6), (90.0, 130.0), (0.0, 5.0), (1.15, 1.25)]
UNITS = ["V", "uA", "mA", "V", "V", "MHz", "nA", "V"]
START = 1_767_225_600  # 2026-01-01 00:00 UTC, s


def write_lot(path: Path, *, seed: int = 1, wafers: int = 5, radius: int = 11) -> None:
    """Write the file. Equal arguments give equal bytes."""
    random = np.random.default_rng(seed)
    lot = f"SYN-{seed:04}"
    with path.open("wb") as out:
        _write(out, 0, 10, struct.pack("<BB", 2, 4))
        mir = [lot, "SYN8", "sort-7", "T2000", "syn-sort", "3", "01"]
        head = struct.pack("<IIBcccHc", START, START, 1, b"P", b" ", b" ", 65535, b" ")
        _write(out, 1, 10, head + b"".join(map(_text, mir)))
        _write(out, 1, 80, struct.pack("<BBBB", 1, 1, 1, 0) + b"".join(map(_text, ["prober-12", "", "", "card-4"])))
        for number in range(1, wafers + 1):
            _write_wafer(out, random, f"{lot}-{number:02}", radius, scratched=number == wafers)
        _write(out, 1, 20, struct.pack("<I", START + 3600))


def _write_wafer(out: BinaryIO, random: np.random.Generator, wafer: str, radius: int, *, scratched: bool) -> None:
    _write(out, 2, 10, struct.pack("<BBI", 1, 1, START) + _text(wafer))
    places = [
        (x, y) for y in range(-radius, radius + 1) for x in range(-radius, radius + 1) if x * x + y * y <= radius * radius
    ]
    for part, (x, y) in enumerate(places, start=1):
        _write(out, 5, 10, struct.pack("<BB", 1, 1))
        distance = (x * x + y * y) ** 0.5 / radius
        results = [_measure(random, test, distance, scratched=scratched and abs(x - y) <= 1) for test in range(len(TESTS))]
        failed = next((test for test, value in enumerate(results) if not LIMITS[test][0] <= value <= LIMITS[test][1]), None)
        for test, value in enumerate(results):
            _write_result(out, test, value, failed=failed == test, first=part == 1)
        bin_number = 1 if failed is None else failed + 2
        flag = 0 if failed is None else 0x08
        prr = struct.pack("<BBBHHHhhI", 1, 1, flag, len(TESTS), bin_number, bin_number, x, y, 900)
        _write(out, 5, 20, prr + _text(str(part)))
    _write(out, 2, 20, struct.pack("<BBIIIIII", 1, 1, START + 600, len(places), 0, 0, 0, 0) + _text(wafer))


def _measure(random: np.random.Generator, test: int, distance: float, *, scratched: bool) -> float:
    low, high = LIMITS[test]
    middle, width = (low + high) / 2, high - low
    value = middle + width * (0.06 * distance**2 + random.normal(0, 0.085))
    if distance > 0.93 and random.random() < 0.25:  # noqa: PLR2004 - the bad edge
        value += width * 0.5
    return float(value + (width if scratched and random.random() < 0.4 else 0))  # noqa: PLR2004 - the scratch


def _write_result(out: BinaryIO, test: int, value: float, *, failed: bool, first: bool) -> None:
    body = struct.pack("<IBBBBf", 1000 + test, 1, 1, 0x80 if failed else 0, 0, value)
    if first:
        low, high = LIMITS[test]
        body += _text(TESTS[test]) + _text("") + struct.pack("<Bbbbff", 0x0E, 0, 0, 0, low, high) + _text(UNITS[test])
    _write(out, 15, 10, body)


def _write(out: BinaryIO, record_type: int, subtype: int, body: bytes) -> None:
    out.write(struct.pack("<HBB", len(body), record_type, subtype) + body)


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("ascii")
