"""The YAML files as data: read, with `${env:…}` put in, and put together as the Collector does it.

In: paths, an environment. Out: one `Document` a file, or the whole that they make. Called by: `lint`, `render`, `catalog`.

Needs PyYAML (the extra `collector`); a Collector is run, and asked for its own opinion, without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from wafermonitor.collector.errors import ConfigRejected

PARTS: Final = ("receivers", "processors", "exporters", "connectors", "extensions")
LISTS: Final = ("receivers", "processors", "exporters")
"""What a pipeline is made of."""
_VARIABLE: Final = re.compile(r"\$\{env:(\w+)(?::-([^}]*))?\}")


class Document(NamedTuple):
    """One file. `raw` is what is written, `content` the same with the environment put in."""

    path: Path
    raw: dict[str, Any]
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """How people call it."""
        return self.path.stem

    def parts(self, section: str) -> dict[str, dict[str, Any]]:
        """Name → settings of one of `PARTS`; what has no settings has an empty map. What has another shape is left out."""
        found = block(self.content, section)
        return {
            name: settings if isinstance(settings, dict) else {} for name, settings in found.items() if isinstance(name, str)
        }

    @property
    def service(self) -> dict[str, Any]:
        """The section `service`."""
        return block(self.content, "service")

    @property
    def extensions(self) -> list[str]:
        """What `service` starts."""
        return _texts(self.service.get("extensions"))

    @property
    def pipelines(self) -> dict[str, dict[str, list[str]]]:
        """Pipeline → receivers, processors, exporters. What has another shape is left out."""
        found = block(self.service, "pipelines")
        return {name: {key: _texts(block(found, name).get(key)) for key in LISTS} for name in found if isinstance(name, str)}

    def misshapen(self) -> Iterator[tuple[str, str]]:
        """(place, what should stand there) of what the above leave out."""
        for section in PARTS:
            yield from _maps(self.content.get(section), section)
        yield from _maps(self.content.get("service"), "service", deep=False)
        pipelines = self.service.get("pipelines")
        yield from _maps(pipelines, "pipelines")
        for name, lists in block(self.service, "pipelines").items():
            for key, value in lists.items() if isinstance(lists, dict) else ():
                if key not in LISTS:
                    yield f"pipelines::{name}::{key}", f"no such list; there are {', '.join(LISTS)}"
                elif value is not None and _texts(value) != value:
                    yield f"pipelines::{name}::{key}", "a list of names"
        if _texts(self.service.get("extensions")) != (self.service.get("extensions") or []):
            yield "service::extensions", "a list of names"


def block(settings: Any, key: str) -> dict[Any, Any]:
    """The map under `key`; an empty one where there is none."""
    found = settings.get(key) if isinstance(settings, dict) else None
    return found if isinstance(found, dict) else {}


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _maps(value: Any, place: str, *, deep: bool = True) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield place, "a map of names"
        return
    for name, settings in value.items():
        if not isinstance(name, str):
            yield f"{place}::{name}", "a name is text"
        elif deep and settings is not None and not isinstance(settings, dict):
            yield f"{place}::{name}", "a map of settings"


def read(path: Path, environ: Mapping[str, str]) -> Document:
    """One file. ConfigRejected: it cannot be read, or is no YAML map."""
    try:
        raw = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigRejected(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        raise ConfigRejected(f"{path}{where}: not YAML: {getattr(error, 'problem', None) or 'it cannot be parsed'}") from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigRejected(f"{path}: a Collector's file is a map of sections")
    return Document(path, raw, filled(raw, environ))


def parse(text: str) -> Any:
    """YAML as data; by the C library where PyYAML has it, which is ten times as fast."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are the safe loader


def filled(value: Any, environ: Mapping[str, str]) -> Any:
    """`value` with every `${env:NAME:-default}` replaced; one that is a whole value is read as YAML, as the Collector does."""
    if isinstance(value, dict):
        return {key: filled(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, environ) for item in value]
    if not isinstance(value, str) or "${env:" not in value:
        return value
    text = _VARIABLE.sub(lambda match: environ.get(match[1], match[2] or ""), value)
    if _VARIABLE.fullmatch(value):
        try:
            return parse(text)
        except yaml.YAMLError:
            return text
    return text


def variables(value: Any) -> dict[str, str | None]:
    """Every environment variable that `value` reads, with its default there; None without one."""
    if isinstance(value, dict):
        return {name: default for item in value.values() for name, default in variables(item).items()}
    if isinstance(value, list):
        return {name: default for item in value for name, default in variables(item).items()}
    return {match[1]: match[2] for match in _VARIABLE.finditer(value)} if isinstance(value, str) else {}


def together(documents: list[Document]) -> Document:
    """What the Collector makes of them: maps merge, later values win, lists are replaced."""
    content: dict[str, Any] = {}
    for document in documents:
        content = _merge(content, document.content)
    return Document(Path("all"), content, content)


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merge(old[key], value) if key in old else value for key, value in new.items()}
    return new


def kind(name: str) -> str:
    """`otlp_http` of `otlp_http/loki`."""
    return name.partition("/")[0]
