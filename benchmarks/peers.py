"""Other programs that take OTLP in, beside ours in the same run: how each starts, and what its acknowledgement is worth.

In: a folder. Out: a running `Peer`. Called by: `p02_beside`, `p07_overload`.

The Collector always runs; rotel when its wheel is installed (or WAFER_BENCH_ROTEL names its program); Jaeger, VictoriaTraces
and Tempo when WAFER_BENCH_JAEGER, WAFER_BENCH_VICTORIATRACES, WAFER_BENCH_TEMPO name theirs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.load import Load
from benchmarks.processes import Child, wait_for
from wafermonitor.deploy.demo import collector_in_use

LOOPBACK = "127.0.0.1"
_MESSAGE_MIB = 64


class Peer(NamedTuple):
    """A program to compare with. `stored` counts spans in its folder, where that is possible.

    It is measured for `least_s` or more, because it answers so late.
    """

    name: str
    tier: str
    how: str
    path: str | None
    start: Callable[[str, Path, ExitStack], Running]
    stored: Callable[[Path], int] | None = None
    least_s: float = 0


class Running(NamedTuple):
    """A peer that takes requests: over gRPC, or over HTTP below `route`. `find` counts the spans of a trace that it shows."""

    process: Child
    address: str
    transport: str = "grpc"
    route: str = "/v1/traces"
    find: Callable[[str], int] | None = None

    def load(self, first: int, **more: Any) -> Load:
        """A load for it."""
        return Load(self.address, log="", first=first, transport=self.transport, route=self.route, **more)


@contextmanager
def started(peer: Peer, folder: Path) -> Iterator[Running]:
    """The peer with its data in `folder`, which must exist."""
    assert peer.path is not None
    with ExitStack() as held:
        yield peer.start(peer.path, folder, held)


def collectors() -> list[Peer]:
    """The stock Collector in two ways."""
    path = str(collector_in_use().path)
    return [
        Peer("Collector → file", "T1", "a JSON line for each request; nothing is synced", path, _to_file, _in_file),
        Peer("Collector → spool", "T2", "persistent queue with fsync, drained into nothing", path, _to_spool),
    ]


def all_peers() -> list[Peer]:
    """Those that run here, and those that would if they were given (`path` is None)."""
    return [
        *collectors(),
        Peer("rotel pass-through", "T0", "OTLP in, nothing out", _rotel_path(), _rotel),
        Peer("Jaeger + badger, strict", "T2", "no batching, consistency on", _given("JAEGER"), _jaeger_strict, least_s=20),
        Peer(
            "Jaeger + badger, default", "T0", "batch processor, consistency off", _given("JAEGER"), _jaeger_default, least_s=10
        ),
        Peer("Jaeger in memory", "T0", "batch processor; the newest million traces", _given("JAEGER"), _jaeger_in_memory),
        Peer("VictoriaTraces, 1 s", "T0", "flushes every second", _given("VICTORIATRACES"), _victoriatraces),
        Peer("Tempo monolith", "T0", "local blocks", _given("TEMPO"), _tempo),
    ]


def version(peer: Peer) -> str:
    """What the program says of itself; the name of a wheel's version where it says nothing."""
    assert peer.path is not None
    for words in (["--version"], ["version"]):
        done = subprocess.run([peer.path, *words], capture_output=True, text=True, check=False, timeout=20)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip().splitlines()[0][:80]
    return "unknown"


def free_port() -> int:
    """A port of the loopback that is free now."""
    with socket.create_server((LOOPBACK, 0)) as held:
        return int(held.getsockname()[1])


def _given(name: str) -> str | None:
    path = os.environ.get(f"WAFER_BENCH_{name}")
    if path is not None and not os.access(path, os.X_OK):
        raise SystemExit(f"WAFER_BENCH_{name} names {path}, which is no program")
    return path


def _rotel_path() -> str | None:
    if given := _given("ROTEL"):
        return given
    found = importlib.util.find_spec("rotel")
    for place in (found.submodule_search_locations or []) if found is not None else []:
        if os.access(Path(place, "rotel-agent"), os.X_OK):
            return str(Path(place, "rotel-agent"))
    return None


def _to_file(path: str, folder: Path, held: ExitStack) -> Running:
    return _collector(path, folder, held, {"file": {"path": str(folder / "spans.jsonl")}}, {})


def _in_file(folder: Path) -> int:
    total = 0
    with Path(folder, "spans.jsonl").open("rb") as lines:
        for line in lines:
            total += line.count(b'"spanId"')
    return total


def _to_spool(path: str, folder: Path, held: ExitStack) -> Running:
    drain = _collector(path, folder / "drain", held, {"nop": {}}, {})
    (folder / "queue").mkdir()
    exporter = {
        "endpoint": drain.address,
        "tls": {"insecure": True},
        "compression": "none",
        "sending_queue": {"storage": "file_storage", "queue_size": 10_000, "block_on_overflow": True},
    }
    storage = {"file_storage": {"directory": str(folder / "queue"), "fsync": True}}
    return _collector(path, folder / "spool", held, {"otlp_grpc": exporter}, storage)


def _collector(path: str, folder: Path, held: ExitStack, exporters: dict[str, Any], extensions: dict[str, Any]) -> Running:
    folder.mkdir(exist_ok=True)
    port, health = free_port(), free_port()
    grpc = {"endpoint": f"{LOOPBACK}:{port}", "max_recv_msg_size_mib": _MESSAGE_MIB}
    config = {
        "receivers": {"otlp": {"protocols": {"grpc": grpc}}},
        "exporters": exporters,
        "extensions": {"health_check": {"endpoint": f"{LOOPBACK}:{health}"}, **extensions},
        "service": {
            "extensions": ["health_check", *extensions],
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": list(exporters)}},
        },
    }
    file = folder / "collector.json"
    file.write_text(json.dumps(config))
    child = held.enter_context(Child([path, "--config", str(file)]))
    wait_for(f"http://{LOOPBACK}:{health}/")
    return Running(child, f"{LOOPBACK}:{port}")


