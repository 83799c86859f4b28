"""The receiver with a writer instead of the store: what it answers, what it keeps, and that nothing is answered too early."""

from __future__ import annotations

import asyncio
import json
import signal as signals
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.receiver.otlp import GOOD, spans
from tests.receiver.process import run
from tests.servers import http_sink
from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.receiver import server
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.dead_letters.file import DeadLetterFile, letters
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers.items import items, part
from wafermonitor.storage.writers.protocol import ACCEPTED, Fate, Outcome

PROTOBUF = {"content-type": "application/x-protobuf"}


class Backend:
    """A writer into a list that does what the test says."""

    signals = frozenset({"traces", "logs"})
    port = 14599

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.outcome = ACCEPTED
        self.error: Exception | None = None
        self.breaks_at = b"nothing"
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.away = False

    def write(self, signal: str, requests: Sequence[bytes]) -> list[Outcome]:
        self.entered.set()
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        if self.breaks_at in requests:
            raise RuntimeError("a fault of ours")
        if self.outcome.fate is Fate.ACCEPTED:
            self.taken += [(signal, request) for request in requests]
        return [self.outcome] * len(requests)

    def check(self) -> None:
        if self.error is not None:
            raise self.error
        if self.away:
            raise StorageUnavailable("the backend does not answer")

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
async def bridge(backend, tmp_path) -> AsyncIterator[httpx.AsyncClient]:
    config = Config(http_address="127.0.0.1:0", dead_letter_file=tmp_path / "dead" / "letters.jsonl")
    running = await server.start_bridge("backend", backend, config)
    async with httpx.AsyncClient(base_url=f"http://{running.http_address}", headers=PROTOBUF) as client:
        yield client
    backend.open.set()
    await running.stop()


async def test_what_the_backend_has_is_accepted_as_it_came(bridge, backend):
    body = spans(3).SerializeToString()
    answer = await bridge.post("/v1/traces", content=body)
    assert (answer.status_code, answer.content) == (200, b"")
    assert backend.taken == [("traces", body)]


async def test_nothing_is_answered_before_the_backend_has_it(bridge, backend):
    backend.open.clear()
    posting = asyncio.create_task(bridge.post("/v1/traces", content=spans(1).SerializeToString()))
    assert await asyncio.to_thread(backend.entered.wait, 30)
    assert not posting.done()
    backend.open.set()
    assert (await posting).status_code == 200


@pytest.mark.parametrize("signal", [Signal.TRACES, Signal.LOGS])
async def test_json_arrives_as_the_same_items(bridge, backend, signal):
    message = GOOD[signal](4)
    body = json.dumps(request_from_proto(message))
    answer = await bridge.post(f"/v1/{signal}", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.text) == (200, "{}")
    ((_, taken),) = backend.taken
    assert items(signal.value, taken) == items(signal.value, message.SerializeToString())


