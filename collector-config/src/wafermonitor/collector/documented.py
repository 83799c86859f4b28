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
    return known(section, kind) and key in level(table()[section][kind]["keys"])


def unknown(section: str, kind: str, settings: Any) -> Iterator[tuple[str, str]]:
    """(`a::b`, advice) of every key in `settings` that is not documented for the part."""
    yield from _walk(table()[section][kind]["keys"], settings, "")


def _walk(keys: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(keys, item, path)
        return
    known_here = level(keys)
    if not isinstance(value, dict) or known_here is None:
        return
    for key, below in value.items():
        here = f"{path}::{key}" if path else str(key)
        if key in known_here:
            yield from _walk(known_here[key], below, here)
        elif ANY in known_here:
            yield from _walk(known_here[ANY], below, here)
        else:
            near = difflib.get_close_matches(str(key), known_here, n=1)
            yield here, f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known_here)) or 'none'}"


def level(keys: Any) -> Any:
    """The keys of one level of the table, names of `shared` put in. None: anything goes."""
    if isinstance(keys, str):
        return level(table()["shared"][keys.removeprefix("$")])
    if not isinstance(keys, dict) or _ADDED not in keys:
        return keys
    found: dict[str, Any] = {}
    for name in keys[_ADDED]:
        found |= level(name)
    return found | {key: value for key, value in keys.items() if key != _ADDED}
