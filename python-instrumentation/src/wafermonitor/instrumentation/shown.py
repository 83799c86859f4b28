"""What `wafer config show` prints: every setting of every component, where its value came from, and nothing secret.

In: the entry points of `wafermonitor.configs`, the direct backends. Out: rows by component, as plain values or as a table.
Called by: `command`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Final

import click

from wafermonitor.instrumentation.cli import EXTRAS
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.environment import shown
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.instrumentation.option import MASK, Option
from wafermonitor.instrumentation.sdk_file import Backend

GROUP: Final = "wafermonitor.configs"
_PASSWORD: Final = re.compile(r"(://[^/@\s:]*):[^/@\s]+@")


def settings(component: str | None = None) -> dict[str, dict[str, Any]]:
    """By component: `{"options": […]}`, or `{"needs": extra}` when a driver is missing, or `{"error": what to mend}`."""
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if component is not None and component not in known:
        raise click.BadParameter(f"{component!r} is none of {', '.join(sorted(known))}", param_hint="COMPONENT")
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(known) if component is None else [component]:
        try:
            config = known[name].load()
            options = [*config.options(), *(backend_options(Config.load().direct_backends) if config is Config else ())]
            found[name] = {"options": [_masked(option._asdict()) for option in options]}
        except ModuleNotFoundError:
            found[name] = {"needs": EXTRAS.get(name, name)}
        except ConfigRejected as error:
            found[name] = {"error": str(error)}
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """As text for people, one component after the other."""
    width = shutil.get_terminal_size((120, 24)).columns
    lines: list[str] = []
    for component, part in found.items():
        lines += ["", component] if lines else [component]
        if "needs" in part:
            lines.append(f'  not installed: pip install "wafermonitor[{part["needs"]}]"')
        elif "error" in part:
            lines.append(f"  wrong: {part['error']}")
        else:
            lines += _rows(part["options"], width)
    return "\n".join(lines)


def backend_options(backends: Iterable[Backend]) -> Iterator[Option]:
    """The settings of each direct backend, as rows of the instrumentation. ConfigRejected when one cannot be set up."""
    from wafermonitor.instrumentation import backends as known

    for position, backend in enumerate(backends):
        config = known.settings(backend, os.environ)
        written = {key.field: name for name, key in known.keys_of(type(config), backend.type).items()}
        untouched = type(config)()
        for field in dataclasses.fields(config):
            variable, *aliases = type(config).variables(field)
            given = any(os.environ.get(name, "").strip() for name in (variable, *aliases))
            value = shown(getattr(config, field.name))
            yield Option(
                component="instrumentation",
                name=f"direct_backends[{position}].{field.name}",
                environment=f"{variable} ({backend} {position + 1})",
                aliases=tuple(aliases),
                type=str(field.type),
                default=shown(getattr(untouched, field.name)),
                doc=field.metadata["doc"],
                value=MASK if field.metadata["secret"] and value else value,
                source=backend.source if written[field.name] in backend.settings else "environment" if given else "default",
            )


def _rows(options: list[dict[str, Any]], width: int) -> list[str]:
    name = max((len(option["environment"]) for option in options), default=0)
    value = min(max((len(option["value"]) for option in options), default=0), max(20, width - name - 30))
    rows = []
    for option in options:
        also = f"  (also {', '.join(option['aliases'])})" if option["aliases"] else ""
        rows.append(f"  {option['environment']:<{name}}  {option['value']:<{value}}  {option['source']}{also}")
    return rows


def _masked(option: dict[str, Any]) -> dict[str, Any]:
    """A password inside a URL is a secret even where the option as a whole is none."""
    hidden = {key: _PASSWORD.sub(r"\1:********@", option[key]) for key in ("value", "default")}
    return {**option, **hidden, "aliases": list(option["aliases"])}
