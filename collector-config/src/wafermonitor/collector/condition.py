"""How the Collector of this host is: does it run, does it take data, does it pass them on, and how long can it go on without.

In: the settings, the chosen files; the Collector's health and metrics pages, its queue folder, the file spool. Out: one
`Check` for each thing, in the order of the flow. Called by: `wafer collector status` (what runs) and `doctor` (the files too).
Nothing is changed, and nothing secret is said.
"""

from __future__ import annotations

import fcntl
import http.client
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from wafermonitor.collector import binary, build, queue
from wafermonitor.collector.config import Config, reachable
from wafermonitor.collector.errors import CollectorError
from wafermonitor.collector.supervise import LOCK, healthy, ports_free
from wafermonitor.instrumentation import onward
from wafermonitor.instrumentation.errors import InstrumentationUnavailable
from wafermonitor.instrumentation.onward import Page, Queue, remedy, size
from wafermonitor.instrumentation.replay import files as spooled

State = Literal["ok", "warn", "fail"]

LOOK_S: Final = 1.0
"""Between two looks at the counters: what grows now, and what only grew once."""
_SIGNALS: Final = 3
_SPOOL_OLD_S: Final = 3600.0
_NEARLY_FULL: Final = 0.8
_MANY_HOURS: Final = 10
"""From here on nobody asks for tenths."""
_TIMEOUT_S: Final = 3.0


class Check(NamedTuple):
    """What was found of one thing. `cause` and `next` are empty when all is well."""

    step: str
    state: State
    found: str
    cause: str = ""
    next: str = ""

    @property
    def well(self) -> bool:
        """Nothing has to be done at once."""
        return self.state != "fail"


def status(config: Config) -> Iterator[Check]:
    """What runs: process, health, OTLP, each exporter, queue folder, spool."""
    owner = owner_of(config.queue_dir)
    yield check_process(config, owner)
    if owner is not None or healthy(config.health):
        yield check_health(config)
        yield check_intake(config)
        yield from check_exporters(config)
    yield check_disk(config)
    yield check_spool(config)


def doctor(config: Config, files: list[Path]) -> Iterator[Check]:
    """What it is made of, then `status`."""
    yield check_rules(config, files)
    yield check_binary(config, files)
    if owner_of(config.queue_dir) is None:
        yield check_ports(config)
    yield from status(config)


def owner_of(folder: Path) -> str | None:
    """The process that has the queue folder; None when nobody has. Nothing is locked for longer than the question takes."""
    try:
        with (folder / LOCK).open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "unknown"
    except OSError:
        pass
    return None


def check_process(config: Config, owner: str | None) -> Check:
    """Whether `wafer collector run` is at work with this queue folder."""
    if owner is not None:
        return Check("process", "ok", f"running as process {owner}, queue in {config.queue_dir}")
    if healthy(config.health):
        hint = "as it is: `wafer collector beat` beside it sends the feed's beat; or stop it and run `wafer collector run`"
        return Check(
            "process", "warn", f"{config.health} answers, but not for this queue folder", "something else runs it", hint
        )
    found = f"nobody has the queue folder {config.queue_dir}"
    return Check(
        "process", "fail", found, "the Collector is not running", "wafer collector run; jobs write to the spool meanwhile"
    )


def check_health(config: Config) -> Check:
    """The Collector's own health page."""
    if healthy(config.health):
        return Check("health", "ok", f"healthy on {config.health}")
    cause = "it starts, tidies a long queue, or hangs"
    return Check("health", "fail", f"{config.health} does not answer well", cause, "see what `wafer collector run` says")


def check_intake(config: Config) -> Check:
    """Whether a job's OTLP would be taken."""
    host, port = reachable(config.otlp_http)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", "/v1/logs", "{}", {"Content-Type": "application/json"})
        code = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return Check("intake", "fail", f"{config.otlp_http} does not answer ({error})", "no OTLP is taken", "see health")
    finally:
        connection.close()
    if code == http.client.OK:
        return Check("intake", "ok", f"OTLP is taken on {config.otlp_http} and {config.otlp_grpc}")
    cause = "its queue or memory is full; senders keep what is refused" if code in {429, 503} else "it is no OTLP/HTTP port"
    return Check("intake", "fail", f"{config.otlp_http} answers {code}", cause, "see the exporters below; WAFER_OTLP_HTTP")


def check_exporters(config: Config) -> Iterator[Check]:
    """Each exporter by two looks at its counters: what it passes on, what waits, how long the queue lasts, what it drops."""
    try:
        before = onward.read(config.metrics_port)
        began = time.monotonic()
        time.sleep(LOOK_S)
        after = onward.read(config.metrics_port)
    except InstrumentationUnavailable as error:
        yield Check("exporters", "warn", "not seen", str(error), "WAFER_METRICS_PORT names the port")
        return
    reports = {one.exporter: one for one in queue.reports(before.queues, after.queues, time.monotonic() - began)}
    fresh = {one.exporter for one in queue.losses(before, after)}
    for name in sorted(after.queues.keys() | after.dropped.keys() | after.sent.keys()):
        yield check_exporter(name, before, after, reports.get(name), drops=name in fresh)


