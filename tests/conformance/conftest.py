"""Our receiver as the server under test when none is named, and where each case belongs.

Without an address the cases run against `wafer receiver` on the memory engine: those of one signal that cost little in
`make test`, all in `make test-servers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.receiver.process import Receiver

SUITE = Path(__file__).parent / "otlp_server"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick ones are `slow`, the rest `servers`."""
    for item in items:
        mark = item.get_closest_marker("otlp")
        if mark is not None:
            quick = mark.args[0].cost == "quick" and item.callspec.params.get("signal", "traces") == "traces"
            item.add_marker(pytest.mark.slow if quick else pytest.mark.servers)


@pytest.fixture(scope="session")
def otlp_own_server() -> Iterator[object]:
    """Where the receiver of this session listens, as the plug-in's `Endpoint`."""
    from otlp_server.wire import Endpoint

    receiver = Receiver()
    yield Endpoint(f"http://{receiver.http_address}", receiver.grpc_address, grpc_limit_bytes=64 << 20)
    receiver.stop()
