"""What is said of one run by hand-made requests, where the SDK is not loaded."""

from wafermonitor.instrumentation.announce import Announced, Ending
from wafermonitor.instrumentation.derived import derive
from wafermonitor.semconv import attributes as names


def announced(start_ns):
    ids = derive("fab1", "lot_yield", "R1")
    return Announced(ids=ids, parent_span_id=None, job="lot_yield", run_id="R1", start_ns=start_ns, resource={})


def attributes(record):
    return {pair["key"]: pair["value"] for pair in record["attributes"]}


def end_event(run, end_ns):
    (resource,) = run.end(Ending(names.WAFER_JOB_RESULT_SUCCESS, end_ns), None)["resourceLogs"]
    return resource["scopeLogs"][0]["logRecords"][0]


def span(run, end_ns):
    (resource,) = run.span(Ending(names.WAFER_JOB_RESULT_SUCCESS, end_ns), None)["resourceSpans"]
    return resource["scopeSpans"][0]["spans"][0]


def test_the_duration_is_from_start_to_end():
    assert attributes(end_event(announced(10**18), 10**18 + 2_500_000_000))[names.WAFER_JOB_DURATION] == {"doubleValue": 2.5}


def test_a_clock_that_was_put_back_makes_no_run_of_negative_length():
    run = announced(10**18)
    assert attributes(end_event(run, 10**18 - 5))[names.WAFER_JOB_DURATION] == {"doubleValue": 0.0}
    assert span(run, 10**18 - 5)["endTimeUnixNano"] == span(run, 10**18)["endTimeUnixNano"]


def test_without_a_known_start_the_end_says_no_duration_and_no_start():
    told = attributes(end_event(announced(None), 10**18))
    assert names.WAFER_JOB_DURATION not in told
    assert names.WAFER_JOB_START_TIME_UNIX_NANO not in told
    assert told[names.WAFER_JOB_RUN_ID] == {"stringValue": "R1"}
