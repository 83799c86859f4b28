"""How much a server takes: sizes after decompression, bombs, great values, and what it does at the limit."""

from __future__ import annotations

import gzip
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

from . import judge, telemetry
from .rules import GRPC, JSON, PROTOBUF, Cost, Level, rule
from .wire import complete, http_status

MIB = 1 << 20
BOMB_S = 1.0
TRIES = 3
ONLY_HTTP = {"transports": (PROTOBUF, JSON)}
HEAVY = {"cost": Cost.HEAVY, "signals": ("traces",)}
REQUEST = "OTLP: OTLP/HTTP Request"


@rule(
    "limit", Level.MUST, "If the size limit is exceeded, the server MUST respond with HTTP 413.", REQUEST, **ONLY_HTTP, **HEAVY
)
def test_a_body_over_the_limit_is_413(client, signal):
    answer = client.send(signal, telemetry.filled(client, signal, client.endpoint.limit_bytes + 1))
    assert answer.http == 413, f"{answer}"
    judge.alive(client)


@rule("limit-inflated", Level.MUST, "The limit holds after decompression.", REQUEST, **ONLY_HTTP, **HEAVY)
def test_the_limit_holds_after_decompression(client, signal):
    body = telemetry.filled(client, signal, client.endpoint.limit_bytes + 1)
    answer = client.send(signal, body, compressed=True)
    assert answer.http == 413, f"{answer}"


