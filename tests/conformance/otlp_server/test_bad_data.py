"""What cannot be decoded or is otherwise invalid: said so for good, in words a sender understands, its neighbours spared."""

from __future__ import annotations

import gzip
import json

import pytest

from . import judge, telemetry
from .rules import GRPC, JSON, PROTOBUF, Level, rule

ONLY_HTTP = (PROTOBUF, JSON)
BAD = "OTLP: Bad Data"
BROKEN = {
    "cut": b"\x0a\xff\xff",
    "endless-number": b"\x0a" + b"\xff" * 12,
    "field-zero": b"\x00\x01",
    "end-group": b"\x0c",
    "wire-type-7": b"\x0f\x01",
    "text": b"this is no protobuf at all",
}
BROKEN_JSON = {
    "nothing": b"",
    "cut": b'{"NAME": [',
    "rest": b"{}{}",
    "list": b"[]",
    "number": b"1",
    "text": b"hello",
    "binary": gzip.compress(bytes(range(256))),
    "wrong-type": b'{"NAME": 1}',
}


def wrong(client, signal, form):
    return BROKEN_JSON[form].replace(b"NAME", telemetry.PLACE[signal][0].encode()) if client.is_json else BROKEN[form]


@rule(
    "bad-protobuf", Level.MUST, "For data that cannot be decoded the server MUST answer HTTP 400.", BAD, transports=(PROTOBUF,)
)
@pytest.mark.parametrize("form", BROKEN)
def test_bytes_that_are_no_protobuf_are_400(client, signal, form):
    judge.bad_data(client.send(signal, BROKEN[form]))


@rule("bad-json", Level.MUST, "For data that cannot be decoded the server MUST answer HTTP 400.", BAD, transports=(JSON,))
@pytest.mark.parametrize("form", BROKEN_JSON)
def test_bytes_that_are_no_json_request_are_400(client, signal, form):
    judge.bad_data(client.send(signal, wrong(client, signal, form)))


@rule(
    "bad-grpc",
    Level.RECOMMENDED,
    "For not-retryable errors the server is recommended to use code InvalidArgument.",
    "OTLP: OTLP/gRPC Response, Failures",
    transports=(GRPC,),
)
@pytest.mark.parametrize("form", BROKEN)
def test_bytes_that_are_no_protobuf_are_invalid_argument(client, signal, form):
    judge.bad_data(client.send(signal, BROKEN[form]))


@rule(
    "bad-not-ours",
    Level.STRICT,
    "Bad input is never called UNKNOWN, INTERNAL or 5xx, and never retryable.",
    "OTLP: Failures",
)
def test_bad_input_is_never_called_a_fault_of_the_server(client, signal):
    for form in BROKEN_JSON if client.is_json else BROKEN:
        judge.decided(client.send(signal, wrong(client, signal, form)))


@rule(
    "status-body",
    Level.MUST,
    "The body of all 4xx and 5xx responses MUST be a Status message, with the Content-Type of the request.",
    "OTLP: OTLP/HTTP Response, Failures",
    transports=ONLY_HTTP,
)
@pytest.mark.parametrize("form", ["cut", "text"])
def test_the_body_of_a_refusal_is_a_status(client, signal, form):
    judge.status_body(client.send(signal, wrong(client, signal, form)), client)


@rule("status-message", Level.SHOULD, "Status.message SHOULD contain a developer-facing error message.",
      "OTLP: OTLP/HTTP Response, Failures")  # fmt: skip
def test_the_status_says_what_is_wrong(client, signal):
    answer = client.send(signal, wrong(client, signal, "cut"))
    assert answer.status is not None, f"{answer}"
    assert len(answer.status.message) > 5, f"{answer}: message is {answer.status.message!r}"


@rule("status-details", Level.SHOULD, "Status.details SHOULD contain a BadRequest that describes the bad data.", BAD,
      transports=ONLY_HTTP)  # fmt: skip
def test_the_status_of_bad_data_has_a_bad_request(client, signal):
    answer = client.send(signal, wrong(client, signal, "cut"))
    judge.bad_data(answer)
    judge.bad_request_details(answer)


@rule("status-agrees", Level.STRICT, "Where a gRPC refusal carries details, their code and message are those of the call.",
      "gRPC: richer error model", transports=(GRPC,))  # fmt: skip
def test_the_details_of_a_grpc_refusal_agree_with_it(client, signal):
    answer = client.send(signal, BROKEN["cut"])
    assert answer.status is not None, f"{answer}"
    assert answer.status.code == answer.code, f"{answer}: details say {answer.status.code}"
    assert answer.status.message.encode() == answer.body, f"{answer}: {answer.status.message!r}"


