"""Traces of a stand-in for X-Ray (moto), by the Collector's exporter, a bridge and a job, read by AWS's client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.backends import corpus, proof
from tests.servers import moto
from tests.servers.collector import free_ports
from tests.servers.fixtures import running
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("moto"), pytest.mark.timeout(300)]
AT_ONCE = 5
HOUR_S = 3600


class XRay(proof.Backend):
    """The traces of one region."""

    name: ClassVar[str] = "xray"

    def __init__(self, server: moto.Server) -> None:
        self._server = server
        self._client = server.client("xray")

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_XRAY_ENDPOINT": self._server.endpoint,
            "WAFER_XRAY_ACCESS_KEY": moto.ACCESS,
            "WAFER_XRAY_SECRET_KEY": moto.SECRET,
            "WAFER_XRAY_LOOPBACK": f"127.0.0.1:{free_ports(1)[0]}",
            "AWS_ACCESS_KEY_ID": moto.ACCESS,
            "AWS_SECRET_ACCESS_KEY": moto.SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        del signal
        now = int(time.time())
        try:
            page = self._client.get_trace_summaries(StartTime=now - HOUR_S, EndTime=now + HOUR_S)
            ids = [one["Id"] for one in page["TraceSummaries"]]
            for start in range(0, len(ids), AT_ONCE):
                for trace in self._client.batch_get_traces(TraceIds=ids[start : start + AT_ONCE])["Traces"]:
                    documents = [json.loads(one["Document"]) for one in trace["Segments"]]
                    yield from (_kept(one) for one in documents if corpus.KEY in one["metadata"]["default"])
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.restart()


def _kept(document: dict[str, Any]) -> proof.Kept:
    metadata = document["metadata"]["default"]
    fields: dict[str, Any] = {
        "trace_id": document["trace_id"].removeprefix("1-").replace("-", ""),
        "span_id": document["id"],
        "parent_span_id": document.get("parent_id", ""),
        "name": document["name"],
        "status": "ERROR" if document.get("fault") else "UNSET",
    }
    told = document.get("annotations", {}) | metadata
    fields["attributes"] = {name: value for name, value in told.items() if not name.startswith("otel.resource.")}
    # The exporter says who sent it of segments alone.
    for field, name in (("site", names.WAFER_SITE_ID), ("service", names.SERVICE_NAME)):
        if f"otel.resource.{name}" in told:
            fields[field] = told[f"otel.resource.{name}"]
    own = document["metadata"].get("wafer")
    if own is not None:
        fields |= {"start_ns": own["start_unix_nano"], "end_ns": own["end_unix_nano"], "kind": own["kind"]}
        fields["status_message"] = own["status_message"]
        fields["events"] = [(one["time_unix_nano"], one["name"], one["attributes"]) for one in own["events"]]
    return proof.Kept(metadata[corpus.KEY], fields)


@pytest.fixture(scope="module")
def server() -> Iterator[moto.Server]:
    yield from running(moto)


@pytest.fixture(scope="module")
def backend(server: moto.Server) -> XRay:
    return XRay(server)


@pytest.mark.parametrize("way", proof.ways("xray"))
def test_nothing_is_lost_while_x_ray_is_away(backend, way):
    proof.survives(backend, way)
