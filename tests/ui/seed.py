"""A fab with two sites as the receiver would store it: open jobs in every state, ended ones, logs, metrics, plain traces.

In: a writer and now in ns. Out: `Seeded`, the ids tests ask for. Called by: the tests of the screens, `screenshots.py`.

Everything goes through `runs.lifecycle`, as it does behind the receiver, so that a run here is what a run really is.
"""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any, NamedTuple

from wafermonitor.runs import lifecycle
from wafermonitor.runs.records import Batch, FeedBeat, LogRecord, MetricPoint, Resource, Scope, Series, Span
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events, metrics

SECOND = 1_000_000_000
Where = tuple[bytes, bytes]
"""Trace id and span id."""
Stretch = tuple[int, int]
"""Start and duration in ns."""
SEVERITY = {"debug": 5, "info": 9, "warn": 13, "error": 17}


class Seeded(NamedTuple):
    """`{run}` ids of what tests open."""

    main: str
    failed: str
    lost: str
    unknown: str
    plain: str


class Program:
    """One process of one program: its resource, and what it sends."""

    def __init__(self, fab: Fab, service: str, *, site: str = "F12", host: str = "etl-07", version: str = "2.8.1") -> None:
        self.fab = fab
        fab.processes += 1
        attributes = {
            names.SERVICE_NAME: service,
            names.SERVICE_VERSION: version,
            names.SERVICE_INSTANCE_ID: f"{service}-{fab.processes}",
            names.HOST_NAME: host,
            names.PROCESS_PID: 4000 + fab.processes,
            names.WAFER_SITE_ID: site,
            names.WAFER_FEED_ID: host,
        }
        self.origin = lifecycle.origin_of(attributes)
        text = json.dumps(attributes)
        key = hashlib.sha256(text.encode()).digest()
        self.resource = Resource(key, site, host, service, version, self.origin.process_key, text)
        self.scope = Scope(hashlib.sha256(b"wafer").digest(), "wafer", "1.0", "{}")

    def ids(self) -> tuple[bytes, bytes]:
        """A new trace id and span id."""
        return self.fab.random.randbytes(16), self.fab.random.randbytes(8)

    def log(self, at_ns: int, where: Where, body: str, *, severity: str = "info", **attributes: Any) -> None:
        """A log line of the program, bound to a span."""
        self._record(at_ns, where, event="", severity=severity, body=body, attributes=attributes)

    def event(self, name: str, at_ns: int, where: Where, severity: str, attributes: dict[str, Any]) -> None:
        """A lifecycle event: a log record, and what it says about its run."""
        self._record(at_ns, where, event=name, severity=severity, body=None, attributes=attributes)
        given = {"trace_id": where[0], "span_id": where[1], "time_ns": at_ns, "received_ns": at_ns}
        run = lifecycle.run_of_event(self.origin, name, attributes, json.dumps(attributes), **given)
        beat = lifecycle.process_beat(self.origin, name, attributes, at_ns)
        self.fab.batch.runs += [run] if run else []
        self.fab.batch.processes += [beat] if beat else []

    def span(
        self,
        where: Where,
        parent: bytes | None,
        name: str,
        stretch: Stretch,
        attributes: dict[str, Any] | None = None,
        *,
        kind: int = 1,
        status: int = 0,
        message: str = "",
        scope: str = "wafer",
    ) -> None:
        """A finished span; a run's when it has a job name."""
        (trace, span), (start_ns, duration_ns) = where, stretch
        given = attributes or {}
        text = json.dumps(given)
        self.fab.batch.spans.append(
            Span(
                self.resource,
                Scope(hashlib.sha256(scope.encode()).digest(), scope, "1.0", "{}"),
                trace,
                span,
                parent,
                name,
                kind,
                start_ns,
                duration_ns,
                status,
                message,
                text,
                None,
                None,
                0,
                0,
                0,
                1,
                "",
                start_ns + duration_ns,
            )
        )
        run = lifecycle.run_of_span(
            self.origin,
            given,
            text,
            trace_id=trace,
            span_id=span,
            start_ns=start_ns,
            end_ns=start_ns + duration_ns,
            status=status,
            received_ns=start_ns + duration_ns,
        )
        self.fab.batch.runs += [run] if run else []

    def points(self, name: str, unit: str, values: list[tuple[int, float]]) -> None:
        """A metric series of the process."""
        key = hashlib.sha256(f"{name}{self.resource.key!r}".encode()).digest()
        series = Series(key, self.resource, self.scope, name, unit, "sum" if unit == "s" else "gauge", 2, unit == "s", "{}")
        self.fab.batch.points += [
            MetricPoint(series, at_ns, None, value, None, None, None, None, None, None, None, 0, at_ns)
            for at_ns, value in values
        ]

    def _record(self, at_ns, where, *, event, severity, body, attributes) -> None:
        trace, span = where
        text = json.dumps(attributes)
        digest = hashlib.sha256(f"{at_ns}{span!r}{event}{body}{text}".encode()).digest()
        self.fab.batch.logs.append(
            LogRecord(
                self.resource,
                self.scope,
                at_ns,
                at_ns,
                SEVERITY[severity],
                severity.upper(),
                event,
                None if body is None else json.dumps(body),
                text,
                0,
                1,
                trace,
                span,
                digest,
                at_ns,
            )
        )


