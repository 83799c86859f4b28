"""A real RabbitMQ gets every message, by the bridge and from a job itself, whatever is away or killed meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from tests.backends import corpus, messages, proof
from tests.servers import rabbitmq as server
from tests.servers import tcp_proxy
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers import items, rabbitmq
from wafermonitor.storage.writers.protocol import Fate, Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("rabbitmq"), pytest.mark.timeout(300)]

QUEUES: dict[Signal, str] = {"traces": "otlp_spans", "logs": "otlp_logs", "metrics": "otlp_metrics"}


class RabbitMq(proof.Backend):
    """A node, asked by the client library. What was read is no longer in the queue, so it is remembered."""

    name: ClassVar[str] = "rabbitmq"

    def __init__(self) -> None:
        self.server = server.start()
        self._read: dict[Signal, list[proof.Kept]] = {"traces": [], "logs": [], "metrics": []}
        # The stock exporter makes none.
        connection = self.server.connected()
        for queue in QUEUES.values():
            connection.channel().queue_declare(queue, durable=True)
        connection.close()

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_RABBITMQ_BROKERS": self.server.broker,
            "WAFER_RABBITMQ_URL": f"amqp://{self.server.broker}",
            "WAFER_RABBITMQ_USER": server.USER,
            "WAFER_RABBITMQ_PASSWORD": server.PASSWORD,
        }

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        for _, body in self.server.drained(QUEUES[signal]):
            self._read[signal].extend(messages.kept(signal, body))
        return list(self._read[signal])

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


@pytest.fixture(scope="module")
def backend() -> Iterator[RabbitMq]:
    reason = server.missing()
    if reason is not None:
        pytest.skip(reason)
    backend = RabbitMq()
    yield backend
    backend.server.stop()


def writer_of(backend: RabbitMq, **settings: Any) -> rabbitmq.Writer:
    return rabbitmq.Writer(rabbitmq.Config.load(backend.environment, **settings))


@pytest.mark.parametrize("way", proof.ways("rabbitmq"))
def test_nothing_is_lost_while_rabbitmq_is_away(backend, way):
    proof.survives(backend, way)


def test_a_queue_that_is_not_there_is_made_and_keeps_messages_with_a_digest_and_a_type(backend):
    writer = writer_of(backend, logs="site_logs")
    request = corpus.part("made", 0).requests["logs"]
    (outcome,) = writer.write("logs", [request])
    writer.close()
    assert outcome.fate is Fate.ACCEPTED
    ((properties, body),) = backend.server.drained("site_logs")
    assert body == request
    assert (properties.delivery_mode, properties.type) == (2, "logs")
    assert properties.content_type == "application/x-protobuf"
    assert properties.message_id == hashlib.sha256(request).hexdigest()


def test_what_no_queue_takes_is_tried_again(backend):
    writer = writer_of(backend, traces="nowhere", create=False)
    request = corpus.part("nowhere", 0).requests["traces"]
    first, second = writer.write("traces", [request, request])
    assert (first.fate, second.fate) == (Fate.RETRY, Fate.RETRY)
    assert "nowhere" in first.reason
    connection = backend.server.connected()
    connection.channel().queue_declare("nowhere", durable=True)
    connection.close()
    (outcome,) = writer.write("traces", [request])
    writer.close()
    assert outcome.fate is Fate.ACCEPTED


def test_a_full_queue_loses_nothing(backend):
    connection = backend.server.connected()
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    connection.channel().queue_declare("full", durable=True, arguments=full)
    connection.close()
    writer = writer_of(backend, logs="full")
    outcomes = writer.write("logs", [corpus.part("full", number).requests["logs"] for number in range(3)])
    assert [one.fate for one in outcomes] == [Fate.ACCEPTED, Fate.RETRY, Fate.RETRY]
    assert "room" in outcomes[1].reason
    backend.server.drained("full")
    (outcome,) = writer.write("logs", [corpus.part("full", 3).requests["logs"]])
    writer.close()
    assert outcome.fate is Fate.ACCEPTED


def test_an_exchange_that_is_not_there_loses_nothing(backend):
    writer = writer_of(backend, exchange="none such")
    (outcome,) = writer.write("logs", [corpus.part("exchange", 0).requests["logs"]])
    writer.close()
    assert outcome.fate is Fate.RETRY
    assert "exchange" in outcome.reason


def test_a_wrong_password_loses_nothing_and_is_not_told(backend):
    writer = writer_of(backend, password="another")
    (outcome,) = writer.write("logs", [corpus.part("password", 0).requests["logs"]])
    assert outcome.fate is Fate.RETRY
    assert "password" in outcome.reason
    assert "another" not in outcome.reason
    with pytest.raises(StorageUnavailable, match="password"):
        writer.check()
    writer.close()


def test_a_request_above_the_limit_becomes_several_messages_and_an_item_above_it_is_refused_alone(backend):
    message = items.parsed("logs", corpus.part("large", 0).requests["logs"])
    message.resource_logs[0].scope_logs[0].log_records[5].body.string_value = "x" * 5_000
    writer = writer_of(backend, logs="pieces", message_bytes=4_000)
    (outcome,) = writer.write("logs", [message.SerializeToString()])
    writer.close()
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 1)
    assert items.count("logs", outcome.remains) == 1
    found = [body for _, body in backend.server.drained("pieces")]
    assert max(map(len, found)) <= 4_000
    assert sum(items.count("logs", body) for body in found) == corpus.PER_SIGNAL - 1


def test_a_connection_that_broke_is_opened_again_at_the_next_call(backend):
    link = tcp_proxy.start("127.0.0.1", backend.server.port)
    writer = writer_of(backend, brokers=f"127.0.0.1:{link.port}")
    writer.check()
    request = corpus.part("again", 0).requests["metrics"]
    link.cut()
    (refused,) = writer.write("metrics", [request])
    link.heal()
    first = writer.write("metrics", [request])[0]
    link.cut()
    link.heal()
    second = writer.write("metrics", [request])[0]
    writer.close()
    link.stop()
    assert [one.fate for one in (refused, first, second)] == [Fate.RETRY, Fate.ACCEPTED, Fate.ACCEPTED]


def test_a_broker_that_no_longer_answers_is_given_up_in_time(backend):
    link = tcp_proxy.start("127.0.0.1", backend.server.port)
    writer = writer_of(backend, brokers=f"127.0.0.1:{link.port}", timeout_s=1.0)
    link.silence()
    (outcome,) = writer.write("metrics", [corpus.part("silent", 0).requests["metrics"]])
    writer.close()
    link.stop()
    assert outcome.fate is Fate.RETRY


def without_confirmations(upstream: int) -> tuple[socket.socket, threading.Thread]:
    """A broker that lives and confirms nothing, as one whose queue has lost its majority: all frames but Basic.Ack pass."""
    listening = socket.create_server(("127.0.0.1", 0))

    def there(client: socket.socket, broker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                broker.sendall(data)
            broker.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        client, _ = listening.accept()
        with client, socket.create_connection(("127.0.0.1", upstream)) as broker, broker.makefile("rb") as frames:
            sending = threading.Thread(target=there, args=(client, broker))
            sending.start()
            with contextlib.suppress(OSError):
                while head := frames.read(7):
                    frame = head + frames.read(int.from_bytes(head[3:7], "big") + 1)
                    if frame[7:11] != b"\x00\x3c\x00\x50":
                        client.sendall(frame)
            sending.join()

    thread = threading.Thread(target=serve)
    thread.start()
    return listening, thread


def test_a_broker_that_lives_and_does_not_confirm_is_given_up_in_time(backend):
    listening, thread = without_confirmations(backend.server.port)
    writer = writer_of(backend, brokers=f"127.0.0.1:{listening.getsockname()[1]}", timeout_s=1.0)
    writer.check()
    began = time.monotonic()
    (outcome,) = writer.write("metrics", [corpus.part("unconfirmed", 0).requests["metrics"]])
    assert outcome.fate is Fate.RETRY
    assert "does not confirm" in outcome.reason
    assert time.monotonic() - began < 10
    writer.close()
    thread.join()
    listening.close()


def test_what_is_no_request_is_rejected(backend):
    writer = writer_of(backend)
    bad, good = writer.write("logs", [b"\xff\xff", corpus.part("good", 0).requests["logs"]])
    writer.close()
    assert (bad.fate, good.fate) == (Fate.REJECTED, Fate.ACCEPTED)
