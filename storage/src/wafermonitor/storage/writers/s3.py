"""S3 and stores that speak its protocol: Parquet objects with the columns and in the folders of the archive.

In: OTLP requests. Out: objects `signal=spans|logs|metrics/site=SITE/date=YYYY-MM-DD/DIGEST.parquet`, one for each site and UTC
day in a request; `archive_rows` says what a row has of OTLP, docs/archive.md has the columns:
    SELECT * FROM read_parquet('s3://BUCKET/signal=spans/**/*.parquet', hive_partitioning = true)
Called by: `receiver.bridge`, jobs in mode direct.

An object is named after the request, so that the same request twice is one object. A Collector that was killed may put the
same items into other requests: these double, and readers tell them apart by the archive's keys (trace, span and start; trace,
time and digest; series and time). Small requests are small objects: let the Collector gather (backends/bridge-s3.yaml does,
for a minute). Let the bucket, or the prefix behind it, be another one than the archive's, which takes only its own files.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from wafermonitor.instrumentation.environment import EnvironmentConfig, option
from wafermonitor.runs.records import MetricPoint
from wafermonitor.storage.archive import files
from wafermonitor.storage.archive.copies import folder_of
from wafermonitor.storage.archive.protocol import Place, day_of
from wafermonitor.storage.archive.tables import TABLES
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers import archive_rows as rows
from wafermonitor.storage.writers.aws import ERRORS, AwsConfig, Clients, Tally, outcome_of, unavailable
from wafermonitor.storage.writers.items import items
from wafermonitor.storage.writers.protocol import SIGNALS, Fate, Outcome, Signal

_FINAL: Final = frozenset({"EntityTooLarge", "KeyTooLongError"})
_NAME_CHARACTERS: Final = 32


@dataclass(frozen=True, kw_only=True)
class Config(AwsConfig):
    """One bucket."""

    component: ClassVar[str] = "s3"

    bucket: str = option(str, "Bucket, with a prefix behind a slash.", default="")


class Objects(NamedTuple):
    """What one request becomes: object names below the root with their content, and why and which items it has no place in."""

    files: dict[str, bytes]
    refused: dict[int, str]


def objects(signal: Signal, request: bytes, received_ns: int) -> Objects:
    """A request as files of the archive. StorageRejected when it is no request of this signal."""
    table = TABLES[rows.TABLE_OF[signal]]
    name = hashlib.sha256(request).hexdigest()[:_NAME_CHARACTERS]
    places: dict[Place, list[Any]] = {}
    refused: dict[int, str] = {}
    for position, item in enumerate(items(signal, request)):
        try:
            row = rows.row_of(item, received_ns)
        except StorageRejected as error:
            refused[position] = str(error)
            continue
        resource = row.series.resource if isinstance(row, MetricPoint) else row.resource
        places.setdefault(Place(rows.TABLE_OF[signal], resource.site, day_of(table.at_ns(row))), []).append(row)
    found = {f"{folder_of(place)}/{name}.parquet": _parquet(place, held) for place, held in places.items()}
    return Objects(found, refused)


def _parquet(place: Place, held: list[Any]) -> bytes:
    key = TABLES[place.signal].key
    held.sort(key=lambda row: tuple((one is not None, one) for one in key(row)))
    sink = io.BytesIO()
    writer = files.Writer(sink, place.signal)
    writer.write(held)
    writer.close()
    return sink.getvalue()


class Writer:
    """Puts objects; accepted is what S3 has answered 200 for."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14508

    def __init__(self, config: Config) -> None:
        self._bucket, _, prefix = config.bucket.strip("/").partition("/")
        if not self._bucket:
            raise StorageRejected("s3.bucket names no bucket (set WAFER_S3_BUCKET)")
        self._prefix = f"{prefix}/" if prefix else ""
        self._clients = Clients(config)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Put each; after one that must be tried again the rest of the batch waits, too."""
        tally = Tally(signal, requests)
        later: Outcome | None = None
        for place, request in enumerate(requests):
            outcome = later or self._put(tally, signal, place, request)
            if outcome is not None:
                tally.settle(place, outcome)
                later = outcome if outcome.fate is Fate.RETRY else None
        return tally.outcomes()

    def check(self) -> None:
        """Whether the bucket is there and ours to write to."""
        try:
            self._clients.of("s3").head_bucket(Bucket=self._bucket)
        except ERRORS as error:
            raise unavailable("S3", error) from None

    def close(self) -> None:
        """End the connections."""
        self._clients.close()

    def _put(self, tally: Tally, signal: Signal, place: int, request: bytes) -> Outcome | None:
        """None when the objects are there; the tally knows which items have no place in them."""
        try:
            made = objects(signal, request, time.time_ns())
            for path, body in made.files.items():
                self._clients.of("s3").put_object(Bucket=self._bucket, Key=f"{self._prefix}{path}", Body=body)
        except StorageRejected as error:
            return Outcome(Fate.REJECTED, str(error))
        except ERRORS as error:
            return outcome_of("S3", error, _FINAL)
        for position, reason in made.refused.items():
            tally.refuse(place, position, reason)
        return None
