"""Requests as objects of a bucket: their names, what the archive reads out of them, and what S3's answers mean."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.receiver.otlp import GOOD, START_NS, spans
from tests.receiver.otlp import REQUESTS as MESSAGES
from wafermonitor.receiver.transcode.protocol import Encoding, Request
from wafermonitor.receiver.transcode.protocol import Signal as Wire
from wafermonitor.receiver.transcode.python import Lane
from wafermonitor.storage.archive import files
from wafermonitor.storage.archive.copies import place_of
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers import aws, s3
from wafermonitor.storage.writers.protocol import SIGNALS, Fate

NOW_NS = START_NS + 7
DAY = datetime.fromtimestamp(START_NS // 1_000_000_000, UTC).date()


def body(signal: str, count: int = 5) -> bytes:
    return GOOD[Wire(signal)](count).SerializeToString()


def read(found: s3.Objects) -> list:
    rows = []
    for path, content in found.files.items():
        place = place_of(path)
        with files.Opened(pa.BufferReader(content), place.signal, place.site) as opened:
            for batch in opened.records():
                rows += batch
    return rows


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_archive_reads_what_the_receiver_would_have_stored(signal):
    request = Request(Wire(signal), Encoding.PROTOBUF, body(signal), NOW_NS)
    batch = Lane().transcode(request).batch
    stored = batch.spans or batch.logs or batch.points
    assert len(stored) == 5
    assert sorted(map(str, read(s3.objects(signal, body(signal), NOW_NS)))) == sorted(map(str, stored))


def test_an_object_is_named_after_its_request_site_and_day():
    named = hashlib.sha256(body("traces")).hexdigest()[:32]
    assert list(s3.objects("traces", body("traces"), NOW_NS).files) == [f"signal=spans/site=f1/date={DAY}/{named}.parquet"]


def test_each_day_has_its_own_object():
    request = spans(2)
    request.resource_spans[0].scope_spans[0].spans[1].start_time_unix_nano -= 86_400 * 1_000_000_000
    found = s3.objects("traces", request.SerializeToString(), NOW_NS)
    assert len(found.files) == 2
    assert len(read(found)) == 2


def test_what_has_no_column_is_refused_alone():
    request = spans(3)
    request.resource_spans[0].scope_spans[0].spans[1].span_id = b"abc"
    found = s3.objects("traces", request.SerializeToString(), NOW_NS)
    assert found.refused == {1: "an id of 3 bytes where 8 are"}
    assert len(read(found)) == 2


def test_every_kind_of_point_comes_back():
    request = MESSAGES[Wire.METRICS]()
    scoped = request.resource_metrics.add().scope_metrics.add()
    histogram = scoped.metrics.add(name="h").histogram.data_points.add(time_unix_nano=START_NS, count=6, sum=4.5)
    histogram.explicit_bounds.extend([0.5, 1.0])
    histogram.bucket_counts.extend([2, 3, 1])
    exponential = scoped.metrics.add(name="e").exponential_histogram.data_points.add(
        time_unix_nano=START_NS, count=7, scale=0, zero_count=1
    )
    exponential.positive.bucket_counts.extend([2, 1])
    exponential.negative.bucket_counts.extend([3])
    summary = scoped.metrics.add(name="s").summary.data_points.add(time_unix_nano=START_NS, count=2, sum=3.0)
    summary.quantile_values.add(quantile=0.5, value=1.5)
    raw = request.SerializeToString()
    batch = Lane().transcode(Request(Wire.METRICS, Encoding.PROTOBUF, raw, NOW_NS)).batch
    assert sorted(map(str, read(s3.objects("metrics", raw, NOW_NS)))) == sorted(map(str, batch.points))


def test_a_number_that_no_double_has_is_the_nearest_double():
    request = GOOD[Wire.METRICS](1)
    request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0].as_int = 2**53 + 1
    (point,) = read(s3.objects("metrics", request.SerializeToString(), NOW_NS))
    assert point.value == 2.0**53


def test_a_bucket_must_be_named():
    with pytest.raises(StorageRejected, match="WAFER_S3_BUCKET"):
        s3.Writer(s3.Config())


@pytest.mark.parametrize(
    ("setting", "word"), [({"access_key": "k"}, "belong together"), ({"endpoint": "minio:9000"}, "no address")]
)
def test_settings_that_cannot_work_are_refused(setting, word):
    with pytest.raises(StorageRejected, match=word):
        s3.Writer(s3.Config(bucket="b", **setting))


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        ("SlowDown", Fate.RETRY),
        ("InternalError", Fate.RETRY),
        ("AccessDenied", Fate.RETRY),
        ("InvalidAccessKeyId", Fate.RETRY),
        ("NoSuchBucket", Fate.RETRY),
        ("EntityTooLarge", Fate.REJECTED),
    ],
)
def test_only_what_s3_never_takes_is_final(code, fate):
    error = ClientError({"Error": {"Code": code, "Message": "secret"}}, "PutObject")
    assert aws.outcome_of("S3", error, {"EntityTooLarge"}) == (fate, f"S3 answers {code}", 0, b"")


def test_a_server_that_is_away_is_tried_again_and_not_named():
    outcome = aws.outcome_of("S3", EndpointConnectionError(endpoint_url="http://key:secret@minio:9000"))
    assert outcome == (Fate.RETRY, "S3 does not answer (EndpointConnectionError)", 0, b"")


def test_nothing_is_put_of_what_is_no_request():
    writer = s3.Writer(s3.Config(bucket="b", endpoint="http://127.0.0.1:9"))
    assert writer.write("logs", [b"\xff\xff\xff"])[0].fate is Fate.REJECTED
    writer.close()
