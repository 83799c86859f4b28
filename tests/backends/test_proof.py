"""The proof itself: it finds what is lost, what is there twice against the promise, and what has changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from tests.backends import corpus, json_lines, proof
from wafermonitor.storage.writers.protocol import SIGNALS, Signal


class Folder(proof.Backend):
    """A folder that can be away; `spoil` is what a bad backend makes of what it was given."""

    name: ClassVar[str] = "files"

    def __init__(self, home: Path) -> None:
        self._folder, self._away = home / "share", home / "away"
        self._folder.mkdir()

    @property
    def environment(self) -> Mapping[str, str]:
        return {"WAFER_FILES_DIR": str(self._folder)}

    def spoil(self, kept: list[proof.Kept]) -> list[proof.Kept]:
        return kept

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        lines = [line for path in sorted(self._folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]
        return self.spoil([kept for line in lines for kept in json_lines.kept(signal, json.loads(line))])

    def kill(self) -> None:
        self._folder.rename(self._away)

    def restart(self) -> None:
        self._away.rename(self._folder)


class Forgetful(Folder):
    def spoil(self, kept: list[proof.Kept]) -> list[proof.Kept]:
        return [one for one in kept if not one.key.endswith("-7")]


class Stammering(Folder):
    def spoil(self, kept: list[proof.Kept]) -> list[proof.Kept]:
        return [*kept, *kept[:1]]


class Careless(Folder):
    def spoil(self, kept: list[proof.Kept]) -> list[proof.Kept]:
        return [one._replace(fields={**one.fields, "site": "another"}) for one in kept]


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(proof, "OUTAGE_S", 0.0)
    monkeypatch.setattr(proof, "DEADLINE_S", 0.5)
    monkeypatch.setattr(proof, "counted", [])


def test_a_good_backend_passes(tmp_path):
    report = proof.survives(Folder(tmp_path), "direct")
    assert report == (5 * len(SIGNALS) * corpus.PER_SIGNAL, 0)


@pytest.mark.parametrize(
    ("bad", "told"),
    [(Forgetful, "missing: .*-7"), (Stammering, "3 duplicates"), (Careless, "site is 'another', sent was 'fab1'")],
)
def test_a_bad_one_does_not(tmp_path, bad, told):
    with pytest.raises(AssertionError, match=told):
        proof.arrives(bad(tmp_path), "direct")


def test_a_way_without_a_row_is_named(tmp_path):
    with pytest.raises(AssertionError, match=r"has no \[s3.fax\]"):
        proof.promised("s3", "fax")


def test_every_item_of_the_corpus_has_a_key_of_its_own():
    parts = [corpus.part("t", number) for number in range(3)]
    keys = [key for part in parts for signal in SIGNALS for key in part.items[signal]]
    assert len(keys) == len(set(keys)) == 3 * len(SIGNALS) * corpus.PER_SIGNAL
