"""Run a Collector and everything that belongs to it, until SIGTERM or SIGINT.

In: `Config`, a `Binary`, the YAML files. Out: a running Collector that is started again when it dies, the feed's beat, a
process that ships the instrumentation's spool, and a line now and then on what the queues hold.
Called by: `wafer collector run`.

SIGHUP reloads the files, after the Collector and our rules have looked at them: by itself it ends when it is told to reload a
broken file, and its own validation passes over storage that is not there and ports that are taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http.client
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wafermonitor.collector import beat, binary, fragments, queue
from wafermonitor.collector.binary import Binary
from wafermonitor.collector.child import Child, Say, how
from wafermonitor.collector.config import Config, reachable
from wafermonitor.collector.errors import CollectorError, CollectorUnavailable
from wafermonitor.instrumentation import onward
from wafermonitor.instrumentation.errors import InstrumentationUnavailable
from wafermonitor.instrumentation.onward import Page, Queue

START_S: Final = 30.0
"""How often a Collector that is not ready is spoken of. It may take minutes to tidy a queue that a long outage has filled."""
FIRST_REPORT_S: Final = 60.0
_LOSS_AGAIN_S: Final = 60.0
_PROBE_S: Final = 0.05
_PROBE_TIMEOUT_S: Final = 2.0
LOCK: Final = "in-use-by"


class Supervisor:
    """One Collector and its companions. `run()` returns after an orderly stop."""

    def __init__(self, config: Config, found: Binary, files: list[Path], say: Say, ready_file: Path | None = None) -> None:
        self._config = config
        self._binary = found
        self._files = files
        self._say = say
        self._ready_file = ready_file
        self._stop = asyncio.Event()
        self._hup = asyncio.Event()
        environ = binary.environment(config)
        command = [str(found.path), *fragments.arguments(files)]
        self._collector = Child("Collector", command, environ, say)
        self._wrong = frozenset(_wrong(config, files))
        self._companions = [Child("replay of the spool", words, environ, say) for words in _replay(config)]

    async def run(self) -> None:
        """Start, keep, stop. CollectorUnavailable: the folder or a port is in use, or the first start failed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hup.set)
        with _owned(self._config.queue_dir):
            ports_free(self._config)
            try:
                await self._first_start()
                await self._serve()
            finally:
                await self._shut_down()

    async def _first_start(self) -> None:
        await self._collector.start()
        ready = asyncio.create_task(self._ready())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ready.done():
            ready.cancel()
            return
        if not await ready:
            ending = how(self._collector.code or 0)
            raise CollectorUnavailable(f"the Collector ended ({ending}) before it was ready; its own message stands above")
        for companion in self._companions:
            await companion.start()

    async def _serve(self) -> None:
        if self._stop.is_set():
            return
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._collector.keep(self._again)),
                group.create_task(self._beats()),
                group.create_task(self._reports()),
                group.create_task(self._losses()),
                group.create_task(self._reloads()),
                *(group.create_task(companion.keep()) for companion in self._companions),
            ]
            await self._stop.wait()
            for task in tasks:
                task.cancel()

    async def _shut_down(self) -> None:
        """Companions first: they send to the Collector."""
        for child in (*self._companions, self._collector):
            await child.stop()
        if self._ready_file is not None:
            with contextlib.suppress(OSError):
                self._ready_file.unlink()
        self._say("stopped", "stopped; what was not delivered waits in the queue folder", queue_dir=str(self._config.queue_dir))

    async def _ready(self) -> bool:
        """True once the health page answers; False when the Collector ends before."""
        began = said = time.monotonic()
        while self._collector.code is None:
            if await asyncio.to_thread(healthy, self._config.health):
                self._tell_ready()
                return True
            now = time.monotonic()
            if now - said >= START_S:
                said = now
                self._say("not-ready", f"the Collector is not ready after {now - began:.0f} s; still waiting")
            await asyncio.sleep(_PROBE_S)
        return False

    async def _again(self) -> None:
        """After a restart: ready, or the next round of `keep` finds out why not."""
        await self._ready()

    def _tell_ready(self) -> None:
        facts = {
            "pid": os.getpid(),
            "collector_pid": self._collector.pid,
            "collector": {"path": str(self._binary.path), "version": self._binary.version, "source": self._binary.source},
            "otlp_grpc": self._config.otlp_grpc,
            "otlp_http": self._config.otlp_http,
            "health": self._config.health,
            "metrics_port": self._config.metrics_port,
            "files": [str(path) for path in self._files],
            "restarts": self._collector.restarts,
        }
        if self._ready_file is not None:
            partial = self._ready_file.with_name(f".{self._ready_file.name}.{os.getpid()}")
            try:
                partial.write_text(json.dumps(facts), encoding="utf-8")
                partial.replace(self._ready_file)
            except OSError as error:
                self._say("no-ready-file", f"the ready file {self._ready_file} cannot be written: {error.strerror}")
        names = ", ".join(path.stem for path in self._files)
        where = f"OTLP on {self._config.otlp_grpc} (gRPC) and {self._config.otlp_http} (HTTP)"
        self._say("ready", f"ready: Collector {self._binary.version} with {names}; {where}", **facts)

    async def _beats(self) -> None:
        stop = threading.Event()
        try:
            await asyncio.to_thread(beat.keep, self._config, stop, lambda text: self._say("no-beat", text))
        finally:
            stop.set()

    async def _reports(self) -> None:
        """What the queues hold, in hours."""
        before: dict[str, Queue] = {}
        since = time.monotonic()
        wait_s = min(FIRST_REPORT_S, self._config.report_s)
        while True:
            await asyncio.sleep(wait_s)
            wait_s = self._config.report_s
            now = time.monotonic()
            try:
                after = (await asyncio.to_thread(onward.read, self._config.metrics_port)).queues
            except InstrumentationUnavailable as error:
                self._say("queue", str(error))
                continue
            for report in queue.reports(before, after, now - since):
                self._say("queue", str(report), **report._asdict())
            before, since = after, now

    async def _losses(self) -> None:
        """Say loudly what a backend refused for good, at once and then once a minute while it goes on.

        The Collector tries such data once and drops it; its queue, its health page and its answers to senders all look well.
        """
        told, again_at = Page({}, {}, {}), 0.0
        while True:
            await asyncio.sleep(min(self._config.beat_s, self._config.report_s))
            if time.monotonic() < again_at:
                continue
            with contextlib.suppress(InstrumentationUnavailable):  # `_reports` says so
                page = await asyncio.to_thread(onward.read, self._config.metrics_port)
                for loss in queue.losses(told, page):
                    self._say("data-lost", str(loss), **loss._asdict())
                    again_at = time.monotonic() + _LOSS_AGAIN_S
                told = page

    async def _reloads(self) -> None:
        """SIGHUP: validate, then pass it on. A broken file is refused and the Collector goes on with what it has."""
        while True:
            await self._hup.wait()
            self._hup.clear()
            try:
                problem = await asyncio.to_thread(self._problem)
            except OSError as error:  # it is being replaced, for one
                problem = f"{self._binary.path}: {error.strerror}"
            if problem is None:
                self._wrong = frozenset(await asyncio.to_thread(_wrong, self._config, self._files))
                self._collector.signal(signal.SIGHUP)
                self._say("reloaded", "the files are valid; the Collector reloads them")
            else:
                self._say("reload-refused", f"not reloaded, the Collector goes on as before: {problem}", problem=problem)

    def _problem(self) -> str | None:
        """Why the files may not be loaded now. What our rules had against those that run is no reason: they run."""
        problem = binary.validate(self._binary.path, self._files, self._config)
        if problem is not None:
            return problem
        return "; ".join(one for one in _wrong(self._config, self._files) if one not in self._wrong) or None