@rule(
    "limit-chunked", Level.MUST, "The limit holds for bodies that do not announce their length.", REQUEST, **ONLY_HTTP, **HEAVY
)
def test_the_limit_holds_without_a_length(client, signal):
    pieces = (b" " * MIB for _ in range(client.endpoint.limit_bytes // MIB + 1))
    answer = client.post(signal, pieces)
    assert answer.http == 413, f"{answer}"


@rule("limit-announced", Level.STRICT, "A Content-Length over the limit is refused before the body is sent.", REQUEST,
      transports=("http",), signals=("traces",))  # fmt: skip
def test_a_length_over_the_limit_is_refused_before_the_body(client, signal):
    length = f"Content-Length: {max(1 << 40, client.endpoint.limit_bytes + 1)}"
    told = b""
    with client.dial(10.0) as line:
        line.sendall(client.head(signal, f"Content-Type: {client.media}", length))
        try:
            while not complete(told) and (piece := line.recv(4096)):
                told += piece
        except TimeoutError:
            pytest.fail("no answer before the body came")
    assert http_status(told) == 413, f"HTTP {http_status(told)}"


@rule("limit-body", Level.MUST, "The body of all 4xx responses MUST be a Status message: also of 413.",
      "OTLP: OTLP/HTTP Response, Failures", signals=("traces",), **ONLY_HTTP)  # fmt: skip
def test_the_body_of_a_413_is_a_status(client, signal):
    answer = client.post(signal, bomb(client.endpoint.limit_bytes), [("content-encoding", "gzip")])
    judge.status_body(answer, client)
    judge.discreet(answer)


@rule("limit-usual", Level.RECOMMENDED, "It is RECOMMENDED to use 64 MiB as the default limit.", REQUEST, **ONLY_HTTP, **HEAVY)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_body_of_64_mib_is_taken(client, signal, compressed):
    judge.accepted(client.send(signal, telemetry.filled(client, signal, 64 * MIB), compressed=compressed))


@rule(
    "limit-grpc",
    Level.MUST,
    "The server MUST enforce a message size limit.",
    "OTLP: OTLP/gRPC Request",
    transports=(GRPC,),
    **HEAVY,
)
def test_a_message_over_the_limit_is_refused(client, signal):
    answer = client.send(signal, telemetry.filled(client, signal, (client.endpoint.grpc_limit_bytes or 64 * MIB) + 1))
    assert not answer.silent, f"{answer}"
    assert not answer.ok, f"accepted: {answer}"
    judge.alive(client)


@rule("limit-grpc-for-good", Level.STRICT, "The limit holds after decompression; over it, the sender is told not to try again.",
      "OTLP: OTLP/gRPC Request", transports=(GRPC,), **HEAVY)  # fmt: skip
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_message_over_the_limit_is_refused_for_good(client, signal, compressed):
    size = (client.endpoint.grpc_limit_bytes or 64 * MIB) + 1
    judge.refused(client.send(signal, telemetry.filled(client, signal, size), compressed=compressed))


@rule("limit-grpc-usual", Level.RECOMMENDED, "Clients send up to 4 MiB by default: a message of that size is taken.",
      "OTLP: OTLP/gRPC Request", transports=(GRPC,))  # fmt: skip
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_message_of_4_mib_is_taken(client, signal, compressed):
    judge.accepted(client.send(signal, telemetry.filled(client, signal, 4 * MIB), compressed=compressed))


@rule("limit-grpc-set", Level.STRICT, "A message of exactly the limit that is set is taken.", "OTLP: OTLP/gRPC Request",
      transports=(GRPC,), **HEAVY)  # fmt: skip
def test_a_message_of_the_limit_is_taken(client, signal):
    if client.endpoint.grpc_limit_bytes is None:
        pytest.skip("only with --otlp-grpc-limit-bytes")
    judge.accepted(client.send(signal, telemetry.filled(client, signal, client.endpoint.grpc_limit_bytes)))


@cache
def bomb(size: int, *, whole: bool = True) -> bytes:
    """Blanks of at least `size` bytes (a gzip stream, made from one compressed MiB repeated), a thousandth as long."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = press.compress(b" " * MIB) + press.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return head + piece * (size // MIB + 1) + (b"\x03\x00" + bytes(8) if whole else b"")


@cache
def bombs() -> dict[str, bytes]:
    """1 GiB of blanks in several wrappings."""
    member = gzip.compress(b" " * 16 * MIB, 9)
    return {
        "single": bomb(1 << 30),
        "members": member * 64,
        "many-members": gzip.compress(b"") * 200_000,
        "nested": gzip.compress(bomb(1 << 30)),
    }


@rule(
    "bomb",
    Level.MUST,
    "The server MUST limit the size after decompression: 1 GiB of blanks is not taken.",
    REQUEST,
    **ONLY_HTTP,
)
def test_a_bomb_is_refused(client, signal):
    judge.refused(client.post(signal, bomb(1 << 30), [("content-encoding", "gzip")]))


@rule(
    "bomb-time",
    Level.STRICT,
    "A bomb is answered within a second, and not with 5xx.",
    REQUEST,
    signals=("traces",),
    **ONLY_HTTP,
)
@pytest.mark.parametrize("kind", ["single", "members", "many-members", "nested"])
def test_a_bomb_is_answered_at_once(client, signal, kind):
    data = bombs()[kind]
    spent_s = []
    for _ in range(TRIES):
        answer = client.post(signal, data, [("content-encoding", "gzip")])
        judge.decided(answer)
        spent_s.append(answer.elapsed_s)
        if answer.elapsed_s <= BOMB_S:
            return
    pytest.fail(f"{min(spent_s):.1f} s at best")


@rule(
    "bomb-codings", Level.STRICT, "Several codings at once are refused or bounded.", REQUEST, signals=("traces",), **ONLY_HTTP
)
@pytest.mark.parametrize("depth", [2, 10])
def test_codings_in_codings_are_bounded(client, signal, depth):
    data = bomb(1 << 30)
    for _ in range(depth - 1):
        data = gzip.compress(data)
    answer = client.post(signal, data, [("content-encoding", ", ".join(["gzip"] * depth))])
    judge.refused(answer)
    assert answer.elapsed_s <= 5 * BOMB_S, f"{answer.elapsed_s:.1f} s"


@rule("great-value", Level.STRICT, "A value of 3 MB is taken, or rejected without its neighbours.", "common.proto: AnyValue")
def test_a_great_value_does_not_cost_its_neighbours(client, signal):
    request = telemetry.good(signal, 3)
    telemetry.attributes(signal, request, 1).append(telemetry.text("great", "x" * 3_000_000))
    answer = client.export(signal, request)
    assert answer.ok, f"{answer}: {answer.message[:100]}"
    assert answer.rejected <= 1, f"{answer}"


@rule("many-attributes", Level.STRICT, "1,000,000 attributes on one item are decided on.", "common.proto: KeyValue", **HEAVY)
def test_a_million_attributes_are_decided_on(client, signal):
    answer = client.send(signal, many_attributes(client, signal, 1_000_000))
    if too_large(answer):
        pytest.skip(f"over the server's limit: {answer}")
    judge.decided(answer)
    judge.alive(client)


@rule("retryable-only", Level.MUST, "Overload is UNAVAILABLE, or RESOURCE_EXHAUSTED with RetryInfo; 429 or 503 over HTTP.",
      "OTLP: Throttling", **HEAVY)  # fmt: skip
def test_overload_makes_the_sender_wait(client, signal):
    refusals = [answer for answer in flood(client, signal) if not answer.ok and not too_large(answer)]
    if not refusals:
        pytest.skip("the server took all of it")
    for answer in refusals:
        assert not answer.silent, f"{answer}"
        if answer.http is None:
            assert answer.code == 14 or (answer.code == judge.RESOURCE_EXHAUSTED and answer.retry_s), f"{answer}"
        else:
            assert answer.http in (429, 503), f"{answer}"
    judge.alive(client)


@rule("retry-hint", Level.STRICT, "A refusal for overload says when to come again: RetryInfo, and Retry-After over HTTP.",
      "OTLP: Throttling", **HEAVY)  # fmt: skip
def test_overload_says_when_to_come_again(client, signal):
    refusals = [answer for answer in flood(client, signal) if not answer.ok and not too_large(answer)]
    if not refusals:
        pytest.skip("the server took all of it")
    for answer in refusals:
        assert answer.retry_s, f"{answer} without RetryInfo"
        assert answer.http is None or int(answer.headers.get("retry-after", 0)) >= 1, f"{answer} without Retry-After"


def many_attributes(client, signal, number):
    """A good request whose item has so many attributes, made as text where a library would take a minute."""
    request = telemetry.good(signal)
    whole = telemetry.attributes(signal, request)
    if not client.is_json:
        whole.extend(telemetry.text(f"key.{index}", "x") for index in range(number))
        return client.encode(request)
    whole.append(telemetry.text("HERE", "x"))
    one = b'{"key": "HERE", "value": {"stringValue": "x"}}'
    return client.encode(request).replace(one, b", ".join(one.replace(b"HERE", b"key.%d" % index) for index in range(number)))


def too_large(answer):
    """Whether the refusal is about the size alone: OUT_OF_RANGE is what one gRPC library says of it."""
    return answer.http == 413 or (answer.code in (8, 11) and answer.http is None and answer.retry_s is None)


def flood(client, signal, senders=12):
    """As many requests at once as the server's limit makes hard to hold."""
    size = client.endpoint.limit_bytes if judge.is_http(client) else client.endpoint.grpc_limit_bytes or 4 * MIB
    body = telemetry.filled(client, signal, size // 2)
    with ThreadPoolExecutor(senders) as pool:
        return list(pool.map(lambda _: client.send(signal, body), range(senders)))


@rule("many-at-once", Level.STRICT, "64 requests at once are all answered with success.", "OTLP: Concurrent Requests")
def test_many_requests_at_once_succeed(client, signal):
    body = client.encode(telemetry.good(signal, 10))
    started = time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: client.send(signal, body), range(64)))
    for answer in answers:
        judge.accepted(answer)
    assert time.monotonic() - started < 30