def _rotel(path: str, folder: Path, held: ExitStack) -> Running:
    grpc, http = free_port(), free_port()
    command = [path, "start", "--exporter", "blackhole", "--otlp-grpc-endpoint", f"{LOOPBACK}:{grpc}"]
    command += ["--otlp-http-endpoint", f"{LOOPBACK}:{http}", "--otlp-grpc-max-recv-msg-size-mib", str(_MESSAGE_MIB)]
    child = held.enter_context(Child(command, folder=folder))
    _wait_for_port(grpc)
    return Running(child, f"{LOOPBACK}:{grpc}")


def _jaeger_strict(path: str, folder: Path, held: ExitStack) -> Running:
    return _jaeger(path, folder, held, {"badger": _badger(folder, consistency=True)}, {})


def _jaeger_default(path: str, folder: Path, held: ExitStack) -> Running:
    return _jaeger(path, folder, held, {"badger": _badger(folder, consistency=False)}, {"batch": {}})


def _jaeger_in_memory(path: str, folder: Path, held: ExitStack) -> Running:
    return _jaeger(path, folder, held, {"memory": {"max_traces": 1_000_000}}, {"batch": {}})


def _badger(folder: Path, *, consistency: bool) -> dict[str, Any]:
    places = {"keys": str(folder / "keys"), "values": str(folder / "values")}
    return {"directories": places, "ephemeral": False, "consistency": consistency}


def _jaeger(path: str, folder: Path, held: ExitStack, backend: dict[str, Any], processors: dict[str, Any]) -> Running:
    grpc, query, query_grpc = free_port(), free_port(), free_port()
    query_at = {"storage": {"traces": "main"}, "http": {"endpoint": f"{LOOPBACK}:{query}"}}
    config = {
        "receivers": {
            "otlp": {"protocols": {"grpc": {"endpoint": f"{LOOPBACK}:{grpc}", "max_recv_msg_size_mib": _MESSAGE_MIB}}}
        },
        "processors": processors,
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "main"}},
        "extensions": {
            "jaeger_storage": {"backends": {"main": backend}},
            "jaeger_query": query_at | {"grpc": {"endpoint": f"{LOOPBACK}:{query_grpc}"}},
        },
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": list(processors), "exporters": ["jaeger_storage_exporter"]}
            },
        },
    }
    file = folder / "jaeger.json"
    file.write_text(json.dumps(config))
    child = held.enter_context(Child([path, "--config", str(file)]))
    for port in (grpc, query):
        _wait_for_port(port)
    return Running(child, f"{LOOPBACK}:{grpc}", find=_jaeger_api(f"http://{LOOPBACK}:{query}/api/traces/"))


def _victoriatraces(path: str, folder: Path, held: ExitStack) -> Running:
    port = free_port()
    command = [path, f"-storageDataPath={folder / 'data'}", "-inmemoryDataFlushInterval=1s"]
    child = held.enter_context(Child([*command, f"-httpListenAddr={LOOPBACK}:{port}"]))
    wait_for(f"http://{LOOPBACK}:{port}/health")
    find = _jaeger_api(f"http://{LOOPBACK}:{port}/select/jaeger/api/traces/")
    return Running(child, f"{LOOPBACK}:{port}", "http", "/insert/opentelemetry/v1/traces", find)


def _tempo(path: str, folder: Path, held: ExitStack) -> Running:
    grpc, http, own = free_port(), free_port(), free_port()
    config = {
        "server": {
            "http_listen_address": LOOPBACK,
            "http_listen_port": http,
            "grpc_listen_address": LOOPBACK,
            "grpc_listen_port": own,
            "log_level": "error",
        },
        "distributor": {"receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"{LOOPBACK}:{grpc}"}}}}},
        "storage": {
            "trace": {"backend": "local", "wal": {"path": str(folder / "wal")}, "local": {"path": str(folder / "blocks")}}
        },
        "overrides": {
            "defaults": {
                "ingestion": {"rate_limit_bytes": 2**31, "burst_size_bytes": 2**31, "max_traces_per_user": 0},
            }
        },
    }
    file = folder / "tempo.json"
    file.write_text(json.dumps(config))
    child = held.enter_context(Child([path, "-target=all", f"-config.file={file}"]))
    wait_for(f"http://{LOOPBACK}:{http}/ready")
    return Running(child, f"{LOOPBACK}:{grpc}", find=_tempo_api(f"http://{LOOPBACK}:{http}/api/traces/"))


def _jaeger_api(base: str) -> Callable[[str], int]:
    def find(trace_id: str) -> int:
        found = _get(base + trace_id)
        return sum(len(trace["spans"]) for trace in (found or {}).get("data") or [])

    return find


def _tempo_api(base: str) -> Callable[[str], int]:
    def find(trace_id: str) -> int:
        found = _get(base + trace_id) or {}
        batches = found.get("batches") or found.get("resourceSpans") or []
        return sum(len(scoped.get("spans", [])) for batch in batches for scoped in batch.get("scopeSpans", []))

    return find


def _get(url: str) -> dict[str, Any] | None:
    with suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=10) as answer:
        return dict(json.load(answer))
    return None


def _wait_for_port(port: int, tries: int = 600) -> None:
    import time

    for _ in range(tries):
        with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")
