"""What the operator may set, and what stops the start."""

from __future__ import annotations

import pytest

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.receiver.config import MIB, Config


def test_the_defaults_are_those_of_the_documentation():
    config = Config.load()
    assert (config.grpc_address, config.http_address) == ("127.0.0.1:14317", "127.0.0.1:14318")
    assert (config.max_request_bytes, config.group_bytes, config.group_spans, config.drain_s) == (
        64 * MIB,
        64 * MIB,
        16_384,
        10,
    )
    assert config.token is None


def test_the_environment_is_read_and_flags_win(monkeypatch):
    monkeypatch.setenv("WAFER_RECEIVER_DRAIN_S", "3")
    monkeypatch.setenv("WAFER_RECEIVER_TOKEN", "hunter2")
    monkeypatch.setenv("WAFER_RECEIVER_HTTP_ADDRESS", "[::1]:0")
    config = Config.load(drain_s="4")
    assert (config.drain_s, config.http_address) == (4, "[::1]:0")
    assert config.token.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", ":1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:65536", "h:http"])
def test_an_address_that_is_none_is_named_with_the_fix(address):
    with pytest.raises(ConfigRejected, match=r"receiver\.grpc_address = .*host:port.*WAFER_RECEIVER_GRPC_ADDRESS"):
        Config.load(grpc_address=address)


def test_a_queue_that_holds_no_request_is_refused():
    with pytest.raises(ConfigRejected, match="queue_bytes"):
        Config.load(queue_bytes=MIB)
