"""The few things in which protobuf and JSON differ; everything else about a message is read by one code for both.

Messages of both lanes have OTLP's field names (`start_time_unix_nano` …). In protobuf text and ids are bytes and absent fields
have default values; in JSON text is str, ids are hex, 64-bit integers are text and absent fields are None.

In: a message or field as its lane decoded it. Out: Python values under the policies.
Implemented by: `python.ProtobufWire`, `json.JsonWire`. Called by: `assembly`, `spans`, `logs`, `points`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from wafermonitor.receiver.errors import ItemRejected
from wafermonitor.receiver.transcode.policies import MAX_DEPTH, Marks, Repair
from wafermonitor.receiver.transcode.protocol import Request, Signal


class Frame(NamedTuple):
    """What is around an item: its resource and its scope, each empty where there is none."""

    resource: bytes
    scope: bytes


Frames = Callable[[int, int], Frame]
"""The frame of the items in a group's scoped group, by the positions of both."""


class Wire(Protocol):
    """How one encoding's fields are read. ItemRejected from any of these condemns the item that the field belongs to."""

    def item(self, kind: str, raw: Any, marks: Marks) -> Any:
        """The message of a raw item; `kind` is span, log_record, metric, resource, scope or a metric's data-point kind."""

    def raw(self, item: Any) -> bytes:
        """The bytes of a raw item as the sender wrote them."""

    def frames(self, request: Request, groups: Sequence[Any]) -> Frames:
        """Where the resources and scopes of `request` stand, as its sender wrote them."""

    def whole(self, signal: Signal, frame: Frame, item: bytes) -> bytes:
        """A request with one item under its resource and scope."""

    def metric_of(self, metric: Any, point: bytes) -> bytes:
        """A metric as `metric` describes it, with one data point."""

    def text(self, value: Any, marks: Marks) -> str:
        """A string field."""

    def id(self, value: Any) -> bytes:
        """A bytes field that is hex in JSON; empty when absent."""

    def integer(self, value: Any) -> int:
        """An integer or enum field; 0 when absent."""

    def double(self, value: Any) -> float:
        """A double field; 0.0 when absent."""

    def optional_double(self, message: Any, name: str) -> float | None:
        """An `optional double` field."""

    def number(self, point: Any) -> float | None:
        """`as_double` or `as_int` of a number data point."""

    def metric_data(self, metric: Any) -> tuple[str, Any] | None:
        """Which of gauge, sum, histogram, exponential_histogram, summary a metric is, and that message."""

    def value(self, value: Any, marks: Marks, depth: int = 0) -> Any:
        """An AnyValue: str, bool, int, float, list, dict or None."""

    def attributes(self, pairs: Iterable[Any] | None, marks: Marks, depth: int = 0) -> dict[str, Any]:
        """A list of KeyValue."""


def put(into: dict[str, Any], key: str, value: Any, marks: Marks) -> None:
    """Set one attribute; of two values for one key the later counts, as it does in jsonb."""
    if key in into:
        marks.add(Repair.DUPLICATE_KEY)
    into[key] = value


def bytes_value(raw: bytes) -> dict[str, str]:
    """How bytes stand in JSON: OTLP's own form, so that they cannot be taken for text."""
    return {"bytesValue": base64.b64encode(raw).decode()}


def deeper(depth: int) -> int:
    """One level further down, or ItemRejected."""
    if depth >= MAX_DEPTH:
        raise ItemRejected(f"value is nested deeper than {MAX_DEPTH}")
    return depth + 1
