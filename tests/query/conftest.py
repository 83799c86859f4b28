"""Fixtures of the read API: a filled memory store under a clock that stands still, and the API over it."""

from __future__ import annotations

import httpx
import pytest

from tests.query import world
from wafermonitor.query import server
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config
from wafermonitor.storage import memory


def pytest_ignore_collect(collection_path, config):
    """schemathesis writes its cases while its module is collected, which takes seconds: not where they will not run."""
    return True if collection_path.name == "test_schema.py" and "not slow" in config.getoption("markexpr") else None


@pytest.fixture
def clock():
    return world.Clock()


@pytest.fixture
def config():
    return Config(
        address="127.0.0.1:0", stream_poll_s=0.01, stream_states_s=0.01, stream_alerts_s=0.01, stream_heartbeat_s=0.05
    )


@pytest.fixture
async def storage(clock):
    """Filled as `world.fill` says."""
    storage = memory.Storage(clock=clock)
    await world.fill(storage.writer)
    return storage


@pytest.fixture
def app(storage, config, clock):
    return create_app(storage, config, clock=clock)


@pytest.fixture
async def api(app):
    """The API without a socket."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        yield client


@pytest.fixture
async def running(storage, config, clock):
    """The API on a real socket."""
    running = await server.start(storage, config, clock=clock)
    yield running
    await running.stop()
