"""What reporting costs the job: per plain span, per run, per flush, and at start-up.

In: a Collector's program; a sink on the loopback. Out: figures beside their goals. Called by: `python -m benchmarks`.

CPU is the job's own thread's (time.thread_time), the least of several rounds: other load on the machine can only add to it.
The two sides of a difference take turns. Latencies are wall time and want a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

if TYPE_CHECKING:  # its imports would weigh on the processes that are measured
    from benchmarks.rounds import Plan

ROUNDS = 9
SPANS = 5_000
RUNS = 500
FLUSHES = 500


class Figure(NamedTuple):
    """One measured figure beside its goal; `goal` is an upper limit in `unit`, None where there is none."""

    name: str
    value: float
    unit: str
    goal: float | None = None

    @property
    def missed(self) -> bool:
        """Is it above its goal?"""
        return self.goal is not None and self.value > self.goal

    def shown(self) -> str:
        """Value, unit and goal."""
        verdict = "" if self.goal is None else f"  goal ≤ {self.goal:g}: {'MISSED' if self.missed else 'met'}"
        return f"{self.value:.2f} {self.unit}{verdict}"


class _Sink(BaseHTTPRequestHandler):
    """Answers every request with 200, and decodes nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Read it and say yes."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: Any) -> None:
        """A client that ends without closing its connection is as it should be."""


def plain_span(*, processor: bool) -> Callable[[], float]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    from wafermonitor.instrumentation import providers
    from wafermonitor.instrumentation.processor import Processor

    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    if processor:
        telemetry = providers.telemetry()
        assert telemetry is not None
        provider.add_span_processor(Processor(lambda: telemetry.lifecycle, sends=False))
    tracer = provider.get_tracer("bench")

    def once() -> float:
        began_s = time.thread_time()
        for _ in range(SPANS):
            tracer.start_span("plain", attributes={"a": 1, "b": "two"}).end()
        return (time.thread_time() - began_s) / SPANS * 1e6

    return once


def whole_run() -> float:
    """CPU of the job's thread for one run with its start, progress and end event; nothing waits for the endpoint."""
    import wafermonitor.instrumentation as wafer
    from wafermonitor.instrumentation import providers

    telemetry = providers.telemetry()
    assert telemetry is not None
    flush = telemetry.sender.flush
    with wafer.job("around"):
        telemetry.sender.flush = lambda **_: True  # type: ignore[method-assign]  # flushes are measured by themselves
        began_s = time.thread_time()
        for number in range(RUNS):
            with wafer.job("bench", lot_ids=["L1"]) as job:
                job.progress(number, RUNS)
        spent_s = time.thread_time() - began_s
        telemetry.sender.flush = flush  # type: ignore[method-assign]  # as above
    return spent_s / RUNS * 1e6


def flushes() -> list[float]:
    """Seconds that `with job()` holds the block back while its start is sent."""
    import wafermonitor.instrumentation as wafer

    waited = []
    for _ in range(FLUSHES):
        began_s = time.perf_counter()
        job = wafer.job("bench")
        job.__enter__()
        waited.append(time.perf_counter() - began_s)
        job.__exit__(None, None, None)
    return sorted(waited)


def start_up(code: str, rounds: int = 7) -> tuple[float, float]:
    """(milliseconds, MiB) of a Python process that does `code`; the memory is its peak."""
    # Not ru_maxrss: it begins with what the process was before it became this one.
    program = f"{code}\nprint(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    seconds, peak = [], 0.0
    for _ in range(rounds):
        began_s = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - began_s)
        peak = int(done.stdout.split()[-1]) / 1024
    return min(seconds) * 1e3, peak


def wrapped(rounds: int = 7) -> tuple[float, float]:
    """(milliseconds, MiB) of `wafer run -- true`; the memory is its peak when its command runs."""
    wrapper = [str(Path(sys.executable).with_name("wafer")), "run", "--job", "bench", "--"]
    seconds = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        subprocess.run([*wrapper, "true"], check=True)
        seconds.append(time.perf_counter() - began_s)
    peak = subprocess.run([*wrapper, "sh", "-c", "grep VmHWM /proc/$PPID/status"], check=True, capture_output=True, text=True)
    return min(seconds) * 1e3, int(peak.stdout.split()[1]) / 1024


