"""Probes and the service's own metrics."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


async def test_health_does_not_ask_the_store_and_readiness_does(api):
    assert (await api.get("/v1/healthz")).json()["status"] == "ok"
    ready = (await api.get("/readyz")).json()
    assert ready == {"status": "ok", "engine": "memory", "version": "1", "newest_received": "2026-05-28T20:26:40.000000Z"}


async def test_metrics_count_answers_by_route_not_by_path(api):
    await api.get("/v1/jobs")
    await api.get("/v1/jobs/abc")
    await api.get("/guess")
    text = (await api.get("/metrics")).text
    assert 'wafer_query_requests_total{route="/v1/jobs",status="200"} 1.0' in text
    assert 'wafer_query_requests_total{route="/v1/jobs/{run}",status="422"} 1.0' in text
    assert "guess" not in text


async def test_the_schema_is_openapi_3_1_and_says_problem_for_every_error(api):
    schema = (await api.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    for path, item in schema["paths"].items():
        for status, answer in item["get"]["responses"].items():
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
