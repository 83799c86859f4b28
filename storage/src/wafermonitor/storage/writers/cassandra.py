"""Cassandra: one row for each span, log record and metric point.

In: OTLP requests. Out: rows of `otel_spans`, `otel_logs` and `otel_metrics` (`sql/cassandra.cql`), which are made if they are
not there. Called by: `receiver.bridge`, jobs in mode direct.

Shape: what `rows` says, a column for each name. A partition is (site, hour, shard): `hour` counts hours since 1970-01-01 UTC,
`shard` (0 … 15) is the first digit of `id`; in it rows stand in the order of (time_ns, id). So a span of time is read as hours
times sixteen partitions; who looks for runs or traces as well makes an index on `run_id` or `trace_id`. Maps and lists are JSON
text; bytes in it are base64, and NaN and the infinities words. A log's `body` is its text; a body that is no text stands in
`body_json` instead. A point's `value` is a double; `value_int` as well where the sender gave an integer.
The Collector's cassandra exporter has tables of the same names with another key, which keeps one log record of a span and no
metrics; they belong into another keyspace.

Accepted is what as many replicas have said to have as `consistency` asks for. The key is the same at every delivery, so a
second one changes nothing. An item whose time, site or size no row can have is rejected; everything else, a wrong password or a
missing table, too, is tried again.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any, ClassVar, Final, NamedTuple

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ProtocolVersion,
    Timeout,
    Unauthorized,
    Unavailable,
    WriteFailure,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.concurrent import execute_concurrent
from cassandra.connection import ConnectionException
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType

from wafermonitor.instrumentation.environment import EnvironmentConfig, one_of, option, positive, switch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import rows
from wafermonitor.storage.writers.items import Item, items, judged
from wafermonitor.storage.writers.protocol import SIGNALS, Fate, Outcome, Signal

HOUR_NS: Final = 3_600_000_000_000
SHARDS: Final = 16
_LATEST_NS: Final = 2**63 - 1
_LARGEST_BYTES: Final = 8_000_000
"""A row; a node takes half a segment of its commit log, 16 MiB unless told otherwise."""
_LONGEST_SITE_BYTES: Final = 32_000
"""A key may have 65,535 bytes."""
_DAY_S: Final = 86_400
_PARTITION: Final = ("site", "hour", "shard")
_TOGETHER_ROWS, _TOGETHER_CHARACTERS = 500, 500_000
"""At most, in one statement."""
_AT_ONCE: Final = 32
"""Statements that are under way together."""
_RECONNECT_S: Final = 2.0
_JSON: Final = frozenset({"attributes", "resource", "events", "links", "summary"})
_LEVELS: Final = ("ONE", "LOCAL_ONE", "TWO", "QUORUM", "LOCAL_QUORUM", "EACH_QUORUM", "ALL")
_BROKEN: Final = (DriverException, NoHostAvailable, ConnectionException, OSError)
_REASONS: Final[Mapping[type[Exception], str]] = {
    AuthenticationFailed: "refuses the role or its password",
    Unauthorized: "does not let this role write there",
    Unavailable: "has too few replicas alive for the consistency that is asked for",
    WriteFailure: "has replicas that fail to write",
    Timeout: "has replicas that do not answer in time",
    OperationTimedOut: "does not answer in time",
    InvalidRequest: "has no such tables, or others than these: let WAFER_CASSANDRA_CREATE make them",
}


def _nodes(text: str) -> str:
    for node in text.split(","):
        host, _, port = node.strip().rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("host:port, several by commas, for example 127.0.0.1:9042")
    return text


def _keyspace(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", text):
        raise ValueError("lower-case letters, digits and _")
    return text


def _days(text: str) -> int:
    days = int(text)
    if not 0 <= days <= 20 * 365:
        raise ValueError("0 to 7300")
    return days


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One cluster."""

    component: ClassVar[str] = "cassandra"

    nodes: str = option(_nodes, "Some nodes, host:port by commas; the others are found by them.", default="127.0.0.1:9042")
    keyspace: str = option(_keyspace, "The keyspace.", default="wafermonitor")
    user: str = option(str, "The role; empty: no login.", default="")
    password: str = option(str, "Its password.", default="", secret=True)
    data_center: str = option(str, "The nearest data center; empty: that of the node that answers first.", default="")
    consistency: str = option(
        one_of(*_LEVELS), "Which replicas must have a row: one of Cassandra's levels.", default="LOCAL_QUORUM"
    )
    create: bool = option(switch, "Make keyspace and tables if they are not there.", default=True)
    replicas: int = option(int, "Replicas in each data center of a keyspace that is made; 3 in a cluster.", default=1)
    keep_days: int = option(_days, "Rows of tables that are made expire after so many days; 0: never.", default=0)
    ca_file: str = option(str, "Certificates (PEM) that sign the nodes'; with it TLS is asked for.", default="")
    timeout_s: float = option(positive, "How long to wait for a connection or an answer.", default=10.0)


