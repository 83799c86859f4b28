"""What a host's Collector needs at a rate: CPU, memory, bytes on disk. For the table of docs/collector-service.md.

In: seconds for each row. Out: the table, as Markdown on stdout. Called by: people, `python -m benchmarks.collector_size`.

Spans of size M come in requests of 100 by OTLP/HTTP at a steady rate, in two states: passed on (backend `file`, which stands
behind a second queue on disk, so that this is the dearer way), and kept (backend `managed`, whose receiver is away). CPU and
memory are the Collector's own, without its supervisor.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.corpus import sheet
from benchmarks.processes import Child, cpu_s, wafer

RATES = (100, 1_000, 5_000)
BATCH = 100


class Needs(NamedTuple):
    """One row. `disk_bytes` is what the queue's folder grew by for each span."""

    rate: int
    state: str
    cpu_cores: float
    memory_mib: float
    disk_bytes: float


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each row")
    seconds = parser.parse_args().seconds
    print("| spans/s | state | CPU | memory at most | disk for each 1,000 spans |\n|---|---|---|---|---|")
    for rate in RATES:
        for state, backend in (("passed on", "file"), ("kept, the backend is away", "managed")):
            found = measure(rate, state, backend, seconds)
            disk = f"{found.disk_bytes / 1000:,.2f} MB" if backend == "managed" else "–"
            print(
                f"| {rate:,} | {found.state} | {found.cpu_cores:.2f} cores | {found.memory_mib:.0f} MiB | {disk} |", flush=True
            )


def measure(rate: int, state: str, backend: str, seconds: float) -> Needs:
    """One Collector, this rate for so long."""
    with tempfile.TemporaryDirectory(prefix="wafer-size-") as folder:
        home = Path(folder)
        grpc, otlp, health, metrics, loopback, nobody = free_ports(6)
        environment = {
            "WAFER_OTLP_GRPC": f"127.0.0.1:{grpc}",
            "WAFER_OTLP_HTTP": f"127.0.0.1:{otlp}",
            "WAFER_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
            "WAFER_METRICS_PORT": str(metrics),
            "WAFER_FILE_LOOPBACK": f"127.0.0.1:{loopback}",
            "WAFER_MANAGED_ENDPOINT": f"127.0.0.1:{nobody}",
            "WAFER_COLLECTOR_QUEUE_DIR": str(home / "queue"),
            "WAFER_FILE_DIR": str(home / "out"),
            "WAFER_SPOOL_DIR": str(home / "spool"),
            "WAFER_COLLECTOR_REPLAY": "false",
        }
        with Child(wafer("collector", "run", "--backend", backend, "--json"), environment) as child:
            ready = json.loads(child.line())
            while ready["event"] != "ready":
                ready = json.loads(child.line())
            pid = int(ready["collector_pid"])
            disk_before, cpu_before, began = held(home / "queue"), cpu_s([pid]), time.monotonic()
            spans, peak = send(rate, seconds, otlp, pid)
            elapsed = time.monotonic() - began
            return Needs(
                rate,
                state,
                (cpu_s([pid]) - cpu_before) / elapsed,
                peak,
                (held(home / "queue") - disk_before) / spans,
            )


def send(rate: int, seconds: float, port: int, pid: int) -> tuple[int, float]:
    """Requests at their time; how many spans were taken, and the most memory (MiB) that was seen meanwhile."""
    load = sheet("M", BATCH, "1 in 10")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    process, peak, sent = psutil.Process(pid), 0.0, 0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        content = load.fill(sent, time.time_ns())
        for start, end in load.bounds:
            wait = began + sent / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            if time.monotonic() - began >= seconds:
                break
            connection.request("POST", "/v1/traces", content[start:end], {"Content-Type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.client.OK:
                raise SystemExit(f"the Collector answers {answer.status} at {rate} spans/s")
            sent += BATCH
            peak = max(peak, process.memory_info().rss / 2**20)
    connection.close()
    return sent, peak


def held(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody has at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    main()
