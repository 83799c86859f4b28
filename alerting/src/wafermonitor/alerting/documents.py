"""A YAML or TOML file as plain values, with the line on which each stands.

In: a file's text. Out: a `Document`: dicts, lists, texts, numbers, and `where(path)` → `file:line`. Called by: declared.

YAML's guesses are left out: only `true`, `false` and `null` are more than text or a number, so that NO is Norway and 22:00 a
time.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime, time
from pathlib import Path as File
from typing import Any, NamedTuple

import yaml

from wafermonitor.alerting.errors import AlertingRejected

Path = tuple[str | int, ...]
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_NUMBER = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.?[0-9]+)([eE][-+]?[0-9]+)?\Z")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(#.*)?\Z")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where it is there, is four times as fast
_DEEPEST = 50
_MOST_VALUES = 500_000


class Document(NamedTuple):
    """What a file says, and where it says it: line numbers by path from the top."""

    file: str
    data: dict[str, Any]
    lines: dict[Path, int]

    def where(self, path: Path) -> str:
        """`file:line` of the value at `path`, or of what it would stand in."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return f"{self.file}:{self.lines[path[:end]]}"
        return f"{self.file}:1"


def read(file: File) -> Document:
    """The file as a document; AlertingRejected when it cannot be read, or is neither YAML nor TOML."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise AlertingRejected(f"{file}: cannot be read ({reason}): expected a YAML or TOML file") from None
    return parse(text, str(file))


def parse(text: str, file: str) -> Document:
    """The document in `text`; a name that ends in `.toml` makes it TOML."""
    return _toml(text, file) if file.endswith(".toml") else _yaml(text, file)


def _yaml(text: str, file: str) -> Document:
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = min(mark.line, text.count("\n")) + 1 if mark else 1
        raise AlertingRejected(f"{file}:{line}: {what}: expected YAML") from None
    lines: dict[Path, int] = {(): 1}
    mistakes: list[str] = []
    data = {} if node is None else _value(node, (), _Yaml(file, lines, mistakes))
    if mistakes:
        raise AlertingRejected("\n".join(mistakes))
    return _document(file, data, lines)


class _Yaml(NamedTuple):
    file: str
    lines: dict[Path, int]
    mistakes: list[str]


def _value(node: yaml.Node, path: Path, reading: _Yaml) -> Any:
    line = node.start_mark.line + 1
    reading.lines.setdefault(path, line)
    if len(reading.lines) > _MOST_VALUES:  # aliases of aliases
        raise AlertingRejected(f"{reading.file}:{line}: more than {_MOST_VALUES} values: expected a smaller file, or several")
    if len(path) > _DEEPEST:  # an alias that leads back to itself
        reading.mistakes.append(f"{reading.file}:{line}: more than {_DEEPEST} levels: expected a flat file")
    elif isinstance(node, yaml.MappingNode):
        return _mapping(node, path, reading)
    elif isinstance(node, yaml.SequenceNode):
        return [_value(one, (*path, index), reading) for index, one in enumerate(node.value)]
    elif isinstance(node, yaml.ScalarNode):
        return _scalar(str(node.value), plain=not node.style)
    return None


def _mapping(node: yaml.MappingNode, path: Path, reading: _Yaml) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        line = key.start_mark.line + 1
        if name in found:
            first = reading.lines[*path, name]
            reading.mistakes.append(f"{reading.file}:{line}: a second {name!r}, expected one: the first is on line {first}")
            continue
        reading.lines[*path, name] = line
        found[name] = _value(value, (*path, name), reading)
    return found


def _scalar(text: str, *, plain: bool) -> Any:
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _NUMBER.match(text) else text


def _toml(text: str, file: str) -> Document:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        raise AlertingRejected(f"{file}:{at[1] if at else 1}: {error}: expected TOML") from None
    return _document(file, _plain(data), _toml_lines(text))


def _plain(value: Any) -> Any:
    """TOML's dates as text, as in YAML."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return value


def _toml_lines(text: str) -> dict[Path, int]:
    """Lines of tables and keys, for messages: what stands inside one line or value has the line of its key."""
    lines: dict[Path, int] = {(): 1}
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = tuple(_parts(header[1]))
            if line.lstrip().startswith("[["):
                index = counts[table] = counts.get(table, -1) + 1
                table = (*table, index)
            for end in range(1, len(table) + 1):
                lines.setdefault(table[:end], number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_parts(key[1])), number)
    return lines


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]


def _document(file: str, data: Any, lines: dict[Path, int]) -> Document:
    if not isinstance(data, dict):
        raise AlertingRejected(f"{file}:1: expected names with values, such as `rules:`")
    return Document(file, data, lines)
