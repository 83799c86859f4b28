"""Documents into data streams by the bulk API that Elasticsearch and OpenSearch share.

In: OTLP requests, and a way to ask the server. Out: an Outcome for each. Called by: `elasticsearch`, `opensearch`.

A document's `_id` is its item's, and it is created, not overwritten: what is there already is accepted, so nothing doubles but
what is tried again after the data stream has gone on to its next index (rollover). What was answered is in the server's log on
disk, at every copy that it has (`index.translog.durability: request`, the default).

A mapping may refuse a document for good; of a whole bulk that is refused the half is tried, down to one document. What an
operator can put right (a login, a closed or full or write-protected index, a limit of shards) is tried again. A document with
new fields for an index that may have no more is refused nevertheless: whoever invents names would hold up everybody. Reasons
name the server's error and the field, never a value: the server quotes the document in its own.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from wafermonitor.instrumentation.environment import EnvironmentConfig, one_of, option, positive
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers.elastic_documents import Document, Stream, documents
from wafermonitor.storage.writers.items import items, part
from wafermonitor.storage.writers.protocol import ACCEPTED, Fate, Outcome, Signal

STREAMS: Final[Mapping[Signal, tuple[Stream, ...]]] = {
    "traces": ("traces", "logs"),
    "logs": ("logs",),
    "metrics": ("metrics",),
}
"""Where documents of a signal go: events of spans are kept as logs."""
_OK, _FAULT, _REFUSED_LOGIN, _FORBIDDEN, _NOT_FOUND, _THERE, _TOO_LARGE = 200, 400, 401, 403, 404, 409, 413
_PUT_RIGHT: Final = frozenset({"validation_exception", "invalid_index_name_exception", "index_closed_exception"})
"""Errors of status 400 that are not the document's."""
_FIELD: Final = re.compile(r"(?:field|mapper|term in field=)\s*[\[\"]([\w.@/ -]{1,200})[\]\"]")
_FIELDS_LIMIT: Final = "Limit of total fields"
_OWN_ID: Final = "_id must be unset or set to"
_SERIES: Final = "keeps metrics as time series, which this account could not see: the next try has no ids"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.]{0,99}")


