"""The writers of mode `direct`: found by name, set up from an entry of the configuration file, and asked within a time.

In: a `Backend` (type and settings). Out: its settings, and a `Lane` that writes requests and never takes longer than it may.
Called by: `direct`, `shown`, `sdk_schema`, `wafer config show`.

Writers live in layers above this one and are loaded by the entry-point group `wafermonitor.writers`, so that nothing is
imported upward: what is needed of them stands here as protocols. The type `otlp` (any OTLP endpoint, so the receiver too) needs
none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeVar

from wafermonitor.instrumentation.config import DEFAULT_ENDPOINT
from wafermonitor.instrumentation.endpoint import Endpoint
from wafermonitor.instrumentation.environment import EnvironmentConfig, option, positive
from wafermonitor.instrumentation.errors import ConfigRejected, InstrumentationUnavailable
from wafermonitor.instrumentation.guard import once
from wafermonitor.instrumentation.sdk_file import Backend, Key, text_of, unknown
from wafermonitor.instrumentation.spool import SIGNALS, Signal

T = TypeVar("T")

GROUP: Final = "wafermonitor.writers"
OLDER_TYPES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "elk": ("elasticsearch", {"index": "dataset"}),
    "filesystem": ("files", {"path": "dir"}),
}
"""Types as configuration files of the older system have them: the writer, and its settings by the keys they had."""
_REST_S: Final = (1.0, 30.0)
_TLS: Final = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY")


class _Word(Protocol):
    """A member of an enumeration: `accepted`, `retry` or `rejected`."""

    @property
    def value(self) -> str:
        """The word."""


class _Outcome(Protocol):
    """What became of one request."""

    @property
    def fate(self) -> _Word:
        """Whether the backend has it."""

    @property
    def reason(self) -> str:
        """Why it has not."""

    @property
    def remains(self) -> bytes:
        """A request of those items that it will never take."""


class Writer(Protocol):
    """What is needed of a writer. It opens its connection when it is first needed, and again after it broke."""

    config_type: ClassVar[type[EnvironmentConfig]]
    signals: ClassVar[frozenset[Any]]

    def __init__(self, config: Any) -> None:
        """Does not connect."""

    def write(self, signal: Any, requests: Sequence[bytes]) -> Sequence[_Outcome]:
        """Write serialized OTLP requests; an outcome for each."""

    def check(self) -> None:
        """Raise when the backend would take nothing now."""

    def close(self) -> None:
        """Let go of connections."""


class Written(NamedTuple):
    """What became of a request in a lane: accepted, retry or rejected."""

    fate: str
    reason: str = ""
    remains: bytes = b""


@dataclass(frozen=True, kw_only=True)
class OtlpConfig(EnvironmentConfig):
    """Any OTLP endpoint as a direct backend."""

    component: ClassVar[str] = "otlp"

    url: str = option(str, "Base URL that takes OTLP over HTTP.", default=DEFAULT_ENDPOINT)
    token: str = option(
        str, "Bearer token sent with every request.", "WAFER_OTLP_TOKEN", "WAFER_TOKEN", default="", secret=True
    )
    timeout_s: float = option(positive, "How long to wait for an answer.", default=10.0)


class OtlpWriter:
    """Posts each request. `OTEL_EXPORTER_OTLP_CERTIFICATE` and its like name the certificates."""

    config_type: ClassVar[type[EnvironmentConfig]] = OtlpConfig
    signals: ClassVar[frozenset[Any]] = frozenset(SIGNALS)

    def __init__(self, config: OtlpConfig) -> None:
        urls: dict[Signal, str] = {signal: f"{config.url.rstrip('/')}/v1/{signal}" for signal in SIGNALS}
        headers = {"authorization": f"Bearer {config.token}"} if config.token else {}
        tls = {name: os.environ[name] for name in _TLS if name in os.environ}
        self._endpoint = Endpoint(urls, headers, timeout_s=config.timeout_s, environ=tls)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[_Outcome]:
        """A wrong token is an operator's mistake: tried again."""
        return [self._post(signal, request) for request in requests]

    def check(self) -> None:
        """Post an empty request."""
        answer = self._endpoint.post("logs", b"", content_type="application/x-protobuf")
        if answer.outcome != "accepted":
            raise InstrumentationUnavailable(answer.reason)

    def close(self) -> None:
        """End the connections."""
        self._endpoint.close()

    def _post(self, signal: Signal, request: bytes) -> _Outcome:
        answer = self._endpoint.post(signal, request, content_type="application/x-protobuf")
        return _Posted(_Fate("retry" if answer.outcome == "refused" else answer.outcome), answer.reason)


