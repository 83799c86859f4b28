"""Where OTLP over HTTP goes, and what the answer means, with the standard library only.

In: the instrumentation's `Config`, OpenTelemetry's `OTEL_EXPORTER_OTLP_*` variables, bytes of a request. Out: an `Answer`.
Called by: `transport` (jobs), `outbox` (`wafer run`, `wafer start/progress/end`), `replay`, `wafer status`; mostly by
`target`, because the settings may name direct backends instead.

Source: OTLP specification, "OTLP/HTTP Response" and "Retryable Response Codes".
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.spool import SIGNALS, Signal

Outcome = Literal["accepted", "retry", "rejected", "refused"]

_ACCESS: Final = {
    401: "set WAFER_TOKEN or OTEL_EXPORTER_OTLP_HEADERS",
    403: "the token may not write here",
    404: "no OTLP/HTTP there",
}
_LATER: Final = frozenset({408, 429})
_STALE: Final = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)
_ANSWER_BYTES: Final = 65_536
_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_PAUSE_S: Final = (0.1, 1.0)


class Answer(NamedTuple):
    """What became of a request.

    `accepted`: stored (or as good as). `retry`: later, not before `retry_after_s`. `rejected`: never, this request is bad.
    `refused`: the endpoint takes nothing from us as we are set up; `reason` says what to mend.
    """

    outcome: Outcome
    reason: str = ""
    retry_after_s: float = 0.0


class Target(Protocol):
    """What takes OTLP requests: an endpoint, or a list of direct backends. For one thread at a time."""

    def post(self, signal: Signal, body: bytes, *, content_type: str = "application/json") -> Answer:
        """Hand over one request. Nothing is raised; an empty one asks whether anything would be taken."""

    def close(self) -> None:
        """Close what is kept open."""


class Endpoint:
    """OTLP/HTTP over one kept connection per host. For one thread at a time."""

    def __init__(
        self,
        urls: Mapping[Signal, str],
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        environ: Mapping[str, str],
        retries: int = 0,
    ) -> None:
        self.urls = dict(urls)
        self.headers = dict(headers)
        self.timeout_s = timeout_s
        self._retries = retries
        self._environ = environ
        self._gzip = environ.get(f"{_PREFIX}COMPRESSION", "").strip().lower() == "gzip"
        self._connections: dict[tuple[str, str], http.client.HTTPConnection] = {}

    @classmethod
    def of(cls, config: Config, environ: Mapping[str, str] | None = None, *, url: str | None = None) -> Endpoint:
        """The endpoint that the settings name. `url` (a base, as `OTEL_EXPORTER_OTLP_ENDPOINT`) goes before them."""
        environ = os.environ if environ is None else environ
        base = _http_port(url or config.endpoint, environ).rstrip("/")
        urls: dict[Signal, str] = {}
        for signal in SIGNALS:
            own = "" if url else environ.get(f"{_PREFIX}{signal.upper()}_ENDPOINT", "").strip()
            urls[signal] = own or f"{base}/v1/{signal}"
        headers = _headers(environ.get(f"{_PREFIX}HEADERS", ""))
        if config.token and "authorization" not in headers:
            headers["authorization"] = f"Bearer {config.token}"
        return cls(urls, headers, timeout_s=config.timeout_s, environ=environ, retries=config.retries)

    def post(self, signal: Signal, body: bytes, *, content_type: str = "application/json") -> Answer:
        """Send one request. Network trouble is an answer too (`retry`); nothing is raised for it."""
        answer = self._post(signal, body, content_type)
        for attempt in range(self._retries):
            if answer.outcome != "retry" or answer.retry_after_s:
                break
            time.sleep(min(_PAUSE_S[0] * 2**attempt, _PAUSE_S[1]))
            answer = self._post(signal, body, content_type)
        return answer

    def _post(self, signal: Signal, body: bytes, content_type: str) -> Answer:
        url = self.urls[signal]
        headers = {"content-type": content_type, "user-agent": "wafermonitor", **self.headers}
        headers |= _headers(self._environ.get(f"{_PREFIX}{signal.upper()}_HEADERS", ""))
        if self._gzip:
            body = gzip.compress(body, 1)
            headers["content-encoding"] = "gzip"
        try:
            parts = urlsplit(url)
        except ValueError as error:
            return Answer("retry", _reason(url, error))
        key = (parts.scheme, parts.netloc)
        while True:
            connection = self._connections.pop(key, None)
            kept = connection is not None
            try:
                connection = connection or self._connect(parts.scheme, parts.hostname or "", parts.port)
                answer, reusable = _exchange(connection, url, body, headers)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if connection is not None:
                    connection.close()
                if kept and isinstance(error, _STALE):
                    continue  # the server closed a connection that we had kept: once more, on a new one
                return Answer("retry", _reason(url, error))
            if reusable:
                self._connections[key] = connection
            else:
                connection.close()
            return answer

    def close(self) -> None:
        """Close what is kept open."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self.timeout_s, context=self._tls())
        if scheme != "http" or not host:
            raise ValueError("an endpoint starts with http:// or https://")
        return http.client.HTTPConnection(host, port, timeout=self.timeout_s)

    def _tls(self) -> Any:
        import ssl

        context = ssl.create_default_context(cafile=self._environ.get(f"{_PREFIX}CERTIFICATE") or None)
        certificate = self._environ.get(f"{_PREFIX}CLIENT_CERTIFICATE")
        if certificate:
            context.load_cert_chain(certificate, self._environ.get(f"{_PREFIX}CLIENT_KEY") or None)
        return context