def _word(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("small letters, digits, points and underscores")
    return text


@dataclass(frozen=True, kw_only=True)
class Settings(EnvironmentConfig):
    """What both writers can be told."""

    url: str = option(str, "Where it listens, several by commas: https://host:9200.", default="http://127.0.0.1:9200")
    user: str = option(str, "Account of the login; empty for none.", default="")
    password: str = option(str, "Its password.", default="", secret=True)
    ca_file: str = option(str, "Certificates that sign the server's; empty for the system's.", default="")
    dataset: str = option(_word, "Middle of the data streams' names: traces-<dataset>.otel-<namespace>.", default="generic")
    namespace: str = option(_word, "End of the data streams' names.", default="default")
    templates: str = option(
        one_of("auto", "always", "never"),
        "Index templates of these data streams: auto puts ours where the server has none for such documents, always puts them "
        "over the server's, never leaves that to you.",
        default="auto",
    )
    bulk_bytes: int = option(lambda text: int(positive(text)), "Largest bulk request.", default=5_000_000)
    timeout_s: float = option(positive, "How long to wait for an answer.", default=30.0)

    @property
    def urls(self) -> list[str]:
        """Each address. StorageRejected when one is none, or says who we are."""
        found = [one.strip() for one in self.url.split(",") if one.strip()]
        variable = f"WAFER_{self.component.upper()}_"
        for one in found:
            parts = urlsplit(one)
            if "@" in parts.netloc:
                raise StorageRejected(f"{variable}URL has an account in it: name it by {variable}USER and {variable}PASSWORD")
            if parts.scheme not in {"http", "https"} or not parts.hostname or _port(parts) is None:
                raise StorageRejected(f"{variable}URL is no address such as https://host:9200")
        if not found:
            raise StorageRejected(f"{variable}URL names no address")
        return found

    @property
    def trusted(self) -> str | None:
        """The file of certificates, if one is named. StorageRejected when there are none in it."""
        if not self.ca_file:
            return None
        try:
            ssl.create_default_context(cafile=self.ca_file)
        except OSError:
            raise StorageRejected(f"WAFER_{self.component.upper()}_CA_FILE is no file of certificates") from None
        return self.ca_file


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None


class Answer(NamedTuple):
    """What the server said: the status, and the JSON."""

    status: int
    said: Any


class Silent(Exception):  # noqa: N818 - it says what happened, and is caught a few lines above
    """The server did not answer, or not as itself; the text says how, without addresses."""


Ask = Callable[[str, str, bytes | None], Answer]
"""(method, path, NDJSON or JSON or nothing). Raises Silent."""


class _Prepared(NamedTuple):
    """What is known of a data stream. `own_ids`: its index names documents itself (time series)."""

    own_ids: bool
    templates: frozenset[str]


_UNKNOWN: Final = _Prepared(own_ids=False, templates=frozenset())


class _Line(NamedTuple):
    """A document as a bulk request has it, and whose it is."""

    request: int
    position: int
    data: bytes


class Bulk:
    """Writes requests. Thread-safe."""

    def __init__(self, name: str, settings: Settings, template: str, ask: Ask) -> None:
        self._name, self._settings, self._template, self._ask = name, settings, template, ask
        self._prepared: dict[Stream, _Prepared] = {}
        self._lock = threading.Lock()

    def write(self, signal: Signal, requests: Sequence[bytes]) -> list[Outcome]:
        """As the protocol of writers has it."""
        outcomes: list[Outcome] = [ACCEPTED] * len(requests)
        found: dict[int, list[tuple[int, Document]]] = {}
        for number, request in enumerate(requests):
            try:
                found[number] = documents_of(signal, request)
            except StorageRejected as error:
                outcomes[number] = Outcome(Fate.REJECTED, str(error))
        later, refused = self._deliver(signal, found)
        for number in found:
            if number in later:
                outcomes[number] = Outcome(Fate.RETRY, later[number])
            elif number in refused:
                outcomes[number] = _partly(signal, requests[number], refused[number])
        return outcomes

    def check(self) -> None:
        """As the protocol of writers has it: whether the login is good and the data streams can be made."""
        with self._lock:
            self._prepared.clear()
        try:
            self._prepare(("traces", "logs", "metrics"))
        except Silent as error:
            raise StorageUnavailable(str(error)) from None

    def _prepare(self, streams: Iterable[Stream]) -> dict[Stream, _Prepared]:
        with self._lock:
            for stream in streams:
                if stream not in self._prepared:
                    self._prepared[stream] = self._look(stream)
            return dict(self._prepared)

    def _index(self, stream: Stream) -> str:
        return f"{stream}-{self._settings.dataset}.otel-{self._settings.namespace}"

    def _look(self, stream: Stream) -> _Prepared:
        """How the server maps a data stream, now or once it is made; put our template where it has none for it."""
        index = self._index(stream)
        put = self._settings.templates == "always"
        # Asked for a template, OpenSearch fails when the data stream is there already.
        there = self._ask("GET", f"/{index}?filter_path=*.settings.index.mode,*.mappings.dynamic_templates", None)
        found: dict[str, Any] = {}
        if there.status == _FORBIDDEN:
            # This account may write, and not see how: whoever gave it that has made the templates.
            return _UNKNOWN
        if there.status == _OK:
            found = there.said[max(there.said)] if there.said else {}
        elif there.status == _NOT_FOUND:
            would_be = self._ask("POST", f"/_index_template/_simulate_index/{index}", None)
            if would_be.status == _FORBIDDEN:
                return _UNKNOWN
            found = self._must(would_be).get("template") or {}
            # A template for any logs, which every server of Elastic has, knows nothing of these documents.
            fits = "attributes" in found.get("mappings", {}).get("properties", {})
            put = put or (self._settings.templates == "auto" and not fits)
        else:
            self._must(there)
        if put:
            self._must(self._ask("PUT", f"/_index_template/wafermonitor-{index}", self._own_template(stream)))
        if put and there.status == _NOT_FOUND:
            return _UNKNOWN
        mode = found.get("settings", {}).get("index", {}).get("mode")
        dynamic = found.get("mappings", {}).get("dynamic_templates", [])
        return _Prepared(own_ids=mode == "time_series", templates=frozenset(name for one in dynamic for name in one))

    def _must(self, answer: Answer) -> dict[str, Any]:
        if answer.status == _REFUSED_LOGIN:
            raise Silent(
                f"{self._name} refuses the login (401): see WAFER_{self._settings.component.upper()}_USER and _PASSWORD"
            )
        if answer.status != _OK or not isinstance(answer.said, dict):
            raise Silent(f"{self._name} answers {answer.status} ({_kind(answer.said)}) when asked for its index templates")
        return answer.said

    def _own_template(self, stream: Stream) -> bytes:
        made = json.loads((resources.files(__package__) / self._template).read_text(encoding="utf-8"))
        made["index_patterns"] = [self._index(stream)]
        return json.dumps(made).encode()

    def _deliver(
        self, signal: Signal, found: Mapping[int, list[tuple[int, Document]]]
    ) -> tuple[dict[int, str], dict[int, dict[int, str]]]:
        """Why requests must be tried again, and why items of others were refused, by request and position."""
        try:
            known = self._prepare(STREAMS[signal])
        except Silent as error:
            return dict.fromkeys(found, str(error)), {}
        return self._send([line for number, some in found.items() for line in self._lines(number, some, known)])

    def _lines(self, request: int, found: Iterable[tuple[int, Document]], known: Mapping[Stream, _Prepared]) -> Iterator[_Line]:
        for position, document in found:
            about = known[document.stream]
            place: dict[str, Any] = {"_index": self._index(document.stream)}
            if not about.own_ids:
                place["_id"] = document.id
            if document.template in about.templates:
                place["dynamic_templates"] = {document.field: document.template}
            data_stream = {
                "type": document.stream,
                "dataset": f"{self._settings.dataset}.otel",
                "namespace": self._settings.namespace,
            }
            body = document.body | {"data_stream": data_stream}
            text = json.dumps({"create": place}) + "\n" + json.dumps(body, ensure_ascii=False) + "\n"
            yield _Line(request, position, text.encode())

    def _send(self, lines: list[_Line]) -> tuple[dict[int, str], dict[int, dict[int, str]]]:
        later: dict[int, str] = {}
        refused: dict[int, dict[int, str]] = {}
        waiting = list(_chunks(lines, self._settings.bulk_bytes))[::-1]
        while waiting:
            chunk = waiting.pop()
            try:
                results = self._post(chunk)
            except Silent as error:
                # It will not take the rest either, and may be another server when it is back.
                with self._lock:
                    self._prepared.clear()
                for line in [*chunk, *(one for rest in waiting for one in rest)]:
                    later[line.request] = str(error)
                break
            if results is None:
                half = (len(chunk) + 1) // 2
                waiting += [chunk[half:], chunk[:half]]
                continue
            for line, result in zip(chunk, results, strict=True):
                fate, reason = _fate(result)
                if reason == _SERIES:
                    with self._lock:
                        self._prepared["metrics"] = _UNKNOWN._replace(own_ids=True)
                if fate is Fate.RETRY:
                    later[line.request] = f"{self._name}: {reason}"
                elif fate is Fate.REJECTED:
                    refused.setdefault(line.request, {})[line.position] = f"{self._name}: {reason}"
        return later, refused

    def _post(self, chunk: list[_Line]) -> list[dict[str, Any]] | None:
        """A result for each; None when the server takes them only in smaller parts."""
        answer = self._ask("POST", "/_bulk", b"".join(line.data for line in chunk))
        if answer.status == _OK:
            found = answer.said.get("items") if isinstance(answer.said, dict) else None
            if not isinstance(found, list) or len(found) != len(chunk):
                raise Silent(f"what answers there is not {self._name}: it does not say what became of each document")
            return [one["create"] for one in found]
        if answer.status == _TOO_LARGE or (answer.status == _FAULT and _kind(answer.said) not in {"", *_PUT_RIGHT}):
            if len(chunk) > 1:
                return None
            return [{"status": _FAULT, "error": {"type": _kind(answer.said) or str(answer.status)}}]
        if answer.status == _REFUSED_LOGIN:
            self._must(answer)
        raise Silent(f"{self._name} answers {answer.status} {_kind(answer.said)}".rstrip())


def documents_of(signal: Signal, request: bytes) -> list[tuple[int, Document]]:
    """The documents of a request, each with the position of its item. StorageRejected when it is none."""
    return [(position, document) for position, item in enumerate(items(signal, request)) for document in documents(item)]


def _chunks(lines: Iterable[_Line], most: int) -> Iterator[list[_Line]]:
    chunk: list[_Line] = []
    size = 0
    for line in lines:
        if chunk and size + len(line.data) > most:
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += len(line.data)
    if chunk:
        yield chunk


def _fate(result: Mapping[str, Any]) -> tuple[Fate, str]:
    """What a document's result means."""
    status = result["status"]
    if status in range(200, 300) or status == _THERE:
        return Fate.ACCEPTED, ""
    error = result.get("error") or {}
    kind, text = str(error.get("type", status)), str(error.get("reason", ""))
    if _OWN_ID in text:
        return Fate.RETRY, _SERIES
    if status != _FAULT or kind in _PUT_RIGHT or text.startswith("pipeline with id"):
        return Fate.RETRY, f"{status} {kind}"
    if _FIELDS_LIMIT in text:
        return Fate.REJECTED, f"{kind}: the index has as many fields as index.mapping.total_fields.limit lets it have"
    field = _FIELD.search(text)
    return Fate.REJECTED, f"{kind} at {field[1]}" if field else kind


def _partly(signal: Signal, request: bytes, refused: Mapping[int, str]) -> Outcome:
    """Accepted but for these items, or refused as a whole."""
    reason = next(iter(refused.values()))
    remains = part(signal, request, refused.__contains__)
    everything = not part(signal, request, lambda position: position not in refused)
    return Outcome(Fate.REJECTED if everything else Fate.ACCEPTED, reason, len(refused), remains)


def _kind(said: Any) -> str:
    """The server's name of an error; empty when it named none."""
    error = said.get("error") if isinstance(said, dict) else None
    return str(error.get("type", "")) if isinstance(error, dict) else ""
