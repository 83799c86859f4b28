"""Turn the older configuration of the sidecar into a file of the Collector.

In: integrations.json. Out: YAML for `wafer collector run --backend ./rendered.yaml`, and what was left out. Called by:
`wafer collector render`.

Each entry becomes a copy of the file that does the same in backends/, with names of its own and the older values in the place
of the variables. Priorities become levels of the failover connector behind one loopback spool; `fan_out` sends to all instead,
each with its own queue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from wafermonitor.collector import documented, fragments, lint
from wafermonitor.collector.documents import PARTS, kind, parse
from wafermonitor.collector.errors import ConfigRejected
from wafermonitor.collector.older import Entry, Older

FIRST_PORT: Final = 14420
"""Loopback spools of rendered files listen from here on; those that come with the package are below."""
SIGNALS: Final = ("traces", "metrics", "logs")
_VARIABLE: Final = re.compile(r"\$\{env:(\w+)(?::-[^}]*)?\}")
_REFERENCE: Final = re.compile(r"\$\{(?:env:)?(\w+)\}|\$(\w+)|env:(\w+)")
_AT_ONCE: Final = "--priorities fan-out sends to all of them, each with its own queue on disk"


class Rendered(NamedTuple):
    """`content` as the Collector reads it; `notes` for people; `failover` when it needs that connector."""

    content: dict[str, Any]
    notes: list[str]
    failover: bool

    def text(self, source: str) -> str:
        """The file, with the notes on top."""
        head = [f"# Made of {source} by `wafer collector render`.", "#", "# Needs   base.yaml.", *self._notes()]
        body = yaml.dump(self.content, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
        return "\n".join(head) + "\n\n" + body

    def _notes(self) -> list[str]:
        return ["#", "# Left out or changed", *(f"#   {note}" for note in self.notes)] if self.notes else []


class _Plain(yaml.SafeDumper):
    """Writes what is there twice twice: anchors are not for people."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def render(older: Older, bridged: frozenset[str] = frozenset(), *, fan_out: bool = False) -> Rendered:
    """`older` as a file. `bridged`: names or types of entries that go to `wafer receiver --writer`.

    `all` stands for every entry that has a bridge. ConfigRejected: a literal secret, a key without a counterpart, a type that
    has no exporter and is not bridged.
    """
    _known(older, bridged)
    notes, ports = list(older.notes), iter(range(FIRST_PORT, FIRST_PORT + 80))
    levels: dict[int, list[dict[str, Any]]] = {}
    content: dict[str, Any] = {}
    failover = not fan_out and len({entry.priority for entry in older.entries if entry.priority is not None}) > 1
    for entry in older.entries:
        for copy in _copies(entry, bridged, notes, lambda: f"127.0.0.1:{next(ports)}"):
            if failover and entry.priority is not None:
                levels.setdefault(entry.priority, []).append(_level(copy, entry))
            else:
                _add(content, copy)
    if levels:
        _add(content, _failover(levels, f"127.0.0.1:{next(ports)}"))
    if not older.entries:
        notes.append("no backend is switched on: the Collector would take data and keep none")
    _spool(content, older, notes)
    _ingest(content, older, notes)
    notes += _shared(older, bridged)
    return Rendered(content, notes, failover)


def _shared(older: Older, bridged: frozenset[str]) -> Iterator[str]:
    """Entries that go by one bridge would have one folder, one index, one queue: that is said."""
    by_writer: dict[str, list[str]] = {}
    for entry in older.entries:
        if _by_bridge(entry, bridged):
            by_writer.setdefault(entry.kind.bridge, []).append(entry.name)
    for writer, names in by_writer.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} go to one bridge, which is sent everything {len(names)} times: keep one of them, or "
                f"run a bridge for each (WAFER_RECEIVER_HTTP_ADDRESS) and put its address in place of "
                f"WAFER_BRIDGE_{writer.upper()}"
            )


def _known(older: Older, bridged: frozenset[str]) -> None:
    there = {word for entry in older.entries for word in (entry.name, entry.kind.name)} | {"all"}
    for word in sorted(bridged - there):
        raise ConfigRejected(f"--bridge {word}: no entry has that name or type; there are {', '.join(sorted(there))}")


def _by_bridge(entry: Entry, bridged: frozenset[str]) -> bool:
    return bool({entry.name, entry.kind.name} & bridged) or ("all" in bridged and bool(entry.kind.bridge))