def _exchange(connection: http.client.HTTPConnection, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[Answer, bool]:
    """One request and its answer, and whether the connection can be used again."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("POST", path, body, dict(headers))
    response = connection.getresponse()
    content = response.read(_ANSWER_BYTES)
    reusable = response.isclosed() and not response.will_close
    return answer_of(response.status, response.getheader("Retry-After"), content, url), reusable


def answer_of(status: int, retry_after: str | None, content: bytes, url: str) -> Answer:
    """What an HTTP answer means. Only what is surely the request's own fault is `rejected`: that data is set aside for good."""
    if status // 100 == 2:  # noqa: PLR2004 - HTTP's class of success
        return Answer("accepted", _partial(content))
    reason = f"{url} answered {status}"
    if status in _ACCESS:
        return Answer("refused", f"{reason}: {_ACCESS[status]}")
    if status in _LATER or status // 100 != 4:  # noqa: PLR2004 - HTTP's class of client errors
        return Answer("retry", reason, _seconds(retry_after))
    return Answer("rejected", f"{reason}: {_message(content)}")


def _partial(content: bytes) -> str:
    """What the receiver says it could not take of an accepted request; empty when it took all."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        partial = json.loads(content).get("partialSuccess") or {}
        counts = [f"{key} {value}" for key, value in partial.items() if key.startswith("rejected") and int(value)]
        if counts:
            return f"{', '.join(counts)}: {partial.get('errorMessage', '')}"
    return ""


def _message(content: bytes) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(content).get("message", ""))[:500]
    return content[:200].decode("utf-8", "replace").strip()


def _seconds(retry_after: str | None) -> float:
    """`Retry-After` as seconds from now: it is a number or a date."""
    if not retry_after:
        return 0.0
    with contextlib.suppress(ValueError):
        return max(0.0, float(retry_after))
    from email.utils import parsedate_to_datetime

    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0


def _reason(url: str, error: Exception) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{url}: {words}"


def _headers(text: str) -> dict[str, str]:
    """`k=v,k2=v2`, percent-encoded, as OpenTelemetry writes headers in one variable."""
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {unquote(key.strip()).lower(): unquote(value.strip()) for key, _, value in pairs}


def _http_port(url: str, environ: Mapping[str, str]) -> str:
    # A job may be set up for gRPC; the command line speaks HTTP only, which Collectors offer on the next port.
    if environ.get(f"{_PREFIX}PROTOCOL", "").strip() == "grpc" and urlsplit(url).port == 4317:  # noqa: PLR2004 - OTLP/gRPC's port
        return url.replace(":4317", ":4318", 1)
    return url
