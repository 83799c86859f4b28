"""Probes and the service's own metrics."""

from __future__ import annotations

import asyncio
import socket

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.query import watched
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import StepHealth, StoreHealth


async def test_health_does_not_ask_the_store_and_readiness_does(api):
    assert (await api.get("/v1/healthz")).json()["status"] == "ok"
    ready = (await api.get("/readyz")).json()
    assert ready == {
        "status": "ok",
        "engine": "memory",
        "version": "1",
        "newest_received": "2026-05-28T20:26:40.000000Z",
        "evaluated_at": None,
    }


async def test_metrics_count_answers_by_route_not_by_path(api):
    await api.get("/v1/jobs")
    await api.get("/v1/jobs/abc")
    await api.get("/guess")
    text = (await api.get("/metrics")).text
    assert 'wafer_query_requests_total{route="/v1/jobs",status="200"} 1.0' in text
    assert 'wafer_query_requests_total{route="/v1/jobs/{run}",status="422"} 1.0' in text
    assert "guess" not in text


async def test_metrics_tell_how_the_store_is_maintained_and_are_there_when_it_does_not_answer(api, storage, monkeypatch):
    async def health():
        return StoreHealth("postgresql", "18", None, (StepHealth("runs", 7200.0, late=True, failing=False),))

    async def silent():
        raise StorageUnavailable("gone")

    monkeypatch.setattr(storage.reader, "health", health)
    text = (await api.get("/metrics")).text
    assert 'wafer_store_step_age_seconds{step="runs"} 7200.0' in text
    assert 'wafer_store_step_late{step="runs"} 1.0' in text
    assert 'wafer_store_step_failing{step="runs"} 0.0' in text
    monkeypatch.setattr(storage.reader, "health", silent)
    answer = await api.get("/metrics")
    assert answer.status_code == 200
    assert 'step="runs"' not in answer.text


async def test_who_watches_learns_when_the_rules_were_last_judged(api, storage, monkeypatch):
    metric = "wafer_query_evaluated_timestamp_seconds"
    assert f"{metric} 0.0" in (await api.get("/metrics")).text
    assert (await api.get("/readyz")).json()["evaluated_at"] is None
    await watched.fill(storage.watch)
    assert (await api.get("/readyz")).json()["evaluated_at"] == "2026-05-28T20:26:40.000000Z"
    assert f"{metric} 1.78e+09" in (await api.get("/metrics")).text

    async def down():
        raise StorageUnavailable("down")

    monkeypatch.setattr(storage.watch, "ticked_ns", down)
    answer = await api.get("/readyz")
    assert (answer.status_code, answer.json()["evaluated_at"]) == (200, None)
    assert f"{metric} 1.78e+09" in (await api.get("/metrics")).text


async def test_the_schema_is_openapi_3_1_and_says_problem_for_every_error(api):
    schema = (await api.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    for path, item in schema["paths"].items():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                if status >= "400":
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)
    assert {"Problem", "Hello", "RunModel"} <= set(schema["components"]["schemas"])
    assert "HTTPValidationError" not in schema["components"]["schemas"]


async def test_each_answer_is_a_span_by_route(api, monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer", provider.get_tracer)
    await api.get("/v1/jobs/abc")
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /v1/jobs/{run}"
    assert span.attributes["http.response.status_code"] == 422
    provider.shutdown()


async def test_the_body_of_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(running):
    """40 ms for each answer on a kept connection, as long as the kernel gathers small writes."""
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    (connection,) = running.server.server_state.connections
    assert connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()
    await writer.wait_closed()
