"""Runs the cases against several servers and keeps what was found, for `docs/otlp-conformance.md`.

    python -m tests.conformance.peers wafermonitor collector=/path/to/otelcol rotel=/path/to/rotel-agent jaeger=/path/to/jaeger

In: names of servers, with the binary of each but our own. Out: `results/<name>.json`. Run by hand when a version changes. Each
server runs alone on loopback ports, with the limits it has when nobody sets them, and with memory or nothing at all behind
its OTLP receiver.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
READY_S = 30.0
MIB = 1 << 20
LIMITS = ("--otlp-limit-bytes={http}", "--otlp-grpc-limit-bytes={grpc}")


class Ports(NamedTuple):
    """Loopback ports that were free."""

    grpc: int
    http: int
    other: tuple[int, ...]


class Peer(NamedTuple):
    """How a server is started, what its limits are by default, what it takes."""

    title: str
    command: Callable[[str, Ports, Path], list[str]]
    version: Callable[[str], str]
    http_limit_bytes: int
    grpc_limit_bytes: int
    signals: str = "traces,logs,metrics"


def _words(*command: str) -> str:
    """What a program says of its version: the first number with dots in it."""
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_S)
    found = re.search(r"\d+\.\d+[\w.-]*", said.stdout + said.stderr)
    return found[0] if found else "unknown"


def _otlp(ports: Ports) -> dict[str, object]:
    loopback = {name: {"endpoint": f"127.0.0.1:{port}"} for name, port in (("grpc", ports.grpc), ("http", ports.http))}
    return {"otlp": {"protocols": loopback}}


def _written(folder: Path, config: dict[str, object]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(path)


def _quiet() -> dict[str, object]:
    return {"metrics": {"level": "none"}, "logs": {"level": "error"}}


def _wafermonitor(_binary: str, ports: Ports, _folder: Path) -> list[str]:
    addresses = ["--grpc-address", f"127.0.0.1:{ports.grpc}", "--http-address", f"127.0.0.1:{ports.http}"]
    return [str(Path(sys.executable).with_name("wafer")), "receiver", *addresses]


def _collector(binary: str, ports: Ports, folder: Path) -> list[str]:
    pipeline = {"receivers": ["otlp"], "exporters": ["nop"]}
    service = {"telemetry": _quiet(), "pipelines": dict.fromkeys(("traces", "logs", "metrics"), pipeline)}
    return [binary, "--config", _written(folder, {"receivers": _otlp(ports), "exporters": {"nop": {}}, "service": service})]


def _jaeger(binary: str, ports: Ports, folder: Path) -> list[str]:
    query = {"storage": {"traces": "memory"}}
    query |= {name: {"endpoint": f"127.0.0.1:{port}"} for name, port in zip(("grpc", "http"), ports.other, strict=True)}
    config = {
        "receivers": _otlp(ports),
        "extensions": {"jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 1000}}}}, "jaeger_query": query},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "telemetry": _quiet(),
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
        },
    }
    return [binary, "--config", _written(folder, config)]


def _rotel(binary: str, ports: Ports, folder: Path) -> list[str]:
    addresses = ["--otlp-grpc-endpoint", f"127.0.0.1:{ports.grpc}", "--otlp-http-endpoint", f"127.0.0.1:{ports.http}"]
    files = ["--pid-file", str(folder / "pid"), "--log-file", str(folder / "log")]
    return [binary, "start", "--exporter", "blackhole", *addresses, *files]


PEERS = {
    "wafermonitor": Peer("WaferMonitor", _wafermonitor, lambda _: metadata.version("wafermonitor"), 64 * MIB, 64 * MIB),
    "collector": Peer("OpenTelemetry Collector", _collector, lambda binary: _words(binary, "--version"), 20 * MIB, 4 * MIB),
    "jaeger": Peer("Jaeger", _jaeger, lambda binary: _words(binary, "version"), 20 * MIB, 4 * MIB, "traces"),
    "rotel": Peer("Rotel", _rotel, lambda binary: _words(binary, "--version"), 20 * MIB, 4 * MIB),
}


def judge(name: str, binary: str) -> int:
    """Start one server, run every case, end it. The exit code of pytest."""
    peer = PEERS[name]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ports = _free_ports()
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("WAFER_", "OTEL_"))}
        with (home / "said").open("wb") as said:
            server = subprocess.Popen(
                peer.command(binary, ports, home),
                env=clean | {"WAFER_STORAGE_DSN": "memory://"}, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=home,
            )  # fmt: skip
        try:
            if not _ready(server, ports):
                raise SystemExit(f"{name} does not listen:\n{(home / 'said').read_text()[-2000:]}")
            return _pytest(name, peer, peer.version(binary), ports)
        finally:
            server.terminate()
            server.wait(READY_S)


def _pytest(name: str, peer: Peer, version: str, ports: Ports) -> int:
    where = [f"--otlp-http=http://127.0.0.1:{ports.http}", f"--otlp-grpc=127.0.0.1:{ports.grpc}"]
    where += [one.format(http=peer.http_limit_bytes, grpc=peer.grpc_limit_bytes) for one in LIMITS]
    told = [f"--otlp-server={peer.title} {version}", f"--otlp-json-table={RESULTS / name}.json", "--otlp-heavy", "--otlp-slow"]
    RESULTS.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-r", "",
         str(HERE / "otlp_server"), *where, f"--otlp-signals={peer.signals}", *told],
        check=False, cwd=HERE.parents[1],
    ).returncode  # fmt: skip


def _free_ports() -> Ports:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    grpc, http, *other = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return Ports(grpc, http, tuple(other))


def _ready(server: subprocess.Popen[bytes], ports: Ports) -> bool:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and server.poll() is None:
        try:
            for port in (ports.grpc, ports.http):
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def main() -> None:
    """Judge each server that is named."""
    for word in sys.argv[1:]:
        name, _, binary = word.partition("=")
        if name not in PEERS:
            raise SystemExit(f"{name!r} is none of {', '.join(PEERS)}")
        judge(name, binary)


if __name__ == "__main__":
    main()
