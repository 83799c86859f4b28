"""MySQL and MariaDB: one row for each span, log record and metric point.

In: OTLP requests. Out: rows of `otel_spans`, `otel_logs` and `otel_metrics` (`sql/mysql.sql`), which are made if they are not
there. Called by: `receiver.bridge`, jobs in mode direct.

Shape: what `rows` says, a column for each name. `time` is `time_ns` as DATETIME(6), UTC. Maps and lists are JSON; bytes in it
are base64, and NaN and the infinities words. A log's `body` is its text; a body that is no text stands in `body_json` instead.
A point's `value` is a double, `value_int` as well where the sender gave an integer; a value that is not finite stands in
`summary` as {"value": "NaN"}.

All requests of a call are one transaction, accepted once it is committed. The key is (time_ns, id): a second delivery changes
nothing. What the columns cannot hold (a job's name of more than 255 characters, JSON deeper than the server takes, a row above
max_allowed_packet) is rejected row by row; everything else, a wrong password or a missing table, too, is tried again.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar, Final, NamedTuple

import pymysql

from wafermonitor.instrumentation.environment import EnvironmentConfig, option, positive, switch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import rows
from wafermonitor.storage.writers.items import items, judged
from wafermonitor.storage.writers.protocol import SIGNALS, Fate, Outcome, Signal

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a column of UTC has no zone
_JSON: Final = frozenset({"attributes", "resource", "events", "links", "summary"})
_REFUSED: Final = frozenset({1118, 3140, 3141, 3157, 3903, 4025})
"""What a row is to blame for and no operator, besides the driver's DataError: a row too long, JSON that it does not take."""
_MAY_NOT: Final = frozenset({1044, 1142})
_GONE: Final = frozenset({0, 2006, 2013, 4031})
"""The connection ended, for instance because nothing was written for the server's wait_timeout."""
_AT_ONCE_S: Final = 1.0
"""An ended connection shows sooner than this; later it is a server that does not answer."""
_STATEMENT_BYTES: Final = 1_000_000
_WIDEST_CHARACTER: Final = 4
"""Bytes that a character may have in a statement: as UTF-8, or two escaped ones."""
_ROOM: Final = 4096
"""Bytes of a statement besides its longest row's values."""
_BROKEN: Final = (pymysql.err.Error, OSError, RuntimeError)
"""What the driver raises: RuntimeError for a login that it cannot do, OSError for a file of certificates."""
_REASONS: Final = {
    1040: "it has too many connections",
    1044: "the account may not use the database",
    1045: "it refuses the account or its password",
    1049: "there is no such database",
    1114: "a table is full",
    1142: "the account may not write to the tables",
    1146: "the tables are not there and may not be made",
    1205: "a lock was not had in time",
    1213: "it ended the transaction for another's sake",
    1698: "it refuses the account or its password",
    2003: "nobody answers there, or not with a certificate that ca_file signs",
    2026: "it offers no TLS, or none that ca_file signs",
}


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("host:port, for example 127.0.0.1:3306")
    return text


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One database."""

    component: ClassVar[str] = "mysql"

    address: str = option(_address, "Where MySQL or MariaDB is, host:port.", default="127.0.0.1:3306")
    database: str = option(str, "The database; it must exist.", default="telemetry")
    user: str = option(str, "The account.", default="wafer")
    password: str = option(str, "Its password.", default="", secret=True)
    create: bool = option(switch, "Make the tables if they are not there.", default=True)
    ca_file: str = option(str, "Certificates that sign the server's; without it nobody checks who answers.", default="")
    timeout_s: float = option(positive, "How long to wait for a connection or an answer.", default=30.0)


class _Line(NamedTuple):
    """A row, and which item of which request it is."""

    request: int
    position: int
    values: tuple[Any, ...]


class Writer:
    """Writes over one connection, one call at a time."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14503

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._connection: pymysql.Connection[Any] | None = None
        self._largest = 0

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Write all of them in one transaction."""
        outcomes: list[Outcome | None] = [None] * len(requests)
        lines: list[_Line] = []
        columns: tuple[str, ...] = ()
        for number, request in enumerate(requests):
            try:
                found = [columns_of(rows.row(item).values) for item in items(signal, request)]
            except StorageRejected as error:
                outcomes[number] = Outcome(Fate.REJECTED, str(error))
                continue
            for position, values in enumerate(found):
                columns = tuple(values)
                lines.append(_Line(number, position, tuple(values.values())))
        try:
            refused = self._kept(_insert(rows.TABLES[signal], columns), lines) if lines else []
        except _BROKEN as error:
            later = Outcome(Fate.RETRY, _reason(error))
            return [later if outcome is None else outcome for outcome in outcomes]
        return [
            outcome
            or judged(signal, requests[number], {line.position: reason for line, reason in refused if line.request == number})
            for number, outcome in enumerate(outcomes)
        ]

    def check(self) -> None:
        """Connect, and make the tables if that is wanted and the account may."""
        try:
            with self._lock, self._usable() as connection:
                for table in rows.TABLES.values():
                    connection.query(f"SELECT 1 FROM {table} LIMIT 0")  # noqa: S608 - the names are ours
                connection.rollback()  # an open transaction would keep the tables from being changed
        except _BROKEN as error:
            raise StorageUnavailable(_reason(error)) from None

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._drop()

    def _kept(self, statement: str, lines: list[_Line]) -> list[tuple[_Line, str]]:
        """Insert and commit; what was refused. Once more at once, when a connection from before had ended meanwhile."""
        with self._lock:
            before, began = self._connection, time.monotonic()
            try:
                return self._committed(statement, lines)
            except pymysql.err.Error as error:
                waited = time.monotonic() - began > _AT_ONCE_S
                if before is None or waited or not error.args or error.args[0] not in _GONE:
                    raise
            return self._committed(statement, lines)

    def _committed(self, statement: str, lines: list[_Line]) -> list[tuple[_Line, str]]:
        with self._usable() as connection:
            refused = self._insert(connection, statement, lines)
            connection.commit()
            return refused

    def _insert(self, connection: pymysql.Connection[Any], statement: str, lines: list[_Line]) -> list[tuple[_Line, str]]:
        """Insert all at once, or row by row when one is refused; those that are, and why."""
        fitting, refused = [], []
        for line in lines:
            if self._too_large(line.values):
                refused.append((line, "larger than the server's max_allowed_packet"))
            else:
                fitting.append(line)
        with connection.cursor() as cursor:
            cursor.max_stmt_length = min(_STATEMENT_BYTES, self._largest - _ROOM)
            try:
                cursor.executemany(statement, [line.values for line in fitting])
            except pymysql.err.Error as error:
                if not _is_refusal(error):
                    raise
            else:
                return refused
            connection.rollback()
            for line in fitting:
                try:
                    cursor.execute(statement, line.values)
                except pymysql.err.Error as error:
                    if not _is_refusal(error):
                        raise
                    refused.append((line, f"MySQL refuses it with error {error.args[0]}"))
        return refused

    def _too_large(self, values: Iterable[Any]) -> bool:
        texts = [value for value in values if isinstance(value, str)]
        if sum(map(len, texts)) * _WIDEST_CHARACTER + _ROOM <= self._largest:
            return False
        assert self._connection is not None
        return sum(len(self._connection.escape(text).encode()) for text in texts) + _ROOM > self._largest

    @contextlib.contextmanager
    def _usable(self) -> Iterator[pymysql.Connection[Any]]:
        """The connection, opened if there is none; it is given up after whatever went wrong with it."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection
        except BaseException:
            self._drop()
            raise

    def _connect(self) -> pymysql.Connection[Any]:
        config = self._config
        host, _, port = config.address.rpartition(":")
        connection = pymysql.connect(
            host=host.strip("[]"), port=int(port), user=config.user, password=config.password, database=config.database,
            charset="utf8mb4", autocommit=False, connect_timeout=math.ceil(config.timeout_s), read_timeout=config.timeout_s,
            write_timeout=config.timeout_s, **_verified(config.ca_file),
            # Otherwise a server without strict mode would cut what is too long, and say nothing.
            init_command="SET SESSION sql_mode = 'STRICT_ALL_TABLES'",
        )  # fmt: skip
        try:
            with connection.cursor() as cursor:
                if config.create:
                    _create(cursor)
                cursor.execute("SELECT @@max_allowed_packet")
                self._largest = (cursor.fetchone() or (0,))[0]
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(pymysql.err.Error, OSError):
                connection.close()


