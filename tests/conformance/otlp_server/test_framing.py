"""Where one HTTP/1.1 message ends and the next begins: two readers that disagree are a door for smuggled requests."""

from __future__ import annotations

import pytest

from . import judge, telemetry
from .rules import HTTP, Level, rule
from .wire import http_status, path

ONE = {"transports": (HTTP,), "signals": ("traces",)}


def post(client, *lines, body=b"", version="HTTP/1.1", host=True, target=None):
    """A POST of good telemetry as bytes, with these header lines; what was answered."""
    head = client.head("traces", f"Content-Type: {client.media}", *lines)
    if not host:
        first, _, rest = head.partition(b"\r\n")
        head = first + b"\r\n" + rest.partition(b"\r\n")[2]
    if target is not None:
        head = head.replace(path("traces").encode(), target.encode(), 1)
    head = head.replace(b"HTTP/1.1", version.encode(), 1)
    return client.raw(head + body, timeout_s=3.0)


def good(client):
    return client.encode(telemetry.good("traces"))


def chunked(body, extension=b"", trailer=b""):
    return b"%x%s\r\n%s\r\n0\r\n%s\r\n" % (len(body), extension, body, trailer)


LENGTHS = ["-1", "+5", "0x5", "5,6", "5 5", "five", "", "99999999999999999999999"]


@rule("length-invalid", Level.MUST, "An invalid Content-Length is an unrecoverable error: 400 (or 413), then close.",
      "RFC 9112 §6.3", **ONE)  # fmt: skip
@pytest.mark.parametrize("length", LENGTHS)
def test_an_invalid_length_is_400(client, signal, length):
    told = post(client, f"Content-Length: {length}", body=b"12345")
    assert http_status(told) in (400, 413), f"HTTP {http_status(told)}"
    judge.alive(client)


CODINGS = ["xchunked", "chunked, identity", "chunked, chunked", "gzip"]


@rule("coding-invalid", Level.MUST, "A Transfer-Encoding that does not end in one `chunked` is 400 (or 501), then close.",
      "RFC 9112 §6.1, §6.3", **ONE)  # fmt: skip
@pytest.mark.parametrize("coding", CODINGS)
def test_an_invalid_transfer_coding_is_refused(client, signal, coding):
    told = post(client, f"Transfer-Encoding: {coding}", body=chunked(good(client)))
    assert http_status(told) in (400, 501), f"HTTP {http_status(told)}"


CHUNKS = {
    "size": b"zz\r\n12345\r\n0\r\n\r\n",
    "negative": b"-5\r\n12345\r\n0\r\n\r\n",
    "signed": b"+5\r\n12345\r\n0\r\n\r\n",
    "prefix": b"0x5\r\n12345\r\n0\r\n\r\n",
    "overlong": b"5\r\n1234567890\r\n0\r\n\r\n",
    "huge": b"fffffffffffffffff\r\n12345\r\n0\r\n\r\n",
    "endless-size": b"0" * 100_000,
    "endless-extension": b"5;" + b"x" * 200_000,
}


@rule(
    "chunks-invalid", Level.STRICT, "Chunks that are not well-formed are 400 (or 413), never a request.", "RFC 9112 §7.1", **ONE
)
@pytest.mark.parametrize("form", CHUNKS)
def test_chunks_that_are_not_well_formed_are_refused(client, signal, form):
    told = post(client, "Transfer-Encoding: chunked", body=CHUNKS[form])
    assert http_status(told) in (400, 413, None), f"HTTP {http_status(told)}"
    judge.alive(client)


@rule("chunks-extended", Level.MUST, "A recipient MUST ignore chunk extensions it does not know; trailers may follow.",
      "RFC 9112 §7.1.1", **ONE)  # fmt: skip
@pytest.mark.parametrize(("extension", "trailer"), [(b";a=b", b""), (b';quoted="x;y"', b""), (b"", b"X-Sum: 1\r\n")],
                         ids=["extension", "quoted", "trailer"])  # fmt: skip
def test_chunk_extensions_and_trailers_are_read_over(client, signal, extension, trailer):
    told = post(client, "Transfer-Encoding: chunked", body=chunked(good(client), extension, trailer))
    assert http_status(told) == 200, f"HTTP {http_status(told)}"