class _Row(NamedTuple):
    """A row, and which item of which request it is."""

    request: int
    position: int
    values: dict[str, Any]


class Writer:
    """Writes over the driver's pool of connections."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14512

    def __init__(self, config: Config) -> None:
        self._config = config
        self._tls = _context(config.ca_file) if config.ca_file else None
        self._lock = threading.Lock()
        self._cluster: Any = None  # the library publishes no types
        self._session: Any = None
        self._statements: dict[str, Any] = {}

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Write the rows of all of them side by side."""
        outcomes: dict[int, Outcome] = {}
        refused: dict[int, dict[int, str]] = defaultdict(dict)
        lines: list[_Row] = []
        for number, request in enumerate(requests):
            try:
                found = items(signal, request)
            except StorageRejected as error:
                outcomes[number] = Outcome(Fate.REJECTED, str(error))
                continue
            for position, item in enumerate(found):
                values = columns_of(item)
                reason = _unfit(values)
                if reason:
                    refused[number][position] = reason
                else:
                    lines.append(_Row(number, position, values))
        for line, why in self._insert(rows.TABLES[signal], lines):
            if isinstance(why, InvalidRequest) and not _disk_is_full(why):
                refused[line.request][line.position] = "Cassandra refuses the row"
            else:
                outcomes[line.request] = Outcome(Fate.RETRY, _reason(why))
        return [
            outcomes.get(number) or judged(signal, request, refused.get(number, {})) for number, request in enumerate(requests)
        ]

    def check(self) -> None:
        """Connect, and make the tables if that is wanted and the role may."""
        try:
            with self._usable():
                for table in rows.TABLES.values():
                    self._session.execute(f"SELECT id FROM {self._config.keyspace}.{table} LIMIT 1")  # noqa: S608 - a checked name
        except _BROKEN as error:
            raise StorageUnavailable(_reason(error)) from None

    def close(self) -> None:
        """End the connections."""
        self._drop()

    def _insert(self, table: str, lines: list[_Row]) -> list[tuple[_Row, Exception]]:
        """Insert all; those that failed, and why."""
        if not lines:
            return []
        columns = tuple(lines[0].values)
        try:
            with self._usable() as session:
                statement = self._prepared(session, table, columns)
                together = _by_partition(lines)
                failed = _failed(session, [_batch(statement, group) for group in together], together)
                suspects = [[line] for group, error in failed if isinstance(error, InvalidRequest) for line in group]
                if suspects:
                    # Rows are to blame only as long as the table is what it was.
                    self._statements.pop(table, None)
                    statement = self._prepared(session, table, columns)
                    failed = [one for one in failed if not isinstance(one[1], InvalidRequest)]
                    failed += _failed(session, [_batch(statement, group) for group in suspects], suspects)
        except _BROKEN as error:
            if isinstance(error, InvalidRequest):
                # Of the statement itself: the tables are not there, and are made when we connect.
                self._drop()
                error = StatementRefused()
            return [(line, error) for line in lines]
        if any(isinstance(error, NoHostAvailable) for _, error in failed):
            self._drop()
        return [(line, error) for group, error in failed for line in group]

    def _prepared(self, session: Any, table: str, columns: tuple[str, ...]) -> Any:
        statement = self._statements.get(table)
        if statement is None:
            names, places = ", ".join(columns), ", ".join("?" * len(columns))
            statement = session.prepare(f"INSERT INTO {self._config.keyspace}.{table} ({names}) VALUES ({places})")  # noqa: S608 - checked names
            statement.is_idempotent = True
            self._statements[table] = statement
        return statement

    @contextlib.contextmanager
    def _usable(self) -> Iterator[Any]:
        """The session, opened if there is none; it is given up when no node answers."""
        with self._lock:
            if self._session is None:
                self._connect()
            session = self._session
        try:
            yield session
        except NoHostAvailable:
            self._drop()
            raise

    def _connect(self) -> None:
        config = self._config
        profile = ExecutionProfile(
            TokenAwarePolicy(DCAwareRoundRobinPolicy(config.data_center)),
            consistency_level=ConsistencyLevel.name_to_value[config.consistency],
            request_timeout=config.timeout_s,
        )
        nodes = [node.strip().rpartition(":") for node in config.nodes.split(",")]
        cluster = _Cluster(
            [(host.strip("[]"), int(port)) for host, _, port in nodes],
            auth_provider=PlainTextAuthProvider(config.user, config.password) if config.user else None,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            protocol_version=ProtocolVersion.V4,  # every server has it; else it is found out by trying newer ones
            ssl_context=self._tls,
            connect_timeout=config.timeout_s,
            control_connection_timeout=config.timeout_s,
            reconnection_policy=ConstantReconnectionPolicy(_RECONNECT_S, max_attempts=None),
        )
        try:
            session = cluster.connect()
            if config.create:
                self._create(cluster, session)
        except BaseException:
            cluster.shutdown()
            raise
        self._cluster, self._session = cluster, session

    def _create(self, cluster: Any, session: Any) -> None:
        """Make what is not there. A role that may not may still write to what there is."""
        keyspace = cluster.metadata.keyspaces.get(self._config.keyspace)
        if keyspace is not None and set(rows.TABLES.values()) <= set(keyspace.tables):
            return  # changes of the schema are never free, not even those that change nothing
        text = files(__package__).joinpath("sql", "cassandra.cql").read_text("utf-8")
        config = self._config
        words = {"keyspace": config.keyspace, "replicas": config.replicas, "keep_s": config.keep_days * _DAY_S}
        try:
            for statement in Template(text).substitute(words).split(";\n"):
                if statement.strip():
                    session.execute(statement)
        except Unauthorized:
            return

    def _drop(self) -> None:
        with self._lock:
            cluster, self._cluster, self._session = self._cluster, None, None
            self._statements = {}
        if cluster is not None:
            cluster.shutdown()