@rule("no-hint", Level.STRICT, "A refusal for good carries neither RetryInfo nor Retry-After.", "OTLP: Failures")
def test_a_refusal_for_good_has_no_hint_to_retry(client, signal):
    answer = client.send(signal, wrong(client, signal, "cut"))
    judge.refused(answer)
    assert answer.retry_s is None, f"{answer}: RetryInfo of {answer.retry_s} s"
    assert "retry-after" not in answer.headers, f"{answer}: Retry-After"


@rule("no-leak", Level.STRICT, "No refusal shows stack traces, source lines, paths or addresses of the server's inside.",
      "OWASP: Improper Error Handling")  # fmt: skip
def test_refusals_show_nothing_of_the_inside(client, signal):
    for form in BROKEN_JSON if client.is_json else BROKEN:
        judge.discreet(client.send(signal, wrong(client, signal, form)))
    for depth in (100, 2000):
        judge.discreet(client.send(signal, telemetry.nested_request(client, signal, depth)))


@rule("bad-gzip", Level.MUST, "A body that cannot be inflated cannot be decoded: the server MUST answer 400.", BAD,
      transports=ONLY_HTTP)  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "plain", "checksum", "empty"])
def test_damaged_gzip_is_400(client, signal, damage):
    whole = gzip.compress(client.encode(telemetry.good(signal, 20)))
    body = {"cut": whole[:-12], "plain": b"plain", "checksum": whole[:-8] + b"\0" * 8, "empty": b""}[damage]
    judge.bad_data(client.post(signal, body, [("content-encoding", "gzip")]))


@rule("ids-of-wrong-length", Level.STRICT, "An id of a length other than 16 or 8 bytes is invalid.",
      "trace.proto, logs.proto", signals=("traces",))  # fmt: skip
@pytest.mark.parametrize("field", ["trace_id", "span_id"])
@pytest.mark.parametrize("length", [0, 1, 4, 15, 17, 32])
def test_ids_of_a_wrong_length_are_not_taken(client, signal, field, length):
    request = telemetry.good(signal)
    setattr(telemetry.items(signal, request)[0], field, b"\x01" * length)
    judge.bad_or_rejected(client.export(signal, request))


@rule("ids-of-zeros", Level.STRICT, "An id of zeros is invalid.", "trace.proto", signals=("traces",))
@pytest.mark.parametrize(("field", "length"), [("trace_id", 16), ("span_id", 8)])
def test_ids_of_zeros_are_not_taken(client, signal, field, length):
    request = telemetry.good(signal)
    setattr(telemetry.items(signal, request)[0], field, bytes(length))
    judge.bad_or_rejected(client.export(signal, request))


PARTIAL = "OTLP: Partial Success"