class Job:
    """One run: announced at once, ended when told."""

    def __init__(
        self, program: Program, job: str, start_ns: int, *, parent: Job | None = None, beat_s: float | None = 10.0, **about: Any
    ) -> None:
        self.program, self.job, self.start_ns = program, job, start_ns
        self.trace, self.span = (parent.trace, program.ids()[1]) if parent else program.ids()
        self.parent_span = parent.span if parent else None
        self.attributes = {names.WAFER_JOB_NAME: job, names.WAFER_JOB_START_TIME_UNIX_NANO: start_ns, **about}
        if parent:
            self.attributes[names.WAFER_JOB_PARENT_SPAN_ID] = parent.span.hex()
        beat = {names.WAFER_JOB_HEARTBEAT_INTERVAL: beat_s} if beat_s else {}
        self.say(events.WAFER_JOB_START, start_ns, **self.attributes, **beat)

    @property
    def id(self) -> str:
        """The `{run}` of URLs."""
        return f"{self.trace.hex()}-{self.span.hex()}"

    def say(self, event: str, at_ns: int, *, severity: str = "info", **attributes: Any) -> None:
        """A lifecycle event."""
        triple = {name: self.attributes[name] for name in (names.WAFER_JOB_NAME, names.WAFER_JOB_START_TIME_UNIX_NANO)}
        self.program.event(event, at_ns, (self.trace, self.span), severity, triple | attributes)

    def progress(self, at_ns: int, done: float, total: float, unit: str, stage: str = "") -> None:
        """How far it is."""
        given = {
            names.WAFER_JOB_PROGRESS_RATIO: done / total,
            names.WAFER_JOB_PROGRESS_COMPLETED: done,
            names.WAFER_JOB_PROGRESS_TOTAL: total,
            names.WAFER_JOB_PROGRESS_UNIT: unit,
        }
        self.say(events.WAFER_JOB_PROGRESS, at_ns, **given, **({names.WAFER_JOB_PROGRESS_STAGE: stage} if stage else {}))

    def beat(self, at_ns: int, interval_s: float = 10.0) -> None:
        """A sign of life of its process."""
        self.say(events.WAFER_JOB_HEARTBEAT, at_ns, severity="debug", **{names.WAFER_JOB_HEARTBEAT_INTERVAL: interval_s})

    def end(
        self, end_ns: int, result: str = "success", error: str = "", cpu: float = 0.8, memory_bytes: int = 180_000_000
    ) -> None:
        """Its end event and its span."""
        took_s = (end_ns - self.start_ns) / SECOND
        given = {names.WAFER_JOB_RESULT: result} | ({names.ERROR_TYPE: error} if error else {})
        self.say(events.WAFER_JOB_END, end_ns, severity="info" if result == "success" else "error", **given)
        used = {names.WAFER_JOB_CPU_TIME: round(took_s * cpu, 3), names.WAFER_JOB_MEMORY_MAX: memory_bytes}
        status = 2 if result in {"failure", "error", "timeout"} else 0
        self.program.span(
            (self.trace, self.span),
            self.parent_span,
            self.job,
            (self.start_ns, end_ns - self.start_ns),
            self.attributes | given | used,
            status=status,
        )


class Fab:
    """Collects one batch around a fixed now."""

    def __init__(self, now_ns: int, start: int = 4471) -> None:
        self.now_ns = now_ns
        self.batch = Batch()
        self.random = random.Random(start)
        self.processes = start

    def at(self, seconds: float) -> int:
        """Seconds from now (negative is before) → ns."""
        return self.now_ns + int(seconds * SECOND)

    def feed(self, site: str, feed: str, age_s: float) -> None:
        """The newest beat of a Collector."""
        self.batch.feeds.append(FeedBeat(site, feed, self.at(-age_s), self.at(-age_s), 0))


