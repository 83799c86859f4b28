"""Each older field has its place in a lifecycle event, and what has none is kept or refused with words."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

import pytest

from tests.receiver.legacy.events import APP, JOB, SUBJOB, at_ns, body, event
from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.legacy import Lane
from wafermonitor.receiver.legacy.occurrences import STATUSES
from wafermonitor.receiver.transcode.policies import MAX_DEPTH, MAX_ITEM_BYTES, MAX_SAMPLE_BYTES, Repair
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal, Transcoded
from wafermonitor.runs.records import UNSET_SITE, Run
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

RECEIVED_NS = at_ns(3000)


def transcode(sent: bytes) -> Transcoded:
    return Lane().transcode(Request(Signal.LOGS, Encoding.EVENTS, sent, RECEIVED_NS))


def stored(*sent: dict[str, Any], **beside: Any) -> Transcoded:
    done = transcode(body(*sent, **beside))
    assert (done.rejected, done.message) == (0, "")
    return done


def attributes(sent: dict[str, Any]) -> dict[str, Any]:
    return json.loads(stored(sent).batch.logs[0].attributes)


def the_run(sent: dict[str, Any]) -> Run:
    (run,) = stored(sent).batch.runs
    return run


def reason(sent: Any) -> str:
    done = transcode(body(sent))
    assert done.rejected == 1
    (letter,) = done.batch.dead
    assert done.batch.items == 0
    return letter.reason


def test_a_started_job_is_a_run_with_ids_from_its_uuid():
    (log,) = stored(event("started")).batch.logs
    run = the_run(event("started"))
    assert log.event_name == events.WAFER_JOB_START
    assert log.trace_id == run.trace_id == UUID(JOB).bytes
    assert log.span_id == run.span_id == hashlib.sha256(UUID(JOB).bytes).digest()[:8]
    assert (run.site, run.job, run.run_id, run.start_ns) == ("fab1", "daily-batch", JOB, at_ns(0))
    assert (run.service, run.service_version) == ("yield-app", "1.0.0")
    assert run.end_rank == 0


def test_a_subjob_stands_in_the_trace_of_its_job():
    run = the_run(event("started", subjob=True))
    assert run.trace_id == UUID(JOB).bytes
    assert run.parent_span_id == hashlib.sha256(UUID(JOB).bytes).digest()[:8]
    assert (run.job, run.run_id, run.parent_run_id) == ("wafer-02", SUBJOB, JOB)


def test_a_parent_in_the_metadata_counts_where_the_entity_names_none():
    sent = event("started", subjob=True, metadata={"parent_job_id": JOB})
    sent["entity"]["parent_id"] = None
    assert the_run(sent).parent_run_id == JOB
    assert f"{names.WAFER_PARAM}.parent_job_id" not in attributes(sent)


def test_the_application_and_the_source_are_the_resource():
    (log,) = stored(event("started"), source="sidecar").batch.logs
    assert json.loads(log.resource.attributes) == {
        names.WAFER_SITE_ID: "fab1",
        names.SERVICE_NAME: "yield-app",
        names.SERVICE_VERSION: "1.0.0",
        names.SERVICE_INSTANCE_ID: APP["app_id"],
        names.WAFER_LEGACY_SOURCE: "sidecar",
    }
    assert attributes(event("started"))[names.WAFER_LEGACY_APP_ID] == APP["app_id"]


def test_the_site_of_the_body_is_that_of_events_without_one():
    without = event("started")
    del without["site_id"]
    batch = stored(without, event("started"), site_id="fab2").batch
    assert sorted(log.resource.site for log in batch.logs) == ["fab1", "fab2"]
    assert stored(without).batch.logs[0].resource.site == UNSET_SITE


@pytest.mark.parametrize(("status", "result"), [(status, result) for result, found in STATUSES.items() for status in found])
def test_a_finished_run_has_the_result_that_its_status_says(status, result):
    assert the_run(event("finished", 5, status=status)).result == result
    assert the_run(event("finished", 5, status=status.upper())).result == result


@pytest.mark.parametrize(
    ("kind", "result"),
    [("error", "failure"), ("canceled", "cancellation"), ("cancelled", "cancellation"), ("FINISHED", "success")],
)
def test_an_end_by_its_kind(kind, result):
    run = the_run(event(kind, 5, status=""))
    assert (run.end_rank, run.result, run.end_ns) == (1, result, at_ns(5))


def test_a_status_that_nobody_knows_is_kept_and_is_a_success():
    sent = event("finished", 5, status="Processed")
    assert the_run(sent).result == "success"
    assert attributes(sent)[f"{names.WAFER_PARAM}.status"] == "Processed"


def test_a_failure_says_its_type_and_its_words():
    sent = event("finished", 5, status="failed", metadata={"error": "no such file", "error_type": "OSError", "lot": "L1"})
    (log,) = stored(sent).batch.logs
    assert (log.severity, log.severity_text, log.body) == (17, "ERROR", '"no such file"')
    assert the_run(sent).error_type == "OSError"
    assert attributes(sent)[f"{names.WAFER_PARAM}.lot"] == "L1"
    assert the_run(event("error", 5)).error_type == "_OTHER"


def test_an_end_carries_what_the_run_used():
    metrics = {"duration_s": 4.5, "cpu_user_s": 3.0, "cpu_system_s": 0.5, "mem_max_mb": 100.5, "dies": 1569}
    sent = event("finished", 5, status="succeeded", metrics=metrics)
    run = the_run(sent)
    assert (run.cpu_s, run.memory_bytes) == (3.5, int(100.5 * 1024 * 1024))
    assert attributes(sent)[names.WAFER_JOB_DURATION] == 4.5
    assert attributes(sent)[f"{names.WAFER_PARAM}.dies"] == 1569


def test_a_duration_gives_a_run_its_start_where_the_start_got_lost():
    run = the_run(event("finished", 5, metrics={"duration_s": 4.5}))
    assert run.start_ns == at_ns(5) - 4_500_000_000
    assert the_run(event("finished", 5, metrics={"duration_s": 0.0})).start_ns is None
    assert the_run(event("finished", 5)).start_ns is None


@pytest.mark.parametrize(
    ("said", "ratio"),
    [
        ({"metadata": {"progress": 0.5}}, 0.5),
        ({"metrics": {"progress": 1}}, 1.0),
        ({"metrics": {"progress": 50}}, 0.5),
        ({"metrics": {"progress": 100.0}}, 1.0),
        ({"metrics": {"progress": 25}, "metadata": {"progress": 75}}, 0.25),
    ],
)
def test_progress_is_a_ratio_or_percent(said, ratio):
    progress = the_run(event("progress", 5, **said)).progress
    assert progress is not None
    assert (progress.ratio, progress.at_ns) == (ratio, at_ns(5))


def test_progress_has_a_stage_and_a_message():
    progress = the_run(event("progress", 5, metadata={"stage": "probe", "message": "halfway"})).progress
    assert progress is not None
    assert (progress.stage, progress.message, progress.ratio) == ("probe", "halfway", None)
    by_status = the_run(event("progress", 5, status="halfway")).progress
    assert by_status is not None
    assert by_status.message == "halfway"


@pytest.mark.parametrize("wrong", [-1, 101, "half", True, None, [0.5]])
def test_progress_that_is_none_is_kept_as_a_parameter(wrong):
    sent = event("progress", 5, metadata={"progress": wrong})
    assert the_run(sent).progress is None
    assert attributes(sent)[f"{names.WAFER_PARAM}.progress"] == wrong


def test_a_metric_is_a_sign_of_life_with_numbers():
    sent = event("metric", 5, metrics={"cpu_user_s": 2, "yield": 0.97})
    (log,) = stored(sent).batch.logs
    run = the_run(sent)
    assert log.event_name == events.WAFER_JOB_PROGRESS
    assert (run.cpu_s, run.progress, run.last_sign_ns) == (2.0, None, at_ns(5))
    assert attributes(sent)[f"{names.WAFER_PARAM}.yield"] == 0.97


def test_values_of_any_kind_are_kept():
    metadata = {
        "flag": True,
        "n": 2**63 - 1,
        "x": 0.5,
        "none": None,
        "list": [1, "two", [3]],
        "map": {"a": {"b": 1}},
        "text": "µ",
    }
    found = attributes(event("started", metadata=metadata))
    assert {key.removeprefix(f"{names.WAFER_PARAM}."): value for key, value in found.items() if ".param." in key} == metadata


def test_the_idempotency_key_is_part_of_what_tells_records_apart():
    one, other = stored(event(key="a"), event(key="b")).batch.logs
    assert one.digest != other.digest
    assert attributes(event(key="a"))[names.WAFER_LEGACY_IDEMPOTENCY_KEY] == "a"
    assert stored(event(key="a")).batch.logs[0].digest == one.digest


def test_both_keys_are_kept():
    sent = event("started", subjob=True)
    sent["entity"]["business_key"] = " LOT_YIELD/GAL "
    found = attributes(sent)
    assert (found[names.WAFER_JOB_NAME], found[names.WAFER_JOB_KEY]) == ("wafer-02", "LOT_YIELD/GAL")


@pytest.mark.parametrize(("given", "name"), [({"sub_key": "part"}, "part"), ({}, "yield-app"), ({"business_key": 7}, "7")])
def test_a_job_has_a_name_whatever_is_missing(given, name):
    sent = event("started")
    sent["entity"] = {"type": "job", "id": JOB} | given
    assert the_run(sent).job == name


@pytest.mark.parametrize(
    ("written", "time_ns"),
    [
        ("2026-09-21T10:30:00Z", 1_789_986_600_000_000_000),
        ("2026-09-21T10:30:00.123456789Z", 1_789_986_600_123_456_789),
        ("2026-09-21t10:30:00,5z", 1_789_986_600_500_000_000),
        ("2026-09-21 12:30:00+02:00", 1_789_986_600_000_000_000),
        ("2026-09-21T10:30:00", 1_789_986_600_000_000_000),
        (1_789_986_600, 1_789_986_600_000_000_000),
        (1_789_986_600.25, 1_789_986_600_250_000_000),
        ("1789986600", 1_789_986_600_000_000_000),
        ("1789986600.000000001", 1_789_986_600_000_000_001),
    ],
)
def test_times_as_older_programs_write_them(written, time_ns):
    assert stored(event("started", at=written)).batch.logs[0].time_ns == time_ns


@pytest.mark.parametrize(
    "written", ["", "yesterday", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", 0, -5, 1_789_986_600_000, "9" * 400]
)
def test_a_time_that_is_none_is_refused_with_what_to_send(written):
    said = reason(event("started", at=written))
    assert said.startswith("event.at: ")
    assert "RFC 3339" in said


def change(path: str, value: Any) -> dict[str, Any]:
    sent: Any = event("started")
    *outer, last = path.split(".")
    inner = sent
    for part in outer:
        inner = inner[part]
    inner[last] = value
    return sent


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("entity.id", None, "entity.id: it is missing; send the UUID"),
        ("entity.id", "job-7", "entity.id: 'job-7' is no UUID; send the UUID"),
        ("entity.id", "00000000-0000-0000-0000-000000000000", "entity.id: it is the nil UUID"),
        ("entity.parent_id", "root", "entity.parent_id: 'root' is no UUID"),
        ("entity.parent_id", JOB, "entity.parent_id: it is the entity's own id"),
        ("entity.type", "task", "entity.type: 'task' is neither; send job or subjob"),
        ("entity.type", None, "entity.type: it is missing"),
        ("entity", None, "entity: it is missing"),
        ("event", None, "event: it is missing"),
        ("event.kind", None, "event.kind: it is missing; send started"),
        ("event.kind", "paused", "event.kind: 'paused' is none; send started"),
        ("event.metrics", [1], "event.metrics: expected object | null, got array; send an object of numbers"),
        ("event.metadata", {"n": 2**64}, "event: an integer has more than 64 bits"),
        ("app", "yield", "app: expected object | null, got str; send an object"),
        ("site_id", ["f1"], "site_id: expected"),
    ],
)
def test_an_event_that_cannot_be_stored_is_refused_with_the_field_and_the_fix(path, value, words):
    assert reason(change(path, value)).startswith(words)


def test_a_job_that_nothing_names_is_refused():
    sent = event("started")
    sent["entity"] = {"type": "job", "id": JOB}
    sent["app"] = None
    assert reason(sent).startswith("entity.business_key: nothing names the job")


@pytest.mark.parametrize("sent", [3, "text", None, [], True])
def test_an_event_that_is_no_object_is_refused(sent):
    assert "send an object with app, entity and event" in reason(sent) or reason(sent).startswith("entity")


def test_a_value_that_is_too_deep_and_an_event_that_is_too_large_stay_alone():
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    abyss: Any = 1
    for _ in range(800):
        abyss = [abyss]
    large = event("started", metadata={"x": "x" * MAX_ITEM_BYTES})
    done = transcode(body(event("started"), event(metadata={"x": deep}), event(metadata={"x": abyss}), large))
    assert (done.batch.items, done.rejected) == (1, 3)
    assert {letter.reason.partition(" ")[0] for letter in done.batch.dead} >= {"value", "the"}


def test_a_refused_event_is_a_dead_letter_with_its_site_and_a_body_of_its_own():
    done = transcode(body(event("started"), event("paused"), source="sidecar", site_id="fab9"))
    (letter,) = done.batch.dead
    assert (letter.site, letter.signal, letter.received_ns) == ("fab1", "events", RECEIVED_NS)
    assert json.loads(letter.sample) == {"events": [event("paused")], "source": "sidecar", "site_id": "fab9"}
    assert done.message == f"1 events rejected for good: {letter.reason} (1)"


def test_a_long_sample_is_cut():
    (letter,) = transcode(body(event("paused", metadata={"x": "x" * MAX_SAMPLE_BYTES}))).batch.dead
    assert len(letter.sample) == MAX_SAMPLE_BYTES


@pytest.mark.parametrize(
    ("before", "after", "repair", "value"),
    [
        (b'"MARK"', b'"M\xc4RK"', Repair.INVALID_UTF8, "M\ufffdRK"),
        (b'"MARK"', b'"\\ud800"', Repair.SURROGATE, "\ufffd"),
        (b'"MARK"', b'"a\\u0000b"', Repair.NUL, "a\ufffdb"),
        (b'"MARK"', b"NaN", Repair.NOT_FINITE, None),
        (b'"MARK"', b"-Infinity", Repair.NOT_FINITE, None),
    ],
)
def test_what_otlp_mends_is_mended_and_marked(before, after, repair, value):
    sent = body(event("started", metadata={"x": "MARK"}), event("started", 1)).replace(before, after)
    done = transcode(sent)
    assert (done.rejected, done.repaired) == (0, 1)
    found = json.loads(done.batch.logs[0].attributes)
    assert (found[f"{names.WAFER_PARAM}.x"], found[names.WAFER_REPAIRED]) == (value, [repair])
    assert names.WAFER_REPAIRED not in json.loads(done.batch.logs[1].attributes)


def test_the_words_of_a_failure_are_mended_too():
    (log,) = stored(event("error", 5, metadata={"error": "a\0b"})).batch.logs
    assert log.body == '"a\ufffdb"'
    assert json.loads(log.attributes)[names.WAFER_REPAIRED] == [Repair.NUL]


def test_text_that_says_nan_is_text():
    assert attributes(event("started", metadata={"x": "NaN, -Infinity"}))[f"{names.WAFER_PARAM}.x"] == "NaN, -Infinity"


def test_a_key_that_stands_twice_is_marked_and_the_metadata_counts():
    found = attributes(event("progress", 1, metrics={"x": 1}, metadata={"x": 2}))
    assert (found[f"{names.WAFER_PARAM}.x"], found[names.WAFER_REPAIRED]) == (2, [Repair.DUPLICATE_KEY])


@pytest.mark.parametrize("shape", ["one", "array", "object"])
def test_three_shapes_of_a_body_say_the_same(shape):
    one = event("started")
    sent = {"one": one, "array": [one], "object": {"events": [one]}}[shape]
    assert transcode(json.dumps(sent).encode()).batch == stored(one).batch


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the body: it is not JSON"),
        (b"started", "the body: it is not JSON"),
        (b'[{"event":', "the body: it is not JSON"),
        (b"5", "the body: expected object | array, got int; send one event"),
        (b'{"events": 3}', "events: expected array | null, got int; send an array of events"),
        (b'{"events": [], "source": [1]}', "source: expected"),
        (b"[" * 100_000, "the body: it is not JSON"),
    ],
)
def test_a_body_that_is_none_of_them_is_refused_whole(sent, words):
    with pytest.raises(RequestRejected) as refused:
        transcode(sent)
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize("sent", [b"[]", b'{"events": []}', b'{"events": null}'])
def test_no_events_are_no_error(sent):
    done = transcode(sent)
    assert (done.batch.items, done.rejected, done.batch.dead) == (0, 0, [])