@pytest.mark.parametrize(
    "body", [b"[1]", b'{"resourceSpans": 5}', b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}']
)
async def test_json_that_is_no_request_is_refused_for_good(bridge, backend, body):
    answer = await bridge.post("/v1/traces", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "traces" in answer.json()["message"]
    assert backend.taken == []


async def test_a_backend_that_is_away_is_told_with_when_to_try_again(bridge, backend):
    backend.outcome = Outcome(Fate.RETRY, "the backend is away")
    answer = await bridge.post("/v1/traces", content=spans(1).SerializeToString())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert b"the backend is away" in answer.content


async def test_a_writer_that_breaks_loses_nothing(bridge, backend, caplog):
    backend.error = RuntimeError("a fault of ours")
    answer = await bridge.post("/v1/traces", content=spans(1).SerializeToString())
    assert answer.status_code == 503
    assert b"a fault of ours" not in answer.content
    assert "failed in an unexpected way" in caplog.text


async def test_the_one_request_that_a_writer_breaks_at_holds_up_no_other(bridge, backend):
    poison = spans(7).SerializeToString()
    good = [spans(number).SerializeToString() for number in (1, 2, 3)]
    backend.breaks_at = poison
    backend.open.clear()
    first = asyncio.create_task(bridge.post("/v1/traces", content=spans(9).SerializeToString()))
    assert await asyncio.to_thread(backend.entered.wait, 30)
    # These wait for the first, and are one group after it.
    others = [asyncio.create_task(bridge.post("/v1/traces", content=body)) for body in (*good[:2], poison, good[2])]
    async with asyncio.timeout(30):
        while "wafer_receiver_queue_requests 4.0" not in (await bridge.get("/metrics")).text:
            await asyncio.sleep(0.01)
    backend.open.set()
    assert [one.status_code for one in await asyncio.gather(first, *others)] == [200, 200, 200, 503, 200]
    assert {body for _, body in backend.taken} >= set(good)


async def test_a_request_without_items_is_accepted_and_written_nowhere(bridge, backend):
    answer = await bridge.post("/v1/traces", content=b"")
    assert answer.status_code == 200
    assert backend.taken == []


async def test_what_the_backend_never_takes_is_kept_before_it_is_answered(bridge, backend, tmp_path, caplog):
    backend.outcome = Outcome(Fate.REJECTED, "no such index")
    message = spans(2)
    answer = await bridge.post(
        "/v1/traces", content=json.dumps(request_from_proto(message)), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    assert answer.json()["partialSuccess"] == {"rejectedSpans": "2", "errorMessage": "no such index"}
    (letter,) = letters(tmp_path / "dead" / "letters.jsonl")
    assert (letter["writer"], letter["signal"], letter["items"], letter["reason"]) == ("backend", "traces", 2, "no such index")
    assert letter["request"] == request_from_proto(message)
    assert (tmp_path / "dead" / "letters.jsonl").stat().st_mode & 0o077 == 0
    assert f"backend refuses 2 traces for good: no such index; kept in {tmp_path}/dead/letters.jsonl" in caplog.text


async def test_only_the_refused_items_of_a_request_are_kept(bridge, backend, tmp_path):
    message = spans(3)
    remains = part("traces", message.SerializeToString(), lambda place: place == 1)
    backend.outcome = Outcome(Fate.ACCEPTED, "one is too long", 1, remains)
    answer = await bridge.post(
        "/v1/traces", content=json.dumps(request_from_proto(message)), headers={"content-type": "application/json"}
    )
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    (letter,) = letters(tmp_path / "dead" / "letters.jsonl")
    assert len(letter["request"]["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 1


async def test_what_is_refused_and_cannot_be_kept_is_tried_again(bridge, backend, tmp_path):
    backend.outcome = Outcome(Fate.REJECTED, "no such index")
    (tmp_path / "dead").write_text("a file where the folder should be")
    answer = await bridge.post("/v1/traces", content=spans(1).SerializeToString())
    assert answer.status_code == 503
    assert b"dead-letter file" in answer.content


async def test_a_signal_without_a_place_says_what_to_mend(bridge, backend):
    answer = await bridge.post("/v1/metrics", content=GOOD[Signal.METRICS](1).SerializeToString())
    assert answer.status_code == 400
    assert b"no place for metrics" in answer.content
    assert backend.taken == []


async def test_the_older_routes_lead_to_the_store_alone(bridge):
    answer = await bridge.post("/v1/ingest/managed", json={"events": []}, headers={"content-type": "application/json"})
    assert answer.status_code == 404


async def test_readiness_is_the_backends(bridge, backend):
    assert (await bridge.get("/readyz")).status_code == 200
    backend.away = True
    answer = await bridge.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the backend does not answer")
    assert (await bridge.get("/healthz")).status_code == 200


async def test_a_check_that_breaks_is_trouble_without_its_words(bridge, backend):
    backend.error = RuntimeError("a fault of ours")
    answer = await bridge.get("/readyz")
    assert answer.status_code == 503
    assert "cannot say how its backend is" in answer.json()["reason"]
    assert "a fault of ours" not in answer.text


def test_a_line_that_was_cut_takes_no_other_letter_with_it(tmp_path):
    path = tmp_path / "letters.jsonl"
    file = DeadLetterFile(path, "backend")
    odd = GOOD[Signal.LOGS](1)
    odd.resource_logs[0].scope_logs[0].log_records[0].body.string_value = "one\u2028line"
    for _ in range(2):
        file.append("logs", odd.SerializeToString(), 1, "no")
    path.write_bytes(path.read_bytes()[:-20])
    file.append("logs", odd.SerializeToString(), 1, "no")
    assert [letter["request"] for letter in letters(path)] == [request_from_proto(odd)] * 2


async def test_items_are_counted_by_what_became_of_them(bridge, backend):
    await bridge.post("/v1/traces", content=spans(3).SerializeToString())
    backend.outcome = Outcome(Fate.REJECTED, "no")
    await bridge.post("/v1/traces", content=spans(2).SerializeToString())
    page = (await bridge.get("/metrics")).text
    assert 'wafer_receiver_items_total{fate="stored",signal="traces"} 3.0' in page
    assert 'wafer_receiver_items_total{fate="rejected",signal="traces"} 2.0' in page
    assert 'wafer_receiver_writer{writer="backend"} 1.0' in page


async def test_without_an_address_it_listens_where_its_collector_file_sends(backend, monkeypatch):
    monkeypatch.delenv("WAFER_RECEIVER_HTTP_ADDRESS", raising=False)
    running = await server.start_bridge("backend", backend, Config())
    try:
        assert running.http_address == "127.0.0.1:14599"
        assert running.grpc_port == 0
    finally:
        await running.stop()


def said(*flags: str, **environment: str) -> tuple[int, str, str]:
    process = run(*flags, **environment)
    try:
        out, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


@pytest.mark.slow
def test_the_command_serves_a_writer_and_stops_in_order(tmp_path):
    environment = {"WAFER_RECEIVER_HTTP_ADDRESS": "127.0.0.1:0", "XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    process = run("--writer", "webhook", "--ready-json", **environment)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["ready"], ready["writer"]) == ("bridge", "webhook")
        assert httpx.get(f"http://{ready['http']}/healthz").status_code == 200
    finally:
        process.send_signal(signals.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.slow
def test_the_command_stops_in_time_while_its_backend_hangs(tmp_path):
    with http_sink.start() as backend:
        backend.silent.set()
        environment = {"WAFER_WEBHOOK_URL": backend.url, "WAFER_WEBHOOK_TIMEOUT_S": "120", "WAFER_RECEIVER_DRAIN_S": "2"}
        environment |= {"WAFER_RECEIVER_HTTP_ADDRESS": "127.0.0.1:0", "XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
        process = run("--writer", "webhook", "--ready-json", **environment)
        try:
            assert process.stdout is not None
            url = f"http://{json.loads(process.stdout.readline())['http']}/v1/traces"
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(httpx.post, url, content=spans(1).SerializeToString(), headers=PROTOBUF, timeout=30)
                until_s = time.monotonic() + 20
                while not backend.requests and time.monotonic() < until_s:
                    time.sleep(0.02)
                process.send_signal(signals.SIGTERM)
                assert answer.result().status_code == 503
            process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0


@pytest.mark.slow
def test_a_writer_that_is_not_there_is_named_with_those_that_are():
    code, _, err = said("--writer", "telegraph")
    assert code == 1
    assert "no writer 'telegraph'" in err
    assert "webhook" in err


@pytest.mark.slow
def test_a_wrong_setting_of_a_writer_names_variable_and_fix():
    code, _, err = said("--writer", "webhook", WAFER_WEBHOOK_FORMAT="xml")
    assert code == 2
    assert "known: json, protobuf" in err
    assert "WAFER_WEBHOOK_FORMAT" in err


@pytest.mark.slow
def test_writers_are_listed_with_what_they_take_and_read():
    code, out, _ = said("writers", "--json")
    assert code == 0
    (webhook,) = [row for row in json.loads(out) if row["writer"] == "webhook"]
    assert webhook["signals"] == ["logs", "metrics", "traces"]
    assert webhook["port"] == 14514
    assert "WAFER_WEBHOOK_URL" in webhook["environment"]


@pytest.mark.slow
def test_the_list_of_writers_fits_a_terminal():
    _, out, _ = said("writers")
    assert {line.split()[0] for line in out.splitlines() if not line.startswith(" ")} >= {"webhook", "kafka", "zabbix"}
    assert "WAFER_RABBITMQ_TIMEOUT_S" in out.split()
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.slow
def test_options_that_do_not_fit_together_are_said_in_one_sentence():
    code, _, err = said("--writer", "webhook", "--kafka", "127.0.0.1:9092")
    assert code == 2
    assert "Error: receiver: writer: a bridge takes OTLP alone; leave kafka out, or run a receiver of its own for it\n" in err
