"""Who is below whom in one trace: runs, and the plain spans between and under them.

In: a Reader and the ids of a run or a plain span. Out: `Family`, which knows parent runs, subjobs and what lies below.
Called by: query (one run), `cohort`.

A run says who its parent run is (design/2 §2.1). Stock instrumentation does not, so then the trace's spans are read once and
walked, unless the answer is known without: the trace has no more than one such run, or the question is about its root.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from wafermonitor.runs.records import RunKey, Span
from wafermonitor.storage.protocol import MAX_PAGE, Reader, SpanQuery, StoredRun

MAX_RUNS = 10_000


class Family:
    """The runs of one trace in order of start, and the parent of every span that is known."""

    def __init__(
        self, target: bytes, runs: Iterable[StoredRun], parents: dict[bytes, bytes | None], *, cut: bool = False
    ) -> None:
        self.target = target
        self.runs = {stored.run.span_id: stored for stored in runs}
        self.truncated = cut or len(self.runs) >= MAX_RUNS
        """The trace has more runs or spans than were read."""
        self._parents = parents | {
            span_id: stored.run.parent_span_id
            for span_id, stored in self.runs.items()
            if stored.run.parent_span_id is not None or span_id not in parents
        }
        self._below: dict[bytes, bool] = {}

    @property
    def top(self) -> bool:
        """Nothing known is above the target: then the whole trace is its own."""
        parent = self._parents.get(self.target)
        return parent is None or (parent not in self._parents and parent not in self.runs)

    def parent_run(self, span_id: bytes) -> bytes | None:
        """The span id of the nearest run above; one that was announced but never seen counts."""
        stored = self.runs.get(span_id)
        if stored is not None and stored.run.parent_span_id is not None:
            return stored.run.parent_span_id
        seen = {span_id}
        parent = self._parents.get(span_id)
        while parent is not None and parent not in seen:
            if parent in self.runs:
                return parent
            seen.add(parent)
            parent = self._parents.get(parent)
        return None

    def children(self) -> dict[bytes, list[StoredRun]]:
        """Direct subjobs of each run, in order of start. What hangs under the target's plain spans hangs on the target."""
        found: dict[bytes, list[StoredRun]] = {}
        for span_id, stored in self.runs.items():
            parent = self.parent_run(span_id)
            if self.target not in self.runs and self.is_below(span_id) and (parent is None or not self.is_below(parent)):
                parent = self.target
            if parent is not None and parent != span_id:
                found.setdefault(parent, []).append(stored)
        return found

    def is_below(self, span_id: bytes) -> bool:
        """The target itself, or something whose ancestors lead to it."""
        path: list[bytes] = []
        seen: set[bytes] = set()
        current: bytes | None = span_id
        answer = False
        while current is not None and current not in seen:
            known = self._below.get(current)
            if known is not None or current == self.target:
                answer = known is not False
                break
            seen.add(current)
            path.append(current)
            current = self._parents.get(current)
        self._below.update(dict.fromkeys(path, answer))
        return answer


class Member(NamedTuple):
    """What `{run}` names: a run, or a plain span, or both (a run whose span has arrived)."""

    key: RunKey
    stored: StoredRun | None
    span: Span | None


async def family(reader: Reader, member: Member, max_spans: int, *, spans: bool = False) -> Family:
    """Everyone in the member's trace. `spans`: plain spans will be asked about, so walk them unless all are the target's."""
    key = member.key
    runs = await reader.tree(key.trace_id, key.site, MAX_RUNS)
    nameless = sum(stored.run.parent_span_id is None for stored in runs)
    one_job = member.stored is not None and nameless <= 1
    if _is_top(member, nameless) if spans else one_job or not runs:
        return Family(key.span_id, runs, {})
    parents, cut = await _parents(reader, key, max_spans)
    return Family(key.span_id, runs, parents, cut=cut)


def _is_top(member: Member, nameless: int) -> bool:
    """Nothing is above the member: it is the only run that names no parent, or its own span is a root."""
    if member.stored is not None:
        if member.stored.run.parent_span_id is not None:
            return False
        if nameless == 1:
            return True
    return member.span is not None and member.span.parent_span_id is None


async def _parents(reader: Reader, key: RunKey, max_spans: int) -> tuple[dict[bytes, bytes | None], bool]:
    parents: dict[bytes, bytes | None] = {}
    cursor: str | None = None
    while len(parents) < max_spans:
        page = await reader.spans(SpanQuery(site=key.site, trace_id=key.trace_id, cursor=cursor, limit=MAX_PAGE))
        parents |= {span.span_id: span.parent_span_id for span in page.items}
        cursor = page.cursor
        if cursor is None:
            break
    return parents, cursor is not None
