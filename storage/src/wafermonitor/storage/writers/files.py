"""Files of a folder, local or NFS: JSONL, CSV or Parquet, one for each request.

In: OTLP requests. Out: `<dir>/signal=traces|logs|metrics/date=YYYY-MM-DD/DIGEST.jsonl|csv|parquet`; the date is that of the
request's first item. Called by: `receiver.bridge`, jobs in mode direct.

- jsonl: one line, the request as OTLP/JSON, as the Collector's file exporter writes and its `otlp_json_file` reads it.
- csv: one line for each item below a line of names: the columns of `rows`; maps and lists in JSON, nothing for null.
- parquet: the same columns with types: ns as int64, maps and lists in JSON. A metric's `value` is a double; `value_integer` has
  what was sent as an integer, exactly.

A file is whole or not there: it is written under another name, synced, renamed, and its folder is synced before it is called
accepted. It is named after the request, so the same request twice is one file. A Collector that was killed may put the same
items into other requests: these double, and `id` (csv, parquet) tells them apart. The folder itself is never made: below the
place where a share should be mounted, files would be lost when it is.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from wafermonitor.instrumentation.environment import EnvironmentConfig, one_of, option
from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers.items import Point, items, parsed
from wafermonitor.storage.writers.protocol import ACCEPTED, SIGNALS, Fate, Outcome, Signal
from wafermonitor.storage.writers.rows import plain_json, row

_NAME_CHARACTERS: Final = 32
_LEFT_S: Final = 3600.0
"""What is half written for so long was left by a process that was killed."""
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One folder."""

    component: ClassVar[str] = "files"

    dir: str = option(str, "Folder of the files, which must be there.", default="")
    format: str = option(one_of("jsonl", "csv", "parquet"), "Format of the files: jsonl, csv or parquet.", default="jsonl")


class Writer:
    """Writes whole files; holds nothing open."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14505

    def __init__(self, config: Config) -> None:
        if not config.dir:
            raise StorageRejected("files.dir names no folder (set WAFER_FILES_DIR)")
        if config.format == "parquet" and importlib.util.find_spec("pyarrow") is None:
            raise StorageRejected('files.format = parquet needs pyarrow: pip install "wafermonitor[parquet]"')
        self._root = Path(config.dir).absolute()
        self._format = config.format
        self._swept: set[Path] = set()

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """A file for each; after one that must be tried again the rest of the batch waits, too."""
        outcomes: list[Outcome] = []
        for request in requests:
            late = bool(outcomes) and outcomes[-1].fate is Fate.RETRY
            outcomes.append(outcomes[-1] if late else self._keep(signal, request))
        return outcomes

    def check(self) -> None:
        """Whether a file could be written now."""
        probe = self._root / f".{uuid.uuid4().hex}.part"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StorageUnavailable(_reason(error)) from None

    def close(self) -> None:
        """Nothing is open."""

    def _keep(self, signal: Signal, request: bytes) -> Outcome:
        try:
            found = items(signal, request)
            content = _FORMATS[self._format](signal, request)
        except StorageRejected as error:
            return Outcome(Fate.REJECTED, str(error))
        if not found:
            return ACCEPTED
        day = datetime.fromtimestamp(min(found[0].time_ns, _INT64_MAX) // 1_000_000_000, UTC).date()
        folder = self._root / f"signal={signal}" / f"date={day}"
        final = folder / f"{hashlib.sha256(request).hexdigest()[:_NAME_CHARACTERS]}.{self._format}"
        try:
            if not final.exists():
                self._make(folder)
                _write(final, content)
            # Also of what is there already: whoever wrote it may have been killed before.
            _sync(folder)
        except OSError as error:
            return Outcome(Fate.RETRY, _reason(error))
        return ACCEPTED

    def _make(self, folder: Path) -> None:
        """The folders below the root, on disk, without what a killed process left in the last of them."""
        if folder in self._swept and folder.is_dir():
            return
        for path in (folder.parent, folder):
            try:
                path.mkdir()
            except FileExistsError:
                continue
            _sync(path.parent)
        for left in folder.glob(".*.part"):
            if time.time() - left.stat().st_mtime > _LEFT_S:
                left.unlink(missing_ok=True)
        self._swept.add(folder)


def _write(final: Path, content: bytes) -> None:
    part = final.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(final)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: OSError) -> str:
    return f"the folder cannot be written to ({error.strerror}): is it there, mounted, ours and not full?"


def _jsonl(signal: Signal, request: bytes) -> bytes:
    message = request_from_proto(parsed(signal, request))
    return (json.dumps(message, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _csv(signal: Signal, request: bytes) -> bytes:
    text = io.StringIO(newline="")
    found = [row(item).values for item in items(signal, request)]
    writer = csv.DictWriter(text, found[0] if found else [])
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in values.items()} for values in found)
    return text.getvalue().encode()


def _parquet(signal: Signal, request: bytes) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, list[Any]] = {}
    for item in items(signal, request):
        values = row(item).values
        if isinstance(item, Point):
            whole = isinstance(item.value, int)
            values |= {"value": None if item.value is None else float(item.value)}
            values |= {"value_integer": item.value if whole else None}
        for name, value in values.items():
            columns.setdefault(name, []).append(_limited(value) if name.endswith("_ns") else _typed(name, value))
    types = _types(pa)
    schema = pa.schema([(name, types.get(name, pa.int64() if name.endswith("_ns") else pa.string())) for name in columns])
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=schema), sink, compression="zstd")
    return sink.getvalue()


def _types(pa: Any) -> Mapping[str, Any]:
    """Columns that are neither text nor times."""
    return {"severity": pa.int32(), "monotonic": pa.bool_(), "value": pa.float64(), "value_integer": pa.int64()}


def _limited(value: int) -> int:
    return min(value, _INT64_MAX)


def _typed(name: str, value: Any) -> Any:
    return value if name in {"severity", "monotonic", "value", "value_integer"} else _cell(value)


def _cell(value: Any) -> str | None:
    """Text as it is, null as nothing, anything else as JSON has it."""
    if value is None or isinstance(value, str):
        return value
    plain = plain_json(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


_FORMATS: Final[Mapping[str, Callable[[Signal, bytes], bytes]]] = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
