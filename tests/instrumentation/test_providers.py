"""Beside an application's own OpenTelemetry: its resource, its processors, one copy on the wire."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

import wafermonitor.instrumentation as wafer
from tests.servers import otlp_sink
from wafermonitor.instrumentation import carrier, jobs, providers
from wafermonitor.instrumentation.transport import same_server

Telemetry = Callable[..., providers.Telemetry]
UPSTREAM = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """An application's provider, set as the global one until the test ends."""
    provider = TracerProvider(resource=Resource.create({"service.name": "the-app"}), shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield provider
    provider.shutdown()


def test_run_spans_have_the_applications_resource_and_reach_its_processors(
    telemetry: Telemetry, sink: otlp_sink.Server, application: TracerProvider
) -> None:
    telemetry()
    theirs = InMemorySpanExporter()
    application.add_span_processor(SimpleSpanProcessor(theirs))
    with wafer.job("a"):
        pass
    assert [span.name for span in theirs.get_finished_spans()] == ["a"]
    assert [run.resource["service.name"] for run in sink.runs()] == ["the-app"]


def test_one_copy_on_the_wire_when_the_application_sends_to_the_same_endpoint(
    telemetry: Telemetry, sink: otlp_sink.Server, application: TracerProvider
) -> None:
    telemetry()
    application.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{sink.url}/v1/traces")))
    wafer.install()
    wafer.install()
    with wafer.job("a"), application.get_tracer("app").start_as_current_span("plain"):
        pass
    application.force_flush()
    jobs.flush()
    assert sorted(span.name for span in sink.spans) == ["a", "plain"]
    assert len(sink.events("wafer.job.start")) == 1


def test_install_sends_plain_spans_that_would_not_arrive_otherwise(
    telemetry: Telemetry, sink: otlp_sink.Server, application: TracerProvider
) -> None:
    telemetry()
    wafer.install()
    with wafer.job("a"), application.get_tracer("app").start_as_current_span("plain"):
        pass
    jobs.flush()
    a, plain = sink.runs("a")[0], next(span for span in sink.spans if span.name == "plain")
    assert plain.parent_span_id == a.span_id


def test_a_span_of_stock_code_with_a_job_name_is_a_run(
    telemetry: Telemetry, sink: otlp_sink.Server, application: TracerProvider
) -> None:
    telemetry()
    wafer.install()
    tracer = application.get_tracer("app")
    with (
        tracer.start_as_current_span("nightly", attributes={"wafer.job.name": "nightly"}) as outer,
        tracer.start_as_current_span("step", attributes={"wafer.job.name": "step"}),
    ):
        assert [item.attributes["wafer.job.name"] for item in sink.events("wafer.job.end")] == []
    with pytest.raises(ValueError, match="x"), tracer.start_as_current_span("bad", attributes={"wafer.job.name": "bad"}):
        raise ValueError("x")
    jobs.flush()
    assert [item.attributes["wafer.job.name"] for item in sink.events("wafer.job.start")] == ["nightly", "step", "bad"]
    assert [item.attributes["wafer.job.result"] for item in sink.events("wafer.job.end")] == ["success", "success", "failure"]
    step = sink.runs("step")[0]
    assert step.attributes["wafer.job.parent.span.id"] == f"{outer.get_span_context().span_id:016x}"
    assert step.attributes["wafer.job.run.id"] == step.span_id


@pytest.mark.slow
def test_without_an_application_install_makes_ours_global(environment: dict[str, str], sink: otlp_sink.Server) -> None:
    program = """
import wafermonitor.instrumentation as wafer
from opentelemetry import trace
wafer.install()
with wafer.job("a"), trace.get_tracer("library").start_as_current_span("plain"):
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, check=True, timeout=60
    )
    assert done.returncode == 0
    assert sorted(span.name for span in sink.spans) == ["a", "plain"]


@pytest.mark.parametrize(("flag", "sampled"), [("sample", 1), ("keep", 0)])
def test_a_run_is_recorded_whatever_the_upstream_decided(
    flag: str, sampled: int, telemetry: Telemetry, sink: otlp_sink.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry(WAFER_PARENT_FLAG=flag)
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    wafer.install()
    monkeypatch.setenv("TRACEPARENT", f"{UPSTREAM}0")
    with wafer.job("a") as job:
        handed_on = job.env()["TRACEPARENT"]
        with provider.get_tracer("app").start_as_current_span("plain"):
            pass
    jobs.flush()
    assert len(sink.runs("a")) == 1
    assert int(handed_on[-2:], 16) & 1 == sampled
    assert len([span for span in sink.spans if span.name == "plain"]) == sampled, "its child follows the flag"


def test_traceparent_makes_the_caller_the_parent(
    telemetry: Telemetry, sink: otlp_sink.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry()
    monkeypatch.setenv("TRACEPARENT", f"{UPSTREAM}3")
    monkeypatch.setenv("BAGGAGE", "tool=prober")
    with wafer.job("a") as job:
        environment = job.env({"HOME": "/nowhere", "TRACESTATE": "stale=1"})
    run = sink.runs()[0]
    assert run.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert run.parent_span_id == run.attributes["wafer.job.parent.span.id"] == "b7ad6b7169203331"
    assert environment["TRACEPARENT"].startswith(f"00-{run.trace_id}-{run.span_id}-")
    assert environment["TRACESTATE"] == f"wafer={run.span_id}"
    assert environment["BAGGAGE"] == "tool=prober"
    assert environment["HOME"] == "/nowhere"


def test_the_innermost_run_is_the_parent_across_plain_spans_and_processes(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    made = telemetry()
    with wafer.job("a") as job, made.own_provider.get_tracer("library").start_as_current_span("plain") as plain:
        packed = carrier.pack()
    assert packed["traceparent"].split("-")[2] == f"{plain.get_span_context().span_id:016x}"
    assert packed["tracestate"] == f"wafer={job.span_id}"
    with wafer.job("b"):
        pass
    child = jobs.job("child")
    child._above = carrier.unpack(packed)
    with child:
        pass
    jobs.flush()
    assert sink.runs("child")[0].attributes["wafer.job.parent.span.id"] == job.span_id


@pytest.mark.parametrize("broken", ["", "nonsense", "00-00000000000000000000000000000000-0000000000000000-01"])
def test_a_broken_traceparent_is_no_parent(
    broken: str, telemetry: Telemetry, sink: otlp_sink.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry()
    monkeypatch.setenv("TRACEPARENT", broken)
    with wafer.job("a"):
        pass
    assert sink.runs()[0].parent_span_id == ""


@pytest.mark.slow
def test_opentelemetry_instrument_picks_the_distro_up(
    sink: otlp_sink.Server, environment: dict[str, str], tmp_path: Path
) -> None:
    program = tmp_path / "stock.py"
    program.write_text(
        "from opentelemetry import trace\n"
        "with trace.get_tracer('stock').start_as_current_span('nightly', attributes={'wafer.job.name': 'nightly'}):\n"
        "    with trace.get_tracer('stock').start_as_current_span('plain'):\n"
        "        pass\n"
    )
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, str(program)]
    settings = {
        "WAFER_INSTRUMENTATION_ENDPOINT": sink.url,
        "OTEL_PYTHON_DISTRO": "wafermonitor",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
    }
    done = subprocess.run(command, env={**environment, **settings}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    sink.wait_for(lambda seen: len(seen.spans) >= 2 and len(seen.events()) >= 2)
    assert sorted(span.name for span in sink.spans) == ["nightly", "plain"]
    assert [item.name for item in sink.events()] == ["wafer.job.start", "wafer.job.end"]


def test_log_records_are_bound_to_the_run_they_were_written_in(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    program = logging.getLogger("program")
    program.setLevel(logging.INFO)
    program.warning("before")
    with wafer.job("a") as job:
        program.debug("too fine")
        program.info("within %d", 1)
        with job.subjob("b"):
            program.error("deeper", exc_info=ValueError("x"))
        logging.getLogger("wafermonitor").warning("about telemetry itself")
    program.warning("after")
    jobs.flush()
    told = [(item.raw["body"]["stringValue"], item.span_id, item.scope) for item in sink.logs if not item.name]
    b = sink.runs("b")[0]
    assert told == [("within 1", job.span_id, "program"), ("deeper", b.span_id, "program")]
    deeper = next(item for item in sink.logs if item.span_id == b.span_id and not item.name)
    assert deeper.attributes["exception.message"] == "x"
    assert deeper.raw["severityNumber"] == "SEVERITY_NUMBER_ERROR"


def test_log_records_can_be_kept_at_home(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry(WAFER_INSTRUMENTATION_LOGS="false")
    with wafer.job("a"):
        logging.getLogger("program").warning("private")
    assert all(item.name for item in sink.logs)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:4318", "localhost:4317", True),
        ("http://localhost:4318/v1/traces", "http://[::1]:4318", True),
        ("http://localhost:4318", "http://collector:4318", False),
        ("https://otlp.example", "https://otlp.example:443/v1/traces", True),
        ("http://localhost:4318", "http://localhost:14318", False),
    ],
)
def test_two_addresses_of_one_server(one: str, other: str, same: bool) -> None:
    assert same_server(one, other) is same


@pytest.mark.parametrize(
    ("argv0", "name"),
    [("/opt/jobs/nightly_fit.py", "nightly_fit"), ("/opt/jobs/stdf_yield/__main__.py", "stdf_yield"), ("-c", "")],
)
def test_a_program_is_named_by_its_file_or_its_package(monkeypatch, argv0, name):
    monkeypatch.setattr("sys.argv", [argv0])
    assert providers._program() == name
