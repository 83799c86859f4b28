"""RabbitMQ: each request is one persistent message, which the broker has confirmed.

In: OTLP requests. Out: messages, by AMQP 0.9.1. Called by: `receiver.bridge`, jobs in mode direct.

Shape: the one of the Collector's rabbitmq exporter. The body is OTLP protobuf, the routing key `otlp_spans`, `otlp_logs` or
`otlp_metrics`; by the default exchange this is the queue's name. Besides, `content_type` is application/x-protobuf, `type` the
signal (traces, logs, metrics) and `message_id` a digest of the body.

A queue that is not there is made, durable; with an exchange of the site's own nothing is made. Accepted is what the broker has
confirmed: a durable queue has it on disk. What no queue takes is tried again. Nothing is lost; after a lost confirmation a
request is there twice, with the same `message_id`, for consumers that heed it. A request above `message_bytes` becomes several
messages; one item above it is rejected.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pika
from pika import exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from wafermonitor.instrumentation.environment import EnvironmentConfig, one_of, option, positive, switch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers.items import parsed
from wafermonitor.storage.writers.pieces import pieces
from wafermonitor.storage.writers.protocol import ACCEPTED, SIGNALS, Fate, Outcome, Signal

_LIBRARY: Final = logging.getLogger("pika")
_PERSISTENT: Final = 2
_BROKEN: Final = (exceptions.AMQPError, AMQPConnectorException, OSError)
_GONE: Final = (exceptions.StreamLostError, exceptions.ConnectionClosed, exceptions.ConnectionWrongStateError, OSError)
"""How a connection shows at its next use that it broke meanwhile; others have been waited for long enough."""
_NOT_FOUND, _REFUSED, _PRECONDITION = 404, 403, 406


class Unconfirmed(exceptions.AMQPError):  # type: ignore[misc]  # the library publishes no types
    """The broker lives, as its heartbeats show, and does not answer."""


_REASONS: Final[Mapping[type[Exception], str]] = {
    exceptions.ProbableAuthenticationError: "refuses the user or its password",
    exceptions.AuthenticationError: "refuses the user or its password",
    exceptions.ProbableAccessDeniedError: "does not let this user into the virtual host, or has none of this name",
    exceptions.ConnectionBlockedTimeout: "takes nothing for now: it is short of memory or disk",
    exceptions.NackError: "has no room in the queue",
    Unconfirmed: "is there and does not confirm: has the queue lost the majority of its nodes?",
}
_CHANNEL: Final[Mapping[int, str]] = {
    _REFUSED: "does not let this user write there",
    _NOT_FOUND: "has no such exchange",
    _PRECONDITION: "refuses the message, perhaps as too large: set WAFER_RABBITMQ_MESSAGE_BYTES below its max_message_size",
}


def _brokers(text: str) -> str:
    for broker in text.split(","):
        host, _, port = broker.strip().rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("host:port, several by commas, for example 127.0.0.1:5672")
    return text


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One broker, or a cluster."""

    component: ClassVar[str] = "rabbitmq"

    brokers: str = option(_brokers, "Nodes, host:port by commas; the first that answers is used.", default="127.0.0.1:5672")
    user: str = option(str, "The user.", default="guest")
    password: str = option(str, "Its password.", default="guest", secret=True)
    virtual_host: str = option(str, "The virtual host.", default="/")
    tls: bool = option(switch, "Reach the broker by TLS (port 5671 usually).", default=False)
    ca_file: str = option(str, "Certificates (PEM) that sign the broker's; empty: the system's.", default="")
    exchange: str = option(str, "A direct exchange that is there and bound; empty: the default one, to queues.", default="")
    traces: str = option(str, "Routing key of traces.", default="otlp_spans")
    logs: str = option(str, "Routing key of logs.", default="otlp_logs")
    metrics: str = option(str, "Routing key of metrics.", default="otlp_metrics")
    create: bool = option(switch, "Make queues that are not there (default exchange only).", default=True)
    queue_type: str = option(one_of("classic", "quorum"), "Of queues that are made; quorum for a cluster.", default="classic")
    message_bytes: int = option(int, "Largest message; the broker's max_message_size bounds it.", default=8_000_000)
    timeout_s: float = option(
        positive,
        "How long to wait for an answer, and for twice that for a confirmation.",
        default=10.0,
    )