class _Cluster(Cluster):  # type: ignore[misc]  # the library publishes no types
    """Ends at once with the process: the library's own waits until a connection that is being made is there, or given up."""

    def shutdown(self) -> None:
        """As the library has it, unless another thread is connecting."""
        if self._lock.acquire(blocking=False):
            try:
                super().shutdown()
            finally:
                self._lock.release()


class StatementRefused(DriverException):  # type: ignore[misc]  # the library publishes no types
    """Cassandra does not understand the insert as such."""


def _by_partition(lines: Sequence[_Row]) -> list[list[_Row]]:
    """Rows that go together: of one partition, so that they are one change of one node's data, whatever their number."""
    groups: list[list[_Row]] = []
    latest: dict[tuple[Any, ...], tuple[list[_Row], int]] = {}
    for line in lines:
        partition = tuple(line.values[name] for name in _PARTITION)
        size = sum(len(value) for value in line.values.values() if isinstance(value, str))
        group, held = latest.get(partition, ([], 0))
        if group and (held + size > _TOGETHER_CHARACTERS or len(group) == _TOGETHER_ROWS):
            group, held = [], 0
        if not group:
            groups.append(group)
        group.append(line)
        latest[partition] = group, held + size
    return groups


def _batch(statement: Any, lines: Sequence[_Row]) -> Any:
    if len(lines) == 1:
        return statement.bind(tuple(lines[0].values.values()))
    batch = BatchStatement(BatchType.UNLOGGED)
    for line in lines:
        batch.add(statement, tuple(line.values.values()))
    batch.is_idempotent = True
    return batch


