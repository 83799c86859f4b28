"""Log groups of a stand-in for CloudWatch (moto): log events and metrics in the embedded format, read by AWS's client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.backends import alerts, corpus, proof
from tests.servers import moto
from tests.servers.collector import free_ports
from tests.servers.fixtures import running
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("moto"), pytest.mark.timeout(300)]
GROUPS: Mapping[str, str] = {"logs": "/wafer-monitor/jobs", "metrics": "/wafer-monitor/metrics"}


class CloudWatch(proof.Backend):
    """Two groups."""

    name: ClassVar[str] = "cloudwatch"

    def __init__(self, server: moto.Server) -> None:
        self._server = server
        self._client = server.client("logs")

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_CLOUDWATCH_ENDPOINT": self._server.endpoint,
            "WAFER_CLOUDWATCH_ACCESS_KEY": moto.ACCESS,
            "WAFER_CLOUDWATCH_SECRET_KEY": moto.SECRET,
            "WAFER_CLOUDWATCH_LOOPBACK": f"127.0.0.1:{free_ports(1)[0]}",
            "AWS_ACCESS_KEY_ID": moto.ACCESS,
            "AWS_SECRET_ACCESS_KEY": moto.SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        try:
            for message in self._messages(GROUPS[signal]):
                told = json.loads(message)
                if signal == "metrics" and corpus.KEY in told:
                    yield _point(told)
                elif signal == "logs" and corpus.KEY in told.get("attributes", ()):
                    yield _log(told)
        except self._client.exceptions.ResourceNotFoundException:
            return
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error

    def alerts(self) -> list[dict[str, Any]]:
        """Log events that are alerts."""
        told = [json.loads(message) for message in self._messages(GROUPS["logs"])]
        return [one for one in told if one.get("event_name") == "wafer.alert"]

    def _messages(self, group: str) -> Iterator[str]:
        for stream in self._client.describe_log_streams(logGroupName=group)["logStreams"]:
            token: dict[str, str] = {}
            while True:
                page = self._client.get_log_events(
                    logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True, **token
                )
                yield from (event["message"] for event in page["events"])
                following = {"nextToken": page["nextForwardToken"]}
                if following == token or not page["events"]:
                    break
                token = following

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.restart()

    def fragments(self, way: proof.Way) -> tuple[str, ...]:
        return ("cloudwatch-logs", "cloudwatch-metrics") if way == "exporter" else super().fragments(way)


def _log(told: dict[str, Any]) -> proof.Kept:
    fields = {
        "severity": told["severity_number"],
        "severity_text": told["severity_text"],
        "trace_id": told["trace_id"],
        "span_id": told["span_id"],
        "body": told["body"],
        "attributes": told["attributes"],
        "site": told["resource"]["wafer.site.id"],
        "service": told["resource"]["service.name"],
    }
    if "time_unix_nano" in told:
        fields |= {"time_ns": told["time_unix_nano"], "observed_ns": told["observed_time_unix_nano"]}
        fields["event_name"] = told.get("event_name", "")
    return proof.Kept(told["attributes"][corpus.KEY], fields)


def _point(told: dict[str, Any]) -> proof.Kept:
    (declared,) = told["_aws"]["CloudWatchMetrics"]
    assert declared["Namespace"] == "WaferMonitor"
    (metric,) = declared["Metrics"]
    value = told[metric["Name"]]
    fields: dict[str, Any] = {"name": metric["Name"]}
    if "otel" in told:
        otel = told["otel"]
        fields |= {name: otel[name] for name in ("unit", "type", "temporality", "monotonic", "attributes")}
        fields |= {"time_ns": otel["time_unix_nano"], "start_ns": otel["start_time_unix_nano"]}
        fields |= {"site": told["wafer.site.id"], "service": told["service.name"]}
        fields |= {"summary": otel["summary"]} if "summary" in otel else {"value": value}
        if "summary" in otel:
            assert value == {name.capitalize(): otel["summary"][name] for name in ("count", "sum", "min", "max")}
    return proof.Kept(told[corpus.KEY], fields)


@pytest.fixture(scope="module")
def server() -> Iterator[moto.Server]:
    yield from running(moto)


@pytest.fixture(scope="module")
def backend(server: moto.Server) -> CloudWatch:
    return CloudWatch(server)


@pytest.mark.parametrize("way", proof.ways("cloudwatch"))
def test_nothing_is_lost_while_cloudwatch_is_away(backend, way):
    proof.survives(backend, way)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_an_alert_is_a_log_event_and_its_end_another(backend):
    late = alerts.opened_now("job 0")
    alerts.tell(backend, late)
    alerts.tell(backend, late._replace(resolved_ns=late.opened_ns + corpus.SECOND_NS))
    told = sorted((one["attributes"]["wafer.alert.kind"], one["body"], one["severity_text"]) for one in backend.alerts())
    assert told == [("firing", "job 0 is late", "WARN"), ("resolved", "job 0 is late", "WARN")]
