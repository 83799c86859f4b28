"""The older configuration of the sidecar: two shapes of integrations.json as one list of entries.

In: JSON text. Out: `Older`: entries, spool, ingest. Called by: `render`.

    [{"type": "s3", "name": "backup", "enabled": true, "config": {"bucket": "events"}}]
    {"ingest": {"port": 17000}, "backends": [{"type": "s3", "enabled": true, "priority": 3, "bucket": "events"}],
     "spool": {"enabled": true, "path": "/var/spool/sidecar", "max_size_mb": 1000}}
"""

from __future__ import annotations

import functools
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

from wafermonitor.collector.errors import ConfigRejected

TABLE: Final = Path(__file__).with_name("older.toml")
_META: Final = frozenset({"type", "name", "enabled", "priority", "config", "description"})


class Kind(NamedTuple):
    """What a type becomes; a table of older.toml."""

    name: str
    files: tuple[str, ...]
    bridge: str
    keys: dict[str, str]
    left: dict[str, str]
    told: str


class Entry(NamedTuple):
    """One backend that is switched on. `slug` is unique in the file and fit for names of parts."""

    kind: Kind
    name: str
    slug: str
    priority: int | None
    settings: dict[str, Any]


class Older(NamedTuple):
    """The whole file. `spool_bytes` is for all queues together; None or empty where nothing was said."""

    entries: list[Entry]
    spool_path: str
    spool_bytes: int | None
    port: int | None
    notes: list[str]


@functools.cache
def kinds() -> dict[str, Kind]:
    """Every name of a type, older.toml's own and its others."""
    found: dict[str, Kind] = {}
    for name, table in tomllib.loads(TABLE.read_text(encoding="utf-8")).items():
        files, bridge = tuple(table.get("files", ())), table.get("bridge", "")
        kind = Kind(name, files, bridge, table.get("keys", {}), table.get("left", {}), table.get("told", ""))
        found |= dict.fromkeys([name, *table.get("also", ())], kind)
    return found


def read(text: str) -> Older:
    """`text` as entries. ConfigRejected names what is no such configuration, and unknown types with what there is instead."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigRejected(f"not JSON: {error}") from None
    if isinstance(content, dict) and isinstance(content.get("integrations"), list):
        content = content["integrations"]
    if isinstance(content, list):
        return Older(_entries(content), "", None, None, [])
    if not isinstance(content, dict) or not isinstance(content.get("backends"), list):
        raise ConfigRejected('neither a list of {"type", "name", "enabled", "config"} nor {"ingest", "backends", "spool"}')
    notes = [
        f"{where}.{key} is left out: {why}"
        for where, known in (("ingest", _INGEST), ("spool", _SPOOL))
        for key, why in known.items()
        if why and key in _table(content, where)
    ]
    ingest, spool = _table(content, "ingest", _INGEST), _table(content, "spool", _SPOOL)
    for key in set(content) - {"ingest", "backends", "spool"}:
        raise ConfigRejected(f"{key!r} is no section of it: known are ingest, backends and spool")
    if spool.get("enabled") is False:
        notes.append("spool.enabled = false is left out: what was accepted waits on disk, always")
    megabytes, port = _number(spool, "max_size_mb", "spool"), _number(ingest, "port", "ingest")
    size = None if megabytes is None else megabytes * 1_000_000
    return Older(_entries(content["backends"]), str(spool.get("path", "")), size, port, notes)


_INGEST: Final = {
    "port": "",
    "host": "loopback, unless WAFER_OTLP_HTTP says otherwise",
    "max_batch_size": "batches are bounded by bytes",
    "flush_interval": "each backend's file has one that fits it",
}
_SPOOL: Final = {"enabled": "", "path": "", "max_size_mb": ""}


def _table(content: dict[str, Any], where: str, known: dict[str, str] | None = None) -> dict[str, Any]:
    found = content.get(where) or {}
    if not isinstance(found, dict):
        raise ConfigRejected(f"{where} is no table")
    for key in set(found) - set(known or found):
        raise ConfigRejected(f"{where}.{key}: known are {', '.join(known or ())}")
    return found


def _number(table: dict[str, Any], key: str, where: str) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigRejected(f"{where}.{key} = {value!r}: a whole number above 0")
    return value


def _entries(rows: list[Any]) -> list[Entry]:
    found: list[Entry] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("type"), str):
            raise ConfigRejected(f"entry {number} has no type")
        name = str(row.get("name") or row["type"])
        if not _switch(row, name):
            continue
        kind = kinds().get(row["type"].lower())
        if kind is None:
            known = ", ".join(sorted(kinds()))
            raise ConfigRejected(f"{name}: type {row['type']!r} is unknown: known are {known}; or a YAML file of your own")
        nested = row.get("config") or {}
        if not isinstance(nested, dict):
            raise ConfigRejected(f"{name}: config is no table")
        settings = {key: value for key, value in row.items() if key not in _META} | nested
        found.append(Entry(kind, name, _slug(name, {one.slug for one in found}), _number(row, "priority", name), settings))
    return found


def _switch(row: dict[str, Any], name: str) -> bool:
    value = row.get("enabled", True)
    if not isinstance(value, bool):
        raise ConfigRejected(f"{name}: enabled = {value!r}: true or false")
    return value


def _slug(name: str, taken: set[str]) -> str:
    """`name` as lower case letters, digits and `_`, with a number where another has it."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "backend"
    return next(one for one in (slug, *(f"{slug}_{number}" for number in range(2, 1000))) if one not in taken)
