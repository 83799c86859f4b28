"""`wafer simulate` tells its story to a real OTLP endpoint: bounded, repeatable, leaving nothing open when stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.servers import otlp_sink
from wafermonitor.alerting.errors import AlertingRejected, AlertingUnavailable
from wafermonitor.alerting.simulator import live
from wafermonitor.alerting.simulator.command import simulate
from wafermonitor.alerting.simulator.fab import Size, build
from wafermonitor.alerting.simulator.live import Teller
from wafermonitor.alerting.simulator.story import tell
from wafermonitor.instrumentation.endpoint import Answer
from wafermonitor.runs import lifecycle

pytestmark = pytest.mark.slow

WAFER = [sys.executable, "-m", "wafermonitor.instrumentation.cli"]
SMALL = ["--sites", "2", "--hosts", "1", "--jobs", "5", "--seed", "5"]


@pytest.fixture
def sink():
    server = otlp_sink.start()
    yield server
    server.stop()


def ids(items):
    return {(item.trace_id, item.span_id) for item in items}


def test_an_hour_is_told_in_two_seconds_with_the_times_of_now(sink):
    result = CliRunner().invoke(
        simulate, [*SMALL, "--hours", "1", "--rate", "1800", "--no-outages", "--endpoint", sink.url, "--json"]
    )
    assert result.exit_code == 0, result.output
    sent = json.loads(result.output)
    assert sent["runs"] > 20
    assert sent["rejected"] == []
    assert (sent["spans"], sent["events"] + sent["beats"]) == (len(sink.spans), len(sink.logs))
    begins = [int(item.raw["startTimeUnixNano"]) for item in sink.spans]
    assert max(begins) - min(begins) < 4e9
    assert {item.resource["wafer.site.id"] for item in sink.spans} == {"fab1", "fab2"}
    assert {item.resource["wafer.feed.id"] for item in sink.events(lifecycle.FEED_BEAT)} == {"host101", "host201"}


def test_what_is_announced_is_ended_though_the_hour_is_over(sink):
    arguments = [*SMALL, "--hours", "0.5", "--rate", "3600", "--endpoint", sink.url, "--json", "--no-outages"]
    result = CliRunner().invoke(simulate, arguments)
    assert json.loads(result.output)["cancelled"] > 0
    killed = ids(sink.events(lifecycle.START)) - ids(sink.spans)
    story = tell(build(5, Size(sites=2, hosts=1, jobs=5, days=0.5 / 24, outages=0.0)))
    assert len(killed) <= sum(run.killed for run in story.runs)
    assert ids(sink.events(lifecycle.END)) <= ids(sink.spans)
    assert "cancellation" in {item.attributes["wafer.job.result"] for item in sink.spans}


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_ctrl_c_ends_what_runs_and_says_so(sink):
    command = [*WAFER, "simulate", *SMALL, "--hours", "24", "--rate", "600", "--endpoint", sink.url, "--json", "--no-outages"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            sink.wait_for(lambda got: got.events(lifecycle.START), 30)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, err
    sent = json.loads(out)
    assert sent["stopped"]
    assert ids(sink.events(lifecycle.START)) <= ids(sink.spans)


class Refusing:
    """An endpoint that answers the same to everything."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def post(self, signal, body):
        del signal, body
        return self.answer


def test_an_endpoint_that_takes_nothing_ends_the_story_in_bounded_time(monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_S", 0.2)
    story = tell(build(5, Size(sites=1, hosts=1, jobs=2, days=0.01)))
    with pytest.raises(AlertingUnavailable, match="nothing is taken"):
        Teller(story, Refusing(Answer("retry", "it is full")), 10_000).tell()
    with pytest.raises(AlertingRejected, match="set WAFER_TOKEN"):
        Teller(story, Refusing(Answer("refused", "set WAFER_TOKEN")), 10_000).tell()
    sent = Teller(story, Refusing(Answer("rejected", "no")), 10_000).tell()
    assert sent.requests == 0
    assert set(sent.rejected) == {"no"}
