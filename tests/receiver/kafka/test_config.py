"""What the operator may set of Kafka, and what stops the start; no broker is needed."""

from __future__ import annotations

import asyncio

import pytest

from tests.receiver.process import run
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.kafka.client import Client
from wafermonitor.receiver.kafka.errors import KafkaRejected

LOGIN = {"kafka": "k:1", "kafka_sasl": "PLAIN", "kafka_user": "wafer"}


async def nothing(_) -> None:
    """Nobody listens."""


async def refused(**options) -> str:
    with pytest.raises(KafkaRejected) as caught:
        Client(Config.load(kafka="k:1", **options), nothing, nothing)
    return str(caught.value)


def test_kafka_is_not_read_unless_brokers_are_named_and_the_topics_are_the_exporters():
    config = Config.load()
    assert (config.kafka, config.otlp) == ("", True)
    assert config.kafka_topics == {"otlp_spans": "traces", "otlp_logs": "logs", "otlp_metrics": "metrics"}
    assert config.kafka_from == "earliest"


def test_brokers_and_topics_are_lists_by_commas():
    config = Config.load(kafka=" a:1, [::1]:2 ,", kafka_traces="s1, s2", kafka_metrics="")
    assert config.kafka == "a:1,[::1]:2"
    assert config.kafka_topics == {"s1": "traces", "s2": "traces", "otlp_logs": "logs"}


@pytest.mark.parametrize("brokers", ["kafka", "kafka:", ":9092", "a:1,b", "a:0", "a:65536", "a:http"])
def test_a_broker_that_is_no_address_is_named_with_the_fix(brokers):
    with pytest.raises(ConfigRejected, match=r"receiver\.kafka = .*must be host:port.*WAFER_RECEIVER_KAFKA"):
        Config.load(kafka=brokers)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kafka_logs": "otlp_spans"}, "must not share a topic"),
        ({"kafka": "a:1", "kafka_traces": "", "kafka_logs": "", "kafka_metrics": ""}, "name a topic"),
        ({"kafka": "a:1", "kafka_sasl": "PLAIN"}, "WAFER_RECEIVER_KAFKA_PASSWORD"),
        ({"kafka_sasl": "GSSAPI"}, "kafka_sasl"),
        ({"kafka_from": "yesterday"}, "kafka_from"),
        ({"kafka_bytes": "1000"}, "kafka_bytes"),
        ({"otlp": "false"}, "set kafka"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, says):
    with pytest.raises(ConfigRejected, match=says):
        Config.load(**options)


def test_passwords_come_from_the_environment_and_are_never_shown(monkeypatch):
    monkeypatch.setenv("WAFER_RECEIVER_KAFKA_PASSWORD", "hunter2")
    monkeypatch.setenv("WAFER_RECEIVER_KAFKA_KEY_PASSWORD", "hunter3")
    config = Config.load(**LOGIN)
    assert config.kafka_password.get_secret_value() == "hunter2"
    assert "hunter" not in repr(config)
    assert "hunter" not in repr(Config.options(**LOGIN))


async def test_certificates_that_cannot_be_read_are_named(tmp_path):
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    for path in (tmp_path / "absent.pem", garbage):
        assert str(path) in await refused(kafka_tls=True, kafka_ca_file=str(path))
        assert str(path) in await refused(kafka_tls=True, kafka_certificate_file=str(path))


@pytest.mark.slow
async def test_a_file_that_cannot_be_read_stops_the_start(tmp_path):
    process = run(
        WAFER_RECEIVER_KAFKA="127.0.0.1:1",
        WAFER_RECEIVER_KAFKA_TLS="true",
        WAFER_RECEIVER_KAFKA_CA_FILE=str(tmp_path / "absent"),
    )
    _, said = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 1
    assert "kafka_ca_file" in said
    assert "Traceback" not in said