def _failed(session: Any, statements: Sequence[Any], groups: Sequence[list[_Row]]) -> list[tuple[list[_Row], Exception]]:
    """Execute; the groups of those that failed, and why."""
    arguments = [(statement, None) for statement in statements]
    done = execute_concurrent(session, arguments, concurrency=_AT_ONCE, raise_on_first_error=False)
    return [(group, result) for group, (success, result) in zip(groups, done, strict=True) if not success]


def columns_of(item: Item) -> dict[str, Any]:
    """An item's row as its columns have it, in the order of every other row of its table. What is not there is left unset."""
    values = rows.row(item).values
    found: dict[str, Any] = {"hour": values["time_ns"] // HOUR_NS, "shard": int(values["id"][0], SHARDS)}
    for name, value in values.items():
        if name in _JSON:
            found[name] = _json(value)
        elif name == "body":
            text = isinstance(value, str)
            found |= {"body": value if text else None, "body_json": None if text or value is None else _json(value)}
        elif name == "value":
            found |= {
                "value": None if value is None else float(value),
                "value_int": value if isinstance(value, int) else None,
            }
        else:
            found[name] = value
    # A null would be written as the deletion of what is not there.
    return {name: UNSET_VALUE if value is None else value for name, value in found.items()}


def _json(value: Any) -> str:
    return json.dumps(rows.plain_json(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _unfit(values: Mapping[str, Any]) -> str:
    """Why no row can have these values; empty when one can."""
    late = [name for name, value in values.items() if name.endswith("_ns") and value > _LATEST_NS]
    if late:
        return f"{late[0]} is after the year 2262"
    if len(values["site"].encode()) > _LONGEST_SITE_BYTES:
        return f"the site's name is longer than {_LONGEST_SITE_BYTES} bytes"
    texts = [value for value in values.values() if isinstance(value, str)]
    if sum(map(len, texts)) * 4 > _LARGEST_BYTES and sum(len(text.encode()) for text in texts) > _LARGEST_BYTES:
        return f"larger than {_LARGEST_BYTES} bytes"
    return ""


def _context(ca_file: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise StorageRejected(f"WAFER_CASSANDRA_CA_FILE = {ca_file!r} holds no certificates that can be read") from None
    # Nodes are found by address, which certificates rarely name.
    context.check_hostname = False
    return context


def _disk_is_full(error: Exception) -> bool:
    """The guardrail replica_disk_usage answers as if the row were to blame."""
    return isinstance(error, InvalidRequest) and "disk usage" in str(error)


def _reason(error: Exception) -> str:
    """Without the driver's text, which may name hosts and roles."""
    errors = [error]
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, Mapping):
        errors.extend(error.errors.values())
    if _disk_is_full(error):
        return "Cassandra takes nothing while its disks are as full as its guardrail lets them be"
    for one in reversed(errors):
        for kind, said in _REASONS.items():
            if isinstance(one, kind):
                return f"Cassandra {said}"
    if isinstance(error, StatementRefused):
        return f"Cassandra {_REASONS[InvalidRequest]}"
    return f"Cassandra does not answer as it should ({type(error).__name__})"
