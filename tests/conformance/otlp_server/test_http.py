"""What HTTP itself asks of a server, where OTLP says "treated according to HTTP specifications"."""

from __future__ import annotations

import gzip
import re

import pytest

from . import judge, telemetry
from .rules import HTTP, JSON, PROTOBUF, Level, rule
from .wire import MEDIA, Http, complete, http_status, path

ONLY_HTTP = {"transports": (PROTOBUF, JSON)}
ONE = {"transports": (HTTP,), "signals": ("traces",)}
BODY_RULE = "OTLP: OTLP/HTTP Response, Failures"


@rule("method", Level.STRICT, "The paths take POST; another method is 405.", "RFC 9110 §15.5.6", **ONLY_HTTP)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(client, signal, method):
    answer = client.exchange(method, path(signal), b"", [("content-type", client.media)])
    assert answer.http == 405, f"{answer}"


@rule(
    "method-allow", Level.MUST, "The server MUST generate an Allow header in a 405 response.", "RFC 9110 §15.5.6", **ONLY_HTTP
)
def test_a_405_says_what_is_allowed(client, signal):
    answer = client.exchange("GET", path(signal), b"", [("content-type", client.media)])
    if answer.http != 405:
        pytest.skip(f"no 405: {answer}")
    assert "POST" in answer.headers.get("allow", ""), f"{answer}: Allow: {answer.headers.get('allow')}"


@rule(
    "method-body",
    Level.MUST,
    "The body of all 4xx responses MUST be a Status message: also to a wrong method.",
    BODY_RULE,
    **ONLY_HTTP,
)
def test_the_body_of_a_405_is_a_status(client, signal):
    judge.status_body(client.exchange("GET", path(signal), b"", [("content-type", client.media)]), client)


@rule("head", Level.MUST, "The server MUST NOT send content in the response to HEAD.", "RFC 9110 §9.3.2", **ONE)
def test_head_has_no_body(client, signal):
    target = Http(HTTP, client.endpoint)
    told = target.raw(target.head(signal, "Content-Length: 0").replace(b"POST", b"HEAD", 1), timeout_s=2.0)
    assert http_status(told) is not None, "no answer to HEAD"
    assert told.partition(b"\r\n\r\n")[2] == b"", f"{told[-200:]!r}"


@rule("options", Level.STRICT, "OPTIONS is answered, and not with 5xx.", "RFC 9110 §9.3.7", **ONE)
def test_options_is_no_fault(client, signal):
    answer = client.exchange(
        "OPTIONS", path(signal), b"", [("origin", "http://localhost"), ("access-control-request-method", "POST")]
    )
    assert not answer.silent, f"{answer}"
    assert answer.http is not None
    assert answer.http < 500, f"{answer}"


@rule("path", Level.STRICT, "Another path is 404.", "RFC 9110 §15.5.5", transports=(PROTOBUF, JSON), signals=("traces",))
@pytest.mark.parametrize("target", ["/v1/nothing", "/v2/traces", "/v1/traces/more", "/v1", "/v1/%00"])
def test_other_paths_are_404(client, signal, target):
    answer = client.exchange("POST", target, client.encode(telemetry.good(signal)), [("content-type", client.media)])
    assert answer.http == 404, f"{answer}"
    judge.discreet(answer)


@rule("path-body", Level.STRICT, "The body of a 404 is a Status message too.", BODY_RULE, signals=("traces",), **ONLY_HTTP)
def test_the_body_of_a_404_is_a_status(client, signal):
    judge.status_body(client.exchange("POST", "/v1/nothing", b"{}", [("content-type", client.media)]), client)


@rule("query", Level.STRICT, "A query in the URL changes nothing.", "RFC 9110 §4.2.2", signals=("traces",), **ONLY_HTTP)
def test_a_query_changes_nothing(client, signal):
    body = client.encode(telemetry.good(signal))
    judge.accepted(client.exchange("POST", path(signal) + "?a=1", body, [("content-type", client.media)]))