def about(
    lots: list[str], wafers: int = 0, equipment: str = "", recipe: str = "", product: str = "", **more: Any
) -> dict[str, Any]:
    """The attributes of a job on some lots."""
    given = {
        names.WAFER_LOT_IDS: lots,
        names.WAFER_SUBSTRATE_IDS: [f"{lots[0]}-{number:02d}" for number in range(1, wafers + 1)],
        names.WAFER_EQUIPMENT_ID: equipment,
        names.WAFER_RECIPE_NAME: recipe,
        names.WAFER_PRODUCT_ID: product,
    }
    return {name: value for name, value in given.items() if value} | more


def fill(now_ns: int) -> tuple[Batch, Seeded]:
    """The whole fab as one batch."""
    fab = Fab(now_ns)
    fab.feed("F12", "etl-07", 3)
    fab.feed("F12", "etl-08", 6)
    fab.feed("F15", "gw-02", 412)
    fab.feed("F15", "gw-01", 5)
    main = _main_job(fab)
    lost, unknown = _open_jobs(fab)
    failed = _ended_jobs(fab)
    plain = _plain_traces(fab)
    return fab.batch, Seeded(main, failed, lost, unknown, plain)


def _main_job(fab: Fab) -> str:
    """A sort lot in its fifteenth wafer of 25: subjobs, plain spans below them, logs, metrics, a step in Perl."""
    program = Program(fab, "sort-yield")
    start_s = -754.0
    given = about(
        ["GAL-4471"],
        25,
        "SORT-07",
        "SORT_28N_B",
        "GAL-A1",
        **{
            names.WAFER_JOB_EXPECTED_DURATION: 1320.0,
            names.WAFER_JOB_OWNER: "yield-team",
            names.WAFER_JOB_TRIGGER: "event",
            names.WAFER_JOB_ATTEMPT: 1,
            f"{names.WAFER_PARAM}.stdf_bytes": 412_883_120,
            f"{names.WAFER_PARAM}.tester_program": "gal_a1_sort_r14",
        },
    )
    job = Job(program, "lot_yield", fab.at(start_s), **given)
    program.log(fab.at(start_s + 0.4), (job.trace, job.span), "reading /data/stdf/GAL-4471.stdf.gz (413 MB)")
    header = program.ids()[1]
    program.span((job.trace, header), job.span, "read_header", (fab.at(start_s + 0.5), int(6.2 * SECOND)), {"stdf.version": 4})
    at_s, wafers = start_s + 7.5, 25
    for number in range(1, 15):
        took_s = fab.random.uniform(44, 56) if number != 9 else 71.0
        _wafer(fab, job, number, at_s, took_s, failed=number == 9)
        at_s += took_s + 0.6
        job.progress(fab.at(at_s), number, wafers, "wafer", "sort")
        at_s = min(at_s, -34.0) if number == 14 else at_s
    running = Job(
        program,
        "wafer_yield",
        fab.at(-31),
        parent=job,
        **about(["GAL-4471-15"], 0),
        **{names.WAFER_SUBSTRATE_IDS: ["GAL-4471-15"]},
    )
    program.span((running.trace, program.ids()[1]), running.span, "parse_wafer", (fab.at(-30.8), int(11.9 * SECOND)))
    program.span((running.trace, program.ids()[1]), running.span, "bin_pareto", (fab.at(-18.6), int(3.1 * SECOND)))
    running.progress(fab.at(-2), 934, 1569, "die", "parametric")
    job.progress(fab.at(-2), 14, wafers, "wafer", "sort")
    program.log(fab.at(-19), (job.trace, running.span), "wafer 15: 1,569 dies, 52,403 parametric results")
    job.beat(fab.at(-4))
    steps = range(int(start_s), -3, 10)
    noise = fab.random.uniform
    busy = 0.0
    cpu = []
    for second in steps:
        busy += 10 * min(0.99, noise(0.72, 0.97) if second > start_s + 10 else 0.35)
        cpu.append((fab.at(second), busy))
    memory = [(fab.at(second), 1e6 * (180 + 90 * ((second % 52) / 52) + noise(-6, 6))) for second in steps]
    program.points(metrics.PROCESS_CPU_TIME, "s", cpu)
    program.points(metrics.PROCESS_MEMORY_USAGE, "By", memory)
    return job.id


