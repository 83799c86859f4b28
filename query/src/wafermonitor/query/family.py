"""What `{run}` names.

In: a Reader and the ids of a run or a plain span. Out: a `Member`.  Called by: routes.
"""

from __future__ import annotations

from wafermonitor.query.errors import RunNotFound
from wafermonitor.runs.records import RunKey
from wafermonitor.storage.family import Member
from wafermonitor.storage.protocol import Reader


async def find(reader: Reader, trace_id: bytes, span_id: bytes, site: str | None) -> Member:
    """The run with these ids and its span, else the plain span; RunNotFound names what was looked for."""
    stored = await reader.run(trace_id, span_id, site)
    span = await reader.span(trace_id, span_id, site if stored is None else stored.run.site)
    if stored is not None:
        return Member(stored.run.key, stored, span)
    if span is not None:
        return Member(RunKey(span.resource.site, trace_id, span_id), None, span)
    where = "" if site is None else f" at site {site!r}"
    raise RunNotFound(f"no run or span {trace_id.hex()}-{span_id.hex()}{where}: it may not have arrived yet")