def spoilt(client, signal, number=10):
    request = telemetry.good(signal, number)
    telemetry.spoil(signal, request, number // 2)
    return client.export(signal, request)


@rule(
    "neighbours",
    Level.STRICT,
    "One invalid item does not cost its neighbours: partial success, or the server takes it too.",
    PARTIAL,
)
def test_one_bad_item_does_not_cost_its_neighbours(client, signal):
    answer = spoilt(client, signal)
    assert answer.ok, f"{answer}: {answer.message[:100]}"
    assert answer.rejected <= 1, f"{answer}"


@rule("partial-count", Level.MUST, "The server MUST set rejected_… to the number of items that it rejected.", PARTIAL)
def test_rejected_items_are_counted(client, signal):
    request = telemetry.good(signal, 10)
    for index in (2, 5, 7):
        telemetry.spoil(signal, request, index)
    answer = client.export(signal, request)
    if not answer.ok or not answer.rejected:
        pytest.skip(f"nothing was rejected by partial success: {answer}")
    assert answer.rejected == 3, f"{answer}"


@rule("partial-message", Level.SHOULD, "The server SHOULD say in English why it rejected parts of the data.", PARTIAL)
def test_a_rejection_is_explained(client, signal):
    answer = spoilt(client, signal)
    if not answer.ok or not answer.rejected or answer.response is None:
        pytest.skip(f"nothing was rejected by partial success: {answer}")
    message = answer.response.partial_success.error_message
    assert len(message) > 5, f"{answer}: {message!r}"
    assert judge.LEAKS.search(message) is None, f"{answer}: {message!r}"


@rule(
    "response-size",
    Level.MUST,
    "The server MUST limit the size of the response; 4 MiB is RECOMMENDED.",
    "OTLP: OTLP/HTTP Response",
)
def test_a_response_about_many_bad_items_is_small(client, signal):
    request = telemetry.good(signal, 3000)
    for index in range(3000):
        telemetry.spoil(signal, request, index)
    answer = client.export(signal, request)
    assert not answer.silent, f"{answer}"
    assert len(answer.body) <= 4 << 20, f"{len(answer.body)} bytes"


ODD = {
    "nul": b"pro\x00e",
    "invalid-utf-8": b"pr\xff\xfee",
    "overlong-utf-8": b"p\xc0\x80be",
    "utf-8-surrogate": b"p\xed\xa0\x80e",
    "cut-utf-8": b"prob\xe2",
}


@rule("text-nul", Level.STRICT, "U+0000 is valid text.", "protobuf: Language Guide (proto3), Scalar Value Types")
def test_a_nul_in_text_is_taken(client, signal):
    body = client.encode(telemetry.good(signal)).replace(b"probe", b"pro\\u0000e" if client.is_json else ODD["nul"])
    judge.accepted(client.send(signal, body))


@rule("text-invalid", Level.STRICT, "Text that is no UTF-8 is refused or repaired, never an internal error.",
      "protobuf: Language Guide (proto3), Scalar Value Types")  # fmt: skip
@pytest.mark.parametrize("form", [form for form in ODD if form != "nul"])
def test_text_that_is_no_utf_8_is_decided_on(client, signal, form):
    judge.decided(client.send(signal, client.encode(telemetry.good(signal)).replace(b"probe", ODD[form])))
    judge.alive(client, signal)


@rule("text-neighbours", Level.STRICT, "One broken string does not cost the neighbours of its item.", PARTIAL)
def test_one_broken_string_does_not_cost_the_others(client, signal):
    request = telemetry.good(signal, 10)
    telemetry.attributes(signal, request, 4)[0].value.string_value = "PROBE"
    answer = client.send(signal, client.encode(request).replace(b"PROBE", ODD["invalid-utf-8"]))
    assert answer.ok, f"{answer}: {answer.message[:100]}"
    assert answer.rejected <= 1, f"{answer}"


@rule(
    "times",
    Level.STRICT,
    "Times of zero, of the far future and ends before starts are taken or rejected item by item.",
    PARTIAL,
)
@pytest.mark.parametrize("time_ns", [0, 1, 2**63 - 1, 2**64 - 1], ids=["zero", "first", "largest-int64", "largest"])
def test_odd_times_are_decided_on(client, signal, time_ns):
    request = telemetry.good(signal, 3)
    item = telemetry.items(signal, request)[1]
    if signal == "traces":
        item.start_time_unix_nano = time_ns
    elif signal == "logs":
        item.time_unix_nano = time_ns
    else:
        item.gauge.data_points[0].time_unix_nano = time_ns
    answer = client.export(signal, request)
    assert answer.ok, f"{answer}: {answer.message[:100]}"
    assert answer.rejected <= 1, f"{answer}"


@rule("keys", Level.STRICT, "Attribute keys that come twice or are empty break nothing.", "common.proto: KeyValue")
def test_odd_attribute_keys_are_decided_on(client, signal):
    request = telemetry.good(signal)
    telemetry.attributes(signal, request).extend([telemetry.text("step", "again"), telemetry.text("", "empty")])
    judge.decided(client.export(signal, request))
    judge.alive(client, signal)


@rule("depth-usual", Level.STRICT, "Values that are 16 deep are taken.", "common.proto: AnyValue")
def test_values_of_a_usual_depth_are_taken(client, signal):
    judge.accepted(client.send(signal, telemetry.nested_request(client, signal, 16)))


@rule("depth-hostile", Level.STRICT, "Values nested without end are refused or rejected, and nothing else suffers.",
      "protobuf: recursion limits")  # fmt: skip
@pytest.mark.parametrize("depth", [200, 5000])
def test_hostile_depth_is_bounded(client, signal, depth):
    answer = client.send(signal, telemetry.nested_request(client, signal, depth, 3))
    judge.decided(answer)
    assert answer.rejected <= 1, f"{answer}"
    judge.alive(client, signal)


@rule("depth-json", Level.STRICT, "100,000 open brackets are no request, and no crash.", "RFC 8259 §9", transports=(JSON,))
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'], ids=["lists", "objects"])
def test_brackets_without_end_are_400(client, signal, bracket):
    judge.bad_data(client.send(signal, json.dumps(telemetry.PLACE[signal][0]).encode().join([b"{", b":"]) + bracket * 100_000))
    judge.alive(client, signal)