def _verified(ca_file: str) -> dict[str, Any]:
    return {"ssl_ca": ca_file, "ssl_verify_cert": True, "ssl_verify_identity": True} if ca_file else {}


def columns_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values as its columns have them, in the order of every other row of its table."""
    found: dict[str, Any] = {"time": _EPOCH + timedelta(microseconds=values["time_ns"] // 1000)}
    for name, value in values.items():
        found |= _SPLIT[name](value) if name in _SPLIT else {name: _json(value) if name in _JSON else value}
    if "value" in found and found["value"] is None and isinstance(values["value"], float):
        found["summary"] = _json({"value": values["value"]})
    return found


def _body(value: Any) -> dict[str, Any]:
    text = isinstance(value, str)
    return {"body": value if text else None, "body_json": None if text or value is None else _json(value)}


def _value(value: Any) -> dict[str, Any]:
    finite = value is not None and math.isfinite(value)
    return {"value": float(value) if finite else None, "value_int": value if isinstance(value, int) else None}


_SPLIT: Final[Mapping[str, Callable[[Any], dict[str, Any]]]] = {"body": _body, "value": _value}
"""What is more than one column."""


def _json(value: Any) -> str:
    return json.dumps(rows.plain_json(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    places = ", ".join(["%s"] * len(columns))
    names = ", ".join(columns)
    # Names are ours. IGNORE would also let errors pass that are none of a key.
    return f"INSERT INTO {table} ({names}) VALUES ({places}) ON DUPLICATE KEY UPDATE id = id"  # noqa: S608 - as said


def _create(cursor: Any) -> None:
    """Make the tables; an account that may not make any may still write to those that are there."""
    text = files(__package__).joinpath("sql", "mysql.sql").read_text("utf-8")
    try:
        for statement in text.split(";\n"):
            if statement.strip():
                cursor.execute(statement)
    except pymysql.err.OperationalError as error:
        if error.args[0] not in _MAY_NOT:
            raise


def _is_refusal(error: pymysql.err.Error) -> bool:
    return isinstance(error, pymysql.err.DataError) or bool(error.args and error.args[0] in _REFUSED)


def _reason(error: Exception) -> str:
    """Without the driver's text, which may name hosts and accounts."""
    if isinstance(error, RuntimeError):
        return "MySQL asks for a login that needs TLS (set ca_file) or the package cryptography"
    if isinstance(error, OSError):
        return "MySQL: the certificates of ca_file cannot be read"
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    said = _REASONS.get(code)
    return f"MySQL: {said}" if said else f"MySQL does not answer as it should (error {code})"
