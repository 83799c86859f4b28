"""What a server must take: every signal, every kind of value, what newer senders add, and nothing at all."""

from __future__ import annotations

import pytest
from opentelemetry.proto.common.v1 import common_pb2

from . import judge, telemetry
from .rules import GRPC, PROTOBUF, Level, rule
from .wire import MEDIA, Http

BINARY = (GRPC, PROTOBUF)
ONLY_HTTP = (PROTOBUF, "http/json")
FULL = "OTLP: Full Success"


@rule("success", Level.MUST, "On success the server MUST answer OK / HTTP 200 with an Export…ServiceResponse.", FULL)
def test_success(client, signal):
    answer = client.export(signal, telemetry.good(signal, 3))
    judge.accepted(answer)
    assert answer.response is not None


@rule(
    "success-unset", Level.MUST, "The server MUST leave partial_success unset (or empty, which is equivalent) on success.", FULL
)
def test_success_leaves_partial_success_unset(client, signal):
    answer = client.export(signal, telemetry.good(signal, 3))
    judge.accepted(answer)
    assert answer.response is not None
    assert answer.response.partial_success.ByteSize() == 0, f"partial_success is set: {answer.body!r}"


@rule(
    "success-media",
    Level.MUST,
    'The server MUST use the same "Content-Type" in the response as it received in the request.',
    "OTLP: OTLP/HTTP Response",
    transports=ONLY_HTTP,
)
def test_the_response_has_the_content_type_of_the_request(client, signal):
    answer = client.export(signal, telemetry.good(signal))
    assert answer.media == MEDIA[client.transport], f"{answer}: {answer.media or 'no content type'}"


@rule("empty-request", Level.SHOULD, "A request that carries no telemetry SHOULD be answered with success.", FULL)
def test_an_empty_request_succeeds(client, signal):
    judge.accepted(client.send(signal, b"{}" if client.is_json else b""))


@rule("empty-envelopes", Level.SHOULD, "So should one whose resources and scopes hold no items.", FULL)
@pytest.mark.parametrize("form", [0, 1, 2], ids=["resource", "scope", "schema"])
def test_envelopes_without_items_succeed(client, signal, form):
    judge.accepted(client.export(signal, list(telemetry.envelopes(signal))[form]))


@rule("gzip", Level.MUST, "All server components MUST support gzip and no compression.", "OTLP: Protocol Details")
def test_gzip_is_read(client, signal):
    judge.accepted(client.send(signal, client.encode(telemetry.good(signal, 50)), compressed=True))


@rule("every-field", Level.MUST, "Every field and every kind of value of the schema is taken.", "OTLP: Protobuf definitions")
def test_a_request_that_uses_everything_is_taken(client, signal):
    judge.accepted(client.export(signal, telemetry.rich(signal)))


@rule(
    "unknown-fields",
    Level.MUST,
    "Newer versions may add fields, which will be ignored by servers that do not understand them.",
    "OTLP: Future Versions and Interoperability",
    transports=BINARY,
)
@pytest.mark.parametrize("place", ["request", "resource", "scope", "item", "value"])
def test_unknown_protobuf_fields_are_ignored(client, signal, place):
    request = telemetry.good(signal)
    outer = request.ListFields()[0][1][0]
    inner = outer.ListFields()[-1][1][0]
    target = {
        "request": request,
        "resource": outer.resource,
        "scope": inner.scope,
        "item": telemetry.items(signal, request)[0],
        "value": telemetry.attributes(signal, request)[0].value,
    }[place]
    target.MergeFromString(telemetry.UNKNOWN)
    judge.accepted(client.export(signal, request))


@rule(
    "unknown-enums",
    Level.STRICT,
    "Enums of proto3 are open: a number that a newer version adds does not make a request invalid.",
    "protobuf: Language Guide (proto3), Enumerations",
    signals=("traces", "logs"),
)
def test_unknown_enum_numbers_are_no_error(client, signal):
    request = telemetry.good(signal)
    item = telemetry.items(signal, request)[0]
    if signal == "traces":
        item.kind, item.status.code = 77, 9
    else:
        item.severity_number = 99
    judge.accepted(client.export(signal, request))


@rule(
    "unpacked-numbers",
    Level.MUST,
    "Parsers accept repeated numbers packed and unpacked.",
    "protobuf: Encoding, Packed Repeated Fields",
    transports=BINARY,
    signals=("metrics",),
)
def test_unpacked_bucket_counts_are_read(client, signal):
    request = telemetry.good(signal)
    point = b"\x19" + telemetry.START_NS.to_bytes(8, "little")
    point += b"\x21" + (2).to_bytes(8, "little")
    point += b"".join(b"\x31" + (1).to_bytes(8, "little") for _ in range(2)) + b"\x39" + b"\x00" * 6 + b"\xf0\x3f"
    histogram = telemetry.field(9, telemetry.field(1, point) + b"\x10\x02")
    judge.accepted(client.send(signal, telemetry.wrap(signal, request, telemetry.field(1, b"unpacked") + histogram)))


@rule(
    "split-message",
    Level.MUST,
    "Of a message field that comes twice the parts are merged; fields may come in any order.",
    "protobuf: Encoding, Last One Wins",
    transports=BINARY,
)
def test_a_resource_in_two_parts_after_its_scopes_is_read(client, signal):
    group = telemetry.good(signal).ListFields()[0][1][0]
    parts = [common_pb2.KeyValue(key=key, value=common_pb2.AnyValue(string_value="x")) for key in ("a", "b")]
    body = telemetry.field(2, group.ListFields()[-1][1][0].SerializeToString())
    for part in parts:
        body += telemetry.field(1, telemetry.field(1, part.SerializeToString()))
    judge.accepted(client.send(signal, telemetry.field(1, body)))


@rule("twice", Level.MUST, "After a reconnect a sender sends again what may have arrived: no error.", "OTLP: Duplicate Data")
def test_the_same_request_twice_is_no_error(client, signal):
    request = telemetry.good(signal, 5)
    judge.accepted(client.export(signal, request))
    judge.accepted(client.export(signal, request))


@rule("twice-inside", Level.STRICT, "The same item twice in one request is no error either.", "OTLP: Duplicate Data")
def test_the_same_item_twice_in_one_request_is_no_error(client, signal):
    request = telemetry.good(signal)
    telemetry.items(signal, request).add().CopyFrom(telemetry.items(signal, request)[0])
    judge.accepted(client.export(signal, request))


@rule("many", Level.STRICT, "2,000 items in one request are nothing unusual.", "OTLP: OTLP/gRPC Concurrent Requests")
def test_many_items_in_one_request_are_taken(client, signal):
    judge.accepted(client.export(signal, telemetry.good(signal, 2000)))


@rule(
    "both-encodings",
    Level.SHOULD,
    "Server implementations SHOULD accept protobuf and JSON on the same port, told apart by Content-Type.",
    "OTLP: OTLP/HTTP Connection",
    transports=("http",),
)
def test_both_encodings_on_one_connection(client, signal):
    line = client.connect()
    for transport in (*ONLY_HTTP, *ONLY_HTTP):
        other = Http(transport, client.endpoint)
        judge.accepted(other.post(signal, other.encode(telemetry.good(signal)), connection=line))
    line.close()
