"""Run: one run in full, or one plain trace.

In: `Run`, the line of the waterfall in view. Out: `Page`. Called by: pages.page.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wafermonitor.query.models import LogModel, MetricSeriesModel, RunDetail, RunModel, SpanModel, TreeNode
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events, metrics
from wafermonitor.ui import watched, waterfall
from wafermonitor.ui.address import MOST_FOLDED, Alerts, Run, Runs, url
from wafermonitor.ui.clock import duration, epoch_ms, file_size, number, seconds_between
from wafermonitor.ui.errors import RunMissing
from wafermonitor.ui.pages.page import Page
from wafermonitor.ui.points import cores_busy, points_of
from wafermonitor.ui.render import plain, plural, render
from wafermonitor.ui.source import Logs, Source
from wafermonitor.ui.states import LOOKS, Look, look
from wafermonitor.ui.waterfall import Row, Trace

_SEVERITY_LOOKS = ((17, "error"), (13, "warn"), (9, "info"), (0, "debug"))
_JOB = names.WAFER_JOB_NAME.removesuffix("name")
_SHOWN_ELSEWHERE = {
    names.ERROR_TYPE,
    names.WAFER_EQUIPMENT_ID,
    names.WAFER_LOT_IDS,
    names.WAFER_PRODUCT_ID,
    names.WAFER_RECIPE_NAME,
    names.WAFER_SUBSTRATE_IDS,
}


class Line(NamedTuple):
    """One event or log record as it is read."""

    key: str
    time: str
    severity: str
    look: str
    event: str
    text: str
    rest: str


class Load(NamedTuple):
    """CPU and memory in words, each with what it is of."""

    cpu: str
    cpu_note: str
    memory: str
    memory_note: str


async def load(source: Source, address: Run, top: int) -> Page:
    """The page, or one that says that there is no such run."""
    try:
        run = await source.run(address.run)
    except RunMissing:
        return _missing(await source.server_time())
    watching = asyncio.gather(watched.glance(source), watched.explanation_of_run(source, run))
    trace, tree, logs, series, parent = await asyncio.gather(
        source.trace(address.run, ended=run.state == "ended"),
        source.tree(address.run),
        source.logs(address.run, address.severity),
        source.metrics(address.run),
        source.parent(run),
    )
    watch, explanation = await watching
    server_ms = epoch_ms(run.server_time) or 0.0
    shown = look(run) if not run.plain else _plain_look(trace, run.span_id)
    subjobs = list(_flat(tree))
    spans = waterfall.with_signs(trace.spans, [*([] if run.plain else [run]), *(sub for _, sub in subjobs)])
    lines = [line for line in map(log_line, logs.lines) if not address.find or _contains(line, address.find)]
    all_rows = waterfall.rows(spans, run.span_id, mode=address.rows, toggled=address.fold)
    html = render(
        "run.html",
        address=address,
        run=run,
        look=shown,
        title=run.job or run.name or "unnamed",
        why=why(run),
        explanation=explanation,
        alerts=[] if run.plain else watch.of_run(run),
        alert_url=lambda alert: url(Alerts(alert=alert.id)),
        about=about(run),
        parent=parent,
        load=load_of(run, series),
        subjobs=subjobs,
        subjobs_truncated=tree.truncated,
        window=waterfall.window(all_rows, trace, top=top, begin_ms=waterfall.begin_of(trace, run.span_id), now_ms=server_ms),
        picked=picked(trace, address.span),
        fold_url=lambda row: _fold_url(address, row),
        logs=lines,
        logs_hidden=_hidden(logs),
        failed_spans=sum(span.failing for span in trace.spans),
        carried=[pair for pair in _pairs(address) if pair[0] not in {"severity", "find"}],
        attributes=[pair for pair in sorted(run.attributes.items()) if not _describes(pair[0])],
        described=[pair for pair in sorted(run.attributes.items()) if _describes(pair[0])],
        resource=sorted(run.resource.items()),
        has_metrics=bool(series),
    )
    name = f"{shown.word}: {run.job or run.name or 'run'} {' '.join(run.lot_ids[:1])}".rstrip()
    return Page(html, f"{name} · WaferMonitor", "/runs", server_ms, busy=run.state != "ended", series=tuple(series))


def why(run: RunDetail) -> str:
    """One sentence about a run that is not as it should be; empty when it is."""
    last_s = seconds_between(run.last_sign, run.server_time)
    age = f" for {duration(last_s)}" if last_s is not None and run.server_time else ""
    if run.inferred:
        return "It was lost for so long that it counts as ended with an error. A new sign brings it back."
    if run.state == "silent":
        every = f", and one was due every {duration(run.heartbeat_interval_s)}" if run.heartbeat_interval_s else ""
        return f"No sign of life{age}{every}. Its feed goes on, so the process may hang or have died."
    if run.state == "lost":
        return f"No sign of life{age}: the run counts as dead. A new sign brings it back."
    if run.state == "unknown":
        feed = run.feed or "of this run"
        return f"The feed {feed} is behind, so nobody can know how the run is. It is judged when the feed returns."
    return ""


def about(run: RunDetail) -> list[tuple[str, str, str]]:
    """(label, words, link): what was worked on, with what, where."""
    shown = [("Lot", lot, url(Runs(lot=lot))) for lot in run.lot_ids[:3]]
    if len(run.lot_ids) > len(shown):
        shown.append(("", f"and {len(run.lot_ids) - len(shown)} more lots", ""))
    if len(run.substrate_ids) == 1:
        shown.append(("Wafer", run.substrate_ids[0], url(Runs(q=run.substrate_ids[0], level="all"))))
    elif run.substrate_ids:
        shown.append(("Wafers", f"{len(run.substrate_ids)}", ""))
    linked = (
        ("Equipment", run.equipment, Runs(equipment=run.equipment or "")),
        ("Recipe", run.recipe, Runs(recipe=run.recipe or "")),
        ("Product", run.product, None),
        ("Site", run.site, Runs(site=run.site)),
        ("App", " ".join(filter(None, (run.service, run.service_version))), Runs(app=run.service or "")),
        ("Owner", run.owner, None),
        ("Trigger", run.trigger, None),
        ("Feed", run.feed, None),
    )
    return shown + [(label, value, url(link) if link else "") for label, value, link in linked if value]


def load_of(run: RunModel, series: Sequence[MetricSeriesModel]) -> Load:
    """CPU and memory: of the run where it said so at its end, else of its process by the newest metrics."""
    cpu, cpu_note = duration(run.cpu_s), ""
    memory, memory_note = file_size(run.memory_bytes), "highest" if run.memory_bytes is not None else ""
    if run.cpu_s is not None and run.duration_s:
        cpu_note = f"{run.cpu_s / run.duration_s:.2f} cores busy"
    elif busy := cores_busy(points_of(series, metrics.PROCESS_CPU_TIME)):
        cpu, cpu_note = f"{busy[-1][1]:.2f} cores", "its process, last"
    if run.memory_bytes is None and (used := points_of(series, metrics.PROCESS_MEMORY_USAGE)):
        memory, memory_note = file_size(used[-1][1]), "its process, last"
    return Load(cpu, cpu_note, memory, memory_note)


def picked(trace: Trace, span_id: str) -> SpanModel | None:
    """The span whose details are unfolded."""
    found = next((span for span in trace.spans if span.span_id == span_id), None) if span_id else None
    return SpanModel.model_validate_json(found.detail) if found else None


def log_line(record: LogModel) -> Line:
    """An event or log record in words; its attributes that no word stands for go into `rest`."""
    word = next(word for least, word in _SEVERITY_LOOKS if record.severity >= least)
    body = record.body if isinstance(record.body, str) else "" if record.body is None else plain(record.body)
    text = _event_text(record) if record.event_name.startswith(_JOB) else ""
    rest = {} if text else {name: value for name, value in record.attributes.items() if not name.startswith(_JOB)}
    key = hashlib.sha256(record.model_dump_json().encode()).hexdigest()[:16]
    return Line(
        key=key,
        time=record.time,
        severity=record.severity_text.lower() or word,
        look=f"log-{word}",
        event=record.event_name,
        text=text or body,
        rest=" ".join(f"{name}={plain(value)}" for name, value in sorted(rest.items())),
    )


def _event_text(record: LogModel) -> str:
    """What a lifecycle event says."""
    given = record.attributes
    if record.event_name in {events.WAFER_JOB_PROGRESS, events.WAFER_JOB_HEARTBEAT}:
        ratio = given.get(names.WAFER_JOB_PROGRESS_RATIO)
        parts = [
            given.get(names.WAFER_JOB_NAME, ""),
            f"{ratio * 100:.0f} %" if isinstance(ratio, float | int) else "",
            _done(given),
            given.get(names.WAFER_JOB_PROGRESS_STAGE, ""),
            given.get(names.WAFER_JOB_PROGRESS_MESSAGE, ""),
        ]
        return " · ".join(str(part) for part in parts if part)
    if record.event_name == events.WAFER_JOB_EXCEPTION:
        return ": ".join(str(given[name]) for name in (names.EXCEPTION_TYPE, names.EXCEPTION_MESSAGE) if name in given)
    parts = [given.get(names.WAFER_JOB_NAME, ""), given.get(names.WAFER_JOB_RESULT, ""), given.get(names.ERROR_TYPE, "")]
    return " · ".join(str(part) for part in parts if part)


def _hidden(logs: Logs) -> str:
    """Which lines are not on the page, in words; empty when all are."""
    if logs.more:
        return f"The first {len(logs.lines):,} of more than {logs.read:,} lines are shown."
    return f"The newest {len(logs.lines):,} of {logs.read:,} lines are shown." if logs.read > len(logs.lines) else ""


def _done(given: Mapping[str, Any]) -> str:
    """`812 of 1,569 dies`; empty where no total is given."""
    done, total = given.get(names.WAFER_JOB_PROGRESS_COMPLETED), given.get(names.WAFER_JOB_PROGRESS_TOTAL)
    if not isinstance(done, int | float) or not isinstance(total, int | float):
        return ""
    unit = given.get(names.WAFER_JOB_PROGRESS_UNIT)
    return f"{number(done)} of {number(total)}" + (f" {plural(str(unit), total)}" if unit else "")


def _describes(name: str) -> bool:
    """An attribute that the head of the page says in words."""
    return name.startswith(_JOB) or name in _SHOWN_ELSEWHERE


def _contains(line: Line, wanted: str) -> bool:
    return wanted.casefold() in f"{line.event} {line.text} {line.rest} {line.severity}".casefold()


def _flat(tree: TreeNode) -> Iterator[tuple[int, RunModel]]:
    """The subjobs with their depth, each before its own."""
    waiting = [(0, node) for node in reversed(tree.subjobs)]
    while waiting:
        depth, node = waiting.pop()
        yield depth, node.run
        waiting.extend((depth + 1, below) for below in reversed(node.subjobs))


def _plain_look(trace: Trace, span_id: str) -> Look:
    return next((LOOKS[span.look] for span in trace.spans if span.span_id == span_id), LOOKS["span"])


def _fold_url(address: Run, row: Row) -> str:
    fold: Sequence[str] = [span for span in address.fold if span != row.span_id]
    if row.span_id not in address.fold:
        fold = [*fold, row.span_id][-MOST_FOLDED:]
    return url(address, fold=tuple(fold))


def _pairs(address: Run) -> list[tuple[str, Any]]:
    from urllib.parse import parse_qsl, urlsplit

    return list(parse_qsl(urlsplit(url(address)).query))


def _missing(server_time: str) -> Page:
    html = render(
        "problem.html",
        heading="No such run",
        words="No run or span with this id is stored. It may not have arrived yet; this page looks again by itself.",
        href="/runs",
        action="All runs",
        retry=True,
    )
    return Page(html, "No such run · WaferMonitor", "/runs", epoch_ms(server_time) or 0.0)