def check_exporter(name: str, before: Page, after: Page, report: queue.Report | None, *, drops: bool) -> Check:
    """One exporter."""
    sent = after.sent.get(name, 0.0)
    waits = after.queues.get(name, Queue(0.0, 0.0, 0.0, 0.0))
    found = f"{sent:,.0f} records passed on, {size(waits.used)} wait"
    if report is not None and report.hours is not None:
        found += f", room for {report.hours:,.{0 if report.hours >= _MANY_HOURS else 1}f} h at {size(report.rate)}/s"
    kinds = after.dropped.get(name, {})
    if kinds:
        kind = max(kinds, key=lambda one: kinds[one])
        told = f"{found}, {sum(kinds.values()):,.0f} DROPPED"
        return Check(name, "fail" if drops or not sent else "warn", told, f"refused for good ({kind})", remedy(kind))
    if report is not None and report.refused:
        return Check(name, "fail", found, "its queue is full: senders keep what is refused", "see whether its backend is up")
    if waits.used > _NEARLY_FULL * (waits.used + waits.free):
        hint = "see whether its backend is up; `wafer collector run --queue 48h --rate N` makes room"
        return Check(name, "warn", found, "its queue is nearly full", hint)
    if waits.used and sent == before.sent.get(name, 0.0) and waits.used >= before.queues.get(name, waits).used:
        hint = "see whether its backend is up, or ask again: it may be gathering a batch; all is kept meanwhile"
        return Check(name, "warn", found, f"it passed nothing on within {LOOK_S:g} s", hint)
    return Check(name, "ok", found)


def check_disk(config: Config) -> Check:
    """Whether the queues' disk has room for what they may still hold."""
    place = next(path for path in (config.queue_dir.absolute(), *config.queue_dir.absolute().parents) if path.is_dir())
    usage = shutil.disk_usage(place)
    held = 0
    for path in config.queue_dir.glob("*"):
        with suppress(OSError):  # tidied meanwhile
            held += path.stat().st_size
    found = f"{size(held)} in {config.queue_dir}, {size(usage.free)} free"
    if usage.free + held < _SIGNALS * config.queue_bytes:
        cause = f"full queues of one backend take {size(_SIGNALS * config.queue_bytes)}"
        return Check("disk", "warn", found, cause, "free some, or set WAFER_COLLECTOR_QUEUE_BYTES or WAFER_COLLECTOR_QUEUE_DIR")
    return Check("disk", "ok", found)


def check_spool(config: Config) -> Check:
    """What jobs left while nobody took it, and since when."""
    sizes, oldest = 0, time.time()
    count = 0
    for path, _ in spooled(config.spool_dir):
        with suppress(OSError):  # sent and removed meanwhile
            found = path.stat()
            sizes, count, oldest = sizes + found.st_size, count + 1, min(oldest, found.st_mtime)
    if not sizes:
        return Check("spool", "ok", f"empty ({config.spool_dir})")
    age_s = time.time() - oldest
    told = f"{count} files, {size(sizes)} in {config.spool_dir}, the oldest written {age_s / 60:,.0f} min ago"
    if age_s > _SPOOL_OLD_S:
        hint = f"`wafer replay {config.spool_dir}` sends it and says what stands in the way; or WAFER_COLLECTOR_REPLAY is off"
        return Check("spool", "warn", told, "it is not being sent", hint)
    return Check("spool", "ok", told)


def check_rules(config: Config, files: list[Path]) -> Check:
    """Our rules about the files."""
    names = ", ".join(path.stem for path in files)
    try:
        from wafermonitor.collector import lint
    except ModuleNotFoundError as error:
        hint = 'pip install "wafermonitor[collector]"'
        return Check("files", "warn", f"{names}: not looked at by our rules", f"{error.name} is not installed", hint)
    try:
        environ = binary.environment(config)
        findings = [*lint.check(files, environ), *lint.unset(files, environ)]
    except CollectorError as error:
        return Check("files", "fail", names, str(error), "mend the file")
    wrong = [str(one) for one in findings if one.wrong]
    if wrong:
        return Check("files", "fail", names, "; ".join(wrong), "mend them: wafer collector validate")
    if findings:
        return Check("files", "warn", names, "; ".join(map(str, findings)), "they work, and may lose data")
    return Check("files", "ok", f"{names}: nothing wrong by our rules")


def check_binary(config: Config, files: list[Path]) -> Check:
    """The Collector that would be used, asked whether it would start with these files."""
    try:
        found = binary.find(config, files)
    except CollectorError as error:
        able = build.go() is not None and not config.bin
        hint = "wafer collector install builds one" if able else "wafer collector install --help"
        return Check("binary", "fail", "no Collector at hand starts with these files", str(error), hint)
    return Check("binary", "ok", f"Collector {found.version} ({found.source}) starts with them: {found.path}")


def check_ports(config: Config) -> Check:
    """Whether its ports are free, while it does not run."""
    try:
        ports_free(config)
    except CollectorError as error:
        return Check("ports", "fail", "not free", str(error), "stop the other program, or set that variable")
    return Check("ports", "ok", "free")
