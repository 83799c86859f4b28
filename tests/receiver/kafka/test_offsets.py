"""The bookkeeping of offsets, without Kafka: a position never passes what is not settled, room is shared, nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.receiver.kafka.offsets import Ledger, Partition, Window

ONE = Partition("spans", 0)
TWO = Partition("spans", 1)


@st.composite
def histories(draw) -> list[tuple[str, int]]:
    """Takes in order, with gaps between offsets, and settlements in any order after their takes."""
    offsets = sorted(draw(st.sets(st.integers(0, 60), max_size=25)))
    history: list[tuple[str, int]] = []
    open_: list[int] = []
    waiting = list(offsets)
    while waiting or open_:
        if waiting and (not open_ or draw(st.booleans())):
            open_.append(waiting.pop(0))
            history.append(("take", open_[-1]))
        elif open_:
            history.append(("settle", open_.pop(draw(st.integers(0, len(open_) - 1)))))
        if draw(st.integers(0, 9)) == 0:
            break
    return history


@given(histories())
def test_a_position_is_behind_everything_that_is_not_settled_and_as_far_as_that_allows(history):
    window = Window(ONE)
    taken: list[int] = []
    settled: set[int] = set()
    positions = []
    for what, offset in history:
        if what == "take":
            window.take(offset, 10)
            taken.append(offset)
        else:
            window.settle(offset)
            settled.add(offset)
        left = [one for one in taken if one not in settled]
        assert window.position == (min(left) if left else taken[-1] + 1)
        assert window.oldest == (min(left) if left else None)
        assert window.held_bytes == 10 * len(left)
        positions.append(window.position)
    assert positions == sorted(positions)


@given(histories())
def test_what_is_due_is_where_it_began_and_what_moved_since_the_last_commit(history):
    window = Window(ONE)
    kept = None
    for what, offset in history:
        if what == "take":
            window.take(offset, 1)
        else:
            window.settle(offset)
        assert window.due == (window.position if window.position != kept else None)
        if window.due is not None and offset % 3 == 0:
            kept = window.due
            window.committed(kept)
            assert window.due is None


def test_a_window_that_was_told_where_the_group_stands_commits_nothing_before_it_moves():
    window = Window(ONE)
    assert window.position is None
    window.begin(7)
    assert (window.position, window.due) == (7, None)
    window.take(9, 1)
    window.begin(3)  # comes too late to count
    assert window.position == 9
    window.settle(9)
    assert window.due == 10


def test_a_position_that_kafka_has_not_kept_is_due_at_once():
    window = Window(ONE)
    window.begin(7, kept=False)
    assert window.due == 7
    window.committed(7)
    assert window.due is None


def test_offsets_that_do_not_grow_are_a_fault():
    window = Window(ONE)
    window.take(5, 1)
    with pytest.raises(ValueError, match="offset 5 after 6"):
        window.take(5, 1)


def test_settling_the_oldest_wakes_those_that_wait_for_it_and_nothing_else_does():
    window = Window(ONE)
    for offset in range(3):
        window.take(offset, 1)
    window.stalled = True
    moved = window.moved
    window.settle(1)
    assert not moved.is_set()
    assert window.stalled
    window.settle(0)
    assert moved.is_set()
    assert not window.stalled
    assert not window.moved.is_set()
    assert window.position == 2


def test_a_revoked_partition_is_settled_in_vain():
    ledger = Ledger(100)
    ledger.assign([ONE])
    old = ledger.windows[ONE]
    old.take(0, 10)
    windows = ledger.close([ONE, TWO])
    assert windows == [old]
    assert ledger.takers() == []
    ledger.forget(windows)
    ledger.assign([ONE])
    old.settle(0)
    assert ledger.due() == ledger.due(windows) == []
    assert ledger.windows[ONE].position is None
    ledger.forget(windows)  # the old one is not the new one
    assert ONE in ledger.windows


def test_what_settles_while_a_partition_is_taken_away_is_still_committed():
    ledger = Ledger(100)
    ledger.assign([ONE, TWO])
    for partition in (ONE, TWO):
        ledger.windows[partition].take(0, 1)
        ledger.windows[partition].settle(0)
    windows = ledger.close([ONE])
    assert [(due.window.partition, due.position) for due in ledger.due(windows)] == [(ONE, 1)]
    assert {due.window.partition for due in ledger.due()} == {ONE, TWO}


def test_one_partition_gets_half_of_the_room_and_leaves_the_rest_to_others():
    ledger = Ledger(100)
    ledger.assign([ONE, TWO])
    first, second = ledger.windows[ONE], ledger.windows[TWO]
    first.take(0, 50)
    assert ledger.takers() == [TWO]
    second.take(0, 10)
    assert ledger.takers() == [TWO]
    second.take(1, 20)
    assert ledger.takers() == []
    first.settle(0)
    assert ledger.takers() == [ONE, TWO]


def test_a_partition_that_holds_nothing_may_always_take_whatever_the_others_hold():
    ledger = Ledger(100)
    ledger.assign([ONE, TWO])
    ledger.windows[ONE].take(0, 1000)
    assert ledger.free_bytes < 0
    assert ledger.takers() == [TWO]
    ledger.windows[TWO].stalled = True
    assert ledger.takers() == []


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30)), max_size=60))
def test_room_is_never_exceeded_by_more_than_one_message_of_each_partition(wishes):
    limit = 100
    ledger = Ledger(limit)
    ledger.assign([Partition("spans", number) for number in range(5)])
    for number, size in wishes:
        partition = Partition("spans", number)
        window = ledger.windows[partition]
        if partition in ledger.takers():
            window.take(window.position or 0 if window.oldest is None else window._next, size)
    assert ledger.held_bytes <= limit + 5 * 30
