"""What the writer to Kafka does without a broker: settings, what it says of errors, and that nothing is left of it."""

from __future__ import annotations

import threading

import pytest
from aiokafka import errors

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import kafka
from wafermonitor.storage.writers.protocol import Fate


def test_nobody_there_is_tried_again_and_no_address_is_told(unused_tcp_port):
    settings = {"brokers": f"127.0.0.1:{unused_tcp_port}", "password": "swordfish", "timeout_s": 1.0}
    writer = kafka.Writer(kafka.Config.load({}, **settings))
    (bad, good) = writer.write("logs", [b"\xff\xff", b""])
    assert (bad.fate, good.fate) == (Fate.REJECTED, Fate.RETRY)
    with pytest.raises(StorageUnavailable) as raised:
        writer.check()
    for text in (good.reason, str(raised.value)):
        assert not any(word in text for word in ("swordfish", "127.0.0.1", str(unused_tcp_port)))
    writer.close()
    writer.close()
    assert "kafka" not in [thread.name for thread in threading.enumerate()]


def test_a_writer_that_was_closed_works_again(unused_tcp_port):
    writer = kafka.Writer(kafka.Config.load({}, brokers=f"127.0.0.1:{unused_tcp_port}", timeout_s=1.0))
    for _ in range(2):
        assert writer.write("logs", [b""])[0].fate is Fate.RETRY
        writer.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.TopicAuthorizationFailedError("otlp_logs"), "write there"),
        (errors.MessageSizeTooLargeError("10.0.0.1"), "WAFER_KAFKA_MESSAGE_BYTES"),
        (errors.KafkaConnectionError("10.0.0.1"), "password"),
        (TimeoutError("10.0.0.1"), "in time"),
        (errors.NotEnoughReplicasError("10.0.0.1"), "replicas"),
        (errors.UnknownError("10.0.0.1"), "UnknownError"),
    ],
)
def test_each_error_has_a_reason_without_the_librarys_words(error, said):
    reason = kafka._reason(error)
    assert said in reason
    assert "10.0.0.1" not in reason


def test_a_login_that_is_not_known_is_named():
    with pytest.raises(ConfigRejected, match="SCRAM-SHA-512"):
        kafka.Config.load({"WAFER_KAFKA_SASL": "GSSAPI"})


def test_certificates_that_are_none_are_named_at_once(tmp_path):
    with pytest.raises(StorageRejected, match="WAFER_KAFKA_CA_FILE"):
        kafka.Writer(kafka.Config.load({}, tls=True, ca_file=str(tmp_path / "none.pem")))
