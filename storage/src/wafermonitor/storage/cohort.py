"""A run with what it is to be compared with: its subjobs, the runs of its job before it, the last good ones among them.

In: a Reader and a run. Out: a `Case` for `runs.explain`.  Called by: query (`/v1/jobs/{run}/explain`), alerting (causes).

Bounded, whatever the store holds: a trace of at most `MAX_TRACE_SPANS`, `RECENT` runs before, `PEERS` good ones with at most
`MAX_SUBJOBS` subjobs together, and a handful of single rows. Errors: those of the Reader.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from wafermonitor.runs.differences import Place
from wafermonitor.runs.explain import Case, Mates
from wafermonitor.runs.paths import Part, Tree, elapsed_s, first_failure, is_bad
from wafermonitor.runs.records import Feed, Run, RunKey, Span
from wafermonitor.runs.state import State
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events
from wafermonitor.storage.family import Family, Member, family
from wafermonitor.storage.protocol import LogQuery, Reader, RunQuery, StoredRun

RECENT = 100
PEERS = 20
LIKE = 5
"""From so many good runs of the same recipe and product on, others are not compared with."""
MAX_TRACE_SPANS = 20_000
MAX_SUBJOBS = 20_000
MAX_MATES = 500
_OPEN = (State.RUNNING, State.SILENT, State.LOST, State.UNKNOWN)


class Gathered(NamedTuple):
    """The case, and whether the run's trace is larger than what was read."""

    case: Case
    truncated: bool


async def gather(reader: Reader, stored: StoredRun, now_ns: int) -> Gathered:
    """Everything that `runs.explain.explain` asks about `stored`."""
    run = stored.run
    span = await reader.span(run.trace_id, run.span_id, run.site)
    kin = await family(reader, Member(run.key, stored, span), MAX_TRACE_SPANS)
    tree = _tree(stored, kin)
    recent = await _before(reader, run, RECENT)
    peers = await _peers(reader, run, recent)
    is_open = not run.ended
    case = Case(
        tree=tree,
        now_ns=now_ns,
        limits=await reader.limits(),
        overdue=stored.overdue,
        feed=await _feed(reader, run) if is_open else None,
        place=await _place(reader, run.key, span),
        recent=recent,
        peers=peers,
        good_place=await _place(reader, peers[0].top.run.key) if peers else Place(),
        said=await _said(reader, tree) if is_bad(run) else None,
        mates=await _mates(reader, run) if is_open else Mates(),
    )
    return Gathered(case, kin.truncated)


def _tree(stored: StoredRun, kin: Family) -> Tree:
    below = {span_id: [Part(one.run, one.state) for one in found] for span_id, found in kin.children().items()}
    return Tree(Part(stored.run, stored.state), below)


async def _before(reader: Reader, run: Run, limit: int, result: tuple[str, ...] = ()) -> list[Run]:
    """Runs of the job that began before `run`, at its site, the newest first."""
    if run.job is None:
        return []
    query = RunQuery(site=(run.site,), job=(run.job,), result=result, to_ns=run.start_ns, limit=limit)
    return [one.run for one in (await reader.runs(query)).items if one.run.key != run.key]


async def _peers(reader: Reader, run: Run, recent: Sequence[Run]) -> list[Tree]:
    """The last good runs, those of the same recipe and product where there are enough, with their subjobs."""
    good = [one for one in recent if one.result == "success"]
    if len(good) < PEERS and len(recent) >= RECENT - 1:
        good = await _before(reader, run, PEERS, ("success",))
    alike = [one for one in good if (one.recipe, one.product) == (run.recipe, run.product)]
    chosen = [one for one in (alike if len(alike) >= LIKE else good) if elapsed_s(one, 0) is not None][:PEERS]
    trees, left = [], MAX_SUBJOBS
    for one in chosen:
        top = Part(one, State.ENDED)
        kin = await reader.tree(one.trace_id, one.site, limit=left)
        left -= len(kin)
        if left <= 0:
            break  # half of its subjobs would look like few of them
        stored = next((each for each in kin if each.run.span_id == one.span_id), None)
        trees.append(Tree(top, {}) if stored is None else await _peer(reader, stored, kin))
    return trees


async def _peer(reader: Reader, stored: StoredRun, kin: Sequence[StoredRun]) -> Tree:
    """The subjobs of a good run. Those that name no parent are found by the trace's spans, as in the run itself."""
    if sum(one.run.parent_span_id is None for one in kin) <= 1:
        return _tree(stored, Family(stored.run.span_id, kin, {}))
    return _tree(stored, await family(reader, Member(stored.run.key, stored, None), MAX_TRACE_SPANS // PEERS))


async def _place(reader: Reader, key: RunKey, span: Span | None = None) -> Place:
    """The host and process that the run's resource names: from its span, or while there is none from its first event."""
    span = await reader.span(key.trace_id, key.span_id, key.site) if span is None else span
    text = None if span is None else span.resource.attributes
    if text is None:
        query = LogQuery(site=key.site, trace_id=key.trace_id, span_id=key.span_id, limit=1)
        text = next((record.resource.attributes for record in (await reader.logs(query)).items), None)
    attributes = _mapping(text)
    host, pid = attributes.get(names.HOST_NAME), attributes.get(names.PROCESS_PID)
    return Place(None if host is None else str(host), None if pid is None else str(pid))


async def _said(reader: Reader, tree: Tree) -> str | None:
    """The message of the exception in the run that failed first, or what its span says of its status."""
    run = (first_failure(tree) or [tree.top])[-1].run
    query = LogQuery(
        site=run.site, trace_id=run.trace_id, span_id=run.span_id, event_names=(events.WAFER_JOB_EXCEPTION,), limit=1
    )
    for record in (await reader.logs(query)).items:
        message = _mapping(record.attributes).get(names.EXCEPTION_MESSAGE)
        if isinstance(message, str) and message:
            return message
    span = await reader.span(run.trace_id, run.span_id, run.site)
    return None if span is None else span.status_message or None


async def _feed(reader: Reader, run: Run) -> Feed | None:
    sites = [one for one in await reader.sites() if one.site == run.site]
    return next((feed for one in sites for feed in one.feeds if feed.feed == run.feed), None)


async def _mates(reader: Reader, run: Run) -> Mates:
    """Open runs of the site that share the process or the feed, by whether they are heard of."""
    page = await reader.runs(RunQuery(site=(run.site,), state=_OPEN, inferred=False, limit=MAX_MATES))
    others = [one for one in page.items if one.run.key != run.key]
    mine = [one for one in others if run.process_key is not None and one.run.process_key == run.process_key]
    alive = sum(one.state is State.RUNNING for one in mine)
    on_feed = [one for one in others if one not in mine and one.run.feed == run.feed and one.state is State.RUNNING]
    return Mates(silent=len(mine) - alive, alive=alive, alive_on_feed=len(on_feed))


def _mapping(text: str | None) -> dict[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}