class Writer:
    """Publishes over one connection, one call at a time."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14511

    def __init__(self, config: Config) -> None:
        self._config = config
        self._keys: dict[Signal, str] = {"traces": config.traces, "logs": config.logs, "metrics": config.metrics}
        self._nodes = _parameters(config)
        self._lock = threading.Lock()
        self._connection: Any = None  # the library publishes no types
        self._channel: Any = None
        self._made: set[str] = set()
        if _LIBRARY.level == logging.NOTSET:
            # It complains five times about each try, with addresses; what went wrong is in the outcome.
            _LIBRARY.setLevel(logging.CRITICAL)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Publish each; after one that must be tried again the rest of the batch waits, too."""
        outcomes: list[Outcome] = []
        with self._lock:
            for request in requests:
                late = bool(outcomes) and outcomes[-1].fate is Fate.RETRY
                outcomes.append(outcomes[-1] if late else self._send(signal, request))
        return outcomes

    def check(self) -> None:
        """Log in, and make the queues if that is wanted."""
        with self._lock:
            try:
                with self._usable():
                    for key in self._keys.values():
                        self._make(key)
            except _BROKEN as error:
                raise StorageUnavailable(_reason(error)) from None

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._drop()

    def _send(self, signal: Signal, request: bytes) -> Outcome:
        try:
            parsed(signal, request)
        except StorageRejected as error:
            return Outcome(Fate.REJECTED, str(error))
        cut = pieces(signal, request, self._config.message_bytes)
        for piece in cut.fitting:
            try:
                self._again(lambda piece=piece: self._publish(signal, piece))  # type: ignore[misc]  # piece is bytes
            except _BROKEN as error:
                return Outcome(Fate.RETRY, _reason(error))
        if cut.too_large:
            reason = f"larger than {self._config.message_bytes} bytes (WAFER_RABBITMQ_MESSAGE_BYTES)"
            return Outcome(Fate.ACCEPTED, reason, cut.too_large, cut.remains)
        return ACCEPTED

    def _again(self, publish: Callable[[], None]) -> None:
        """A connection that has been idle may be gone."""
        used = self._connection is not None
        try:
            publish()
        except _GONE:
            if not used:
                raise
            publish()

    def _publish(self, signal: Signal, body: bytes) -> None:
        with self._usable():
            key = self._keys[signal]
            self._make(key)
            properties = pika.BasicProperties(
                content_type="application/x-protobuf",
                delivery_mode=_PERSISTENT,
                message_id=hashlib.sha256(body).hexdigest(),
                type=signal,
            )
            self._channel.basic_publish(self._config.exchange, key, body, properties, mandatory=True)

    def _make(self, queue: str) -> None:
        """The queue, if it is ours to make; one that is there stays as it is."""
        if self._config.exchange or not self._config.create or queue in self._made:
            return
        try:
            self._channel.queue_declare(queue, passive=True)
        except exceptions.ChannelClosedByBroker as error:
            self._open()
            if error.reply_code == _NOT_FOUND:
                self._channel.queue_declare(queue, durable=True, arguments={"x-queue-type": self._config.queue_type})
        self._made.add(queue)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """The connection, opened if there is none; it is given up after whatever went wrong with it."""
        try:
            if self._connection is None:
                self._connection = pika.BlockingConnection(self._nodes)
                self._open()
            with self._bounded(self._connection):
                yield
        except (exceptions.UnroutableError, exceptions.NackError):
            raise
        except BaseException:
            self._drop()
            raise

    @contextlib.contextmanager
    def _bounded(self, connection: Any) -> Iterator[None]:
        """Give the connection up when an answer does not come.

        The library has no bound for that: its own ends a connection by heartbeats alone, which go on when a queue has lost the
        majority of its nodes. This is how they end it.
        """
        inner = connection._impl  # noqa: SLF001 - as said
        timer = inner._adapter_call_later(2 * self._config.timeout_s, lambda: inner._terminate_stream(Unconfirmed()))  # noqa: SLF001
        try:
            yield
        finally:
            inner._adapter_remove_timeout(timer)  # noqa: SLF001 - as said

    def _open(self) -> None:
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._made.clear()
        if connection is not None:
            with contextlib.suppress(*_BROKEN):
                connection.close()


def _parameters(config: Config) -> list[Any]:
    options = None
    nodes = [broker.strip().rpartition(":") for broker in config.brokers.split(",")]
    parameters = []
    for host, _, port in nodes:
        if config.tls:
            options = pika.SSLOptions(_tls(config.ca_file), host.strip("[]"))
        parameters.append(
            pika.ConnectionParameters(
                host.strip("[]"),
                int(port),
                config.virtual_host,
                pika.PlainCredentials(config.user, config.password),
                ssl_options=options,
                connection_attempts=1,
                socket_timeout=config.timeout_s,
                stack_timeout=config.timeout_s,
                blocked_connection_timeout=config.timeout_s,
                # Who is silent for two of them is gone.
                heartbeat=math.ceil(config.timeout_s),
                client_properties={"connection_name": "wafermonitor"},
            )
        )
    return parameters


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError):
        raise StorageRejected(f"WAFER_RABBITMQ_CA_FILE = {ca_file!r} holds no certificates that can be read") from None


def _reason(error: Exception) -> str:
    """Without the library's text, which may name hosts and users."""
    for kind, said in _REASONS.items():
        if isinstance(error, kind):
            return f"RabbitMQ {said}"
    if isinstance(error, exceptions.UnroutableError):
        keys = sorted({one.method.routing_key for one in error.messages})
        return f"RabbitMQ has no queue for {', '.join(keys)}"
    if isinstance(error, exceptions.ChannelClosedByBroker) and error.reply_code in _CHANNEL:
        return f"RabbitMQ {_CHANNEL[error.reply_code]}"
    return f"RabbitMQ does not answer as it should ({type(error).__name__})"
