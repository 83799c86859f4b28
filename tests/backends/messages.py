"""Messages that hold OTLP protobuf, as queues have them: what is in them, for the proof."""

from __future__ import annotations

from collections.abc import Iterator

from tests.backends import corpus
from tests.backends.proof import Kept
from wafermonitor.storage.writers.items import items
from wafermonitor.storage.writers.protocol import Signal


def kept(signal: Signal, body: bytes) -> Iterator[Kept]:
    """Every item of the corpus in one message, with all that OTLP says of it."""
    for item in items(signal, body):
        if corpus.KEY in item.attributes:
            fields = {name: value for name, value in item._asdict().items() if name not in {"id", "resource", "scope"}}
            origin = {"site": item.resource.site, "service": item.resource.service, "time_ns": item.time_ns}
            yield Kept(corpus.key_of(item), fields | origin)