class _Fate(NamedTuple):
    value: str


class _Posted(NamedTuple):
    fate: _Fate
    reason: str
    remains: bytes = b""


def names() -> list[str]:
    """Every type that an entry may have here."""
    return sorted({"otlp", *(entry.name for entry in metadata.entry_points(group=GROUP))})


def find(backend: Backend) -> type[Writer]:
    """The class of a backend's type. ConfigRejected says which there are, or which extra it needs."""
    name = OLDER_TYPES[backend.type][0] if backend.type in OLDER_TYPES else backend.type
    if name == "otlp":
        return OtlpWriter
    found = [entry for entry in metadata.entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise ConfigRejected(f"{backend.place}: there is no writer {backend.type!r} (known: {', '.join(names())})")
    try:
        with _loading:
            loaded: type[Writer] = found[0].load()
    except ModuleNotFoundError as error:
        extras = ",".join(found[0].extras) or name
        raise ConfigRejected(
            f'{backend.place}: {backend.type} needs {error.name}: pip install "wafermonitor[{extras}]"'
        ) from None
    return loaded


def keys_of(kind: type[EnvironmentConfig], type_name: str = "") -> dict[str, Key]:
    """What an entry may have: the writer's own settings, by their names or those that they have in an older type."""
    older = {name: key for key, name in OLDER_TYPES[type_name][1].items()} if type_name in OLDER_TYPES else {}
    return {
        older.get(field.name, field.name): Key(
            field.name, _json_type(str(field.type)), field.metadata["doc"], field.metadata["secret"]
        )
        for field in dataclasses.fields(kind)
    }


def settings(backend: Backend, environ: Mapping[str, str]) -> EnvironmentConfig:
    """A backend's settings: its entry's keys, then the writer's own variables, then defaults. ConfigRejected."""
    kind = find(backend).config_type
    known = keys_of(kind, backend.type)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in backend.settings.items():
        place = f"{backend.place}.{name}"
        if name not in known:
            raise ConfigRejected(unknown(name, backend.place, known))
        try:
            text = text_of(value, known[name], place, environ)
        except ValueError as error:
            raise ConfigRejected(str(error)) from None
        try:
            values[known[name].field] = fields[known[name].field].metadata["read"](text)
        except ValueError as error:
            shown = "" if known[name].secret else f" = {text!r}"
            raise ConfigRejected(f"{place}{shown}: {error}") from None
    return kind.load(environ, **values)


def _json_type(annotation: str) -> str:
    words = {"bool": "boolean", "int": "integer", "float": "number"}
    name = annotation.removesuffix(" | None")
    return "array" if name.startswith(("tuple[", "list[", "frozenset[")) else words.get(name, "string")


_opened: Final[list[Writer]] = []
"""Held until they are closed: a forked child that forgot its parent's writers would say goodbye on its parent's connections."""

_FORK_WAITS_S: Final = 10.0
_loading = threading.RLock()
"""Held while a client library is imported. A fork waits for it: in the child nobody would ever finish that import, and the job
would wait for ever for a module that it imports itself."""
_forking = threading.local()


def _before_fork() -> None:
    _forking.holds = _loading.acquire(timeout=_FORK_WAITS_S)


def _after_fork_in_parent() -> None:
    if _forking.holds:
        _loading.release()


def _after_fork_in_child() -> None:
    global _loading  # noqa: PLW0603 - one for each process
    _loading = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class Lane:
    """One backend: its writer, a thread that asks it, and whether it is worth asking. One caller at a time.

    A backend that hangs holds only its own thread; until that comes back the lane answers for it.
    """

    def __init__(self, backend: Backend, environ: Mapping[str, str]) -> None:
        self.backend = backend
        self.wait_s = backend.wait_s
        self.unusable = ""
        """Why it can never be asked; empty while nothing is known against it."""
        self._environ = environ
        self._writer: Writer | None = None
        self._queue: queue.SimpleQueue[tuple[Callable[[Writer], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: Future[Any] | None = None
        self._rest_s = _REST_S[0]
        self._rest_until_s = 0.0

    def open(self) -> Writer | None:
        """The writer, made when it is first asked for; None when it cannot be (`unusable` says why)."""
        if self._writer is None and not self.unusable:
            try:
                kind = find(self.backend)
                self._writer = kind(settings(self.backend, self._environ))
                _opened.append(self._writer)
            except Exception as error:  # noqa: BLE001 - a library may raise anything while it is imported
                words, place = _words(error), self.backend.place
                self.unusable = words if place in words else f"{place}: {words}"
                once(f"{self.unusable}; this backend is left out")
        return self._writer

    @property
    def resting(self) -> bool:
        """It did not answer a moment ago, or has not answered yet."""
        return (self._last is not None and not self._last.done()) or time.monotonic() < self._rest_until_s

    def write(self, signal: Signal, request: bytes) -> Written:
        """Hand over one request, and wait `wait_s` for what became of it."""
        written = self._ask(lambda writer: _written(writer, signal, request), self._late)
        if written.fate == "retry":
            self._rest_until_s = time.monotonic() + self._rest_s
            self._rest_s = min(2 * self._rest_s, _REST_S[1])
        else:
            self._rest_s = _REST_S[0]
        return written

    def check(self) -> str:
        """Why the backend would take nothing now; empty when it would."""
        if self.open() is None:
            return self.unusable
        problem = self._ask(_checked, lambda: self._late().reason)
        if not problem:
            self._rest_until_s = 0.0
        return problem

    def close(self, wait_s: float) -> None:
        """End the thread and the writer's connections; what hangs is left behind."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(max(wait_s, 0.0))
        elif self._writer is not None:
            _forget(self._writer)

    def _ask(self, work: Callable[[Writer], T], late: Callable[[], T]) -> T:
        if self._last is not None and not self._last.done():
            return late()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"wafer-{self.backend.type}", daemon=True)
            self._thread.start()
        self._last = asked = Future[Any]()
        self._queue.put((work, asked))
        try:
            answer: T = asked.result(self.wait_s)
        except FutureTimeout:
            return late()
        return answer

    def _late(self) -> Written:
        return Written("retry", f"no answer within {self.wait_s:g} s")

    def _work(self) -> None:
        assert self._writer is not None
        while (job := self._queue.get()) is not None:
            work, asked = job
            try:
                asked.set_result(work(self._writer))
            except BaseException as error:  # noqa: BLE001 - who waits must hear of it
                asked.set_exception(error)
        _forget(self._writer)


def _forget(writer: Writer) -> None:
    with contextlib.suppress(Exception):  # it had all it was given; how it says goodbye is its own affair
        writer.close()
    with contextlib.suppress(ValueError):
        _opened.remove(writer)


def _written(writer: Writer, signal: Signal, request: bytes) -> Written:
    try:
        outcome = writer.write(signal, [request])[0]
    except Exception as error:  # noqa: BLE001 - a writer should not, and nothing may be lost when it does
        return Written("retry", _words(error))
    return Written(outcome.fate.value, outcome.reason, outcome.remains)


def _checked(writer: Writer) -> str:
    try:
        writer.check()
    except Exception as error:  # noqa: BLE001 - as above
        return _words(error)
    return ""


def _words(error: Exception) -> str:
    """An error as people may see it: the text of others' errors may hold addresses and secrets."""
    ours = type(error).__module__.startswith("wafermonitor.")
    return str(error) if ours and str(error) else type(error).__name__
