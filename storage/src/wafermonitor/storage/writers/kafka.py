"""Kafka: each request is one message that every replica in sync has.

In: OTLP requests. Out: messages. Called by: `receiver.bridge`, jobs in mode direct.

Shape: the one of the Collector's kafka exporter, which `wafer receiver --kafka` reads. The value is OTLP protobuf, zstd unless
told otherwise, to the topics `otlp_spans`, `otlp_logs` and `otlp_metrics`, without a key. Besides, each message has the header
`wafer.digest`, a digest of the value.

Accepted is what all replicas in sync have. Nothing is lost; after a lost answer a request may be there twice, with the same
digest, and the receiver's store keeps each item once. A request above `message_bytes` becomes several messages; one item above
it is rejected.

The client library needs an event loop: it has one in a thread of its own, in which everything of it is made and ended.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import logging
import ssl
import threading
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from wafermonitor.instrumentation.environment import EnvironmentConfig, one_of, option, positive, switch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers.items import parsed
from wafermonitor.storage.writers.pieces import Pieces, pieces
from wafermonitor.storage.writers.protocol import ACCEPTED, SIGNALS, Fate, Outcome, Signal

T = TypeVar("T")

_LIBRARY: Final = logging.getLogger("aiokafka")
_OVERHEAD_BYTES: Final = 1024
"""Of a message besides its value."""
_CLOSE_S: Final = 5.0
_LAST_TURNS: Final = 5
HEADER: Final = "wafer.digest"
_MECHANISMS: Final = ("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_BROKEN: Final = (kafka.KafkaError, OSError, TimeoutError)
_REASONS: Final[Mapping[type[Exception], str]] = {
    kafka.SaslAuthenticationFailed: "refuses the user or its password",
    kafka.TopicAuthorizationFailedError: "does not let this user write there",
    kafka.UnknownTopicOrPartitionError: "has no such topic",
    kafka.MessageSizeTooLargeError: "refuses the message as too large: set WAFER_KAFKA_MESSAGE_BYTES below max.message.bytes",
    kafka.NotEnoughReplicasError: "has too few replicas in sync",
    kafka.KafkaTimeoutError: "does not answer in time, or has no such topic",
    TimeoutError: "does not answer in time, or has no such topic",
    kafka.KafkaConnectionError: "does not answer, or refuses the user or its password",
}


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One cluster."""

    component: ClassVar[str] = "kafka"

    brokers: str = option(str, "Brokers, host:port by commas.", default="127.0.0.1:9092")
    traces: str = option(str, "Topic of traces.", default="otlp_spans")
    logs: str = option(str, "Topic of logs.", default="otlp_logs")
    metrics: str = option(str, "Topic of metrics.", default="otlp_metrics")
    compression: str = option(one_of("zstd", "lz4", "snappy", "gzip", "none"), "How messages are packed.", default="zstd")
    message_bytes: int = option(int, "Largest message before it is packed.", default=1_000_000)
    tls: bool = option(switch, "Reach the brokers by TLS.", default=False)
    ca_file: str = option(str, "Certificates (PEM) that sign the brokers'; empty: the system's.", default="")
    sasl: str = option(one_of(*_MECHANISMS), "Login: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: none.", default="")
    user: str = option(str, "The user.", default="")
    password: str = option(str, "Its password.", default="", secret=True)
    timeout_s: float = option(positive, "How long to wait for an answer.", default=10.0)


