"""Read the registry and say everything that is wrong with it.

In: the YAML files under `registry/` (Weaver `definition/2`) and our JSON schema of them.
Out: a `Registry`, or a list of problems.
Called by: `semconv_generate`, `make check` (as a script: prints the problems, exit code 1 if there are any), tests.

Weaver can check the same files; it is a Rust program that no Python registry carries, so the rules stand here as well.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from wafermonitor.semconv.errors import SemconvRejected

HERE = Path(__file__).parent
REGISTRY = HERE / "registry"
SCHEMA = HERE / "schema" / "registry.schema.json"
NAMESPACE = "wafer."
SIGNALS = ("spans", "events", "metrics", "entities", "metric_refinements")

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*(\.[a-z][a-z0-9]*(_[a-z0-9]+)*)+\Z")
# UCUM as far as OpenTelemetry's own metrics use it: case-sensitive codes, counts in braces, ratios as 1.
_UNIT = re.compile(r"(1|s|ms|us|ns|min|h|By|KiBy|MiBy|Cel|%|\{[a-z_]+\})(/(s|min|h|\{[a-z_]+\}))?\Z")
_INSTRUMENTS = frozenset({"counter", "updowncounter", "gauge", "histogram"})
_EXAMPLE_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "int": int, "double": (int, float), "boolean": bool, "string[]": list,
}  # fmt: skip


@dataclass(slots=True)
class Registry:
    """The sections of all files, joined in the order of the file names."""

    manifest: dict[str, Any]
    attributes: list[dict[str, Any]] = field(default_factory=list)
    attribute_groups: list[dict[str, Any]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    metric_refinements: list[dict[str, Any]] = field(default_factory=list)
    entities: list[dict[str, Any]] = field(default_factory=list)
    imported_metrics: list[str] = field(default_factory=list)

    def references(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(where, reference) for each `ref` and `ref_group` of groups and signals."""
        for group in self.attribute_groups:
            yield from ((group["id"], ref) for ref in group["attributes"])
        for section in SIGNALS:
            for signal in getattr(self, section):
                where = name_of(signal)
                for part in ("attributes", "identity", "description"):
                    yield from ((where, ref) for ref in signal.get(part, ()))

    def foreign(self) -> dict[str, list[str]]:
        """The attributes that OpenTelemetry defines and we use → the values of theirs that we name, sorted by name."""
        own = {attribute["key"] for attribute in self.attributes}
        found: dict[str, list[str]] = {}
        for _, ref in self.references():
            if "ref" in ref and ref["ref"] not in own:
                values = found.setdefault(ref["ref"], [])
                values.extend(value for value in ref.get("examples", ()) if value not in values)
        return dict(sorted(found.items()))

    def resolve(self, references: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """References with every group replaced by what it holds, in order, each attribute once."""
        groups = {group["id"]: group["attributes"] for group in self.attribute_groups}
        found: dict[str, dict[str, Any]] = {}
        for ref in references:
            for single in self.resolve(groups[ref["ref_group"]]) if "ref_group" in ref else [ref]:
                found.setdefault(single["ref"], single)
        return list(found.values())


def name_of(signal: dict[str, Any]) -> str:
    """What a signal is called: spans and entities have a type, refinements an id, the others a name."""
    name = signal.get("name")
    return name if isinstance(name, str) else str(signal.get("type") or signal["id"])


def members(attribute: dict[str, Any]) -> list[dict[str, Any]]:
    """The values of an enumeration; empty for any other attribute."""
    kind = attribute["type"]
    return list(kind["members"]) if isinstance(kind, dict) else []


def load(folder: Path = REGISTRY) -> tuple[Registry, list[str]]:
    """Read all files of `folder`. The second value names each place where a file is not what the schema says."""
    import jsonschema
    import yaml

    registry = Registry(yaml.safe_load((folder / "manifest.yaml").read_text(encoding="utf-8")))
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    problems: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        faults = [f"{path.name}: {_place(error)}: {error.message}" for error in validator.iter_errors(content)]
        problems += faults
        if faults or path.name == "manifest.yaml":
            continue
        registry.imported_metrics += content.get("imports", {}).get("metrics", [])
        for section in ("attributes", "attribute_groups", *SIGNALS):
            getattr(registry, section).extend(content.get(section, []))
    return registry, problems


def check(registry: Registry) -> list[str]:
    """Everything that the schema cannot say, one line for each problem."""
    return [
        *_names(registry),
        *_leaf_is_prefix(registry),
        *_attribute_values(registry),
        *_dangling(registry),
        *_foreign(registry),
        *_metrics(registry),
    ]


def sound(folder: Path = REGISTRY) -> Registry:
    """The registry of `folder`; SemconvRejected has one line for each problem. The rules are asked once the shape is right."""
    registry, problems = load(folder)
    problems = problems or check(registry)
    if problems:
        raise SemconvRejected("\n".join(problems))
    return registry


def _place(error: Any) -> str:
    return "/".join(str(part) for part in error.absolute_path) or "top"


def _names(registry: Registry) -> Iterator[str]:
    """Names have our namespace and OpenTelemetry's form, and each stands once in its section."""
    sections = {
        "attribute": [attribute["key"] for attribute in registry.attributes],
        "group": [group["id"] for group in registry.attribute_groups],
        "span": [name_of(span) for span in registry.spans],
        "event": [name_of(event) for event in registry.events],
        "metric": [name_of(metric) for metric in registry.metrics],
        "entity": [name_of(entity) for entity in registry.entities],
    }
    for kind, names in sections.items():
        for name in names:
            if not _NAME.match(name) or not name.startswith(NAMESPACE):
                yield f"{kind} {name}: not a name of the form {NAMESPACE}lower_case.with.dots"
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{kind} {name}: defined {names.count(name)} times"


def _leaf_is_prefix(registry: Registry) -> Iterator[str]:
    """`a.b` and `a.b.c` cannot both be attributes: stores that nest objects by dots lose one of them."""
    keys = {attribute["key"] for attribute in registry.attributes}
    for key in sorted(keys):
        parts = key.split(".")
        for end in range(1, len(parts)):
            shorter = ".".join(parts[:end])
            if shorter in keys:
                yield f"attribute {shorter}: is also the prefix of {key}"


def _attribute_values(registry: Registry) -> Iterator[str]:
    """Enumerations have distinct values that are their ids; examples have the attribute's type."""
    for attribute in registry.attributes:
        values = [member["value"] for member in members(attribute)]
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield f"attribute {attribute['key']}: value {value} stands twice"
        for member in members(attribute):
            if member["id"] != member["value"]:
                yield f"attribute {attribute['key']}: member {member['id']} has the value {member['value']}; keep them equal"
        expected = _EXAMPLE_TYPES.get(str(attribute["type"]))
        for example in attribute.get("examples", ()):
            if expected is not None and (not isinstance(example, expected) or (expected is int and isinstance(example, bool))):
                yield f"attribute {attribute['key']}: example {example!r} is no {attribute['type']}"


def _dangling(registry: Registry) -> Iterator[str]:
    """A reference into our namespace names an attribute or a group that exists, and nothing defined is left unused."""
    own = {attribute["key"] for attribute in registry.attributes}
    groups = {group["id"] for group in registry.attribute_groups}
    used = set()
    for where, ref in registry.references():
        target: str = ref["ref_group"] if "ref_group" in ref else ref["ref"]
        used.add(target)
        known = groups if "ref_group" in ref else own
        if target not in known and ("ref_group" in ref or target.startswith(NAMESPACE)):
            yield f"{where}: refers to {target}, which is not defined"
    for key in sorted(own - used):
        yield f"attribute {key}: no span, event, metric or entity uses it"


def _foreign(registry: Registry) -> Iterator[str]:
    """Every other name is one that OpenTelemetry has, in the version that PyPI's package carries."""
    keys = foreign_attributes()
    for key, values in registry.foreign().items():
        if key.startswith(NAMESPACE):
            continue
        if key not in keys:
            yield f"attribute {key}: not ours, and OpenTelemetry does not have it"
            continue
        allowed = keys[key]
        for value in values:
            if allowed and value not in allowed:
                yield f"attribute {key}: OpenTelemetry has no value {value}"
    metrics = foreign_metrics()
    refined = [refinement["ref"] for refinement in registry.metric_refinements]
    for name in [*registry.imported_metrics, *refined]:
        if name not in metrics:
            yield f"metric {name}: not ours, and OpenTelemetry does not have it"
    for name in refined:
        if name not in registry.imported_metrics:
            yield f"metric {name}: refined but not imported"


def _metrics(registry: Registry) -> Iterator[str]:
    for metric in registry.metrics:
        if not _UNIT.match(metric["unit"]):
            yield f"metric {metric['name']}: unit {metric['unit']!r} is no UCUM code that OpenTelemetry uses"
        if metric["instrument"] not in _INSTRUMENTS:
            yield f"metric {metric['name']}: no instrument is called {metric['instrument']}"


@cache
def foreign_attributes() -> dict[str, frozenset[str]]:
    """Attribute keys of the installed opentelemetry-semantic-conventions → the values of those that are enumerations."""
    found: dict[str, frozenset[str]] = {}
    for module in _modules("opentelemetry.semconv._incubating.attributes"):
        enums = {
            name.removesuffix("Values").lower(): frozenset(str(member.value) for member in value)
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Enum) and name.endswith("Values")
        }
        for name, key in vars(module).items():
            if name.isupper() and isinstance(key, str):
                found[key] = enums.get(name.replace("_", "").lower(), frozenset())
    return found


@cache
def foreign_metrics() -> frozenset[str]:
    """Metric names of the installed opentelemetry-semantic-conventions."""
    modules = _modules("opentelemetry.semconv._incubating.metrics")
    return frozenset(
        value for module in modules for name, value in vars(module).items() if name.isupper() and isinstance(value, str)
    )


def _modules(package: str) -> list[Any]:
    parent = importlib.import_module(package)
    return [importlib.import_module(f"{package}.{module.name}") for module in pkgutil.iter_modules(parent.__path__)]


def main(folder: Path = REGISTRY) -> int:
    """Print what is wrong; the exit code says whether anything is."""
    try:
        sound(folder)
    except SemconvRejected as error:
        for problem in str(error).splitlines():
            sys.stderr.write(f"otel-semconv/registry: {problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
