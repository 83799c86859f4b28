"""The spans of a run in order of start, a page at a time, with the runs whose span has not arrived among them.

In: a Reader, the run's key and family, a cursor. Out: span models and the next cursor.  Called by: routes.run.
"""

from __future__ import annotations

import base64
import json

from wafermonitor.query.answers import announced_model, first_sign, span_model
from wafermonitor.query.errors import ParameterRejected
from wafermonitor.query.models import SpanModel
from wafermonitor.runs.records import RunKey, Span
from wafermonitor.storage.family import Family
from wafermonitor.storage.protocol import Reader, SpanQuery, StoredRun

MAX_READS = 20
"""How many pages of the store one page of ours may read while it looks for spans that belong to the run."""
_FINAL_SPAN = 2


def belongs(family: Family, span_id: bytes | None) -> bool:
    """A span or a log record of the run or of something below it. The topmost has everything, strays included."""
    return family.top or (span_id is not None and family.is_below(span_id))


async def page(
    reader: Reader, key: RunKey, family: Family, cursor: str | None, limit: int, *, now_ns: int
) -> tuple[list[SpanModel], str | None]:
    """Up to `limit` spans, and the announced runs that start before the last of them (after the last of the page before)."""
    inner, after_ns = _read(cursor)
    spans: list[Span] = []
    until_ns = after_ns
    for _ in range(MAX_READS):
        found = await reader.spans(SpanQuery(site=key.site, trace_id=key.trace_id, cursor=inner, limit=limit - len(spans)))
        spans += [span for span in found.items if belongs(family, span.span_id)]
        inner = found.cursor
        until_ns = found.items[-1].start_ns if found.items else until_ns
        if inner is None or len(spans) >= limit:
            break
    announced = _announced(family, spans, after_ns, until_ns if inner else None)
    rows = [(span.start_ns, span_model(span, family.runs.get(span.span_id))) for span in spans]
    rows += [(first_sign(stored.run), announced_model(stored, now_ns)) for stored in announced]
    rows.sort(key=lambda row: row[0])
    following = None if inner is None else _write(inner, until_ns)
    return [model for _, model in rows], following


def _announced(family: Family, spans: list[Span], after_ns: int | None, until_ns: int | None) -> list[StoredRun]:
    """Runs without their span in (after, until]; None is open-ended."""
    arrived = {span.span_id for span in spans}
    return [
        stored
        for span_id, stored in family.runs.items()
        if stored.run.end_rank < _FINAL_SPAN
        and span_id not in arrived
        and (after_ns is None or first_sign(stored.run) > after_ns)
        and (until_ns is None or first_sign(stored.run) <= until_ns)
        and belongs(family, span_id)
    ]


def _write(inner: str, until_ns: int | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([inner, until_ns]).encode()).decode()


def _read(cursor: str | None) -> tuple[str | None, int | None]:
    if cursor is None:
        return None, None
    try:
        inner, until_ns = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, RecursionError):
        inner = until_ns = None
    if not isinstance(inner, str) or not isinstance(until_ns, int | None):
        raise ParameterRejected("cursor", "not a cursor of this list: start again without one")
    return inner, until_ns
