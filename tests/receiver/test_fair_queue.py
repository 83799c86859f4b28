"""Turns by bytes: who waits is served, however much others send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.fair_queue import TURN_BYTES, FairQueue, Waiting
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal


def waiting(site: str, size: int, answers: list | None = None) -> Waiting:
    return Waiting(Request(Signal.TRACES, Encoding.PROTOBUF, bytes(size), 1), site, (answers or []).append)


def filled(*requests: tuple[str, int]) -> FairQueue:
    queue = FairQueue()
    for site, size in requests:
        queue.push(waiting(site, size))
    return queue


def test_one_site_alone_is_served_in_order_up_to_the_limit():
    queue = filled(("a", 10), ("a", 20), ("a", 30))
    assert [one.size for one in queue.take(30)] == [10, 20]
    assert (len(queue), queue.bytes) == (1, 30)


def test_a_request_above_the_limit_is_a_group_of_its_own():
    queue = filled(("a", 100), ("a", 1))
    assert [one.size for one in queue.take(30)] == [100]


def test_s04_a_quiet_site_is_in_the_next_group_whatever_a_noisy_one_has_waiting():
    queue = filled(*[("noisy", TURN_BYTES)] * 100, ("quiet", 10))
    group = queue.take(4 * TURN_BYTES)
    assert "quiet" in {one.site for one in group}


def test_sites_get_equal_shares_of_bytes_and_not_of_requests():
    queue = filled(*[("large", TURN_BYTES)] * 50, *[("small", TURN_BYTES // 64)] * 3000)
    taken = {"large": 0, "small": 0}
    for one in queue.take(40 * TURN_BYTES):
        taken[one.site] += one.size
    assert abs(taken["large"] - taken["small"]) <= 2 * TURN_BYTES


def test_what_is_put_back_is_first_again():
    queue = filled(("a", 10), ("a", 20), ("b", 5))
    group = queue.take(1000)
    queue.push(waiting("a", 99))
    queue.put_back(group)
    again = queue.take(1000)
    assert [one.size for one in again if one.site == "a"] == [10, 20, 99]
    assert (len(queue), queue.bytes) == (0, 0)


def test_those_whose_sender_is_gone_are_passed_over_and_keep_no_body():
    queue = FairQueue()
    gone, here = waiting("a", 50), waiting("a", 60)
    queue.push(gone)
    queue.push(here)
    gone.leave()
    assert gone.request.body == b""
    assert queue.take(1000) == [here]
    assert queue.bytes == 0


def test_an_answer_is_given_once():
    answers: list[Answer] = []
    one = Waiting(Request(Signal.TRACES, Encoding.PROTOBUF, b"", 1), "a", answers.append)
    one.finish(Answer(1))
    one.finish(Answer(2))
    assert answers == [Answer(1)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3 * TURN_BYTES)), max_size=60), st.integers(1, 5 * TURN_BYTES))
def test_everything_leaves_once_in_the_order_of_its_site_within_the_limit(requests, limit):
    queue = filled(*requests)
    taken = []
    while len(queue):
        group = queue.take(limit)
        assert group
        assert len(group) == 1 or sum(one.size for one in group) <= limit
        taken += group
    assert queue.bytes == 0
    for site in "abc":
        assert [one.size for one in taken if one.site == site] == [size for where, size in requests if where == site]
