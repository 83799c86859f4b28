"""Which ids a run has, without OpenTelemetry: from its parent's trace, at random, or derived from what both ends know.

In: site, job name, run id, attempt; `TRACEPARENT` and its companions. Out: trace id and span id as bytes, `TRACEPARENT` text.
Called by: `wafer run` (random ids), `wafer start/progress/end` (derived ids: a run begun in one process is ended by another).

Derived ids are the first 16 and the next 8 bytes of SHA-256 over the four values as UTF-8, joined by NUL; a child keeps its
parent's trace id. Source: W3C Trace Context level 2; design: a run's key is (site, trace id, span id).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
UNSET_SITE: Final = "unset"
"""The site of a host that names none, as the store calls it."""

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


class Ids(NamedTuple):
    """16 bytes that name a trace, 8 bytes that name a span in it."""

    trace_id: bytes
    span_id: bytes


class Parent(NamedTuple):
    """The span that a process was started under. `flags` are W3C's eight bits."""

    trace_id: bytes
    span_id: bytes
    flags: int
    trace_state: str


def derive(site: str, job: str, run_id: str, attempt: int = 1) -> Ids:
    """The ids that any process, in any language, works out from the same four values."""
    import hashlib  # `wafer run` derives nothing, and OpenSSL takes its time

    text = "\0".join((site or UNSET_SITE, job, run_id, str(attempt)))
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return Ids(digest[:16], digest[16:24])


def random_ids(parent: Parent | None) -> Ids:
    """New ids, inside the parent's trace if there is one."""
    return Ids(parent.trace_id if parent else _nonzero(16), _nonzero(8))


def parent_of(environ: Mapping[str, str]) -> Parent | None:
    """The parent that `TRACEPARENT` names; None without one or when it is not valid."""
    match = _TRACEPARENT.match(environ.get("TRACEPARENT", "").strip().lower())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = bytes.fromhex(match[2]), bytes.fromhex(match[3])
    if not any(trace_id) or not any(span_id):
        return None
    return Parent(trace_id, span_id, int(match[4], 16), environ.get("TRACESTATE", "").strip())


def child_flags(parent: Parent | None, *, keep: bool) -> int:
    """The flags a run hands to its children: sampled, unless the upstream's decision is to be kept."""
    if parent is None:
        return SAMPLED | RANDOM
    return parent.flags if keep else parent.flags | SAMPLED


def traceparent(ids: Ids, flags: int) -> str:
    """`ids` as `TRACEPARENT` has it."""
    return f"00-{ids.trace_id.hex()}-{ids.span_id.hex()}-{flags:02x}"


def _nonzero(length: int) -> bytes:
    while not any(value := os.urandom(length)):
        pass
    return value
