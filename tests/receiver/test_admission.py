"""Who gets in, and how far a body may be inflated."""

from __future__ import annotations

import asyncio
import gzip
import sys
import threading
import time

import pytest
from isal import igzip

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from wafermonitor.receiver import admission
from wafermonitor.receiver.admission import INLINE_BYTES, MAX_GZIP_MEMBERS, Budget, Hold, authorize, gunzip, inflate, unzstd
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
    began = time.process_time()
    with pytest.raises(RequestTooLarge):
        gunzip(bomb, 64 * MIB)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("size", [10, 4 * INLINE_BYTES])
async def test_small_and_large_bodies_are_inflated_alike(size):
    body = bytes(range(256)) * size
    assert await inflate(gzip.compress(body, 0), "gzip", len(body)) == body


async def test_few_large_bodies_are_inflated_at_once(monkeypatch):
    """What comes out is counted only when it is there, so each at work may be one whole request that nobody knows of."""
    threads = set()

    def inflated(body, encoding, limit_bytes):
        threads.add(threading.get_ident())
        return gunzip(body, limit_bytes)

    monkeypatch.setattr(admission, "inflated", inflated)
    body = bytes(range(256)) * 4 * INLINE_BYTES
    packed = gzip.compress(body, 0)
    await asyncio.gather(*(inflate(packed, "gzip", len(body)) for _ in range(16)))
    assert 0 < len(threads) <= admission.MAX_INFLATING


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


def test_zstd_in_one_frame_and_in_several_is_inflated_within_the_bound():
    assert unzstd(zstd.compress(b"abc"), 3) == b"abc"
    assert unzstd(zstd.compress(b"abc") + zstd.compress(b"def"), 6) == b"abcdef"
    with pytest.raises(RequestTooLarge):
        unzstd(zstd.compress(b"abc") + zstd.compress(b"d"), 3)
    with pytest.raises(RequestRejected, match="frames"):
        unzstd(zstd.compress(b"") * (MAX_GZIP_MEMBERS + 1), 100)


@pytest.mark.parametrize(
    "body", [b"", b"plain", zstd.compress(b"abc")[:-1], zstd.compress(b"abc") + b"x"], ids=["empty", "plain", "cut", "letter"]
)
def test_what_is_no_zstd_is_rejected(body):
    with pytest.raises(RequestRejected):
        unzstd(body, 100)


def test_a_zstd_bomb_is_refused_within_a_second():
    bomb = zstd.compress(bytes(128 * MIB)) * 8
    began = time.process_time()
    with pytest.raises(RequestTooLarge):
        unzstd(bomb, 64 * MIB)
    assert time.process_time() - began < 1


def test_a_zstd_window_that_the_sender_chose_too_large_is_refused():
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    packed = zstd.ZstdCompressor(options=options)
    body = packed.compress(bytes(1000)) + packed.flush()
    with pytest.raises(RequestRejected, match="window"):
        unzstd(body, 64 * MIB)


def test_one_site_may_hold_three_times_what_is_free():
    budget = Budget(100, lambda: 7.0)
    shares = [Hold(budget) for _ in range(8)]
    for share in shares[:7]:
        share.add(10)
        share.assign("noisy")
    shares[7].add(10)
    with pytest.raises(QueueFull, match="share"):
        shares[7].assign("noisy")
    shares[7].assign("quiet")
    for share in shares:
        share.release()
        share.release()
    assert budget.held_bytes == 0
    assert budget._of_site == {}


def test_requests_without_a_byte_are_given_back_as_often_as_they_came():
    budget = Budget(100, lambda: 7.0)
    shares = [Hold(budget) for _ in range(3)]
    shares[0].add(10)
    for share in shares:
        share.assign("f1")
    for share in shares:
        share.release()
    assert budget._of_site == {}


def test_a_share_counts_for_its_site_once_however_often_it_is_asked_for():
    budget = Budget(100, lambda: 7.0)
    with budget.hold() as share:
        share.add(50)
        share.assign("f1")
        share.assign("f1")
        assert budget._of_site == {"f1": 50}
    assert budget._of_site == {}


def test_crowded_says_nothing_once_nothing_is_held_or_arriving():
    budget = Budget(100, lambda: 7.0)
    budget.crowded = True
    budget.check()
    budget.arriving = 1
    with pytest.raises(QueueFull):
        budget.check()
    budget.arriving = 0
    with budget.hold() as share:
        share.add(1)
        with pytest.raises(QueueFull):
            budget.check()
    budget.check()


def test_one_request_alone_may_be_as_large_as_the_queue():
    budget = Budget(100, lambda: 7.0)
    share = Hold(budget)
    share.add(100)
    share.assign("f1")
    share.release()
