"""A letter that is sent again is stored once and gone, or kept with the answer; nothing in between loses or doubles it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.receiver.dead_letters.letters import NOW, bury, letter, whole
from tests.receiver.legacy.events import JOB, body, event
from tests.receiver.otlp import TRACE_ID, last_item, logs, metrics, spans
from wafermonitor.receiver.dead_letters import samples
from wafermonitor.receiver.dead_letters.retry import EMPTY, REFUSED, Outcome, retry
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.runs.records import Batch, DeadLetter
from wafermonitor.storage import memory
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import DeadLetterQuery, LogQuery, SpanQuery


class Store:
    """The memory engine; `write_fails` and `forget_fails` are raised in the place of doing it."""

    def __init__(self) -> None:
        self.inner = memory.Storage()
        self.reader = self.inner.reader
        self.writer: Any = self
        self.write_fails: Exception | None = None
        self.forget_fails: Exception | None = None
        self.mark_dead_letter = self.inner.writer.mark_dead_letter

    async def write(self, batches: Sequence[Batch]) -> None:
        if self.write_fails is not None:
            raise self.write_fails
        await self.inner.writer.write(batches)

    async def first_arrivals(self, arrivals: dict[bytes, int]) -> dict[bytes, int]:
        return await self.inner.writer.first_arrivals(arrivals)

    async def forget_dead_letter(self, key: str) -> bool:
        if self.forget_fails is not None:
            raise self.forget_fails
        return await self.inner.writer.forget_dead_letter(key)

    async def close(self) -> None:
        await self.inner.close()

    async def send(self, dead: DeadLetter) -> Outcome:
        stored = await self.reader.dead_letter(dead.key.hex())
        assert stored is not None
        return await retry(self, stored)

    async def keys(self) -> list[str]:
        return [found.key for found in (await self.reader.dead_letters(DeadLetterQuery())).items]

    async def spans(self) -> int:
        return len((await self.reader.spans(SpanQuery(trace_id=TRACE_ID))).items)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("signal", [*Signal])
async def test_a_letter_that_is_taken_now_is_stored_and_gone(store, signal, as_text):
    dead = whole(signal, json=as_text)
    (key,) = await bury(store.inner, dead)
    assert await store.send(dead) == Outcome(key, stored=True, answer="")
    assert await store.keys() == []


async def test_an_older_event_is_stored_as_a_run(store):
    dead = letter(body(event("started")), "events")
    await bury(store.inner, dead)
    assert (await store.send(dead)).stored
    (run,) = await store.reader.tree(bytes.fromhex(JOB.replace("-", "")))
    assert run.run.job == "daily-batch"


async def test_a_crash_before_the_letter_is_forgotten_loses_and_doubles_nothing(store):
    dead = whole(Signal.TRACES)
    (key,) = await bury(store.inner, dead)
    store.forget_fails = StorageUnavailable("gone")
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await store.send(dead)
    assert (await store.spans(), await store.keys()) == (1, [key])
    store.forget_fails = None
    assert (await store.send(dead)).stored
    assert (await store.spans(), await store.keys()) == (1, [])


async def test_a_record_without_time_is_one_record_however_often_it_is_sent(store):
    request = logs(1)
    last_item(request).time_unix_nano = 0
    last_item(request).trace_id = TRACE_ID
    dead = letter(request.SerializeToString(), "logs")
    store.forget_fails = StorageUnavailable("gone")
    await bury(store.inner, dead)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await store.send(dead)
    records = (await store.reader.logs(LogQuery(trace_id=TRACE_ID))).items
    assert [record.time_ns for record in records] == [NOW]


@pytest.mark.parametrize("error", [StorageUnavailable("away"), SchemaTooOld("migrate")])
async def test_a_store_that_is_away_leaves_the_letter_untouched(store, error):
    dead = whole(Signal.TRACES)
    (key,) = await bury(store.inner, dead)
    store.write_fails = error
    with pytest.raises(type(error)):
        await store.send(dead)
    kept = await store.reader.dead_letter(key)
    assert (kept.retries, kept.answer) == (0, None)


async def test_what_the_store_still_refuses_is_kept_with_the_answer(store):
    dead = whole(Signal.TRACES)
    (key,) = await bury(store.inner, dead)
    store.write_fails = StorageRejected("no")
    assert await store.send(dead) == Outcome(key, stored=False, answer=REFUSED)
    assert await store.send(dead) == Outcome(key, stored=False, answer=REFUSED)
    kept = await store.reader.dead_letter(key)
    assert (kept.retries, kept.answer, kept.letter) == (2, REFUSED, dead)
    assert kept.retried_ns >= NOW


async def test_what_the_lane_still_refuses_is_kept_and_no_second_letter_is_written(store):
    request = spans(1)
    last_item(request).trace_id = b"short"
    dead = letter(request.SerializeToString())
    (key,) = await bury(store.inner, dead)
    outcome = await store.send(dead)
    assert (outcome.stored, outcome.answer) == (False, "1 spans rejected for good: trace id has 5 bytes, expected 16 (1)")
    assert await store.keys() == [key]


async def test_good_points_of_a_metric_are_stored_and_the_letter_stays_for_the_others(store):
    request = metrics(2)
    last_item(request).gauge.data_points[1].time_unix_nano = 2**63
    dead = letter(request.SerializeToString(), "metrics")
    (key,) = await bury(store.inner, dead)
    outcome = await store.send(dead)
    assert not outcome.stored
    assert "time is before 1970" in outcome.answer
    assert (await store.reader.health()).newest_received_ns == NOW
    assert await store.keys() == [key]


@pytest.mark.parametrize(
    ("dead", "answer"),
    [
        (letter(b"", "traces"), "1 spans rejected for good: trace id has 0 bytes, expected 16 (1)"),
        (letter(b'{"events":[]}', "events"), EMPTY),
        (letter(b"x" * 65536), samples.CUT),
        (letter(b"Span(resource=...)"), "1 spans rejected for good: span is not valid protobuf (1)"),
    ],
)
async def test_a_sample_that_holds_nothing_to_store_is_kept(store, dead, answer):
    (key,) = await bury(store.inner, dead)
    assert await store.send(dead) == Outcome(key, stored=False, answer=answer)
    assert await store.keys() == [key]
