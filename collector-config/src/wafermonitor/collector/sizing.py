"""How large a queue must be to hold so many hours, and whether the disk has that much.

In: an outage to be survived, a rate, the chosen files. Out: bytes for `WAFER_COLLECTOR_QUEUE_BYTES`, and one line for people.
Called by: `wafer collector run --queue 24h --rate 1000`, `catalog`.

Each exporter has one queue a signal, and all have the same size. The rate is that of the busiest signal.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from wafermonitor.collector.config import Config
from wafermonitor.instrumentation.onward import size

ITEM_BYTES: Final = 800
"""A span of a job as OTLP protobuf, measured; a lifecycle event is smaller, a log line with a stack trace larger."""
_MOST_BYTES: Final = 2**63 - 1
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class Plan(NamedTuple):
    """`queue_bytes` is one queue; `queues` how many the files have (None: not known); `free_bytes` the disk's room."""

    outage_s: float
    rate: float
    item_bytes: int
    queue_bytes: int
    queues: int | None
    free_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the disk has room for every queue when all are full."""
        return self.queue_bytes * (self.queues or 1) <= self.free_bytes

    def __str__(self) -> str:
        hours = f"{self.outage_s / _UNITS['h']:g} h"
        each = f"each queue holds {size(self.queue_bytes)}: {hours} at {self.rate:g} items/s of {self.item_bytes} B"
        all_of_them = "" if self.queues is None else f"; {self.queues} queues, together {size(self.queue_bytes * self.queues)}"
        room = f"; the disk has {size(self.free_bytes)} free"
        return each + all_of_them + room + ("" if self.fits else ": NOT ENOUGH when a backend is away that long")


def seconds(text: str) -> float:
    """`24h`, `90m`, `2d` as seconds. ValueError says the form."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError("a number and s, m, h or d, as 24h")
    return float(match[1]) * _UNITS[match[2]]


def needed(outage_s: float, rate: float, item_bytes: int = ITEM_BYTES) -> int:
    """Bytes of `outage_s` seconds at `rate` items a second."""
    return max(1, round(outage_s * rate * item_bytes))


def hours(queue_bytes: int, rate: float, item_bytes: int = ITEM_BYTES) -> float:
    """Hours that a queue holds at `rate` items a second."""
    return queue_bytes / (rate * item_bytes) / _UNITS["h"]


def plan(config: Config, files: list[Path], outage_s: float, rate: float, item_bytes: int = ITEM_BYTES) -> Plan:
    """What `outage_s` at `rate` needs with these files and this disk. ValueError: more than a Collector can count."""
    if needed(outage_s, rate, item_bytes) > _MOST_BYTES:
        raise ValueError(f"{outage_s / _UNITS['h']:,.0f} h at {rate:g} items/s is more than any disk holds")
    folder = next(path for path in (config.queue_dir.absolute(), *config.queue_dir.absolute().parents) if path.is_dir())
    return Plan(outage_s, rate, item_bytes, needed(outage_s, rate, item_bytes), _queues(files), shutil.disk_usage(folder).free)


def _queues(files: list[Path]) -> int | None:
    """How many queues on disk the files make: one for each exporter and signal that a pipeline joins. None without PyYAML."""
    try:
        from wafermonitor.collector.documents import read, together
    except ModuleNotFoundError:
        return None
    whole = together([read(path, {}) for path in files])
    kept = {
        name
        for name, settings in whole.parts("exporters").items()
        if isinstance(settings.get("sending_queue"), dict) and settings["sending_queue"].get("storage")
    }
    return len(
        {
            (name, pipeline.partition("/")[0])
            for pipeline, lists in whole.pipelines.items()
            for name in lists["exporters"]
            if name in kept
        }
    )
