"""What the rules look at and what they find.

In: the files that a Collector gets. Out: `Files`, and a `Finding` for each thing. Called by: `lint`, `queues`, `command`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wafermonitor.collector.documents import PARTS, Document


class Finding(NamedTuple):
    """One thing. `wrong`: it will not work; else it works and may cost data."""

    path: Path
    where: str
    text: str
    wrong: bool = True

    def __str__(self) -> str:
        return f"{self.path.name}: {self.where}: {self.text}"


class Files(NamedTuple):
    """What is looked at: every file, and what they make together. The first is `base.yaml`."""

    every: list[Document]
    whole: Document

    @property
    def added(self) -> list[Document]:
        """All but the first."""
        return self.every[1:]

    def kind_of(self, name: str) -> str:
        """Which section a part's name is in, or an empty text."""
        return next((section for section in PARTS if name in self.whole.parts(section)), "")

    def owner(self, section: str, name: str) -> Document:
        """The first file that has the part."""
        return next((one for one in self.every if name in one.parts(section)), self.every[0])
