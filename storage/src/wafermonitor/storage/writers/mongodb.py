"""MongoDB: one document for each span, log record and metric point.

In: OTLP requests. Out: documents of the collections `otel_spans`, `otel_logs` and `otel_metrics`, and their indexes. Called by:
`receiver.bridge`, jobs in mode direct.

Shape: what `rows` says, a field for each name, with `_id` in place of `id`, and `time` as a date (ms) beside `time_ns`. Maps
whose keys are the sender's (`attributes`, `resource`, a body, quantiles) are lists of {k, v}, so that a dot in a name is no
path and one index serves every name: `{"attributes": {"$elemMatch": {"k": "wafer.lot.ids", "v": "L1"}}}`. Bytes are binary,
numbers as they came. To have documents deleted after some time, make a TTL index on `time`.

All requests of a call are one unordered bulk, accepted once a majority of the replicas has it in the journal. `_id` is the
item's digest: a second delivery changes nothing. What MongoDB never takes (a document above 16 MiB, a number above 64 bits, one
that the collection's validator refuses) is rejected document by document; everything else, even a wrong password, is tried
again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import bson
import pymongo
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from wafermonitor.instrumentation.environment import EnvironmentConfig, option, positive, switch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import rows
from wafermonitor.storage.writers.items import items, judged
from wafermonitor.storage.writers.protocol import SIGNALS, Fate, Outcome, Signal

_LARGEST_BYTES: Final = 16 * 1024 * 1024
_NS_PER_MS: Final = 1_000_000
_THERE: Final = 11000
_REFUSED: Final = frozenset({2, 121, 10334, 17280, 17419, 17420})
"""Codes of what a document, and no operator, is to blame for: a bad value, the validator, its size."""
_REASONS: Final = {
    13: "the account may not write there",
    18: "it refuses the account or its password",
    8000: "it refuses the account or its password",
}
_NO_INDEX: Final = frozenset({13, 85, 86})
"""The account may make none, or there is one already with settings of the operator's."""
_INDEXES: Final[Mapping[Signal, tuple[tuple[str, ...], ...]]] = {
    "traces": (("time_ns",), ("job", "time_ns"), ("run_id",), ("trace_id",)),
    "logs": (("time_ns",), ("job", "time_ns"), ("run_id",), ("trace_id",)),
    "metrics": (("name", "time_ns"), ("run_id",)),
}


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One database."""

    component: ClassVar[str] = "mongodb"

    uri: str = option(str, "Where MongoDB is, with account and TLS.", default="mongodb://127.0.0.1:27017", secret=True)
    database: str = option(str, "The database.", default="telemetry")
    create: bool = option(switch, "Make the indexes if they are not there.", default=True)
    timeout_s: float = option(positive, "How long to wait for a server, an answer, or a majority.", default=30.0)


class _Line(NamedTuple):
    """A document in BSON, and which item of which request it is."""

    request: int
    position: int
    document: bytes


class Writer:
    """Writes through the driver's pool of connections."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14504

    def __init__(self, config: Config) -> None:
        wait_ms = int(config.timeout_s * 1000)
        try:
            self._client: pymongo.MongoClient[Any] = pymongo.MongoClient(
                config.uri, appname="wafermonitor", connect=False, retryWrites=False,
                serverSelectionTimeoutMS=wait_ms, connectTimeoutMS=wait_ms, socketTimeoutMS=wait_ms,
            )  # fmt: skip
        except (PyMongoError, ValueError):
            raise StorageRejected("mongodb.uri is no address of MongoDB (set WAFER_MONGODB_URI)") from None
        kept = pymongo.WriteConcern(w="majority", j=True, wtimeout=wait_ms)
        self._database = self._client.get_database(config.database, write_concern=kept)
        self._create = config.create
        self._lock = threading.Lock()

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Write all of them in one bulk."""
        lines: list[_Line] = []
        fates: dict[int, Outcome] = {}
        refused: dict[int, dict[int, str]] = {}
        for number, request in enumerate(requests):
            try:
                found = items(signal, request)
            except StorageRejected as error:
                fates[number] = Outcome(Fate.REJECTED, str(error))
                continue
            for position, item in enumerate(found):
                try:
                    lines.append(_Line(number, position, encoded(rows.row(item).values)))
                except StorageRejected as error:
                    refused.setdefault(number, {})[position] = str(error)
        try:
            for line, code in self._insert(signal, lines):
                if code in _REFUSED:
                    refused.setdefault(line.request, {})[line.position] = f"MongoDB refuses it with error {code}"
                else:
                    fates[line.request] = Outcome(Fate.RETRY, _said(code))
        except PyMongoError as error:
            later = Outcome(Fate.RETRY, _reason(error))
            return [fates.get(number, later) for number in range(len(requests))]
        return [
            fates.get(number) or judged(signal, request, refused.get(number, {})) for number, request in enumerate(requests)
        ]

    def check(self) -> None:
        """Log in, and make the indexes if that is wanted and the account may."""
        try:
            self._client.admin.command("ping")
            self._database.command("listCollections", nameOnly=True, authorizedCollections=True)
            self._made()
        except PyMongoError as error:
            raise StorageUnavailable(_reason(error)) from None

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _insert(self, signal: Signal, lines: list[_Line]) -> list[tuple[_Line, int]]:
        """Those that were not written, with the error's code. What was there already counts as written."""
        self._made()
        if not lines:
            return []
        wanted = [pymongo.InsertOne(RawBSONDocument(line.document)) for line in lines]
        try:
            self._database[rows.TABLES[signal]].bulk_write(wanted, ordered=False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise
            failed = [(lines[one["index"]], int(one["code"])) for one in error.details["writeErrors"]]
            return [one for one in failed if one[1] != _THERE]
        return []

    def _made(self) -> None:
        """Make the indexes once; an account that may not make any may still write."""
        with self._lock:
            if not self._create:
                return
            for signal, indexes in _INDEXES.items():
                for names in indexes:
                    try:
                        self._database[rows.TABLES[signal]].create_index([(name, pymongo.ASCENDING) for name in names])
                    except OperationFailure as error:
                        if error.code not in _NO_INDEX:
                            raise
            self._create = False


def encoded(values: Mapping[str, Any]) -> bytes:
    """A row's values as a document in BSON. StorageRejected for what BSON cannot hold."""
    found = dict(values)
    document = {"_id": found.pop("id"), "time": DatetimeMS(found["time_ns"] // _NS_PER_MS)}
    for name in ("attributes", "resource", "body"):
        if name in found:
            found[name] = _pairs(found[name])
    for name in ("events", "links"):
        if name in found:
            found[name] = [{**one, "attributes": _pairs(one["attributes"])} for one in found[name]]
    if "quantiles" in found.get("summary", {}):
        found["summary"] = {**found["summary"], "quantiles": _pairs(found["summary"]["quantiles"])}
    try:
        made = bson.encode({**document, **found})
    except (bson.errors.BSONError, OverflowError):
        raise StorageRejected("a value that MongoDB cannot hold, such as a number above 64 bits") from None
    if len(made) > _LARGEST_BYTES:
        raise StorageRejected("larger than MongoDB's 16 MiB for a document")
    return made


def _pairs(value: Any) -> Any:
    """Maps as lists of {k, v}, however deep."""
    if isinstance(value, dict):
        return [{"k": key, "v": _pairs(one)} for key, one in value.items()]
    return [_pairs(one) for one in value] if isinstance(value, list) else value


def _said(code: int | None) -> str:
    return f"MongoDB: {_REASONS[code]}" if code in _REASONS else f"MongoDB does not take it now (error {code})"


def _reason(error: PyMongoError) -> str:
    """Without the driver's text, which names hosts."""
    if isinstance(error, BulkWriteError):
        return "MongoDB: a majority of the replicas did not answer in time"
    if isinstance(error, OperationFailure):
        return _said(error.code)
    return f"MongoDB does not answer ({type(error).__name__})"