def _copies(entry: Entry, bridged: frozenset[str], notes: list[str], port: Callable[[], str]) -> Iterator[dict[str, Any]]:
    """The files of one entry, with its names and values."""
    _no_literal_secret(entry)
    if _by_bridge(entry, bridged):
        yield _bridged(entry, notes, port)
        return
    if not entry.kind.files:
        writer = entry.kind.bridge
        raise ConfigRejected(
            f"{entry.name}: no Collector has an exporter for {entry.kind.name}: add --bridge {entry.kind.name}, and run "
            f"`wafer receiver --writer {writer}` beside it"
        )
    if entry.kind.told:
        notes.append(f"{entry.name}: {entry.kind.told}")
    values, verbatim, headers = _values(entry, notes)
    copies = [_copy(fragments.HERE / "backends" / f"{name}.yaml", entry.slug, values, port) for name in entry.kind.files]
    for key in sorted(verbatim):
        if not _verbatim(copies, key, verbatim[key]):
            raise ConfigRejected(f"{entry.name}: {key} has no counterpart: take it out, and set it in the rendered file")
    for copy in copies:
        if headers:
            for settings in copy["exporters"].values():
                settings.setdefault("headers", {}).update(headers)
        yield copy


def _no_literal_secret(entry: Entry) -> None:
    for path, value in _pairs(entry.settings):
        if lint.secret(path) and isinstance(value, str) and value and not _REFERENCE.fullmatch(value):
            raise ConfigRejected(f"{entry.name}: {path} is a secret as text: write ${{env:NAME}}, and set NAME")


def _bridged(entry: Entry, notes: list[str], port: Callable[[], str]) -> dict[str, Any]:
    writer = entry.kind.bridge
    if not writer:
        raise ConfigRejected(f"{entry.name}: there is no bridge to {entry.kind.name}; its exporter does the same")
    told = f", with its settings ({', '.join(sorted(entry.settings))})" if entry.settings else ""
    notes.append(f"{entry.name}: run `wafer receiver --writer {writer}` beside the Collector{told}: docs/configuration.md")
    if entry.kind.told and not entry.kind.files:  # else it is about the exporter
        notes.append(f"{entry.name}: {entry.kind.told}")
    return _copy(fragments.HERE / "backends" / f"bridge-{writer}.yaml", entry.slug, {}, port)


