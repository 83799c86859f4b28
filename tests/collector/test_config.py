"""Flags win over the environment, that over defaults; wrong values name themselves and the fix."""

import platform

import pytest

from wafermonitor.collector import fragments
from wafermonitor.collector.config import Config, loopback, reachable
from wafermonitor.collector.errors import ConfigRejected


def test_flags_win_over_the_environment_and_that_over_defaults():
    environ = {"WAFER_COLLECTOR_BACKENDS": "managed, file", "WAFER_SITE_ID": "fab1", "SITE_ID": "older"}
    config = Config.load(environ, receivers=("host",))
    assert config.backends == ("managed", "file")
    assert config.receivers == ("host",)
    assert config.site_id == "fab1"
    assert Config.load(environ, backends=("file",)).backends == ("file",)
    assert Config.load({"SITE_ID": "older"}).site_id == "older"
    assert Config.load({}).otlp_http == "127.0.0.1:4318"


def test_the_feed_is_the_host_unless_it_is_named():
    assert Config.load({"WAFER_FEED_ID": "line-3"}).feed_id == "line-3"
    assert Config.load({"WAFER_FEED_ID": ""}).feed_id == platform.node()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "WAFER_OTLP_GRPC",
            "4317",
            "collector.otlp_grpc = '4317': host:port, for example 127.0.0.1:4317 (set WAFER_OTLP_GRPC)",
        ),
        ("WAFER_OTLP_HTTP", "127.0.0.1:99999", "collector.otlp_http"),
        ("WAFER_KAFKA_BROKERS", "kafka-1:9092, kafka-2", "collector.kafka_brokers = 'kafka-1:9092, kafka-2': host:port"),
        ("WAFER_METRICS_PORT", "all", "a port from 1 to 65535 (set WAFER_METRICS_PORT)"),
        ("WAFER_COLLECTOR_BEAT_S", "0", "a number above 0"),
        ("WAFER_COLLECTOR_QUEUE_BYTES", "1e9", "a whole number above 0"),
        ("WAFER_MANAGED_INSECURE", "perhaps", "true or false"),
        ("WAFER_COLLECTOR_LOG_LEVEL", "loud", "known: debug, info, warn, error"),
    ],
)
def test_a_wrong_value_names_field_value_and_fix(name, value, says):
    with pytest.raises(ConfigRejected) as caught:
        Config.load({name: value})
    assert says in str(caught.value)


def test_a_receiver_on_loopback_needs_no_tls_and_any_other_does():
    assert Config.load({}).insecure
    assert not Config.load({"WAFER_MANAGED_ENDPOINT": "monitor.fab1:14317"}).insecure
    assert Config.load({"WAFER_MANAGED_ENDPOINT": "monitor.fab1:14317", "WAFER_MANAGED_INSECURE": "true"}).insecure
    assert not Config.load({"WAFER_MANAGED_INSECURE": "false"}).insecure


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("10.0.0.1:1", False),
        ("fab1:1", False),
        ("0.0.0.0:1", False),
    ],
)
def test_loopback_is_recognised(address, expected):
    assert loopback(address) is expected


def test_a_listener_on_every_address_is_reached_on_loopback():
    assert reachable("0.0.0.0:4318") == ("127.0.0.1", 4318)
    assert reachable("[::]:4318") == ("::1", 4318)
    assert reachable("10.1.2.3:4318") == ("10.1.2.3", 4318)


def test_substitutions_hold_what_the_files_read_and_no_empty_value():
    values = Config.load({"WAFER_TOKEN": "t0p", "WAFER_COLLECTOR_QUEUE_BYTES": "5"}).substitutions()
    assert values["WAFER_TOKEN"] == "t0p"
    assert values["WAFER_COLLECTOR_QUEUE_BYTES"] == "5"
    assert values["WAFER_MANAGED_INSECURE"] == "true"
    assert "WAFER_CA_FILE" not in values
    assert "WAFER_COLLECTOR_BEAT_S" not in values


def test_options_show_where_a_value_came_from_and_mask_secrets(monkeypatch):
    monkeypatch.setenv("WAFER_TOKEN", "t0p")
    monkeypatch.setenv("WAFER_COLLECTOR_BEAT_S", "3")
    rows = {row.name: row for row in Config.options()}
    assert rows["beat_s"].value == "3.0"
    assert rows["beat_s"].source == "environment"
    assert rows["beat_s"].environment == "WAFER_COLLECTOR_BEAT_S"
    assert rows["otlp_http"].source == "default"
    assert rows["site_id"].aliases == ("SITE_ID",)
    assert "t0p" not in str(rows)
    assert all(row.doc.endswith(".") and row.component == "collector" for row in rows.values())


def test_the_token_file_is_added_only_for_our_receiver_and_only_with_a_token():
    assert fragments.TOKEN not in fragments.choose(Config.load({}))
    assert fragments.TOKEN in fragments.choose(Config.load({"WAFER_TOKEN": "t0p"}))
    assert fragments.TOKEN not in fragments.choose(Config.load({"WAFER_TOKEN": "t0p"}, backends=("file",)))
    both = fragments.choose(Config.load({"WAFER_TOKEN": "t0p"}, backends=("managed", "managed-http")))
    assert set(fragments.TOKENS.values()) <= set(both)


def test_a_backend_is_a_name_or_a_file(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("exporters: {}\n")
    assert fragments.choose(Config.load({}, backends=("file", str(own)))) == [
        fragments.BASE,
        fragments.HERE / "backends" / "file.yaml",
        own,
    ]
    with pytest.raises(ConfigRejected, match=r"'nope': known: .*file, .*managed, .*or the path of a YAML file"):
        fragments.choose(Config.load({}, backends=("nope",)))
    with pytest.raises(ConfigRejected, match="no such file"):
        fragments.choose(Config.load({}, receivers=("./absent.yaml",)))
