"""The files that come with the package as a table: what each does, needs and may lose, and which Collector has its parts.

In: the headers and the content of backends/*.yaml and receivers/*.yaml, the two manifests. Out: one `Row` a file.
Called by: `wafer collector files`, the page docs/collector-files.md, tests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

from wafermonitor.collector import fragments, sizing
from wafermonitor.collector.documents import PARTS, Document, read
from wafermonitor.collector.errors import ConfigRejected

Build = Literal["minimal", "full", "contrib"]
STATED_RATE: Final = 100.0
"""Items a second for which the table says how many hours the queues hold."""
_FIELD: Final = re.compile(r"# (Sends|Takes|Needs|Loses) +(\S.*)")
_MORE: Final = re.compile(r"# {6,}(\S.*)")
_SETTING: Final = re.compile(r"#   (\w+) +(\S.*)")
_COLUMNS: Final = re.compile(r"(.*?\S) {2,}(\S.*)|(.*) (\S+)")
_MODULES: Final = {"otlp_grpc": "otlp"}


class Setting(NamedTuple):
    """One environment variable of a file, as its header has it."""

    name: str
    meaning: str
    default: str


class Row(NamedTuple):
    """One file. `does` is what it sends or takes; `build` the smallest Collector that has its parts: see `builds`."""

    kind: fragments.Kind
    name: str
    title: str
    does: str
    needs: str
    loses: str
    settings: tuple[Setting, ...]
    signals: tuple[str, ...]
    build: Build
    queue_bytes: int | None

    @property
    def hours(self) -> float | None:
        """How long each of its queues lasts at `STATED_RATE` items a second; None without one."""
        return None if self.queue_bytes is None else sizing.hours(self.queue_bytes, STATED_RATE)


def rows() -> list[Row]:
    """Every file of the package, backends first."""
    kinds: tuple[fragments.Kind, ...] = ("backends", "receivers")
    return [row(kind, name) for kind in kinds for name in fragments.names(kind)]


def row(kind: fragments.Kind, name: str) -> Row:
    """One file. ConfigRejected: its header lacks something."""
    path = fragments.HERE / kind / f"{name}.yaml"
    title, fields, settings = _header(path)
    does = fields.get("Sends", fields.get("Takes", ""))
    for word, text in (("Sends or Takes", does), ("Needs", fields.get("Needs")), ("Loses", fields.get("Loses"))):
        if not text:
            raise ConfigRejected(f"{path.name}: its header does not say what it {word.lower()}")
    document = read(path, {})
    signals = tuple(
        signal for signal in ("traces", "metrics", "logs") if signal in {one.partition("/")[0] for one in document.pipelines}
    )
    return Row(
        kind, name, title, does, fields["Needs"], fields["Loses"], settings, signals, built(document), _queue_bytes(document)
    )


def lacking(document: Document, manifest: Path) -> list[str]:
    """The parts of a file that a Collector built of `manifest` does not have."""
    modules = manifest.read_text(encoding="utf-8")
    found = []
    for section in PARTS:
        for name in document.parts(section):
            kind = name.partition("/")[0]
            module = _MODULES.get(kind, kind).replace("_", "")
            if not re.search(rf"/{module}({section[:-1]})? v", modules):
                found.append(name)
    return found


def built(document: Document) -> Build:
    """The smallest Collector that has every part: what `install` builds, what `install --full` builds, or otelcol-contrib."""
    return next((name for name in ("minimal", "full") if not lacking(document, fragments.MANIFESTS[name])), "contrib")


def _queue_bytes(document: Document) -> int | None:
    sizes = [
        settings["sending_queue"].get("queue_size")
        for settings in document.parts("exporters").values()
        if isinstance(settings.get("sending_queue"), dict) and settings["sending_queue"].get("storage")
    ]
    return min((size for size in sizes if isinstance(size, int)), default=None)


def _header(path: Path) -> tuple[str, dict[str, str], tuple[Setting, ...]]:
    """(first line, field → text, settings) of the comment on top."""
    lines = path.read_text(encoding="utf-8").splitlines()
    title = lines[0].removeprefix("# ") if lines else ""
    fields: dict[str, str] = {}
    settings = []
    last = ""
    for line in lines[1:]:
        if not line.startswith("#"):
            break
        if match := _FIELD.fullmatch(line):
            last = match[1]
            fields[last] = match[2]
        elif match := _SETTING.fullmatch(line):
            last = ""
            columns = _COLUMNS.fullmatch(match[2])
            meaning, default = (columns[1] or columns[3], columns[2] or columns[4]) if columns else (match[2], "")
            settings.append(Setting(match[1], meaning, default))
        elif last and (match := _MORE.fullmatch(line)):
            fields[last] += " " + match[1]
    return title, fields, tuple(settings)
