"""Parquet objects in a bucket of a real S3 server (versitygw), read by Arrow and by the archive's reader."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import boto3
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.backends import corpus, proof
from tests.servers import s3
from tests.servers.fixtures import running
from wafermonitor.storage.archive.copies import place_of
from wafermonitor.storage.archive.files import Opened
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers import s3 as writers
from wafermonitor.storage.writers.items import KINDS, STATUSES, TEMPORALITIES, items
from wafermonitor.storage.writers.protocol import Fate, Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("s3"), pytest.mark.timeout(300)]
BUCKET = "monitoring-events"
FOLDERS: Mapping[Signal, str] = {"traces": "spans", "logs": "logs", "metrics": "metrics"}


class S3(proof.Backend):
    """One bucket: Parquet of ours, and OTLP of the Collector's own exporter."""

    name: ClassVar[str] = "s3"

    def __init__(self, server: s3.Server) -> None:
        self.server = server
        server.bucket(BUCKET)
        self.client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=s3.REGION,
            aws_access_key_id=s3.ACCESS,
            aws_secret_access_key=s3.SECRET,
        )

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_S3_BUCKET": BUCKET,
            "WAFER_S3_PATH_STYLE": "true",
            "AWS_ACCESS_KEY_ID": s3.ACCESS,
            "AWS_SECRET_ACCESS_KEY": s3.SECRET,
            "WAFER_S3_ENDPOINT": self.server.endpoint,
            "WAFER_S3_ACCESS_KEY": s3.ACCESS,
            "WAFER_S3_SECRET_KEY": s3.SECRET,
            "WAFER_S3_FLUSH": "200ms",
        }

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        try:
            for path, content in self._objects(f"signal={FOLDERS[signal]}/"):
                yield from _kept(signal, path, content)
            for path, content in self._objects("otlp/"):
                if f"/{signal}_" in path:
                    yield from _kept_otlp(signal, gzip.decompress(content))
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error

    def _objects(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
            for one in page.get("Contents", ()):
                yield one["Key"], self.client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read()

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


def _kept(signal: Signal, path: str, content: bytes) -> Iterator[proof.Kept]:
    """Fixed columns as any program reads them; what the archive takes apart by its own reader. Both have the same order."""
    place = place_of(path)
    assert place is not None, path
    table = pq.read_table(pa.BufferReader(content))
    columns = {name: table[name] for name in table.column_names if "/" not in name}
    times = {name: column.cast(pa.int64()) for name, column in columns.items() if pa.types.is_timestamp(column.type)}
    plain = [
        dict(zip(columns, row, strict=True))
        for row in zip(*[one.to_pylist() for one in (columns | times).values()], strict=True)
    ]
    with Opened(pa.BufferReader(content), place.signal, place.site) as opened:
        made = [record for batch in opened.records() for record in batch]
    for row, record in zip(plain, made, strict=True):
        attributes = msgspec.json.decode(record.series.attributes if signal == "metrics" else record.attributes)
        if corpus.KEY in attributes:
            fields = _FIELDS[signal](row, record)
            yield proof.Kept(
                attributes[corpus.KEY], fields | {"attributes": attributes, "site": place.site, "service": row["service"]}
            )


def _kept_otlp(signal: Signal, request: bytes) -> Iterator[proof.Kept]:
    for item in items(signal, request):
        if corpus.KEY in item.attributes:
            fields = {name: value for name, value in item._asdict().items() if name not in {"id", "resource", "scope"}}
            yield proof.Kept(corpus.key_of(item), fields | {"site": item.resource.site, "service": item.resource.service})


def _of_span(row: dict[str, Any], record: Any) -> dict[str, Any]:
    return {
        "trace_id": row["trace_id"].hex(),
        "span_id": row["span_id"].hex(),
        "parent_span_id": (row["parent_span_id"] or b"").hex(),
        "name": row["name"],
        "kind": KINDS[row["kind"]],
        "start_ns": row["start_time"],
        "end_ns": row["start_time"] + row["duration_ns"],
        "status": STATUSES[row["status"]],
        "status_message": row["status_message"],
        "events": [(one["time_ns"], one["name"], one["attributes"]) for one in msgspec.json.decode(record.events or "[]")],
        "links": [(one["trace_id"], one["span_id"], one["attributes"]) for one in msgspec.json.decode(record.links or "[]")],
    }


def _of_log(row: dict[str, Any], record: Any) -> dict[str, Any]:
    return {
        "time_ns": row["time"],
        "observed_ns": row["observed_time"],
        "severity": row["severity"],
        "severity_text": row["severity_text"],
        "event_name": row["event_name"],
        "trace_id": row["trace_id"].hex(),
        "span_id": row["span_id"].hex(),
        "body": msgspec.json.decode(record.body),
    }


def _of_point(row: dict[str, Any], _: Any) -> dict[str, Any]:
    fields = {
        "name": row["name"],
        "unit": row["unit"],
        "type": row["type"],
        "temporality": TEMPORALITIES[row["temporality"]],
        "monotonic": row["monotonic"],
        "time_ns": row["time"],
        "start_ns": row["start_time"] or 0,
    }
    if row["type"] == "histogram":
        return fields | {"summary": {name: row[name] for name in ("count", "sum", "min", "max", "bounds", "buckets")}}
    # Numbers are doubles in the archive, as they are in the store: 2^53 + 1 is not.
    return fields if row["value"] == float(corpus.BIG) else fields | {"value": row["value"]}


_FIELDS = {"traces": _of_span, "logs": _of_log, "metrics": _of_point}


@pytest.fixture(scope="module")
def server() -> Iterator[s3.Server]:
    yield from running(s3)


@pytest.fixture(scope="module")
def backend(server: s3.Server) -> S3:
    return S3(server)


@pytest.mark.parametrize("way", proof.ways("s3"))
def test_nothing_is_lost_while_the_bucket_is_away(backend, way):
    proof.survives(backend, way)


def test_the_same_request_twice_is_one_object_below_the_prefix(backend):
    request = corpus.part("twice", 0).requests["traces"]
    writer = writers.Writer(writers.Config.load({**backend.environment, "WAFER_S3_BUCKET": f"{BUCKET}/a/prefix"}))
    for _ in range(2):
        assert [one.fate for one in writer.write("traces", [request])] == [Fate.ACCEPTED]
    writer.check()
    writer.close()
    page = backend.client.list_objects_v2(Bucket=BUCKET, Prefix="a/prefix/signal=spans/site=fab1/")
    assert page["KeyCount"] == 1


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"WAFER_S3_SECRET_KEY": "wrong"}, "S3 answers"),
        ({"WAFER_S3_BUCKET": "nowhere"}, "S3 answers"),
        ({"WAFER_S3_ENDPOINT": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_what_an_operator_can_mend_loses_nothing(backend, setting, word):
    writer = writers.Writer(writers.Config.load({**backend.environment, **setting}))
    (outcome,) = writer.write("logs", [corpus.part("wrong", 0).requests["logs"]])
    assert outcome.fate is Fate.RETRY
    assert word in outcome.reason
    with pytest.raises(StorageUnavailable, match=word):
        writer.check()
    writer.close()
