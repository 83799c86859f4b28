"""Batches become what is inserted: rows by table, in the order in which the tables have to be written.

In: the batches of one call, and parts of blocks. Out: a `Group` of encoded rows. Called by: `writer`, on a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wafermonitor.runs.records import Batch, DeadLetter, FeedBeat, LogRecord, ProcessBeat, Resource, Span
from wafermonitor.storage.clickhouse import rows
from wafermonitor.storage.clickhouse.rowbinary import text
from wafermonitor.storage.clickhouse.rows import Table
from wafermonitor.storage.protocol import Part

Names = dict[tuple[Table, bytes], bytes]
"""(table, key) of what rows share → its row."""


class Generation(NamedTuple):
    """Which time a dead letter came that was forgotten before, whether it is forgotten again, and when it was received."""

    number: int
    forgotten: int
    received_ns: int


@dataclass(slots=True)
class Group:
    """The rows of one call. `names` are what the other rows refer to, `changes` say which runs they are about."""

    names: Names = field(default_factory=dict)
    facts: dict[Table, list[bytes]] = field(default_factory=dict)
    changes: list[bytes] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


def gather(group: Sequence[Batch | Part], precedence: int, seen_s: int, call: bytes) -> Group:
    """Encode everything. ValueError, OverflowError or struct.error for what no column holds."""
    made = _encoded([one for one in group if isinstance(one, Batch)], precedence, seen_s, call)
    parts = [one for one in group if isinstance(one, Part)]
    for block in {id(part.block): part.block for part in parts}.values():
        for table in (rows.RESOURCES, rows.SCOPES, rows.SERIES):
            made.names |= {(table, key): row for key, row in block.name_rows(table.name, seen_s)}
        made.names |= {(rows.SITES, site.encode()): text(site) for site in block.sites}
    for part in parts:
        _add(made, part, precedence, seen_s, call)
    return made


def _add(group: Group, part: Part, precedence: int, seen_s: int, call: bytes) -> None:
    """The rows that a block has ready, and those of what it has few of."""
    block, first, last = part
    runs, changes = block.run_rows(first, last, call)
    ready = [(table, block.row_binary(table.name, first, last, precedence)) for table in (rows.SPANS, rows.LOGS, rows.POINTS)]
    for table, stream in [*ready, (rows.RUNS, runs)]:
        if stream:
            group.facts[table].append(stream)
    if changes:
        group.changes.append(changes)
    processes = map(ProcessBeat._make, block.processes(first, last))
    group.facts[rows.PROCESSES] += [rows.process_row(beat, seen_s) for beat in processes]
    group.facts[rows.FEEDS] += [rows.feed_row(beat) for beat in map(FeedBeat._make, block.feeds(first, last))]
    resources = block.resources
    newest = ((Resource._make(resources[place]), received_ns) for place, received_ns in block.apps(first, last))
    group.facts[rows.APPS] += [rows.app_row(resource, received_ns) for resource, received_ns in newest]
    group.letters += map(DeadLetter._make, block.dead(first, last))


def _encoded(batches: Sequence[Batch], precedence: int, seen_s: int, call: bytes) -> Group:
    group = Group()
    spans = [span for batch in batches for span in batch.spans]
    logs = [record for batch in batches for record in batch.logs]
    points = [point for batch in batches for point in batch.points]
    runs = [run for batch in batches for run in batch.runs]
    processes = [beat for batch in batches for beat in batch.processes]
    feeds = [beat for batch in batches for beat in batch.feeds]
    group.letters = [letter for batch in batches for letter in batch.dead]
    newest: dict[bytes, tuple[Resource, int]] = {}
    dated: list[Span | LogRecord] = [*spans, *logs]
    for record in dated:
        _name(group.names, record.resource, newest, record.received_ns, seen_s)
        if (rows.SCOPES, record.scope.key) not in group.names:
            group.names[rows.SCOPES, record.scope.key] = rows.scope_row(record.scope, seen_s)
    for point in points:
        _name(group.names, point.series.resource, newest, point.received_ns, seen_s)
    # Of two ways to describe one series the later counts.
    for series in {point.series.key: point.series for point in points}.values():
        group.names[rows.SERIES, series.key] = rows.series_row(series, seen_s)
        group.names[rows.SCOPES, series.scope.key] = rows.scope_row(series.scope, seen_s)
    sites = {run.site for run in runs} | {beat.site for beat in feeds} | {letter.site for letter in group.letters}
    for site in sites | {resource.site for resource, _ in newest.values()}:
        group.names[rows.SITES, site.encode()] = text(site)
    group.facts = {
        rows.SPANS: [rows.span_row(span, precedence) for span in spans],
        rows.LOGS: [rows.log_row(record, precedence) for record in logs],
        rows.POINTS: [rows.point_row(point, precedence) for point in points],
        rows.RUNS: [rows.run_row(run) for run in runs],
        rows.PROCESSES: [rows.process_row(beat, seen_s) for beat in processes],
        rows.FEEDS: [rows.feed_row(beat) for beat in feeds],
        rows.APPS: [rows.app_row(resource, received_ns) for resource, received_ns in newest.values()],
    }
    group.changes = list({run.key: rows.change_row(run, call) for run in runs}.values())
    return group


def letter_rows(letters: Iterable[DeadLetter], generations: Mapping[bytes, Generation]) -> list[bytes]:
    """Rows of the letters; `generations` are the newest of those that are known."""
    made = []
    for letter in letters:
        newest = generations.get(letter.key)
        made.append(rows.letter_row(letter, 0 if newest is None else newest.number + newest.forgotten))
    return made


def _name(names: Names, resource: Resource, newest: dict[bytes, tuple[Resource, int]], received_ns: int, seen_s: int) -> None:
    known = newest.get(resource.key)
    if known is None:
        names[rows.RESOURCES, resource.key] = rows.resource_row(resource, seen_s)
    if known is None or known[1] < received_ns:
        newest[resource.key] = (resource, received_ns)
