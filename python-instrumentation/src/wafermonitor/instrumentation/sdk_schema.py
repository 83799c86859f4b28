"""The JSON Schema of the configuration file (`sdk_file`), so that editors and the SDKs of other languages know it.

In: the settings of `Config`, and of every writer that is installed. Out: a JSON Schema (draft 2020-12) as plain data.
Called by: `wafer config schema`, the docs' generator, tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, Final

from wafermonitor.instrumentation import backends
from wafermonitor.instrumentation.config import MODES, Config
from wafermonitor.instrumentation.environment import EnvironmentConfig
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.instrumentation.sdk_file import BACKENDS, ENTRY, KEYS, REFERENCE, VARIABLE, Backend, Key

_PROJECT: Final = "wafermonitor"
_REFERENCE: Final = {"type": "string", "pattern": REFERENCE.pattern}
_SECRET: Final = {"type": "string", "pattern": r"^\$\{env:[A-Za-z_][A-Za-z0-9_]*\}$"}
_LIMITS: Final[Mapping[str, dict[str, Any]]] = {"timeout": {"exclusiveMinimum": 0}, "retries": {"minimum": 0}}


def schema(types: Iterable[str] | None = None) -> dict[str, Any]:
    """The schema with the entries of these types; None: of every writer whose client library is installed."""
    entries = _entries(backends.names() if types is None else types)
    docs = {field.name: field.metadata["doc"] for field in dataclasses.fields(Config)}
    listed = {"type": "array", "items": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in entries]}}
    about = docs["direct_backends"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "WaferMonitor: configuration of the instrumentation, in every language",
        "description": f"The file that {VARIABLE} names. The environment wins over it. ${{env:NAME}} takes a variable's value.",
        "type": "object",
        "properties": {
            "$schema": {"type": "string"},
            "mode": {"description": docs["mode"], "enum": list(MODES)},
            **{name: _section(keys, docs) for name, keys in KEYS.items() if name},
            BACKENDS: {"description": about, **listed},
            "backends": {"description": f"The older name of {BACKENDS}.", "deprecated": True, **listed},
        },
        "not": {"required": [BACKENDS, "backends"]},
        "additionalProperties": False,
        "$defs": entries,
    }


def own_types() -> list[str]:
    """The types that this project brings, whatever else is installed."""
    found = metadata.entry_points(group=backends.GROUP)
    return sorted({"otlp", *(entry.name for entry in found if entry.dist is not None and entry.dist.name == _PROJECT)})


def _section(keys: Mapping[str, Key], docs: Mapping[str, str]) -> dict[str, Any]:
    properties = {
        name: {"description": key.doc or docs[key.field], **_value(key, _LIMITS.get(name, {}))} for name, key in keys.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _entries(types: Iterable[str]) -> dict[str, Any]:
    found = {}
    wanted = set(types)
    wanted |= {older for older, (name, _) in backends.OLDER_TYPES.items() if name in wanted}
    for name in sorted(wanted):
        try:
            kind = backends.find(Backend(type=name)).config_type
        except ConfigRejected:
            continue  # its client library is not installed
        found[name] = _entry(name, kind)
    return found


def _entry(name: str, kind: type[EnvironmentConfig]) -> dict[str, Any]:
    common: dict[str, Any] = {word: {"description": key.doc, **_value(key, {})} for word, key in ENTRY.items()}
    common["type"] = {"description": ENTRY["type"].doc, "const": name}
    common["wait_s"] = {"description": ENTRY["wait_s"].doc, **_value(ENTRY["wait_s"], {"exclusiveMinimum": 0})}
    own = {word: {"description": key.doc, **_value(key, {})} for word, key in backends.keys_of(kind, name).items()}
    return {"type": "object", "properties": common | own, "required": ["type"], "additionalProperties": False}


def _value(key: Key, limits: Mapping[str, Any]) -> dict[str, Any]:
    if key.secret:
        return dict(_SECRET)
    if key.type == "string":
        return {"type": "string"}
    if key.type == "array":
        return {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}
    return {"anyOf": [{"type": key.type, **limits}, dict(_REFERENCE)]}