def _wafer(fab: Fab, job: Job, number: int, at_s: float, took_s: float, *, failed: bool) -> None:
    program = job.program
    wafer_id = f"GAL-4471-{number:02d}"
    sub = Job(program, "wafer_yield", fab.at(at_s), parent=job, **{names.WAFER_SUBSTRATE_IDS: [wafer_id]})
    shares = [("parse_wafer", 0.38), ("bin_pareto", 0.11), ("cpk_per_test", 0.27), ("write_parquet", 0.12)]
    begin_s = at_s + 0.2
    for name, share in shares:
        part = program.ids()[1]
        bad = failed and name == "cpk_per_test"
        program.span(
            (job.trace, part),
            sub.span,
            name,
            (fab.at(begin_s), int(took_s * share * SECOND)),
            {"rows": 52_403},
            status=2 if bad else 0,
            message="limit table of test 1042 is empty" if bad else "",
        )
        if name == "write_parquet":
            put = program.ids()[1]
            program.span(
                (job.trace, put),
                part,
                "PUT /yield/{lot}",
                (fab.at(begin_s + 0.3), int(took_s * 0.06 * SECOND)),
                kind=3,
                scope="httpx",
                attributes={"http.request.method": "PUT", "http.response.status_code": 201, "server.address": "store"},
            )
        begin_s += took_s * share + 0.1
        if bad:
            break
    if failed:
        program.log(
            fab.at(begin_s),
            (job.trace, sub.span),
            "test 1042 has no limits: yield of wafer 9 is not computed",
            severity="error",
        )
        sub.say(
            events.WAFER_JOB_EXCEPTION,
            fab.at(begin_s),
            severity="error",
            **{names.EXCEPTION_TYPE: "LimitsMissing", names.EXCEPTION_MESSAGE: "limit table of test 1042 is empty"},
        )
        sub.end(fab.at(at_s + took_s), "failure", "LimitsMissing")
        return
    program.log(fab.at(at_s + took_s * 0.9), (job.trace, sub.span), f"wafer {number}: yield {fab.random.uniform(91, 97):.1f} %")
    sub.end(fab.at(at_s + took_s), cpu=0.86, memory_bytes=int(fab.random.uniform(230e6, 262e6)))


def _open_jobs(fab: Fab) -> tuple[str, str]:
    """The other open jobs, one way of being open each."""
    expected = names.WAFER_JOB_EXPECTED_DURATION

    def opened(
        job: str, times: tuple[float, float], program: Program, given: dict[str, Any], beat_s: float | None = 10.0
    ) -> Job:
        start_s, sign_s = times
        run = Job(program, job, fab.at(start_s), beat_s=beat_s, **given)
        if beat_s:
            run.beat(fab.at(sign_s), beat_s)
        return run

    spc = opened(
        "spc_update",
        (-96, -5),
        Program(fab, "spc", host="etl-08"),
        about(["GAL-4469"], 25, "CDSEM-02", "CD_M1_28", **{expected: 300.0}),
    )
    spc.progress(fab.at(-5), 3_412, 9_980, "chart", "control limits")
    load = opened(
        "etest_load",
        (-2_530, -8),
        Program(fab, "etest", host="etl-08"),
        about(["ORN-2207", "ORN-2208"], 24, "ETEST-04", "PCM_65", **{expected: 1800.0}),
    )
    load.progress(fab.at(-8), 71_200, 88_000, "row", "upsert")
    fit = opened("overlay_fit", (-640, -71), Program(fab, "overlay"), about(["GAL-4466"], 2, "SCAN-11", "OVL_V0_V1"))
    fit.progress(fab.at(-74), 11, 48, "field", "least squares")
    lost = opened("cdsem_import", (-5_210, -1_370), Program(fab, "cdsem"), about(["TEL-0912"], 13, "CDSEM-01", "CD_GATE"))
    lost.progress(fab.at(-1_372), 402, 1_300, "image", "edge detection")
    reticle = opened(
        "reticle_check",
        (-1_204, -3),
        Program(fab, "reticle", host="etl-08"),
        about([], 0, "RETI-01", "RC_FULL", **{expected: 1320.0}),
    )
    reticle.progress(fab.at(-3), 921, 1_010, "tile", "compare")
    review = opened("defect_review", (-48, -2), Program(fab, "defect"), about(["ORN-2211"], 3, "REV-03", "DR_POST_CMP"))
    del review
    nightly = opened("archive_lot_files", (-3_720, -3_720), Program(fab, "archive", host="etl-08"), {}, beat_s=None)
    del nightly
    unknown = opened(
        "mes_sync", (-1_020, -415), Program(fab, "mes", site="F15", host="gw-02"), about(["KES-3301"], 25, "", "MES_DELTA")
    )
    unknown.progress(fab.at(-416), 12, 60, "lot", "compare")
    opened(
        "recipe_compare",
        (-800, -420),
        Program(fab, "recipe", site="F15", host="gw-02"),
        about(["KES-3299"], 0, "ETCH-05", "RIE_POLY_3"),
    )
    sort = opened(
        "lot_yield",
        (-200, -4),
        Program(fab, "sort-yield", site="F15", host="gw-01"),
        about(["KES-3302"], 25, "SORT-21", "SORT_40LP", **{expected: 1320.0}),
    )
    sort.progress(fab.at(-4), 3, 25, "wafer", "sort")
    return lost.id, unknown.id


