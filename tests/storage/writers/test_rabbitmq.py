"""What the writer to RabbitMQ does without a broker: settings, and what it says of errors."""

from __future__ import annotations

import pytest
from pika import exceptions

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import rabbitmq
from wafermonitor.storage.writers.protocol import Fate


def test_nobody_there_is_tried_again_and_no_address_is_told(unused_tcp_port):
    writer = rabbitmq.Writer(rabbitmq.Config.load({}, brokers=f"127.0.0.1:{unused_tcp_port}", password="swordfish"))
    (first, second) = writer.write("logs", [b"", b""])
    assert (first.fate, second.fate) == (Fate.RETRY, Fate.RETRY)
    assert str(unused_tcp_port) not in first.reason
    with pytest.raises(StorageUnavailable) as raised:
        writer.check()
    assert "swordfish" not in str(raised.value)
    writer.close()
    writer.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.ProbableAuthenticationError("guest"), "password"),
        (exceptions.NackError([]), "room"),
        (exceptions.ConnectionBlockedTimeout("x"), "memory or disk"),
        (exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'x'"), "exchange"),
        (exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED - user"), "write there"),
        (exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED"), "WAFER_RABBITMQ_MESSAGE_BYTES"),
        (OSError("connect to 10.0.0.1"), "OSError"),
    ],
)
def test_each_error_has_a_reason_without_the_librarys_words(error, said):
    reason = rabbitmq._reason(error)
    assert said in reason
    assert not any(word in reason for word in ("guest", "NOT_FOUND", "10.0.0.1", "ACCESS"))


@pytest.mark.parametrize("brokers", ["broker", "amqp://user:word@host/", "host:amqp", ":5672"])
def test_brokers_are_hosts_with_ports(brokers):
    with pytest.raises(ConfigRejected, match="host:port"):
        rabbitmq.Config.load({"WAFER_RABBITMQ_BROKERS": brokers})


def test_certificates_that_are_none_are_named_at_once(tmp_path):
    with pytest.raises(StorageRejected, match="WAFER_RABBITMQ_CA_FILE"):
        rabbitmq.Writer(rabbitmq.Config.load({}, tls=True, ca_file=str(tmp_path / "none.pem")))
