"""Who gets in, and how far a body may be inflated."""

from __future__ import annotations

import gzip
import time

import pytest
from isal import igzip

from wafermonitor.receiver.admission import INLINE_BYTES, MAX_GZIP_MEMBERS, Budget, authorize, gunzip, inflate
from wafermonitor.receiver.config import MIB
from wafermonitor.receiver.errors import MediaRejected, QueueFull, RequestRejected, RequestTooLarge, TokenRejected


def test_everyone_is_let_in_without_a_token():
    authorize(None, None)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Basic right", "right", "Bearer right2", "Bearer rïght"]
)
def test_only_the_token_opens(header):
    with pytest.raises(TokenRejected, match="authorization"):
        authorize("right", header)


@pytest.mark.parametrize("header", ["Bearer right", "bearer right", "Bearer  right "])
def test_the_token_opens(header):
    authorize("right", header)


def test_gzip_in_one_member_and_in_several_is_inflated():
    assert gunzip(gzip.compress(b"abc"), 3) == b"abc"
    assert gunzip(gzip.compress(b"abc") + gzip.compress(b"def"), 6) == b"abcdef"


def test_the_bound_holds_to_the_byte_and_over_members():
    with pytest.raises(RequestTooLarge):
        gunzip(gzip.compress(b"abcd"), 3)
    with pytest.raises(RequestTooLarge):
        gunzip(gzip.compress(b"abc") + gzip.compress(b"d"), 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"plain", gzip.compress(b"abc")[:-1], gzip.compress(b"abc") + b"x"],
    ids=["empty", "plain", "cut", "followed by a letter"],
)
def test_what_is_no_gzip_is_rejected(body):
    with pytest.raises(RequestRejected):
        gunzip(body, 100)


def test_endless_members_are_rejected():
    with pytest.raises(RequestRejected, match="members"):
        gunzip(gzip.compress(b"") * (MAX_GZIP_MEMBERS + 1), 100)


def test_a_bomb_is_refused_within_a_second():
    bomb = igzip.compress(bytes(128 * MIB), 3)
    began = time.perf_counter()
    with pytest.raises(RequestTooLarge):
        gunzip(bomb, 64 * MIB)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("size", [10, 4 * INLINE_BYTES])
async def test_small_and_large_bodies_are_inflated_alike(size):
    body = bytes(range(256)) * size
    assert await inflate(gzip.compress(body, 0), "gzip", len(body)) == body


async def test_an_encoding_that_is_not_bounded_is_not_read():
    with pytest.raises(MediaRejected):
        await inflate(b"x", "br", 10)


def test_the_budget_counts_what_is_held_and_gives_it_back():
    budget = Budget(100, lambda: 7.0)
    with budget.hold() as first:
        first.add(60)
        with budget.hold() as second, pytest.raises(QueueFull) as refused:
            second.add(41)
        assert refused.value.retry_s == 7
        first.drop(20)
        assert budget.held_bytes == 40
    assert budget.held_bytes == 0