def _wrong(config: Config, files: list[Path]) -> list[str]:
    """What will not work by our rules in files of one's own; nothing without PyYAML, or where they cannot read a file."""
    if all(path.is_relative_to(fragments.HERE) for path in files):
        return []
    try:
        from wafermonitor.collector import lint
    except ModuleNotFoundError:
        return []
    try:
        return [str(finding) for finding in lint.check(files, binary.environment(config)) if finding.wrong]
    except CollectorError:
        return []


def _replay(config: Config) -> Iterator[list[str]]:
    """The command that ships the instrumentation's spool, if it is wanted."""
    if config.replay and importlib.util.find_spec("wafermonitor.instrumentation.replay") is not None:
        host, port = reachable(config.otlp_http)
        shown = f"[{host}]" if ":" in host else host
        endpoint = f"http://{shown}:{port}"
        program = [sys.executable, "-m", "wafermonitor.instrumentation.cli"]
        yield [*program, "replay", str(config.spool_dir), "--watch", "--endpoint", endpoint]


def healthy(address: str) -> bool:
    """Whether the health page there answers well."""
    host, port = reachable(address)
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ports_free(config: Config) -> None:
    """Look before starting: another program's health page would otherwise pass for ours."""
    wanted = {
        "WAFER_OTLP_GRPC": config.otlp_grpc,
        "WAFER_OTLP_HTTP": config.otlp_http,
        "WAFER_HEALTH_ENDPOINT": config.health,
        "WAFER_METRICS_PORT": f"127.0.0.1:{config.metrics_port}",
    }
    for variable, address in wanted.items():
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), int(port)))
            except OSError as error:
                raise CollectorUnavailable(
                    f"{address} cannot be used ({error.strerror}): is another Collector running? Set {variable}"
                ) from None


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """The queue folder, ours alone: a second Collector on it would fail after seconds with a message about a lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / LOCK).open("a+")
    except OSError as error:
        raise CollectorUnavailable(
            f"the queue folder {folder} cannot be used ({error.strerror}): set WAFER_COLLECTOR_QUEUE_DIR"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CollectorUnavailable(
                f"the queue folder {folder} is in use by process {lock.read().strip() or 'unknown'}: stop it, or set "
                "WAFER_COLLECTOR_QUEUE_DIR to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
