"""Dead letters to look at and to send again."""

from __future__ import annotations

import time
from typing import Any

from tests.receiver.otlp import GOOD, as_json
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.runs.records import Batch, DeadLetter
from wafermonitor.storage.protocol import Storage

NOW = time.time_ns()


def letter(sample: bytes, signal: str = "traces", **given: Any) -> DeadLetter:
    fields: dict[str, Any] = {"site": "f1", "reason": "the store refuses this row", "received_ns": NOW}
    return DeadLetter(signal=signal, sample=sample, **(fields | given))


def whole(signal: Signal, *, json: bool = False) -> DeadLetter:
    """A request with one good item."""
    request = GOOD[signal](1)
    return letter(as_json(request) if json else request.SerializeToString(), signal.value)


async def bury(storage: Storage, *letters: DeadLetter) -> list[str]:
    """Keep these letters; their keys."""
    await storage.writer.write([Batch(dead=list(letters))])
    return [found.key.hex() for found in letters]
