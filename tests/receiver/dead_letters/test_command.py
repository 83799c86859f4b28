"""`wafer receiver dead-letters` on a real PostgreSQL, as an operator uses it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import SecretStr

from tests.receiver.dead_letters.letters import NOW, bury, letter, whole
from tests.receiver.legacy.events import body, event
from tests.receiver.otlp import TRACE_ID
from wafermonitor.instrumentation.cli import main
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.runs.records import DeadLetter
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.protocol import SpanQuery

pytestmark = pytest.mark.postgres

GOOD = whole(Signal.TRACES)
OLDER = letter(body(event("paused")), "events", site="f2", reason="event.kind: 'paused' is none", received_ns=NOW - 1)
BROKEN = letter(b"\x1b[2Jno span", reason="span is not\x1b[2J valid", received_ns=NOW - 2)


class Operator:
    """Runs the command, and reads the store beside it."""

    def __init__(self, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._dsn = dsn
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit code and what is printed, errors included."""
        code = main(["receiver", "dead-letters", *arguments])
        printed = self._capsys.readouterr()
        return code, printed.out + printed.err

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json")[1])

    def bury(self, *letters: DeadLetter) -> list[str]:
        async def keep() -> list[str]:
            storage = await connect(Config(dsn=SecretStr(self._dsn)))
            try:
                return await bury(storage, *letters)
            finally:
                await storage.close()

        return asyncio.run(keep())

    def spans(self) -> int:
        async def count() -> int:
            storage = await connect(Config(dsn=SecretStr(self._dsn)))
            try:
                return len((await storage.reader.spans(SpanQuery(trace_id=TRACE_ID))).items)
            finally:
                await storage.close()

        return asyncio.run(count())


@pytest.fixture
def operator(postgres, monkeypatch, capsys) -> Operator:
    dsn = postgres.migrated()
    monkeypatch.setenv("WAFER_STORAGE_DSN", dsn)
    return Operator(dsn, capsys)


def test_an_empty_store_has_none(operator):
    assert operator.run("list") == (0, "no dead letters\n")
    assert operator.json("list") == {"items": [], "cursor": None}
    assert operator.json("retry", "--all") == {"stored": 0, "refused": 0, "items": []}


def test_letters_are_listed_newest_first_with_what_is_known_of_them(operator):
    keys = operator.bury(GOOD, OLDER, BROKEN)
    items = operator.json("list")["items"]
    assert [item["key"] for item in items] == keys
    assert {name: items[1][name] for name in ("site", "signal", "reason", "size_bytes", "retries", "retried", "answer")} == {
        "site": "f2",
        "signal": "events",
        "reason": "event.kind: 'paused' is none",
        "size_bytes": len(OLDER.sample),
        "retries": 0,
        "retried": None,
        "answer": None,
    }
    code, text = operator.run("list")
    assert code == 0
    assert all(key in text for key in keys)
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (("--site", "f2"), [OLDER]),
        (("--site", "f1", "--site", "f2"), [GOOD, OLDER, BROKEN]),
        (("--signal", "events"), [OLDER]),
        (("--reason", "SPAN IS"), [BROKEN]),
        (("--site", "f2", "--signal", "traces"), []),
    ],
)
def test_letters_are_filtered(operator, filters, found):
    operator.bury(GOOD, OLDER, BROKEN)
    assert [item["key"] for item in operator.json("list", *filters)["items"]] == [dead.key.hex() for dead in found]


def test_pages_follow_each_other(operator):
    keys = operator.bury(GOOD, OLDER, BROKEN)
    first = operator.json("list", "--limit", "2")
    second = operator.json("list", "--limit", "2", "--cursor", first["cursor"])
    assert [item["key"] for page in (first, second) for item in page["items"]] == keys
    assert second["cursor"] is None
    assert "more: --cursor " in operator.run("list", "--limit", "2")[1]


def test_a_letter_is_shown_with_its_sample_decoded(operator):
    keys = operator.bury(GOOD, OLDER, BROKEN)
    shown = operator.json("show", keys[0])
    assert shown["sample"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] == "span 1"
    assert operator.json("show", keys[1])["sample"] == {"events": [event("paused")]}
    code, text = operator.run("show", keys[2])
    assert code == 0
    assert "reason:       span is not\ufffd[2J valid" in text
    assert "no span" in text
    assert "\x1b" not in text


def test_a_letter_that_is_taken_now_is_stored_and_gone(operator):
    keys = operator.bury(GOOD, OLDER)
    assert operator.json("retry", keys[0]) == {
        "stored": 1,
        "refused": 0,
        "items": [{"key": keys[0], "stored": True, "answer": ""}],
    }
    assert operator.spans() == 1
    assert [item["key"] for item in operator.json("list")["items"]] == [keys[1]]


def test_all_that_the_filters_leave_are_sent_again_and_what_is_refused_stays_with_the_answer(operator):
    keys = operator.bury(GOOD, OLDER, BROKEN)
    assert operator.run("retry", "--all", "--signal", "metrics")[0] == 0
    code, text = operator.run("retry", "--all")
    assert code == 1
    assert f"{keys[0]}  stored" in text
    assert f"{keys[1]}  still refused: 1 events rejected for good: event.kind: 'paused' is none" in text
    assert "1 stored, 2 still refused" in text
    items = operator.json("list")["items"]
    assert [(item["key"], item["retries"], bool(item["answer"])) for item in items] == [(keys[1], 1, True), (keys[2], 1, True)]
    assert operator.spans() == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "nonsense"), "no dead letter has the key 'nonsense'"),
        (("show", "00" * 32), "no dead letter has the key"),
        (("retry", "00" * 32), "no dead letter has the key"),
        (("retry",), "name the keys of letters"),
        (("retry", "00" * 32, "--all"), "name the keys of letters"),
        (("retry", "00" * 32, "--site", "f1"), "keys need no choice"),
        (("list", "--limit", "0"), "--limit"),
        (("list", "--cursor", "nonsense"), "cursor"),
    ],
)
def test_wrong_use_is_explained_and_ends_with_2(operator, arguments, words):
    code, text = operator.run(*arguments)
    assert code == 2
    assert words in text
    assert "Traceback" not in text


def test_a_wrong_key_among_others_sends_nothing(operator):
    keys = operator.bury(GOOD)
    assert operator.run("retry", keys[0], "00" * 32)[0] == 2
    assert operator.spans() == 0


def test_a_store_that_does_not_answer_ends_with_75_and_without_its_address(operator, monkeypatch):
    monkeypatch.setenv("WAFER_STORAGE_DSN", "postgresql://wafer:hunter2@127.0.0.1:1/wafer")
    code, text = operator.run("list")
    assert code == 75
    assert "hunter2" not in text


def test_the_receiver_takes_no_options_before_the_command(operator, capsys):
    assert main(["receiver", "--legacy-port", "17000", "dead-letters", "list"]) == 2
    assert "takes its own options only" in capsys.readouterr().err
