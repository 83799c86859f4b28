"""The one door to the Kafka client library (aiokafka): its calls, in our words and with our errors.

In: the settings of `KafkaConfig`. Out: messages, committed offsets, how far behind we are. Called by: `consumer`.

Partitions are never paused in the library: that would throw away what it has fetched. What is not asked for stays in its
buffer, at most `FETCH_BYTES` a partition, and is not fetched again until it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from wafermonitor.receiver.kafka.config import KafkaConfig
from wafermonitor.receiver.kafka.errors import CommitRefused, KafkaRejected, KafkaUnavailable
from wafermonitor.receiver.kafka.offsets import Partition

try:
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
    from aiokafka.errors import CommitFailedError, IllegalStateError
    from aiokafka.errors import KafkaError as LibraryError
except ImportError:
    raise KafkaRejected('Kafka needs the extra "kafka": pip install "wafermonitor[kafka]"') from None

LOG = logging.getLogger(__name__)
LIBRARY = logging.getLogger("aiokafka")
FETCH_BYTES = 1024 * 1024
"""Of one partition at once. A larger message is fetched all the same, alone."""
REQUEST_S = 10.0
NEW_TOPICS_S = 15.0
HEARTBEATS_A_SESSION = 4
NEVER_S = 14 * 86_400
"""A store that is away for hours is no reason to share out the partitions anew; heartbeats say that we live."""

T = TypeVar("T")
Shared = Callable[[list[Partition]], Awaitable[None]]


class Message(NamedTuple):
    """One message. `body` is None for a tombstone; `written_ns` is the time in the message, 0 when it has none."""

    partition: Partition
    offset: int
    body: bytes | None
    written_ns: int

    def __str__(self) -> str:
        return f"{self.partition} at {self.offset}"


class Standing(NamedTuple):
    """One partition as Kafka sees it: the first offset it has, what the group committed (None: never), the next one written."""

    first: int
    committed: int | None
    end: int


class Client:
    """A member of the consumer group. `assigned` and `revoked` are awaited whenever the partitions are shared out anew."""

    def __init__(self, config: KafkaConfig, assigned: Shared, revoked: Shared) -> None:
        self._topics = config.kafka_topics
        self._heard = _Heard()
        session_ms = int(config.kafka_session_s * 1000)
        self._options = {
            "bootstrap_servers": config.kafka,
            "client_id": "wafer-receiver",
            "group_id": config.kafka_group,
            "enable_auto_commit": False,
            "auto_offset_reset": config.kafka_from,
            "isolation_level": "read_committed",
            "max_partition_fetch_bytes": FETCH_BYTES,
            "fetch_max_bytes": max(FETCH_BYTES, config.kafka_bytes // 2),
            "metadata_max_age_ms": int(NEW_TOPICS_S * 1000),
            "request_timeout_ms": int(REQUEST_S * 1000),
            "session_timeout_ms": session_ms,
            "heartbeat_interval_ms": session_ms // HEARTBEATS_A_SESSION,
            "rebalance_timeout_ms": max(session_ms, 30_000),
            "max_poll_interval_ms": NEVER_S * 1000,
            **_security(config),
        }
        self._listener = _Listener(assigned, revoked)
        self._library: Any = None  # the library publishes no types
        self._leaving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Find the brokers and ask to join the group; KafkaUnavailable says what a broker, or the network, had against it."""
        self._heard.begin()
        self._library, self._leaving = AIOKafkaConsumer(**self._options), None
        try:
            await self._library.start()
        except (LibraryError, OSError, TimeoutError) as error:
            raise KafkaUnavailable(self._heard.last or str(error)) from None
        # A pattern, because to subscribe to a name asks the broker to make that topic, with as many partitions as it likes.
        pattern = "|".join(re.escape(topic) for topic in self._topics)
        self._library.subscribe(pattern=f"^(?:{pattern})$", listener=self._listener)

    async def close(self, within_s: float) -> None:
        """Leave the group, so that others need not wait for our session to end. May be called at any time, and again.

        What takes longer than `within_s` (a broker that does not answer) goes on by itself, for `REQUEST_S` at most.
        """
        if self._library is None:
            return
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(self._library), name="leave the group")
        await asyncio.wait([self._leaving], timeout=within_s)

    async def _leave(self, library: Any) -> None:
        try:
            await library.stop()
        except (LibraryError, OSError) as error:
            LOG.debug("leaving the group failed: %s", error)
        finally:
            if library is self._library:  # else it was opened again meanwhile
                self._heard.end()

    async def take(self, partitions: Sequence[Partition] | None, most: int, wait_s: float) -> dict[Partition, list[Message]]:
        """At most `most` messages of `partitions` (None: all of ours), waiting up to `wait_s` for the first."""
        asked = [TopicPartition(*partition) for partition in partitions or ()]
        try:
            # Without a limit of ours: while the group is shared out anew nothing comes.
            found = await self._library.getmany(*asked, timeout_ms=int(wait_s * 1000), max_records=most)
        except (LibraryError, OSError) as error:
            raise KafkaUnavailable(self._heard.last or str(error)) from None
        taken = {Partition(key.topic, key.partition): records for key, records in found.items()}
        return {partition: [_message(partition, record) for record in records] for partition, records in taken.items()}

    def rewind(self, partition: Partition, offset: int) -> None:
        """Go on at `offset`, as if nothing from there on had been taken; no matter when the partition is no longer ours."""
        with contextlib.suppress(IllegalStateError):
            self._library.seek(TopicPartition(*partition), offset)

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Keep where the group goes on. CommitRefused when one of the partitions is no longer ours."""
        try:
            offsets = {TopicPartition(*partition): position for partition, position in positions.items()}
            async with asyncio.timeout(REQUEST_S):
                await self._library.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            raise CommitRefused(str(error)) from None
        except (LibraryError, OSError, TimeoutError) as error:
            raise KafkaUnavailable(self._heard.last or str(error)) from None

    async def standing(self, partitions: Iterable[Partition]) -> dict[Partition, Standing]:
        """How each partition stands; asks the brokers, so it also tells whether they answer."""
        keys = [TopicPartition(*partition) for partition in partitions]
        first = await self._asked(self._library.beginning_offsets(keys))
        end = await self._asked(self._library.end_offsets(keys))
        committed = await self._asked(asyncio.gather(*(self._library.committed(key) for key in keys)))
        return {Partition(*key): Standing(first[key], kept, end[key]) for key, kept in zip(keys, committed, strict=True)}

    async def position(self, partition: Partition) -> int:
        """The offset that is read next, as soon as Kafka has said where that is."""
        found: int = await self._asked(self._library.position(TopicPartition(*partition)))
        return found

    async def missing(self) -> set[str]:
        """Topics that do not exist, or that we may not see."""
        seen: set[str] = await self._asked(self._library.topics())
        return set(self._topics) - seen

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(2 * REQUEST_S):
                return await answer
        except (CommitFailedError, IllegalStateError) as error:
            raise CommitRefused(str(error)) from None
        except (LibraryError, OSError, TimeoutError) as error:
            raise KafkaUnavailable(self._heard.last or str(error)) from None


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the library publishes no types
    def __init__(self, assigned: Shared, revoked: Shared) -> None:
        self._assigned = assigned
        self._revoked = revoked

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._assigned([Partition(*key) for key in assigned])

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._revoked([Partition(*key) for key in revoked])


class _Heard(logging.Handler):
    """Keeps the library's latest complaint: why a broker cannot be reached is said in its log only, again at each try."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()

    def begin(self) -> None:
        self.last = ""
        LIBRARY.propagate = False
        # At DEBUG it writes every request out, passwords included.
        LIBRARY.setLevel(logging.INFO)
        LIBRARY.addHandler(self)

    def end(self) -> None:
        LIBRARY.removeHandler(self)


