"""The documents as tests read them: pages, fenced blocks, code spans, links, headings.

In: Markdown files of the repository. Out: what stands in them, with page and line. Called by: the tests of this folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SHELL = {"", "sh", "bash", "shell", "console"}
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL
)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}[^\n]*\n|\n(?= {4}))+")
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


class Code(NamedTuple):
    """A piece of code: where it stands, in which language ("" when it does not say), what it says."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        """Page and line, as editors find them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every document: those of the root, of `docs/`, and each folder's README."""
    return sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("[a-z]*/README.md")})


def blocks(page: Path) -> Iterator[Code]:
    """Fenced blocks, and blocks that are indented by four, which name no language."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield Code(page, _line(text, found.start()) + 1, found["language"], _dedent(found["text"], len(found["indent"])))
    rest = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in _INDENTED.finditer(rest):
        yield Code(page, _line(rest, found.start()), "", _dedent(found[0], 4))


def spans(page: Path) -> Iterator[Code]:
    """Code inside a line of prose."""
    text = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))
    for found in _SPAN.finditer(text):
        yield Code(page, _line(text, found.start()), "", found[1].replace("\\|", "|"))


def links(page: Path) -> Iterator[tuple[int, str]]:
    """(line, target) of each link and image."""
    text = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))
    for found in _LINK.finditer(text):
        yield _line(text, found.start()), found[1]


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`: headings in lower case, without punctuation, blanks as hyphens."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _dedent(text: str, width: int) -> str:
    return "".join(line[min(width, len(line) - len(line.lstrip(" "))) :] for line in text.splitlines(keepends=True))