def _ended_jobs(fab: Fab) -> str:
    """A day of ended jobs, seven of them not well."""
    kinds = [
        ("lot_yield", "sort-yield", "SORT-07", "SORT_28N_B", 1_260, 25),
        ("spc_update", "spc", "CDSEM-02", "CD_M1_28", 270, 25),
        ("etest_load", "etest", "ETEST-04", "PCM_65", 1_500, 24),
        ("overlay_fit", "overlay", "SCAN-11", "OVL_V0_V1", 580, 2),
        ("defect_review", "defect", "REV-03", "DR_POST_CMP", 340, 3),
        ("recipe_compare", "recipe", "ETCH-05", "RIE_POLY_3", 96, 0),
    ]
    bad = {
        3: ("failure", "StdfTruncated"),
        8: ("error", "OutOfMemoryKilled"),
        15: ("timeout", "DeadlineExceeded"),
        21: ("failure", "LimitsMissing"),
        34: ("failure", "psycopg.OperationalError"),
        12: ("cancellation", ""),
        27: ("skip", ""),
    }
    programs = {service: Program(fab, service, host="etl-08") for _, service, *_ in kinds}
    failed = ""
    for number in range(64):
        job, service, equipment, recipe, usual_s, wafers = kinds[number * 7 % len(kinds)]
        end_s = -(140 + number * 1_180 + fab.random.uniform(0, 500))
        result, error = bad.get(number, ("success", ""))
        took_s = usual_s * fab.random.uniform(0.85, 1.2) * (0.3 if error else 1.0) if result != "skip" else 1.4
        lot = f"{('GAL', 'ORN', 'TEL')[number % 3]}-{4468 - number}"
        more = {names.WAFER_JOB_ATTEMPT: 2} if number == 21 else {}
        run = Job(programs[service], job, fab.at(end_s - took_s), **about([lot], wafers, equipment, recipe, **more))
        run.progress(fab.at(end_s - 1), 100 if not error else 31, 100, "part")
        if error:
            run.program.log(fab.at(end_s - 0.2), (run.trace, run.span), f"stopped: {error}", severity="error")
        memory = int(fab.random.uniform(90e6, 900e6)) if error != "OutOfMemoryKilled" else 7_900_000_000
        run.end(fab.at(end_s), result, error, cpu=fab.random.uniform(0.2, 0.97), memory_bytes=memory)
        failed = failed or (run.id if error else "")
    return failed


def _plain_traces(fab: Fab) -> str:
    """Requests of a dispatcher that knows nothing of us."""
    program = Program(fab, "dispatch-api", version="5.2.0")
    routes = ["GET /lots/{id}", "POST /lots/{id}/reserve", "GET /tools/{id}/queue", "POST /tools/{id}/start"]
    first = ""
    for number in range(24):
        trace, root = program.ids()
        start_ns, took_ns = fab.at(-18 - number * 41.3), int(fab.random.uniform(0.012, 0.34) * SECOND)
        bad = number == 5
        route = routes[number % len(routes)]
        program.span(
            (trace, root),
            None,
            route,
            (start_ns, took_ns),
            {
                "http.request.method": route.split()[0],
                "http.response.status_code": 503 if bad else 200,
                "url.path": "/lots/GAL-4471",
            },
            kind=2,
            status=2 if bad else 0,
            scope="opentelemetry.instrumentation.fastapi",
        )
        child = program.ids()[1]
        program.span(
            (trace, child),
            root,
            "SELECT lots",
            (start_ns + took_ns // 6, took_ns // 3),
            {"db.system.name": "postgresql"},
            kind=3,
            scope="opentelemetry.instrumentation.psycopg",
        )
        program.span(
            (trace, program.ids()[1]),
            root,
            "GET /mes/lot",
            (start_ns + took_ns * 11 // 20, took_ns * 2 // 5),
            kind=3,
            status=2 if bad else 0,
            message="upstream answered 503" if bad else "",
            scope="opentelemetry.instrumentation.httpx",
        )
        first = first or f"{trace.hex()}-{root.hex()}"
    return first
