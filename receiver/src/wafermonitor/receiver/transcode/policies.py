"""What is mended, what is refused, and how values become canonical JSON: one set of rules for every lane.

In: text, numbers, ids and times as they stood on the wire. Out: values that the store always takes, marks of what was mended
(`wafer.repaired`), or ItemRejected. Called by: `transcode` modules. The rules are listed in the folder's README.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from wafermonitor.receiver.errors import ItemRejected
from wafermonitor.runs import records
from wafermonitor.runs.records import MAX_LABEL_BYTES, Run

MAX_DEPTH = 64
"""Arrays and maps inside each other. Neither jsonb nor any reader of the API is asked to follow a deeper one."""
MAX_ITEM_BYTES = 16 * 1024 * 1024
"""One span, log record or metric point as it came. PostgreSQL's limit for one jsonb string is 256 MiB."""
MAX_PARTS = 65_536
"""Events, links, buckets or quantiles of one item: two bytes on the wire can become sixty in a row."""
MAX_REQUEST_PARTS = 2_097_152
"""Events, links, bounds, buckets and quantiles of one request that are stored: 64 MiB have as many of 32 bytes each."""
MAX_ENTRIES = 262_144
"""Resources, scopes, items and data points of one request: two bytes on the wire can become three hundred."""
MAX_SAMPLE_BYTES = 64 * 1024
"""What a dead letter keeps: a request with the rejected item alone when that is shorter, else so much of the item."""
SAMPLES = 4
"""Samples of one request have at most so many times its bytes and one sample more; what is rejected then is kept bare."""
TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
REPLACEMENT = "\ufffd"

Marks = set[str]
"""What was mended in one item so far."""


class Repair(StrEnum):
    """The values of `wafer.repaired`."""

    INVALID_UTF8 = "invalid_utf8"
    NUL = "nul_in_text"
    SURROGATE = "lone_surrogate"
    NOT_FINITE = "not_finite"
    DUPLICATE_KEY = "duplicate_key"
    LABEL = "label_too_long"
    UNKNOWN_ENUM = "unknown_enum"
    NO_START = "start_missing"
    NO_END = "end_missing"
    END_BEFORE_START = "end_before_start"
    NO_TIME = "time_missing"


SMALL_BYTES = 4096
"""msgspec's own sort takes quadratic time, with the GIL held, for keys in an unlucky order: it gets what fits in here."""
_encoder = msgspec.json.Encoder()
_sorting_encoder = msgspec.json.Encoder(order="sorted")


def canonical(value: Any) -> str:
    """JSON text with keys in order of code points at every level, no white space, UTF-8 as it is, integers exact."""
    if len(_encoder.encode(value)) <= SMALL_BYTES:
        return _sorting_encoder.encode(value).decode()
    return _encoder.encode(_ordered(value)).decode()


def _ordered(value: Any) -> Any:
    """The same value, with the keys of each object put in order. Code points and UTF-8 have the same order."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def digest(*parts: bytes) -> bytes:
    """SHA-256 over the parts, each behind its length in 8 bytes (big-endian), so that no two lists of parts look alike."""
    return hashlib.sha256(b"".join([len(part).to_bytes(8, "big") + part for part in parts])).digest()


def decode_text(raw: bytes, marks: Marks) -> str:
    """UTF-8 → text; what is not UTF-8, and NUL, which PostgreSQL has no place for, becomes U+FFFD."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        marks.add(Repair.INVALID_UTF8)
        text = raw.decode("utf-8", "replace")
    return clean_text(text, marks) if "\0" in text else text


def clean_text(text: str, marks: Marks) -> str:
    """Text without NUL."""
    if "\0" not in text:
        return text
    marks.add(Repair.NUL)
    return text.replace("\0", REPLACEMENT)


def finite(number: float, marks: Marks) -> float | None:
    """A finite number as it is; NaN and the infinities, which JSON does not have, become null."""
    if math.isfinite(number):
        return number
    marks.add(Repair.NOT_FINITE)
    return None


def trace_id(raw: bytes) -> bytes:
    """16 bytes, not all zero."""
    return _id(raw, TRACE_ID_BYTES, "trace id")


def span_id(raw: bytes) -> bytes:
    """8 bytes, not all zero."""
    return _id(raw, SPAN_ID_BYTES, "span id")


def optional_id(raw: bytes, size: int, name: str) -> bytes | None:
    """An id that may be absent: empty or all zero means none; another length is refused."""
    if not any(raw) and len(raw) in (0, size):
        return None
    return _id(raw, size, name)


def _id(raw: bytes, size: int, name: str) -> bytes:
    if len(raw) != size:
        raise ItemRejected(f"{name} has {len(raw)} bytes, expected {size}")
    if not any(raw):
        raise ItemRejected(f"{name} is all zero")
    return raw


def instant(time_ns: int) -> int:
    """A time that 63 bits hold (until the year 2262); later ones are refused."""
    if not 0 <= time_ns <= INT64_MAX:
        raise ItemRejected("time is before 1970 or after 2262")
    return time_ns


def count(number: int) -> int:
    """A count that a bigint holds."""
    if not 0 <= number <= INT64_MAX:
        raise ItemRejected("count is negative or above 2^63 - 1")
    return number


def parts(items: Sequence[Any] | None) -> Sequence[Any]:
    """A list within an item, which may be absent; a longer one than MAX_PARTS is refused."""
    if items is None:
        return ()
    if len(items) > MAX_PARTS:
        raise ItemRejected(f"item has more than {MAX_PARTS} parts of one kind")
    return items


def enum(number: int, largest: int, marks: Marks) -> int:
    """A value that the enum has; another one becomes 0, unspecified."""
    if 0 <= number <= largest:
        return number
    marks.add(Repair.UNKNOWN_ENUM)
    return 0


def label(text: str | None, marks: Marks) -> str | None:
    """A name that is indexed, cut where it is too long, and marked then."""
    if text is None:
        return None
    kept = records.label(text)
    if len(kept) < len(text):
        marks.add(Repair.LABEL)
    return kept


def bounded_run(run: Run, attributes_json: str) -> Run:
    """The run with every label within bounds. Nothing is lost, and so nothing marked: the attributes keep the whole text."""
    if len(attributes_json) * 4 <= MAX_LABEL_BYTES:
        return run
    marks: Marks = set()
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(run):
        value = getattr(run, field.name)
        if isinstance(value, str) and field.name != "attributes":
            new: Any = label(value, marks)
        elif field.name in ("lot_ids", "substrate_ids") and value:
            new = tuple(label(item, marks) for item in value)
        else:
            continue
        if new != value:
            changed[field.name] = new
    return dataclasses.replace(run, **changed) if changed else run
