"""What is wrong with YAML files before a Collector sees them, and what it would not say.

In: the files in the order in which the Collector gets them, the environment. Out: findings: what will not work (`wrong`), and
what would work and may lose data or touch another file (`careless`). Called by: `wafer collector validate` and `render`, tests.

Rules, each a function here or in `queues`:
shape       maps and lists are where a Collector wants them
keys        every key of every part is documented (`documented.yaml`); an unknown part is named
names       what a file adds is called kind/name, so that two files do not become one part
merging     a file brings pipelines of its own and touches neither those nor `service` of another
references  pipelines, storage, authenticators and extensions name what exists, and nothing stands unused
ports       no two listen on one port
outputs     no two write to one file
secrets     a secret comes from the environment or from a file, never as text
queues      everything on the way out waits on disk by bytes without end, or stands behind the loopback spool
receivers   what comes in is limited, gets site and feed, and is masked
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from wafermonitor.collector import documented, queues
from wafermonitor.collector.documents import PARTS, Document, block, kind, read, together, variables
from wafermonitor.collector.findings import Files, Finding

SIGNALS: Final = ("traces", "metrics", "logs", "profiles")
_PART: Final = re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9][a-z0-9_]*)?")
_PIPELINE: Final = re.compile(rf"({'|'.join(SIGNALS)})/[a-z0-9][a-z0-9_]*")
_SECRET: Final = re.compile(
    r"passw|passphrase|secret|credential|authorization|cookie$|api[_-]?key|(access|private)[_-]?key|(^|[_-])tokens?$",
    re.IGNORECASE,
)
_NO_SECRET: Final = re.compile(r"(_file|_source|filename)$", re.IGNORECASE)
_USERINFO: Final = re.compile(r"://[^/\s:@]*:[^/\s@]+@|[?&]\w*(passw\w*|secret|token|api_?key)=[^&\s]", re.IGNORECASE)
_ADDRESS_KEYS: Final = ("endpoint", "listen_address")
_LOCAL: Final = {"localhost": "127.0.0.1"}
"""Other names of one place."""
_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "[::]"})  # noqa: S104 - compared, not bound


def check(paths: list[Path], environ: Mapping[str, str]) -> list[Finding]:
    """Everything that is found in `paths`, `base.yaml` first. ConfigRejected: a file is no YAML."""
    return examine([read(path, environ) for path in paths])


def unset(paths: list[Path], environ: Mapping[str, str]) -> list[Finding]:
    """Variables that a file reads, without a default, and nobody has set: the Collector takes an empty text, and says nothing.

    Apart from `check`, because files are also looked at where they do not run.
    """
    text = "is not set and has no default: the Collector takes it for empty, which may be an empty password"
    return [
        Finding(path, f"${{env:{name}}}", text, wrong=False)
        for path in paths
        for name, default in variables(read(path, environ).raw).items()
        if default is None and not environ.get(name)
    ]


def examine(every: list[Document]) -> list[Finding]:
    """The same of files that are read already."""
    files = Files(every, together(every))
    rules = (shape, keys, names, merging, references, ports, outputs, secrets, queues.rules)
    return list(dict.fromkeys(finding for rule in rules for finding in rule(files)))


def secret(key: str) -> bool:
    """Whether a key of this name holds a secret itself, not the name of a file with one."""
    return bool(_SECRET.search(key)) and not _NO_SECRET.search(key)


def shape(files: Files) -> Iterator[Finding]:
    """Maps and lists where others are wanted; the other rules pass over them."""
    for document in files.every:
        for where, wanted in document.misshapen():
            yield Finding(document.path, where, f"wrong shape: {wanted}")


def keys(files: Files) -> Iterator[Finding]:
    """Sections, parts and their keys that nobody documents."""
    for document in files.every:
        for section in document.content:
            if section not in {*PARTS, "service"}:
                yield Finding(document.path, str(section), f"no such section; there are {', '.join(PARTS)} and service")
        for section in PARTS:
            for name, settings in document.parts(section).items():
                if not documented.known(section, kind(name)):
                    text = f"`{kind(name)}` is not in documented.yaml: its keys are not checked here"
                    yield Finding(document.path, f"{section}::{name}", text, wrong=False)
                    continue
                for key, advice in documented.unknown(section, kind(name), settings):
                    yield Finding(document.path, f"{section}::{name}::{key}", f"no such key; {advice}")


def names(files: Files) -> Iterator[Finding]:
    """Names of parts and pipelines that other files might have, too."""
    base = files.every[0]
    for document in files.added:
        for section in PARTS:
            for name in document.parts(section):
                if name in base.parts(section):
                    continue
                if not _PART.fullmatch(name):
                    yield Finding(document.path, f"{section}::{name}", "write kind/name in lower case, digits and _")
                elif "/" not in name:
                    text = (
                        f"give it a name of its own ({name}/{document.name.replace('-', '_')}): another file may bring one, too"
                    )
                    yield Finding(document.path, f"{section}::{name}", text, wrong=False)
        for pipeline in document.pipelines:
            if not _PIPELINE.fullmatch(pipeline):
                yield Finding(document.path, f"pipelines::{pipeline}", "write signal/name, for example traces/mine")


def merging(files: Files) -> Iterator[Finding]:
    """Lists and parts that two files both claim: the later one would silently win."""
    taken: dict[str, Document] = {}
    for document in files.every:
        for pipeline in document.pipelines:
            first = taken.setdefault(pipeline, document)
            if first is not document:
                yield Finding(document.path, f"pipelines::{pipeline}", f"{first.path.name} has it already: lists are replaced")
    makers: dict[tuple[str, str], Document] = {}
    for document in files.added:
        used = {name for pipeline in document.pipelines.values() for names in pipeline.values() for name in names}
        for section in PARTS:
            for name in used & set(document.parts(section)):
                first = makers.setdefault((section, name), document)
                if first is not document:
                    text = f"{first.path.name} brings a part of this name, too: they would become one"
                    yield Finding(document.path, f"{section}::{name}", text)
        for key in set(document.service) - {"pipelines", "extensions"}:
            yield Finding(document.path, f"service::{key}", "belongs to base.yaml: lists in it are replaced", wrong=False)


def references(files: Files) -> Iterator[Finding]:
    """Names that nothing has, and parts that nothing uses."""
    whole = files.whole
    starts = {*whole.parts("receivers"), *whole.parts("connectors")}
    ends = {*whole.parts("exporters"), *whole.parts("connectors")}
    there = {"receivers": starts, "processors": set(whole.parts("processors")), "exporters": ends}
    used: set[str] = set()
    for document in files.every:
        for pipeline, lists in document.pipelines.items():
            for section, known in there.items():
                for name in lists[section]:
                    used.add(name)
                    if name not in known:
                        yield Finding(document.path, f"pipelines::{pipeline}::{section}", f"there is no `{name}`")
    for document in files.every:
        for section in ("receivers", "processors", "exporters", "connectors"):
            for name in document.parts(section):
                if name not in used:
                    yield Finding(document.path, f"{section}::{name}", "no pipeline uses it")
    yield from _extensions(files)


def _extensions(files: Files) -> Iterator[Finding]:
    """What is named by `storage` and `authenticator`, and what is started: the Collector's validate looks at neither."""
    there = files.whole.parts("extensions")
    listed = files.whole.extensions
    for document in files.every:
        for name in document.parts("extensions"):
            if name not in listed:
                text = "is not started: `service::extensions` of the last file that has such a list must name all of them"
                yield Finding(document.path, f"extensions::{name}", text)
        for section in PARTS:
            for part, settings in document.parts(section).items():
                for path, key, value in _leaves(settings, ""):
                    if key in {"storage", "authenticator"} and isinstance(value, str) and value not in there:
                        yield Finding(document.path, f"{section}::{part}::{path}", f"there is no extension `{value}`")
    for name in listed:
        if name not in there:
            owner = [one for one in files.every if name in one.extensions][-1]
            yield Finding(owner.path, "service::extensions", f"there is no extension `{name}`")


