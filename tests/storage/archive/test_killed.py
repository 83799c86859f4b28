"""kill -9 of the archiver at each of its steps: what store and archive hold together stays exact, row by row (R14)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, SITES, Folder, archive, everything, told
from tests.storage.contract.builders import DAY
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive import owner
from wafermonitor.storage.archive.protocol import Signal
from wafermonitor.storage.timescale.writer import Writer

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[3]
KILLED = -9
KILLS = (
    ("claiming", 1),
    ("claimed", 1),
    ("fenced", 1),
    ("writing", 1),
    ("written", 1),
    ("taken in", 1),
    ("verified", 1),
    ("recorded", 1),
    ("archived", 2),
    ("written", 1),
    ("taken in", 1),
    ("late taken", 1),
    ("late taken", 2),
    ("complete", 1),
    ("dropped", 1),
    ("complete", 2),
    ("dropped", 1),
    # By now there is nothing left but to merge the files of the day that got late rows, and to delete those that were merged.
    ("written", 1),
    ("thrown away", 1),
    ("verified", 1),
    ("compacted", 1),
    ("deleted", 1),
)
"""The step, and the how manieth of its kind in that run."""
DEADLINE_S = 120


def past() -> list[Batch]:
    """One day that was dropped before, one that is archived and dropped now."""
    return [history.batch(SITES[0], OLD[0], 0), history.batch(SITES[0], OLD[1], 100)]


def late() -> list[Batch]:
    """What comes for the dropped day: half of it again, and as much that is new."""
    again = past()[0]
    half = history.ROWS // 2
    return [
        Batch(spans=again.spans[:half], logs=again.logs[:half], points=again.points[:half]),
        history.batch(SITES[0], OLD[0], 5_000, half),
    ]


async def prepare(pool, folder):
    """The first day has left; the second, and late rows of the first, are in the store."""
    await history.prepare(pool)
    await Writer(pool).write(past()[:1])
    await archive(pool, folder, NOW - 2 * DAY)
    await Writer(pool).write([past()[1], *late()])


async def exact(pool, folder, why):
    found, wanted = await everything(pool, Folder(folder)), told([*past(), *late()])
    for signal in Signal:
        assert set(found[signal]) == wanted[signal], (signal, why)
        # A late row that the archive has stands beside until it is taken (those that were sent again, or all of them when the
        # file of a killed archiver was taken in): readers show it once.
        beside = {0, history.ROWS // 2, history.ROWS} if signal is not Signal.RUNS else {0}
        assert len(found[signal]) - len(wanted[signal]) in beside, (signal, why)


def run_until(dsn: str, folder: Path, step: str, nth: int) -> int:
    """An archiver that ends itself at a step; its exit code."""
    words = [sys.executable, "-m", "tests.storage.archive.history", dsn, str(folder), str(NOW), step, str(nth)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=DEADLINE_S)
    assert done.returncode in {0, KILLED}, done.stderr
    return done.returncode


async def test_r14_killed_at_every_step_it_goes_on_and_nothing_is_lost_or_doubled(pool, dsn, folder):
    """One archiver after the other is killed, each at another step; each goes on with what the one before left."""
    await prepare(pool, folder)
    await exact(pool, folder, "before")
    for step, nth in KILLS:
        assert run_until(dsn, folder, step, nth) == KILLED, f"{step} {nth} did not happen"
        await exact(pool, folder, f"killed at {step} {nth}")
    assert run_until(dsn, folder, "none", 1) == 0
    found, wanted = await everything(pool, Folder(folder)), told([*past(), *late()])
    assert {signal: len(rows) for signal, rows in found.items()} == {signal: len(rows) for signal, rows in wanted.items()}
    assert run_until(dsn, folder, "none", 1) == 0  # what was merged last is deleted
    known = {row["path"] for row in await pool.fetch("SELECT path FROM wafer_data.archive_manifest WHERE removed_at IS NULL")}
    assert set(Folder(folder).all()) == known | {owner.FILE}