class Writer:
    """Produces from one client; several calls share its batches."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14513

    def __init__(self, config: Config) -> None:
        self._config = config
        self._topics: dict[Signal, str] = {"traces": config.traces, "logs": config.logs, "metrics": config.metrics}
        self._options = _options(config)
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._thread: threading.Thread | None = None
        self._opening: asyncio.Lock | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self._producer: Any = None  # the library publishes no types
        if _LIBRARY.level == logging.NOTSET:
            # At each try it complains of each broker, and at DEBUG it writes passwords; what went wrong is in the outcome.
            _LIBRARY.setLevel(logging.CRITICAL)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Send all, then wait for each."""
        outcomes: dict[int, Outcome] = {}
        cut: dict[int, Pieces] = {}
        for number, request in enumerate(requests):
            try:
                parsed(signal, request)
            except StorageRejected as error:
                outcomes[number] = Outcome(Fate.REJECTED, str(error))
            else:
                cut[number] = pieces(signal, request, self._config.message_bytes)
        try:
            errors: Mapping[int, BaseException] = self._run(self._send(self._topics[signal], cut)) if cut else {}
        except _BROKEN as error:
            errors = dict.fromkeys(cut, error)
        for number, one in cut.items():
            if number in errors:
                outcomes[number] = Outcome(Fate.RETRY, _reason(errors[number]))
            elif one.too_large:
                reason = f"larger than {self._config.message_bytes} bytes (WAFER_KAFKA_MESSAGE_BYTES)"
                outcomes[number] = Outcome(Fate.ACCEPTED, reason, one.too_large, one.remains)
        return [outcomes.get(number, ACCEPTED) for number in range(len(requests))]

    def check(self) -> None:
        """Ask for the topics."""
        try:
            missing = self._run(self._missing())
        except _BROKEN as error:
            raise StorageUnavailable(_reason(error)) from None
        if missing:
            raise StorageUnavailable(f"Kafka has no topic {', '.join(missing)}")

    def close(self) -> None:
        """End the client, then its loop."""
        with self._lock:  # until it is over: who writes meanwhile gets a new loop
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            if loop is None or thread is None:
                return
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in the loop, and wait. KafkaError when the writer is closed meanwhile."""
        with self._lock:
            if self._loop is None:
                self._loop, self._opening = _Loop(), asyncio.Lock()
                self._thread = threading.Thread(target=self._loop.live, name="kafka", daemon=True)
                self._thread.start()
            # Within the lock: who closes finds all that is under way.
            doing = asyncio.run_coroutine_threadsafe(self._known(work), self._loop)
        try:
            return doing.result()
        except concurrent.futures.CancelledError:
            raise kafka.ProducerClosed from None

    async def _known(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await work
        finally:
            self._under_way.discard(task)

    async def _end(self) -> None:
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._drop()

    async def _send(self, topic: str, cut: Mapping[int, Pieces]) -> dict[int, BaseException]:
        """Send every piece; the requests that are not there as a whole, and why."""
        producer = await self._usable()
        # Else each message would wait for the topic by itself.
        async with asyncio.timeout(self._config.timeout_s):
            await producer.partitions_for(topic)
        under_way: dict[asyncio.Future[Any], int] = {}
        for number, one in cut.items():
            for piece in one.fitting:
                digest = hashlib.sha256(piece).hexdigest().encode()
                future = await producer.send(topic, piece, headers=[(HEADER, digest)])
                # Nobody asks for it any more when the writer is closed meanwhile, of which asyncio would complain.
                future.add_done_callback(lambda one: one.cancelled() or one.exception())
                under_way[future] = number
        done, late = await asyncio.wait(under_way, timeout=2 * self._config.timeout_s) if under_way else (set(), set())
        errors: dict[int, BaseException] = {under_way[future]: TimeoutError() for future in late}
        for future in done:
            error = future.exception()
            if error is not None:
                errors[under_way[future]] = error
        if late:
            await self._drop()
        return errors

    async def _missing(self) -> list[str]:
        producer = await self._usable()
        topics = list(self._topics.values())
        async with asyncio.timeout(2 * self._config.timeout_s):
            answers = await asyncio.gather(*(producer.partitions_for(topic) for topic in topics), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, kafka.UnknownTopicOrPartitionError):
                raise answer
        return [topic for topic, answer in zip(topics, answers, strict=True) if isinstance(answer, Exception)]

    async def _usable(self) -> Any:
        """The client, started if there is none."""
        assert self._opening is not None
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(**self._options)
                try:
                    async with asyncio.timeout(2 * self._config.timeout_s):
                        await producer.start()
                except BaseException:
                    await _stop(producer)
                    raise
                self._producer = producer
        return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


class _Loop(asyncio.SelectorEventLoop):
    """Knows its connections: the library forgets some of those that it was just opening when it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.connections: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """As asyncio has it."""
        made = await super().create_connection(*arguments, **options)
        self.connections.add(made[0])
        return made

    def live(self) -> None:
        """Run until it is stopped, then end all that is left in it."""
        asyncio.set_event_loop(self)
        try:
            self.run_forever()
            left = asyncio.all_tasks(self)
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            for connection in list(self.connections):
                connection.abort()
            # What an aborted connection leaves to do is done in the next turns.
            for _ in range(_LAST_TURNS):
                self.run_until_complete(asyncio.sleep(0))
        finally:
            self.close()


async def _stop(producer: Any) -> None:
    """Within a time: it would wait for brokers that are away."""
    with contextlib.suppress(*_BROKEN):
        async with asyncio.timeout(_CLOSE_S):
            await producer.stop()


def _options(config: Config) -> dict[str, Any]:
    kind = ("SASL_" if config.sasl else "") + ("SSL" if config.tls else "PLAINTEXT")
    options: dict[str, Any] = {
        "bootstrap_servers": config.brokers,
        "client_id": "wafermonitor",
        "acks": "all",
        "compression_type": None if config.compression == "none" else config.compression,
        "max_batch_size": config.message_bytes,
        "max_request_size": config.message_bytes + _OVERHEAD_BYTES,
        "request_timeout_ms": int(config.timeout_s * 1000),
        "security_protocol": kind,
    }
    if config.sasl:
        login = {"sasl_plain_username": config.user, "sasl_plain_password": config.password}
        options |= {"sasl_mechanism": config.sasl, **login}
    if config.tls:
        try:
            options["ssl_context"] = ssl.create_default_context(cafile=config.ca_file or None)
        except (OSError, ssl.SSLError):
            raise StorageRejected(f"WAFER_KAFKA_CA_FILE = {config.ca_file!r} holds no certificates that can be read") from None
    return options


def _reason(error: BaseException) -> str:
    """Without the library's text, which names hosts."""
    for kind, said in _REASONS.items():
        if isinstance(error, kind):
            return f"Kafka {said}"
    return f"Kafka does not answer as it should ({type(error).__name__})"