def listeners(files: Files) -> Iterator[tuple[Document, str, str, str]]:
    """(file, place, tcp or udp, host:port) of everything that listens."""
    # Of a receiver that is not in the table nobody knows whether its endpoint is where it listens or whom it asks.
    listening = {
        "receivers": documented.kinds("receivers"),
        "extensions": ["health_check", "zpages"],
        "exporters": ["prometheus"],
    }
    for section, kinds in listening.items():
        for name, settings in files.whole.parts(section).items():
            if kind(name) not in kinds:
                continue
            for path, key, value in _leaves(settings, ""):
                if key in _ADDRESS_KEYS and isinstance(value, str):
                    udp = "udp" in path or (kind(name) == "statsd" and str(settings.get("transport", "udp")).startswith("udp"))
                    yield files.owner(section, name), f"{section}::{name}::{path}", "udp" if udp else "tcp", value
    readers = block(block(files.whole.service, "telemetry"), "metrics").get("readers")
    for reader in readers if isinstance(readers, list) else ():
        page = block(block(block(reader, "pull"), "exporter"), "prometheus")
        if page:
            yield files.every[0], "service::telemetry::metrics", "tcp", f"{page.get('host', '')}:{page.get('port', '')}"


def ports(files: Files) -> Iterator[Finding]:
    """Two on one port: the second does not start."""
    taken: dict[tuple[str, str], tuple[str, str]] = {}
    for document, where, transport, address in listeners(files):
        host, _, port = address.rpartition(":")
        host = _LOCAL.get(host, host)
        if not port.isdecimal():
            yield Finding(document.path, where, f"{address!r} is no host:port")
            continue
        other, there = taken.setdefault((transport, port), (where, host))
        if other != where and (host == there or {host, there} & _EVERYWHERE):
            yield Finding(document.path, where, f"port {port} is taken by {other}")


def outputs(files: Files) -> Iterator[Finding]:
    """Two that write to one file: each moves it away from under the other."""
    taken: dict[str, str] = {}
    for name, settings in files.whole.parts("exporters").items():
        if kind(name) == "file" and isinstance(settings.get("path"), str):
            other = taken.setdefault(settings["path"], name)
            if other != name:
                text = f"exporters::{other} writes to this file, too: give each its own"
                yield Finding(files.owner("exporters", name).path, f"exporters::{name}::path", text)


def secrets(files: Files) -> Iterator[Finding]:
    """Secrets that stand in the file as text."""
    for document in files.every:
        for path, key, value in _leaves(document.raw, ""):
            if isinstance(value, bool) or not isinstance(value, str | int) or "${" in str(value):
                continue
            if value and secret(key):
                yield Finding(document.path, path, f"a secret as text: write ${{env:WAFER_{key.upper().replace('-', '_')}}}")
            elif _USERINFO.search(str(value)):
                yield Finding(document.path, path, "an address with a password in it: write ${env:…} for the whole address")


def _leaves(value: Any, path: str, key: str = "") -> Iterator[tuple[str, str, Any]]:
    """(a::b, b, value) of everything that is neither map nor list; an item of a list has its list's key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}::{name}" if path else str(name), str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, path, key)
    else:
        yield path, key, value
