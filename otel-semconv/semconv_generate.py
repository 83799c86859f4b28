"""Write the constants and the documentation page that the registry stands for.

In: a checked `Registry` and `templates/*.j2`. Out: Python modules under `src/`, `docs/semantic-conventions.md`.
Called by: `make generate` (as a script; `--check` only compares and names what is out of step), tests.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import semconv_check

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent
TARGETS = {
    "attributes.py.j2": "otel-semconv/src/wafermonitor/semconv/attributes.py",
    "events.py.j2": "otel-semconv/src/wafermonitor/semconv/events.py",
    "metrics.py.j2": "otel-semconv/src/wafermonitor/semconv/metrics.py",
    "schema.py.j2": "otel-semconv/src/wafermonitor/semconv/schema.py",
    "semantic-conventions.md.j2": "docs/semantic-conventions.md",
}
"""Template → file, relative to the repository."""


def render(registry: semconv_check.Registry) -> dict[str, str]:
    """Target path → content, for every template. The order is the registry's, so equal registries give equal files."""
    environment = _environment()
    values = _values(registry)
    return {target: _tidy(environment.get_template(template).render(values)) for template, target in TARGETS.items()}


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=False,  # noqa: S701 - the output is Python and Markdown, from our own files
        trim_blocks=False,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "constant": constant, "docstring": _line, "cell": _cell, "level": _level, "type_word": _type_word, "example": _example,
    }  # fmt: skip
    return environment


def _values(registry: semconv_check.Registry) -> dict[str, Any]:
    def resolved(signals: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            signal | {"note": signal.get("note", ""), "attributes": registry.resolve(signal.get("attributes", []))}
            for signal in signals
        ]

    return {
        "manifest": registry.manifest,
        "attributes": [
            attribute | {"members": semconv_check.members(attribute), "note": attribute.get("note", "")}
            for attribute in registry.attributes
        ],
        "foreign": registry.foreign(),
        "spans": resolved(registry.spans),
        "events": resolved(registry.events),
        "metrics": resolved(registry.metrics),
        "imported_metrics": registry.imported_metrics,
        "entities": [entity | {"description": entity.get("description", [])} for entity in registry.entities],
        "public_groups": resolved([group for group in registry.attribute_groups if group["visibility"] == "public"]),
    }


def constant(name: str) -> str:
    """`wafer.job.run.id` → `WAFER_JOB_RUN_ID`."""
    return name.replace(".", "_").upper()


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _level(ref: dict[str, Any]) -> str:
    level = ref.get("requirement_level", "recommended")
    if isinstance(level, dict):
        return _cell(next(iter(level.values())))
    return str(level).replace("_", " ")


def _type_word(attribute: dict[str, Any]) -> str:
    if attribute["members"]:
        return "one of " + ", ".join(member["value"] for member in attribute["members"])
    return "any" if attribute["type"] == "template[string]" else str(attribute["type"])


def _example(attribute: dict[str, Any]) -> str:
    examples = attribute.get("examples", [])
    return ", ".join(f"`{example}`" for example in examples)


def _tidy(text: str) -> str:
    """Templates cannot place blank lines exactly: no two in a row, none at the end."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Generate, or with `--check` compare; exit code 1 when the registry is wrong or a file is out of step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 if a file differs")
    only_check = parser.parse_args().check
    if semconv_check.main():
        return 1
    registry = semconv_check.sound()
    stale = 0
    for target, content in render(registry).items():
        path = HERE.parent / target
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale += 1
        if only_check:
            sys.stderr.write(f"{target}: out of step with otel-semconv/registry; run make generate\n")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        sys.stdout.write(f"wrote {target}\n")
    return 1 if only_check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
