"""The batch of one request while it grows: who sends, which items were mended, which cannot be stored.

In: resource and scope messages of either lane, items one by one. Out: `Transcoded`.
Called by: `walk`, `spans`, `logs`, `points`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wafermonitor.receiver.errors import ItemRejected
from wafermonitor.receiver.transcode.policies import (
    MAX_ITEM_BYTES,
    MAX_REQUEST_PARTS,
    MAX_SAMPLE_BYTES,
    SAMPLES,
    Marks,
    canonical,
    digest,
    label,
)
from wafermonitor.receiver.transcode.protocol import Request, Signal, Transcoded
from wafermonitor.receiver.transcode.wire import Frames, Wire
from wafermonitor.runs import lifecycle
from wafermonitor.runs.records import UNSET_SITE, Batch, DeadLetter, Resource, Scope
from wafermonitor.semconv import attributes as names

MAX_REASONS = 5
"""How many different reasons the sender is told; the dead letters have them all."""
UNNAMED_SERVICE = "unknown_service"
"""What OpenTelemetry's SDKs call a service without a name."""


NOUNS = {Signal.TRACES: "spans", Signal.LOGS: "log records", Signal.METRICS: "data points"}


class Sender(NamedTuple):
    """A resource as a row, and what it says about runs."""

    resource: Resource
    origin: lifecycle.Origin


class Assembly:
    """The batch of one request while it grows."""

    def __init__(self, request: Request, groups: Sequence[Any], wire: Wire) -> None:
        self._request = request
        self._groups = groups
        self._frames: Frames | None = None
        self._place = (0, 0)
        self._room_bytes = SAMPLES * len(request.body) + MAX_SAMPLE_BYTES
        self._parts = MAX_REQUEST_PARTS
        self.signal = request.signal
        self.received_ns = request.received_ns
        self._arrivals = request.arrivals
        self.timeless: list[bytes] = []
        self.wire = wire
        self.batch = Batch()
        self.reasons: Counter[str] = Counter()
        self.repaired = 0

    def enter(self, group: int, scoped: int) -> None:
        """The items that come now are those of this scoped group of this group."""
        self._place = (group, scoped)

    def reject(self, site: str, reason: str, raw: Any, metric: Any = None) -> None:
        """Count one item as rejected and keep a sample of it. A data point comes with its metric."""
        self.reasons[reason] += 1
        self.batch.dead.append(DeadLetter(site, self.signal.value, reason, self._sample(raw, metric), self.received_ns))

    def _sample(self, raw: Any, metric: Any) -> bytes:
        """A request with this item alone, or what fits of the item."""
        bare = self.wire.raw(raw)
        if len(bare) < MAX_SAMPLE_BYTES:
            if self._frames is None:
                self._frames = self.wire.frames(self._request, self._groups)
            frame = self._frames(*self._place)
            if len(frame.resource) + len(frame.scope) < MAX_SAMPLE_BYTES:
                item = bare if metric is None else self.wire.metric_of(metric, bare)
                whole = self.wire.whole(self.signal, frame, item)
                if len(whole) < MAX_SAMPLE_BYTES and len(whole) <= self._room_bytes:
                    self._room_bytes -= len(whole)
                    return whole
        return bare[:MAX_SAMPLE_BYTES]

    def isolate(self, add: Callable[..., None], site: str, raw: Any, *context: Any, metric: Any = None) -> None:
        """Run `add(assembly, raw, marks, *context)` for one item; whatever is wrong with the item stays with the item."""
        if len(raw) > MAX_ITEM_BYTES:
            self.reject(site, f"item is larger than {MAX_ITEM_BYTES} bytes", raw, metric)
            return
        marks: Marks = set()
        try:
            add(self, raw, marks, *context)
        except ItemRejected as error:
            self.reject(site, str(error), raw, metric)
            return
        self.repaired += bool(marks)

    def take_parts(self, number: int) -> None:
        """Count the parts of an item that is stored otherwise; ItemRejected when the request has too many of them."""
        if number > self._parts:
            raise ItemRejected(f"the request has more than {MAX_REQUEST_PARTS} parts of items; send smaller ones")
        self._parts -= number

    def arrived_ns(self, digest: bytes) -> int:
        """The time of an item that says none: when it arrived for the first time, as far as that is known.

        `digest` is what tells it apart without a time; it goes to `timeless` when the item is stored.
        """
        return self._arrivals.get(digest, self.received_ns)

    def sender(self, raw: Any) -> Sender:
        """The resource of a group, and who it says is sending."""
        marks: Marks = set()
        message = self.wire.item("resource", raw, marks)
        attributes = {} if message is None else self.wire.attributes(message.attributes, marks)
        origin = lifecycle.origin_of(attributes)
        origin = origin._replace(
            site=label(origin.site, marks) or UNSET_SITE,
            feed=label(origin.feed, marks),
            service=label(origin.service, marks),
            service_version=label(origin.service_version, marks),
        )
        self.mark(attributes, marks)
        text = canonical(attributes)
        key = digest(origin.site.encode(), text.encode())
        service = origin.service or UNNAMED_SERVICE
        return Sender(
            Resource(key, origin.site, origin.feed, service, origin.service_version, origin.process_key, text), origin
        )

    def scope(self, raw: Any) -> Scope:
        """The instrumentation scope of a group; one without a name is a scope as well."""
        marks: Marks = set()
        message = self.wire.item("scope", raw, marks)
        if message is None:
            return Scope(digest(b"", b"", b"{}"), "", "", "{}")
        name = self.wire.text(message.name, marks)
        version = self.wire.text(message.version, marks)
        attributes = self.wire.attributes(message.attributes, marks)
        self.mark(attributes, marks)
        text = canonical(attributes)
        return Scope(digest(name.encode(), version.encode(), text.encode()), name, version, text)

    @staticmethod
    def mark(attributes: dict[str, Any], marks: Marks) -> None:
        """Say in the attributes what was mended."""
        if marks:
            attributes[names.WAFER_REPAIRED] = sorted(marks)

    def transcoded(self) -> Transcoded:
        """The finished batch, with the words for `partial_success` when something was rejected."""
        rejected = self.reasons.total()
        message = ""
        if rejected:
            told = [f"{reason} ({number})" for reason, number in self.reasons.most_common(MAX_REASONS)]
            message = f"{rejected} {NOUNS[self.signal]} rejected for good: {'; '.join(told)}"
        return Transcoded(self.batch, rejected, message, self.repaired, tuple(self.timeless))
