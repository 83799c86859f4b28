"""What could not be stored is listed, shown, counted when it is sent again, and deleted, in every engine alike."""

from __future__ import annotations

import pytest

from tests.storage.contract.builders import NOW, SITE
from wafermonitor.runs.records import Batch, DeadLetter
from wafermonitor.storage.errors import CursorRejected
from wafermonitor.storage.protocol import DeadLetterQuery, StoredDeadLetter


def letter(number, site=SITE, signal="traces", reason="no trace id"):
    return DeadLetter(site, signal, reason, b"\x0a\x00 sample %d" % number, NOW - number)


LETTERS = [
    letter(1),
    letter(2, site="f2"),
    letter(3, signal="logs", reason="Time is BEFORE 1970"),
    letter(4, signal="metrics", reason="100 % wrong"),
    letter(5, site="f2", signal="logs"),
]


async def listed(engine, **query):
    return [stored.letter for stored in (await engine.reader.dead_letters(DeadLetterQuery(**query))).items]


async def test_letters_are_listed_newest_first_and_once(engine):
    await engine.writer.write([Batch(dead=LETTERS[::-1])])
    again = LETTERS[0]._replace(received_ns=NOW + 9)
    await engine.writer.write([Batch(dead=[again])])
    assert await listed(engine) == LETTERS


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"site": ("f2",)}, [2, 5]),
        ({"site": ("f2", SITE), "signal": ("logs",)}, [3, 5]),
        ({"signal": ("metrics", "traces")}, [1, 2, 4]),
        ({"text": "before"}, [3]),
        ({"text": "0 %"}, [4]),
        ({"text": "%"}, [4]),
        ({"text": "nothing like it"}, []),
        ({"site": ("f9",)}, []),
    ],
    ids=str,
)
async def test_letters_are_found_by_site_signal_and_a_part_of_the_reason(engine, query, numbers):
    await engine.writer.write([Batch(dead=LETTERS)])
    assert await listed(engine, **query) == [LETTERS[number - 1] for number in numbers]


async def test_pages_give_every_letter_once(engine):
    same_time = [one._replace(received_ns=NOW) for one in LETTERS]
    await engine.writer.write([Batch(dead=same_time)])
    keys, cursor = [], None
    for _ in range(3):
        page = await engine.reader.dead_letters(DeadLetterQuery(cursor=cursor, limit=2))
        keys += [stored.key for stored in page.items]
        cursor = page.cursor
    assert cursor is None
    assert keys == sorted(one.key.hex() for one in same_time)
    with pytest.raises(CursorRejected):
        await engine.reader.dead_letters(DeadLetterQuery(cursor="bm8="))


async def test_a_retry_is_counted_and_its_answer_kept(engine):
    await engine.writer.write([Batch(dead=LETTERS)])
    key = LETTERS[2].key.hex()
    assert await engine.reader.dead_letter(key) == StoredDeadLetter(key, LETTERS[2], 0, None, None)
    assert await engine.writer.mark_dead_letter(key, NOW + 1, "busy")
    assert await engine.writer.mark_dead_letter(key, NOW + 2, "refused again")
    await engine.writer.write([Batch(dead=LETTERS)])
    assert await engine.reader.dead_letter(key) == StoredDeadLetter(key, LETTERS[2], 2, NOW + 2, "refused again")


async def test_a_letter_that_is_forgotten_is_gone(engine):
    await engine.writer.write([Batch(dead=LETTERS)])
    key = LETTERS[0].key.hex()
    assert await engine.writer.forget_dead_letter(key)
    assert not await engine.writer.forget_dead_letter(key)
    assert not await engine.writer.mark_dead_letter(key, NOW, "too late")
    assert await engine.reader.dead_letter(key) is None
    assert await listed(engine) == LETTERS[1:]


@pytest.mark.parametrize("key", ["", "no hex", "00" * 32])
async def test_a_key_of_no_letter_finds_none(engine, key):
    await engine.writer.write([Batch(dead=LETTERS)])
    assert await engine.reader.dead_letter(key) is None
    assert not await engine.writer.forget_dead_letter(key)
    assert not await engine.writer.mark_dead_letter(key, NOW, "nobody")


async def test_the_site_of_a_letter_is_a_site(engine):
    await engine.writer.write([Batch(dead=[letter(1, site="f7")])])
    assert [status.site for status in await engine.reader.sites()] == ["f7"]