def _message(partition: Partition, record: ConsumerRecord) -> Message:
    return Message(partition, record.offset, record.value, max(record.timestamp, 0) * 1_000_000)


def _security(config: KafkaConfig) -> dict[str, object]:
    kind = ("SASL_" if config.kafka_sasl else "") + ("SSL" if config.kafka_tls else "PLAINTEXT")
    options: dict[str, object] = {"security_protocol": kind}
    if config.kafka_sasl:
        assert config.kafka_password is not None
        options |= {
            "sasl_mechanism": config.kafka_sasl,
            "sasl_plain_username": config.kafka_user,
            "sasl_plain_password": config.kafka_password.get_secret_value(),
        }
    if config.kafka_tls:
        options["ssl_context"] = _tls(config)
    return options


def _tls(config: KafkaConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.kafka_ca_file or None)
    except (OSError, ssl.SSLError):
        raise KafkaRejected(f"kafka_ca_file = {config.kafka_ca_file!r} holds no certificates that can be read") from None
    if config.kafka_certificate_file:
        password = config.kafka_key_password.get_secret_value() if config.kafka_key_password else None
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(config.kafka_certificate_file, config.kafka_key_file or None, password or "")
        except (OSError, ssl.SSLError):
            raise KafkaRejected(
                f"kafka_certificate_file = {config.kafka_certificate_file!r}, kafka_key_file = {config.kafka_key_file!r}: not "
                "a certificate and its key, or the password WAFER_RECEIVER_KAFKA_KEY_PASSWORD is wrong"
            ) from None
    return context
