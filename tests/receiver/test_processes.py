"""Several receivers on one port: both serve, they are replaced without a gap, and what ends is started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import httpx
import pytest

from tests.receiver.otlp import HttpProtobuf, spans
from tests.receiver.process import DEADLINE_S, run
from wafermonitor.receiver import processes
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import AddressRejected, ChildUnavailable
from wafermonitor.receiver.processes import Child, Processes, Ready, next_pause_s
from wafermonitor.receiver.transcode.protocol import Signal

FREE = {"grpc_address": "127.0.0.1:0", "http_address": "127.0.0.1:0"}


@pytest.fixture
async def two(monkeypatch):
    monkeypatch.setenv("WAFER_STORAGE_DSN", "memory://")
    both = Processes(Config(**FREE, processes=2, drain_s=3.0), {"drain_s": 3.0})
    await both.start()
    yield both
    await both.stop()


async def metrics(address: str) -> str:
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        return (await client.get("/metrics")).text


@pytest.mark.slow
async def test_two_processes_serve_one_port_and_each_tells_its_own_measures(two):
    ready = two.ready
    for number in range(1, 41):  # a connection each: the kernel gives all of them to one with a chance of 1 in 2^39
        async with HttpProtobuf("", ready["http"]) as client:
            assert (await client.send(Signal.TRACES, client.encode(spans(1, first=number)))).ok
    pages = [await metrics(one["metrics"]) for one in ready["processes"]]
    line = 'wafer_receiver_requests_total{answer="ok",signal="traces",transport="http"} '
    taken = [float(page.partition(line)[2].partition("\n")[0]) for page in pages]
    assert sum(taken) == 40
    assert min(taken) > 0


@pytest.mark.slow
async def test_r13_a_rolling_restart_gives_no_error_but_503(two):
    before = {one["pid"] for one in two.ready["processes"]}
    codes: list[int] = []
    acked = 0
    done = asyncio.Event()

    async def load(first: int) -> None:
        nonlocal acked
        number = first
        async with HttpProtobuf("", two.ready["http"]) as client:
            while not done.is_set():
                try:
                    outcome = await client.send(Signal.TRACES, client.encode(spans(1, first=number)))
                except httpx.TransportError:
                    continue  # a connection that was accepted by the one that stops; the sender tries again
                number += 4
                codes.append(outcome.http)
                acked += outcome.ok

    senders = [asyncio.create_task(load(first)) for first in range(1, 5)]
    await two.replace()
    done.set()
    await asyncio.gather(*senders)
    assert {one["pid"] for one in two.ready["processes"]} & before == set()
    assert set(codes) <= {200, 503}
    assert acked > 0


@pytest.mark.slow
async def test_a_process_that_dies_is_started_again(two):
    victim = two.ready["processes"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        while two.ready["processes"][0]["pid"] == victim:
            await asyncio.sleep(0.05)
    async with HttpProtobuf("", two.ready["http"]) as client:
        assert (await client.send(Signal.TRACES, client.encode(spans()))).ok


def test_a_process_that_dies_again_and_again_waits_longer_and_one_that_ran_for_long_does_not():
    pauses = [0.0]
    for ran_s in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3600.0, 1.0):
        pauses.append(next_pause_s(pauses[-1], ran_s))
    assert pauses[1:] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 0.5, 1.0]


async def test_while_no_other_can_be_started_the_pauses_grow_however_long_the_last_one_ran(monkeypatch):
    kept = Processes(Config(**FREE, processes=2), {})
    gone = Child(await asyncio.create_subprocess_exec("true"), Ready(0, "", {}))
    gone.born_s -= 3600
    kept._children[0] = gone
    pauses: list[float] = []

    async def none(number: int) -> Child:
        if len(pauses) == 4:
            kept._stopping = True
        raise ChildUnavailable("no")

    def told(last_s: float, ran_s: float) -> float:
        pauses.append(next_pause_s(last_s, ran_s))
        return pauses[-1]

    monkeypatch.setattr(kept, "_child", none)
    monkeypatch.setattr(processes, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(processes, "next_pause_s", told)
    async with asyncio.timeout(DEADLINE_S):
        await kept._keep(0)
    assert pauses == [0.001, 0.002, 0.004, 0.008]


async def test_a_port_that_somebody_else_has_stops_the_start():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(AddressRejected, match="WAFER_RECEIVER_HTTP_ADDRESS"):
        await Processes(Config(**FREE | {"http_address": f"127.0.0.1:{port}"}, processes=2), {}).start()
    server.close()


@pytest.mark.slow
async def test_a_child_that_cannot_start_stops_the_start(monkeypatch):
    monkeypatch.setenv("WAFER_STORAGE_DSN", "nonsense://")
    with pytest.raises(ChildUnavailable, match="exit code"):
        await Processes(Config(**FREE, processes=2), {}).start()


@pytest.mark.slow
def test_the_command_tells_one_ready_line_for_all_and_stops_all():
    process = run("--ready-json", "--processes", "2", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        assert len({one["pid"] for one in ready["processes"]} | {process.pid}) == 3
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    for one in ready["processes"]:
        with pytest.raises(ProcessLookupError):
            os.kill(one["pid"], 0)
