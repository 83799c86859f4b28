"""Senders that are slow, gone, wrong, or do not speak the protocol at all: nobody else notices."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from . import judge, telemetry
from .rules import GRPC, HTTP, Cost, Level, rule
from .wire import http_status

ONE = {"transports": (HTTP,), "signals": ("traces",)}
IDLE = 100


def grpc_line(client, timeout_s=10.0):
    """A bare connection to the gRPC port."""
    host, _, port = client.endpoint.grpc.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout_s)


def hung_up(line, within_s):
    """Whether the server ends the connection in time. What it says before does not matter."""
    end = time.monotonic() + within_s
    with line, contextlib.suppress(ConnectionResetError):
        while time.monotonic() < end:
            line.settimeout(max(0.05, end - time.monotonic()))
            try:
                if not line.recv(65536):
                    return True
            except TimeoutError:
                return False
        return False
    return True


@rule("unknown-method", Level.MUST, "A service or method that the server does not have is UNIMPLEMENTED.",
      "gRPC: Status codes", transports=(GRPC,), signals=("traces",))  # fmt: skip
@pytest.mark.parametrize(
    "method",
    [
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/opentelemetry.proto.collector.trace.v2.TraceService/Export",
        "/nothing/Export",
    ],
)
def test_an_unknown_method_is_unimplemented(client, signal, method):
    assert (answer := client.call(method, b"")).code == judge.UNIMPLEMENTED, f"{answer}"


@rule(
    "gone-sender",
    Level.STRICT,
    "A sender that goes away in the middle of its body harms nobody.",
    "OTLP: OTLP/HTTP Connection",
    **ONE,
)
@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_sender_that_goes_away_harms_nobody(client, signal, how):
    body = client.encode(telemetry.good(signal, 100))
    for _ in range(20):
        with client.dial() as line:
            line.sendall(
                client.head(signal, f"Content-Type: {client.media}", f"Content-Length: {len(body)}") + body[: len(body) // 2]
            )
            if how == "reset":
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            elif how == "half":
                line.shutdown(socket.SHUT_WR)
    judge.alive(client)


@rule("cut-body", Level.MUST, "A body shorter than its Content-Length is incomplete, not a request.", "RFC 9112 §8", **ONE)
def test_a_body_that_ends_early_is_not_taken(client, signal):
    body = client.encode(telemetry.good(signal, 3))
    head = client.head(signal, f"Content-Type: {client.media}", f"Content-Length: {len(body) + 50}")
    told = client.raw(head + body, timeout_s=2.0, finish=True)
    assert not told.startswith(b"HTTP/1.1 200"), f"HTTP {http_status(told)}"
    judge.alive(client)


@rule("grpc-garbage", Level.STRICT, "Bytes that are no HTTP/2 on the gRPC port harm nobody.", "RFC 9113 §3.4",
      transports=(GRPC,), signals=("traces",))  # fmt: skip
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
    ],
    ids=["http1", "tls", "preface"],
)
def test_bytes_that_are_no_grpc_harm_nobody(client, signal, data):
    for _ in range(5):
        with grpc_line(client) as line:
            line.sendall(data)
            with contextlib.suppress(OSError):
                line.settimeout(0.2)
                line.recv(4096)
    judge.alive(client)


@rule("idle-neighbours", Level.STRICT, "A hundred connections that fall silent inside a request slow nobody.",
      "OTLP: OTLP/HTTP Concurrent Requests", **ONE)  # fmt: skip
def test_silent_connections_do_not_slow_a_healthy_sender(client, signal):
    head = client.head(signal, f"Content-Type: {client.media}", "Content-Length: 1000")
    with contextlib.ExitStack() as open_lines:
        for number in range(IDLE):
            line = open_lines.enter_context(client.dial())
            line.sendall(head if number % 2 else head[:30])
        answers = [client.export(signal, telemetry.good(signal)) for _ in range(10)]
    for answer in answers:
        judge.accepted(answer)
    assert sorted(answer.elapsed_s for answer in answers)[5] < 1, f"{sorted(answer.elapsed_s for answer in answers)[5]:.1f} s"


@rule("half-open", Level.STRICT, "A connection that falls silent inside a request is closed, within 15 s by default.",
      "RFC 9112 §9.5", cost=Cost.SLOW, **ONE)  # fmt: skip
@pytest.mark.parametrize("place", ["head", "body", "chunk"])
def test_half_open_connections_are_closed(client, signal, place):
    own = f"Content-Type: {client.media}"
    data = {
        "head": client.head(signal)[:20],
        "body": client.head(signal, own, "Content-Length: 1000") + b"\x0a",
        "chunk": client.head(signal, own, "Transfer-Encoding: chunked") + b"10\r\n\x0a",
    }[place]
    line = client.dial()
    line.sendall(data)
    assert hung_up(line, client.endpoint.idle_s), f"still open after {client.endpoint.idle_s:g} s"


@rule("half-open-grpc", Level.STRICT, "A silent connection to the gRPC port is closed in that time too.", "RFC 9113 §9.1",
      transports=(GRPC,), signals=("traces",), cost=Cost.SLOW)  # fmt: skip
@pytest.mark.parametrize("data", [b"", b"PRI * HT"], ids=["nothing", "preface"])
def test_half_open_grpc_connections_are_closed(client, signal, data):
    line = grpc_line(client)
    line.sendall(data)
    assert hung_up(line, client.endpoint.idle_s), f"still open after {client.endpoint.idle_s:g} s"


@rule("trickle", Level.STRICT, "A body that arrives a byte per second is given up on.", "RFC 9112 §9.5", cost=Cost.SLOW, **ONE)
def test_a_trickling_body_is_given_up_on(client, signal):
    end = time.monotonic() + 3 * client.endpoint.idle_s
    with client.dial(1.0) as line:
        line.sendall(client.head(signal, f"Content-Type: {client.media}", "Content-Length: 100000"))
        while time.monotonic() < end:
            try:
                line.sendall(b"\x0a")
                if not line.recv(4096):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
            else:
                return
    pytest.fail(f"still read after {3 * client.endpoint.idle_s:g} s")


@rule("errors-in-a-row", Level.STRICT, "A thousand bad requests in a row change nothing for the next one.", "OTLP: Failures",
      signals=("traces",))  # fmt: skip
def test_bad_requests_in_a_row_change_nothing(client, signal):
    for _ in range(1000):
        judge.refused(client.send(signal, b"]" if client.is_json else b"\x0a\xff\xff"))
    judge.alive(client)