def _values(entry: Entry, notes: list[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """(variable → value, what the exporter itself may know, headers)."""
    values: dict[str, Any] = {}
    verbatim: dict[str, Any] = {}
    headers: dict[str, str] = {}
    for key, value in entry.settings.items():
        if key in entry.kind.left:
            notes.append(f"{entry.name}: {key} is left out: {entry.kind.left[key]}")
        elif entry.kind.keys.get(key) == "header":
            headers["authorization"] = f"Bearer {_referred(value)}"
        elif key in entry.kind.keys:
            values[entry.kind.keys[key]] = ",".join(map(str, value)) if isinstance(value, list) else _referred(value)
        else:
            verbatim[key] = _referred(value)
    return values, verbatim, headers


def _referred(value: Any) -> Any:
    """`$NAME`, `${NAME}` and `env:NAME` as the Collector writes them."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return value if match is None else f"${{env:{match[1] or match[2] or match[3]}}}"


def _verbatim(copies: list[dict[str, Any]], key: str, value: Any) -> bool:
    """Give `key` to every exporter that documents it; whether there is one."""
    found = False
    for copy in copies:
        for name, settings in copy["exporters"].items():
            if not name.endswith("_spool") and documented.has("exporters", kind(name), key):
                settings[key] = value
                found = True
    return found


def _copy(path: Path, slug: str, values: dict[str, Any], port: Callable[[], str]) -> dict[str, Any]:
    """The file at `path` with parts and pipelines that begin with `slug`, `values` for its variables, and ports of its own."""
    content: dict[str, Any] = parse(path.read_text(encoding="utf-8"))
    names = {name: f"{kind(name)}/{slug}_{name.partition('/')[2]}" for section in PARTS for name in content.get(section) or {}}
    names |= {name: f"{kind(name)}/{slug}_{name.partition('/')[2]}" for name in content["service"]["pipelines"]}
    addresses: dict[str, str] = {}

    def put(match: re.Match[str]) -> str:
        if match[1].endswith("_LOOPBACK"):
            if match[1] not in addresses:
                addresses[match[1]] = port()
            return addresses[match[1]]
        return str(values.get(match[1], match[0]))

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, str):
            return value
        whole = _VARIABLE.fullmatch(value)
        if whole and whole[1] in values:
            return values[whole[1]]
        return names.get(value) or _VARIABLE.sub(put, value)

    copied: dict[str, Any] = walk(content)
    return copied


def _level(copy: dict[str, Any], entry: Entry) -> dict[str, Any]:
    """Of a copy what a level of failover needs: exporters that neither queue nor retry, and their pipelines."""
    if copy.get("connectors") or copy["service"].get("extensions"):
        raise ConfigRejected(
            f"{entry.name}: {entry.kind.name} cannot be a level of priority: take its priority out, or {_AT_ONCE}"
        )
    level = {"exporters": {}, "service": {"pipelines": {}}} | {key: copy[key] for key in ("processors",) if key in copy}
    for pipeline, lists in copy["service"]["pipelines"].items():
        if any(name.endswith("_spool") for name in lists["exporters"]):
            continue
        level["service"]["pipelines"][pipeline] = lists
        for name in lists["exporters"]:
            settings = level["exporters"][name] = copy["exporters"][name]
            for key in ("sending_queue", "retry_on_failure"):
                if documented.has("exporters", kind(name), key):
                    settings[key] = {"enabled": False}
    return level


def _failover(levels: dict[int, list[dict[str, Any]]], address: str) -> dict[str, Any]:
    """Every level behind one connector a signal, and one spool before them."""
    found: dict[str, Any] = {"exporters": {}, "receivers": {}, "connectors": {}, "service": {"pipelines": {}}}
    pattern = parse((fragments.HERE / "backends" / "failover.yaml").read_text(encoding="utf-8"))
    spool = pattern["exporters"]["otlp_grpc/failover_spool"] | {"endpoint": address}
    found["exporters"]["otlp_grpc/priority_spool"] = spool
    receiver = pattern["receivers"]["otlp/failover_spool"]
    receiver["protocols"]["grpc"]["endpoint"] = address
    found["receivers"]["otlp/priority_spool"] = receiver
    order: dict[str, list[list[str]]] = {signal: [] for signal in SIGNALS}
    for _, members in sorted(levels.items()):
        for signal in SIGNALS:
            names = [name for one in members for name in one["service"]["pipelines"] if kind(name) == signal]
            order[signal] += [names] if names else []
        for member in members:
            for name, lists in member["service"]["pipelines"].items():
                lists["receivers"] = [f"failover/{kind(name)}"]
            _add(found, member)
    pipelines = found["service"]["pipelines"]
    for signal, names in order.items():
        if names:
            connector = deepcopy(pattern["connectors"][f"failover/{signal}"]) | {"priority_levels": names}
            found["connectors"][f"failover/{signal}"] = connector
            pipelines[f"{signal}/priority_spool"] = {
                "receivers": ["forward/backends"],
                "exporters": ["otlp_grpc/priority_spool"],
            }
            pipelines[f"{signal}/priority"] = {"receivers": ["otlp/priority_spool"], "exporters": [f"failover/{signal}"]}
    return found


def _spool(content: dict[str, Any], older: Older, notes: list[str]) -> None:
    """Path and size of the older spool: the folder of the queues, and what they hold together."""
    if older.spool_path:
        folder = {"directory": older.spool_path, "compaction": {"directory": older.spool_path}}
        _add(content, {"extensions": {"file_storage": folder}})
        notes.append(
            f"spool.path is the queues' folder; tell `wafer collector run`, too: WAFER_COLLECTOR_QUEUE_DIR={older.spool_path}"
        )
    if older.spool_bytes is None:
        return
    kept = [
        (name, kind(pipeline))
        for pipeline, lists in content.get("service", {}).get("pipelines", {}).items()
        for name in lists["exporters"]
        if "storage" in (content["exporters"].get(name, {}).get("sending_queue") or {})
    ]
    if kept:
        each = max(1, older.spool_bytes // len(kept))
        for name, _ in kept:
            content["exporters"][name]["sending_queue"]["queue_size"] = each
        notes.append(f"spool.max_size_mb is shared by {len(kept)} queues: {each} bytes each")


def _ingest(content: dict[str, Any], older: Older, notes: list[str]) -> None:
    """The older port beside the usual ones: it takes OTLP/HTTP."""
    if older.port is None:
        return
    http = {"endpoint": f"127.0.0.1:{older.port}", "max_request_body_size": 67108864}
    masked = ["memory_limiter", "resource/site", "redaction/secrets"]
    pipelines = {
        f"{signal}/older_port": {
            "receivers": ["otlp/older_port"],
            "processors": masked[:2] if signal == "metrics" else masked,
            "exporters": ["forward/backends"],
        }
        for signal in SIGNALS
    }
    _add(content, {"receivers": {"otlp/older_port": {"protocols": {"http": http}}}, "service": {"pipelines": pipelines}})
    notes.append(f"ingest.port {older.port} takes OTLP/HTTP; the older routes: `wafer receiver --legacy-port {older.port}`")


def _add(content: dict[str, Any], more: dict[str, Any]) -> None:
    """Merge `more` into `content`, in place."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            _add(content[key], value)
        else:
            content[key] = value


def _pairs(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of everything that is no table, the key being the innermost."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _pairs(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _pairs(item, path)
    else:
        yield path, value