@rule("coding-name", Level.MUST, "Names of transfer codings are case-insensitive.", "RFC 9112 §7", **ONE)
def test_the_name_of_a_transfer_coding_is_case_insensitive(client, signal):
    assert http_status(told := post(client, "Transfer-Encoding: CHUNKED", body=chunked(good(client)))) == 200, (
        f"HTTP {http_status(told)}"
    )


@rule("space-before-colon", Level.MUST, "A server MUST reject with 400 a field name with white space before its colon.",
      "RFC 9112 §5.1", **ONE)  # fmt: skip
@pytest.mark.parametrize("line", ["X-A : b", "Transfer-Encoding : chunked", "X-A\t: b"])
def test_space_before_a_colon_is_400(client, signal, line):
    told = post(client, "Content-Length: 0", line)
    assert http_status(told) == 400, f"HTTP {http_status(told)}"


@rule("field-invalid", Level.STRICT, "Header lines that are none are 400.", "RFC 9110 §5.1, §5.5", **ONE)
@pytest.mark.parametrize("line", ["no colon", ": no name", "X-(A): b", "X-A: b\x00c"], ids=["colon", "name", "token", "nul"])
def test_lines_that_are_no_header_are_400(client, signal, line):
    told = post(client, "Content-Length: 0", line)
    assert http_status(told) == 400, f"HTTP {http_status(told)}"


@rule(
    "host", Level.MUST, "A server MUST answer 400 to an HTTP/1.1 request without Host or with several.", "RFC 9112 §3.2", **ONE
)
@pytest.mark.parametrize("hosts", [0, 2])
def test_host_must_come_once(client, signal, hosts):
    told = post(client, "Content-Length: 0", *(["Host: other"] if hosts else []), host=bool(hosts))
    assert http_status(told) == 400, f"HTTP {http_status(told)}"


@rule("absolute-form", Level.MUST, "A server MUST accept the absolute form of a request's target.", "RFC 9112 §3.2.2", **ONE)
def test_the_absolute_form_is_accepted(client, signal):
    body = good(client)
    told = post(client, f"Content-Length: {len(body)}", body=body, target=f"{client.endpoint.http.rstrip('/')}{path(signal)}")
    assert http_status(told) == 200, f"HTTP {http_status(told)}"


@rule("http-1.0", Level.STRICT, "HTTP/1.0 is answered, and its connection closed.", "RFC 9112 §9.3", **ONE)
def test_http_1_0_is_answered_and_closed(client, signal):
    body = good(client)
    with client.dial(5.0) as line:
        head = client.head(signal, f"Content-Type: {client.media}", f"Content-Length: {len(body)}")
        line.sendall(head.replace(b"HTTP/1.1", b"HTTP/1.0", 1) + body)
        told = b""
        try:
            while piece := line.recv(4096):
                told += piece
        except TimeoutError:
            pytest.fail("still open after its answer")
    assert http_status(told) == 200, f"HTTP {http_status(told)}"


@rule("version", Level.STRICT, "Another major version is 505 or 400.", "RFC 9110 §15.6.6", **ONE)
@pytest.mark.parametrize("version", ["HTTP/3.7", "HTTP/9", "HTTQ/1.1"])
def test_another_version_is_refused(client, signal, version):
    told = post(client, "Content-Length: 0", version=version)
    assert http_status(told) in (400, 505, None), f"HTTP {http_status(told)}"


@rule("empty-lines", Level.SHOULD, "A server SHOULD ignore an empty line before a request.", "RFC 9112 §2.2", **ONE)
def test_an_empty_line_before_a_request_is_ignored(client, signal):
    body = good(client)
    head = client.head(signal, f"Content-Type: {client.media}", f"Content-Length: {len(body)}")
    told = client.raw(b"\r\n" + head + body, timeout_s=3.0)
    assert http_status(told) == 200, f"HTTP {http_status(told)}"


@rule("slow-pieces", Level.MUST, "Bytes may arrive in any pieces.", "RFC 9112 §2", **ONE)
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_request_may_arrive_byte_by_byte(client, signal, coding):
    body = good(client)
    line = f"Content-Length: {len(body)}" if coding == "length" else "Transfer-Encoding: chunked"
    data = client.head(signal, f"Content-Type: {client.media}", line) + (body if coding == "length" else chunked(body))
    told = b""
    with client.dial(10.0) as connection:
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
        told = connection.recv(4096)
    assert http_status(told) == 200, f"HTTP {http_status(told)}"
