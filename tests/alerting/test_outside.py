"""What is told past the store: that it does not answer, once, and its end; and a sign of life."""

from __future__ import annotations

import asyncio

import pytest

from tests.servers import http_sink
from wafermonitor.alerting.config import Config
from wafermonitor.alerting.declared import load
from wafermonitor.alerting.metrics import Meters
from wafermonitor.alerting.notify import Channel, Route, Routes
from wafermonitor.alerting.notify.outside import PATIENCE_S, Outage, Ping
from wafermonitor.alerting.notify.routes import Engine
from wafermonitor.alerting.running import Service
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.memory import Storage

SECOND = 1_000_000_000
NOON = 1_780_488_000 * SECOND
RULES = load(None).rules


@pytest.fixture
def sink():
    with http_sink.start() as server:
        yield server


class Clock:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now_ns = NOON

    def __call__(self) -> int:
        return self.now_ns


def routed(sink: http_sink.Server) -> Routes:
    return Routes({"hook": Channel("hook", sink.url + "/in", Engine.WEBHOOK, timeout_s=2.0)}, (Route("all", ("hook",)),))


async def until(sink: http_sink.Server, count: int) -> None:
    async with asyncio.timeout(10):
        while len(sink.requests) < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


async def test_a_store_that_does_not_answer_is_told_of_once_when_it_lasts_and_when_it_is_back(sink):
    clock = Clock()
    outage = Outage(clock=clock)
    for _ in range(40):
        outage.goes_on("gone", RULES, routed(sink))
        clock.now_ns += 10 * SECOND
        if clock.now_ns - NOON > PATIENCE_S * SECOND:
            await until(sink, 1)
    assert [(one.json["kind"], one.json["alerts"][0]["labels"]["alertname"]) for one in sink.requests] == [
        ("firing", "database")
    ]
    outage.ends()
    outage.ends()
    await until(sink, 2)
    assert [one.json["kind"] for one in sink.requests] == ["firing", "resolved"]


async def test_one_that_restarts_is_no_outage(sink):
    clock = Clock()
    outage = Outage(clock=clock)
    for _ in range(3):
        outage.goes_on("gone", RULES, routed(sink))
        clock.now_ns += round((PATIENCE_S - 1) * SECOND)
        outage.ends()
    await asyncio.sleep(0.1)
    assert not sink.requests


async def test_who_disabled_the_rule_is_not_told(sink):
    clock = Clock()
    outage = Outage(clock=clock)
    for _ in range(2):
        outage.goes_on("gone", [one for one in RULES if one.kind != "database"], routed(sink))
        clock.now_ns += round(2 * PATIENCE_S * SECOND)
    await asyncio.sleep(0.1)
    assert not sink.requests


async def test_a_channel_that_fails_is_asked_again(sink):
    clock = Clock()
    outage = Outage(clock=clock)
    outage.goes_on("gone", RULES, routed(sink))
    sink.status = 503
    clock.now_ns += round((PATIENCE_S + 1) * SECOND)
    outage.goes_on("gone", RULES, routed(sink))
    await until(sink, 1)
    outage.goes_on("gone", RULES, routed(sink))
    sink.status = 200
    clock.now_ns += 20 * SECOND
    outage.goes_on("gone", RULES, routed(sink))
    await until(sink, 2)
    outage.goes_on("gone", RULES, routed(sink))
    assert [one.status for one in sink.requests] == [503, 200]


async def test_a_ping_is_sent_at_most_once_a_minute(sink):
    now = 0.0
    ping = Ping(sink.url + "/alive", clock=lambda: now)
    for _ in range(13):
        ping.tick()
        now += 10.0
        await asyncio.sleep(0.03)
    await until(sink, 3)
    assert [one.path for one in sink.requests] == ["/alive"] * 3
    Ping("").tick()


async def test_a_service_whose_store_is_gone_tells_and_pings_no_more(sink, tmp_path, monkeypatch):
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        f'channels: {{sink: {{url: "{sink.url}/in", engine: webhook}}}}\nroutes: [{{name: all, channels: [sink], wait: 0s}}]\n'
    )
    storage = Storage()
    service = Service(Config(rules=rules, ping=sink.url + "/alive"), storage, storage.watch, Meters())
    clock = Clock()
    service.outage = Outage(clock=clock)
    await service.tick()
    await until(sink, 1)

    def gone() -> None:
        raise StorageUnavailable("the database does not answer")

    monkeypatch.setattr(storage.watch, "ticked_ns", gone)
    await service.tick()
    clock.now_ns += round((PATIENCE_S + 1) * SECOND)
    await service.tick()
    await until(sink, 2)
    await service.tick()
    monkeypatch.undo()
    await service.tick()
    await until(sink, 3)
    assert [(one.path, one.path == "/in" and one.json["kind"]) for one in sink.requests] == [
        ("/alive", False), ("/in", "firing"), ("/in", "resolved"),
    ]  # fmt: skip
