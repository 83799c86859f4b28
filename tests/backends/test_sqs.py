"""A queue of a stand-in for SQS (moto): every item is in a message, taken from there by AWS's client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.backends import corpus, json_lines, proof
from tests.servers import moto
from tests.servers.fixtures import running
from wafermonitor.storage.writers import sqs
from wafermonitor.storage.writers.protocol import Fate, Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("moto"), pytest.mark.timeout(300)]


class Sqs(proof.Backend):
    """One standard queue. What is taken from it is deleted there and kept here."""

    name: ClassVar[str] = "sqs"

    def __init__(self, server: moto.Server) -> None:
        self._server = server
        self._client = server.client("sqs")
        self._url = self._client.create_queue(QueueName="wafer-telemetry")["QueueUrl"]
        self._taken: list[tuple[str, Any]] = []

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_SQS_QUEUE_URL": self._url,
            "WAFER_SQS_ENDPOINT": self._server.endpoint,
            "WAFER_SQS_ACCESS_KEY": moto.ACCESS,
            "WAFER_SQS_SECRET_KEY": moto.SECRET,
        }

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        try:
            while messages := self._receive():
                for message in messages:
                    self._taken.append((message["MessageAttributes"]["signal"]["StringValue"], json.loads(message["Body"])))
                    self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error
        for of, request in self._taken:
            if of == signal:
                yield from json_lines.kept(signal, request)

    def _receive(self) -> list[Any]:
        answer = self._client.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        found: list[Any] = answer.get("Messages", [])
        return found

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.restart()


@pytest.fixture(scope="module")
def server() -> Iterator[moto.Server]:
    yield from running(moto)


@pytest.fixture(scope="module")
def backend(server: moto.Server) -> Sqs:
    return Sqs(server)


@pytest.mark.parametrize("way", proof.ways("sqs"))
def test_nothing_is_lost_while_sqs_is_away(backend, way):
    proof.survives(backend, way)


def test_a_fifo_queue_has_what_comes_twice_once(server):
    client = server.client("sqs")
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "false"}
    url = client.create_queue(QueueName="wafer.fifo", Attributes=attributes)["QueueUrl"]
    settings = {"queue_url": url, "endpoint": server.endpoint, "access_key": moto.ACCESS, "secret_key": moto.SECRET}
    writer = sqs.Writer(sqs.Config(**settings))
    request = corpus.part("fifo", 0).requests["logs"]
    for _ in range(2):
        assert [one.fate for one in writer.write("logs", [request])] == [Fate.ACCEPTED]
    writer.close()
    counted = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    assert counted["Attributes"]["ApproximateNumberOfMessages"] == "1"