@contextmanager
def sink() -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@contextmanager
def collector(binary: str) -> Iterator[str]:
    """A Collector that takes OTLP and writes to /dev/null."""
    with tempfile.TemporaryDirectory() as folder:
        port, health = free_port(), free_port()
        parts = {
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
            "exporters": {"file": {"path": f"{folder}/out.jsonl"}},
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
            "service": {
                "extensions": ["health_check"],
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {
                    signal: {"receivers": ["otlp"], "exporters": ["file"]} for signal in ("traces", "logs", "metrics")
                },
            },
        }
        config = Path(folder, "collector.json")
        config.write_text(json.dumps(parts))
        process = subprocess.Popen([binary, "--config", str(config)], stderr=subprocess.DEVNULL)
        try:
            wait_for(f"http://127.0.0.1:{health}/")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_for(url: str, limit_s: float = 20) -> None:
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        with suppress(OSError), urlopen(url, timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{url} did not answer within {limit_s} s")


def free_port() -> int:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def measure_cost() -> list[Figure]:
    """Per plain span and per run, against a sink. In a process of its own: telemetry is set up once for each process."""
    bare, watched = plain_span(processor=False), plain_span(processor=True)
    bare(), watched()
    rounds = [(bare(), watched()) for _ in range(ROUNDS)]
    without, with_ours = (min(side) for side in zip(*rounds, strict=True))
    whole_run()
    runs = [whole_run() for _ in range(ROUNDS)]
    return [
        Figure("plain span, added by our processor", with_ours - without, "µs", 1.5),
        Figure("plain span of the bare SDK", without, "µs"),
        Figure("run with start, progress and end", min(runs), "µs", 150),
    ]


def measure_flush(what: str) -> list[Figure]:
    flushes()
    waited = flushes()
    return [
        Figure(f"start flush p50, {what}", waited[len(waited) // 2] * 1e3, "ms"),
        Figure(f"start flush p99, {what}", waited[len(waited) * 99 // 100] * 1e3, "ms", 5),
    ]


def measure_start_up() -> list[Figure]:
    bare_ms, bare_mib = start_up("pass")
    figures = [Figure("bare Python: start", bare_ms, "ms"), Figure("bare Python: memory", bare_mib, "MiB")]
    for name, code in (
        ("import of the package", "import wafermonitor.instrumentation"),
        ("first use (wafer.job)", "import wafermonitor.instrumentation as wafer; wafer.job"),
    ):
        milliseconds, mebibytes = start_up(code)
        figures += [
            Figure(f"{name}: added", milliseconds - bare_ms, "ms"),
            Figure(f"{name}: memory added", mebibytes - bare_mib, "MiB"),
        ]
    milliseconds, mebibytes = wrapped()
    return [
        *figures,
        Figure("wafer run -- true", milliseconds, "ms"),
        Figure("wafer run -- true: memory", mebibytes, "MiB"),
    ]


def in_child(part: str, url: str, what: str) -> list[Figure]:
    """One part in a process of its own, reporting to `url`."""
    with tempfile.TemporaryDirectory() as spool:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WAFER_"))}
        environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "WAFER_SPOOL_DIR": spool,
            "WAFER_INSTRUMENTATION_BLOCKING_S": "60",
        }
        command = [sys.executable, __file__, "--part", part, "--what", what]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return [Figure(*row) for row in json.loads(done.stdout)]


def measure(collector_bin: str) -> list[Figure]:
    """All figures."""
    with sink() as url:
        figures = in_child("cost", url, "") + in_child("flush", url, "plain sink")
    with collector(collector_bin) as url:
        figures += in_child("flush", url, "Collector")
    with sink() as url:
        os.environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        figures += measure_start_up()
    return figures


def bench_instrumentation(plan: Plan) -> dict[str, Any]:
    """All figures beside their goals; the plan changes nothing, a quick run takes a minute."""
    del plan
    from wafermonitor.deploy.demo import collector_in_use

    figures = measure(str(collector_in_use().path))
    return {
        "title": "Instrumentation",
        "figures": [figure._asdict() for figure in figures],
        "missed": [figure.name for figure in figures if figure.missed],
    }


def main() -> None:
    """One part, for `in_child`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--part", choices=["cost", "flush"], required=True)
    parser.add_argument("--what", default="")
    arguments = parser.parse_args()
    print(json.dumps(measure_cost() if arguments.part == "cost" else measure_flush(arguments.what)))


if __name__ == "__main__":
    main()