@rule(
    "media-other", Level.STRICT, "A content type that the server does not read is 415.", "RFC 9110 §15.5.16", transports=(HTTP,)
)
@pytest.mark.parametrize(
    "media",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/xml", "json", "application/json-seq", "*/*"],
    ids=str,
)
def test_other_content_types_are_415(client, signal, media):
    headers = [] if media is None else [("content-type", media)]
    answer = client.exchange("POST", path(signal), client.encode(telemetry.good(signal)), headers)
    assert answer.http == 415, f"{answer}"


@rule(
    "media-other-body",
    Level.STRICT,
    "The body of a 415 is a Status message, in protobuf or JSON.",
    BODY_RULE,
    transports=(HTTP,),
)
def test_the_body_of_a_415_is_a_status(client, signal):
    answer = client.exchange("POST", path(signal), b"x", [("content-type", "text/plain")])
    assert answer.status is not None, f"{answer}"


@rule("media-form", Level.MUST, "Media types are case-insensitive and may have parameters.", "RFC 9110 §8.3.1", **ONLY_HTTP)
@pytest.mark.parametrize("form", ["{}; charset=utf-8", "{};charset=UTF-8", "TITLE"])
def test_a_content_type_may_have_parameters_and_capitals(client, signal, form):
    media = client.media.title() if form == "TITLE" else form.format(client.media)
    answer = client.exchange("POST", path(signal), client.encode(telemetry.good(signal)), [("content-type", media)])
    judge.accepted(answer)
    assert answer.media == client.media, f"{answer}: {answer.media}"


@rule("coding-identity", Level.STRICT, "`Content-Encoding: identity` is no encoding.", "RFC 9110 §12.5.3", **ONLY_HTTP)
def test_identity_is_no_encoding(client, signal):
    judge.accepted(client.post(signal, client.encode(telemetry.good(signal)), [("content-encoding", "identity")]))


@rule("coding-case", Level.MUST, "All content codings are case-insensitive.", "RFC 9110 §8.4.1", **ONLY_HTTP)
@pytest.mark.parametrize("name", ["GZIP", "Gzip"])
def test_the_name_of_a_coding_is_case_insensitive(client, signal, name):
    body = gzip.compress(client.encode(telemetry.good(signal)))
    judge.accepted(client.post(signal, body, [("content-encoding", name)]))


@rule("coding-members", Level.STRICT, "A gzip body may have several members.", "RFC 1952 §2.2", **ONLY_HTTP)
def test_gzip_may_have_several_members(client, signal):
    body = client.encode(telemetry.good(signal, 20))
    judge.accepted(client.post(signal, gzip.compress(body[:100]) + gzip.compress(body[100:]), [("content-encoding", "gzip")]))


@rule("coding-unknown", Level.STRICT, "An encoding that the server does not know is 415 (or 400): it is not read as it is.",
      "RFC 9110 §8.4", **ONLY_HTTP)  # fmt: skip
@pytest.mark.parametrize("name", ["x-unknown", "gzip, x-unknown"])
def test_unknown_encodings_are_refused(client, signal, name):
    answer = client.post(signal, client.encode(telemetry.good(signal)), [("content-encoding", name)])
    assert answer.http in (400, 415), f"{answer}"


@rule(
    "coding-unknown-body",
    Level.MUST,
    "The body of all 4xx responses MUST be a Status message: also of this one.",
    BODY_RULE,
    **ONLY_HTTP,
)
def test_the_body_of_an_unknown_encoding_is_a_status(client, signal):
    judge.status_body(client.post(signal, b"x", [("content-encoding", "x-unknown")]), client)


ZSTD = bytes.fromhex("28b52ffd2000010000")
"""An empty Zstandard frame."""


@rule(
    "coding-zstd",
    Level.STRICT,
    "Zstandard is read, or refused with 415 or 400: an option, not a surprise.",
    "RFC 8878",
    **ONLY_HTTP,
)
def test_zstd_is_read_or_refused(client, signal):
    answer = client.post(signal, ZSTD, [("content-encoding", "zstd")])
    assert not answer.silent, f"{answer}"
    assert answer.ok or answer.http in (400, 415), f"{answer}"


@rule("chunked", Level.MUST, "A recipient MUST be able to parse the chunked transfer coding.", "RFC 9112 §7.1", **ONLY_HTTP)
def test_chunked_bodies_are_read(client, signal):
    body = client.encode(telemetry.good(signal, 20))
    judge.accepted(client.post(signal, (body[index : index + 37] for index in range(0, len(body), 37))))


@rule(
    "expect",
    Level.MUST,
    "Expect: 100-continue gets 100 or a final status before the body.",
    "RFC 9110 §10.1.1",
    **ONE,
)
def test_expect_continue_is_answered_before_the_body(client, signal):
    body = client.encode(telemetry.good(signal))
    head = client.head(signal, f"Content-Type: {client.media}", f"Content-Length: {len(body)}", "Expect: 100-continue")
    with client.dial(5.0) as line:
        line.sendall(head)
        told = line.recv(4096)
        assert http_status(told) in (100, 200, *range(400, 418)), f"HTTP {http_status(told)}"
        if http_status(told) == 100:
            line.sendall(body)
            told = told.partition(b"\r\n\r\n")[2] or line.recv(4096)
            assert http_status(told) == 200, f"HTTP {http_status(told)}"


@rule("accept-gzip", Level.STRICT, "The response is gzip-encoded only when the request has Accept-Encoding: gzip.",
      "OTLP: OTLP/HTTP Response", **ONLY_HTTP)  # fmt: skip
@pytest.mark.parametrize("asked", ["gzip", None])
def test_the_response_is_readable(client, signal, asked):
    answer = client.post(signal, client.encode(telemetry.good(signal)), [("accept-encoding", asked)] if asked else [])
    judge.accepted(answer)
    assert asked or "content-encoding" not in answer.headers, f"{answer}: {answer.headers}"


@rule("keep-alive", Level.STRICT, "After a refusal the connection serves the next request, or it was closed and said so.",
      "OTLP: OTLP/HTTP Connection", **ONLY_HTTP)  # fmt: skip
@pytest.mark.parametrize("kind", ["400", "404", "405", "415", "gzip"])
def test_the_connection_survives_a_refusal(client, signal, kind):
    line = client.connect()
    media = ("content-type", client.media)
    method, target, headers = {
        "400": ("POST", path(signal), [media]),
        "404": ("POST", "/v1/nothing", [media]),
        "405": ("PUT", path(signal), [media]),
        "415": ("POST", path(signal), [("content-type", "text/plain")]),
        "gzip": ("POST", path(signal), [media, ("content-encoding", "gzip")]),
    }[kind]
    first = client.exchange(method, target, b"\x0a\xff\xff" * 100, headers, connection=line)
    assert not first.silent, f"{first}"
    assert not first.ok, f"accepted: {first}"
    if first.headers.get("connection", "").lower() == "close":
        line.close()
    judge.accepted(client.post(signal, client.encode(telemetry.good(signal)), connection=line))
    line.close()


@rule(
    "two-lengths",
    Level.MUST,
    "Differing Content-Length fields are an unrecoverable error: 400, then close.",
    "RFC 9112 §6.3",
    **ONE,
)
def test_two_lengths_are_400(client, signal):
    told = client.raw(client.head(signal, f"Content-Type: {client.media}", "Content-Length: 0", "Content-Length: 5") + b"12345")
    assert http_status(told) in (400, None), f"HTTP {http_status(told)}"


@rule("length-and-chunks", Level.MUST, "After a request with Content-Length beside chunks the server MUST close.",
      "RFC 9112 §6.1", **ONE)  # fmt: skip
def test_the_connection_ends_after_length_beside_chunks(client, signal):
    lines = (f"Content-Type: {client.media}", "Content-Length: 4", "Transfer-Encoding: chunked")
    smuggled = client.head(signal, f"Content-Type: {client.media}", "Content-Length: 0")
    told = client.raw(client.head(signal, *lines) + b"0\r\n\r\n" + smuggled, timeout_s=2.0, one=False)
    answers = re.findall(rb"HTTP/1\.1 \d{3} ", told)
    assert len(answers) == 1, f"answered twice: {answers}"


@rule("two-types", Level.STRICT, "Two Content-Type headers are decided on, not failed at.", "RFC 9110 §5.3", **ONE)
def test_two_content_types_are_no_fault(client, signal):
    other = ("content-type", MEDIA[JSON])
    answer = client.exchange(
        "POST", path(signal), client.encode(telemetry.good(signal)), [("content-type", client.media), other]
    )
    judge.decided(answer)


@rule("large-head", Level.STRICT, "A head of 1 MiB is refused, not stored.", "RFC 6585 §5", **ONE)
@pytest.mark.parametrize("place", ["header", "path"])
def test_a_large_head_is_refused(client, signal, place):
    head = client.head(signal, "Content-Length: 0", *(["X-Filler: " + "x" * (1 << 20)] if place == "header" else []))
    if place == "path":
        head = head.replace(b"/v1/", b"/v1/" + b"x" * (1 << 20), 1)
    status = http_status(client.raw(head))
    assert status is None or 400 <= status < 500, f"HTTP {status}"
    judge.alive(client)


@rule("no-http", Level.STRICT, "Bytes that are no HTTP are 400 or hung up on.", "RFC 9112 §2.2", **ONE)
@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00" + bytes(600), b"\x00" * 1000, b"GET\r\n\r\n", b"\r\n\r\n\r\n\r\nx y z\r\n\r\n"],
    ids=["tls", "zeros", "short", "words"],
)
def test_bytes_that_are_no_http_harm_nobody(client, signal, data):
    status = http_status(client.raw(data, timeout_s=2.0, finish=True))
    assert status is None or 400 <= status < 500, f"HTTP {status}"
    judge.alive(client)


@rule("pipelined", Level.STRICT, "Requests that follow without waiting are answered in order.", "RFC 9112 §9.3.2", **ONE)
def test_pipelined_requests_are_answered_in_order(client, signal):
    body = client.encode(telemetry.good(signal))
    one = client.head(signal, f"Content-Type: {client.media}", f"Content-Length: {len(body)}") + body
    last = client.head(signal, "Content-Type: text/plain", "Content-Length: 0", "Connection: close")
    with client.dial(10.0) as line:
        line.sendall(one * 3 + last)
        told = b""
        while piece := line.recv(65536):
            told += piece
    assert told.count(b"HTTP/1.1 200") == 3, f"HTTP {http_status(told)}"
    assert told.count(b"HTTP/1.1 4") == 1, f"{told[-300:]!r}"
    assert complete(told)
