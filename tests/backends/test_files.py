"""Files of a folder have every item, in each format, although their disk was full for a while."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pyarrow import parquet

from tests.backends import corpus, json_lines, proof
from tests.servers import small_disk
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("files"), pytest.mark.timeout(300)]

DISK_BYTES = 32 << 20
WORDS = {
    "traces": ("name", "trace_id", "span_id", "parent_span_id", "end_ns", "status_message"),
    "logs": ("body", "event_name", "severity", "trace_id", "observed_ns"),
    "metrics": ("name", "type", "unit", "value"),
}
"""Columns that are compared, beside the time, who sent it and the attributes."""


class Files(proof.Backend):
    """A folder on a disk of its own, read by the standard library and pyarrow."""

    name: ClassVar[str] = "files"

    def __init__(self, disk: small_disk.Server, way: proof.Way, form: str) -> None:
        self._disk = disk
        self._form = form
        self._full = ExitStack()
        self.folder = disk.home / f"{way}-{form}"
        self.folder.mkdir()

    @property
    def environment(self) -> Mapping[str, str]:
        settings = {"WAFER_FILES_DIR": str(self.folder), "WAFER_FILES_FORMAT": self._form}
        return settings | {"WAFER_FILE_DIR": str(self.folder), "WAFER_BRIDGE_FILES_EVERY": "1s"}

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        for path in sorted(self.folder.rglob(f"[!.]*.{self._form}")):
            if self._form == "jsonl":
                for request in requests(path):
                    yield from json_lines.kept(signal, request)
            elif f"signal={signal}" in path.parts:
                yield from (kept(signal, row) for row in rows(path) if corpus.KEY in row["attributes"])

    def kill(self) -> None:
        self._full.enter_context(self._disk.full())

    def restart(self) -> None:
        self._full.close()


def requests(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole request; a line may begin with half of another one."""
    for line in path.read_text(encoding="utf-8").splitlines():
        for whole in (line, line[max(line.rfind('{"resource' + one) for one in ("Spans", "Logs", "Metrics")) :]):
            try:
                yield json.loads(whole)
            except json.JSONDecodeError:
                continue
            break


def rows(path: Path) -> list[dict[str, Any]]:
    """Every row, its maps read."""
    if path.suffix == ".parquet":
        found = parquet.read_table(path).to_pylist()
    else:
        with path.open(encoding="utf-8", newline="") as lines:
            found = [row | {"value": number(row["value"])} if "value" in row else row for row in csv.DictReader(lines)]
    return [row | {"attributes": json.loads(row["attributes"])} for row in found]


def number(text: str) -> float | int | None:
    """A cell of the column `value`."""
    if not text:
        return None
    return int(text) if text.isdecimal() else float(text)


def kept(signal: Signal, row: dict[str, Any]) -> proof.Kept:
    """A row as the proof compares it."""
    fields = {name: row[name] for name in ("site", "service", "attributes", "time_ns", *WORDS[signal])}
    if row.get("value_integer") is not None:
        fields["value"] = row["value_integer"]
    numbers = {name: int(value) for name, value in fields.items() if name.endswith("_ns") or name == "severity"}
    return proof.Kept(row["attributes"][corpus.KEY], fields | numbers)


@pytest.fixture(scope="module")
def disk() -> Iterator[small_disk.Server]:
    why = small_disk.missing()
    if why is not None:
        pytest.skip(why)
    mounted = small_disk.start(DISK_BYTES)
    yield mounted
    mounted.stop()


@pytest.mark.parametrize(
    ("way", "form"),
    [("exporter", "jsonl"), ("bridge", "parquet"), ("direct", "jsonl"), ("direct", "csv"), ("direct", "parquet")],
)
def test_nothing_is_lost_while_the_disk_is_full(disk, way, form):
    proof.survives(Files(disk, way, form), way)
