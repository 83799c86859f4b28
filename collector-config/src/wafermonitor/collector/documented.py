"""The documented keys of a Collector's parts, and what in a file is none of them.

In: `documented.yaml`. Out: unknown keys with the nearest known one, and which exporters bring a queue of their own.
Called by: `lint`.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from wafermonitor.collector.documents import parse

Queue = Literal["own", "spool", "none needed"]
TABLE: Final = Path(__file__).with_name("documented.yaml")
ANY: Final = "*"
_ADDED: Final = "<"


@functools.cache
def table() -> dict[str, Any]:
    """`documented.yaml` as it stands."""
    found: dict[str, Any] = parse(TABLE.read_text(encoding="utf-8"))
    return found


def known(section: str, kind: str) -> bool:
    """Whether the keys of `kind` (`otlp_http`) among `section` (`exporters`) are in the table."""
    return kind in table()[section]


def kinds(section: str) -> list[str]:
    """Every part of `section` that is in the table."""
    return sorted(table()[section])


def queue(kind: str) -> Queue | None:
    """How an exporter keeps what it has not delivered; None for one that is not in the table."""
    entry = table()["exporters"].get(kind)
    found: Queue | None = None if entry is None else entry["queue"]
    return found


def has(section: str, kind: str, key: str) -> bool:
    """Whether the part has `key` on its highest level."""
    return known(section, kind) and key in _level(table()[section][kind]["keys"])


def unknown(section: str, kind: str, settings: Any) -> Iterator[tuple[str, str]]:
    """(`a::b`, advice) of every key in `settings` that is not documented for the part."""
    yield from _walk(table()[section][kind]["keys"], settings, "")


def _walk(keys: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(keys, item, path)
        return
    level = _level(keys)
    if not isinstance(value, dict) or level is None:
        return
    for key, below in value.items():
        here = f"{path}::{key}" if path else str(key)
        if key in level:
            yield from _walk(level[key], below, here)
        elif ANY in level:
            yield from _walk(level[ANY], below, here)
        else:
            near = difflib.get_close_matches(str(key), level, n=1)
            yield here, f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(level)) or 'none'}"


def _level(keys: Any) -> Any:
    """The keys of one level, names of `shared` put in. None: anything goes."""
    if isinstance(keys, str):
        return _level(table()["shared"][keys.removeprefix("$")])
    if not isinstance(keys, dict) or _ADDED not in keys:
        return keys
    level: dict[str, Any] = {}
    for name in keys[_ADDED]:
        level |= _level(name)
    return level | {key: value for key, value in keys.items() if key != _ADDED}
