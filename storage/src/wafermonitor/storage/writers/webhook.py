"""Any HTTP endpoint: each request is posted as OTLP/JSON or protobuf, to one URL.

In: OTLP requests. Out: POSTs. Idempotent by the header `Idempotency-Key` (a digest of the body), for receivers that heed it.
Called by: `receiver.bridge`, jobs in mode direct.

2xx is accepted; 408, 429, 5xx and no answer are tried again, and so is what a wrong token, address or format is answered with
(401, 403, 404, 405, 407, 415 …): these are mended one day. A redirection (3xx) is such an answer, too: who follows one asks
for a page, and what was posted is nowhere. Any other status is final.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import requests as http

from wafermonitor.instrumentation.environment import EnvironmentConfig, one_of, option, positive
from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers.items import parsed
from wafermonitor.storage.writers.protocol import ACCEPTED, SIGNALS, Fate, Outcome, Signal

_FORMATS: Final = {"json": "application/json", "protobuf": "application/x-protobuf"}
_OK: Final = range(200, 300)
_MENDED: Final = frozenset({401, 402, 403, 404, 405, 407, 415, 421, 426, *range(300, 400)})
_LATER: Final = frozenset({408, 425, 429, *range(500, 600)}) | _MENDED


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One endpoint."""

    component: ClassVar[str] = "webhook"

    url: str = option(str, "Where to post; `{signal}` in it becomes traces, logs or metrics.", default="http://127.0.0.1:9999/")
    format: str = option(one_of(*_FORMATS), "Body: json (OTLP/JSON) or protobuf.", default="json")
    token: str = option(str, "Bearer token sent with every request.", default="", secret=True)
    timeout_s: float = option(positive, "How long to wait for an answer.", default=10.0)


class Writer:
    """Posts; one kept connection for each thread."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14514

    def __init__(self, config: Config) -> None:
        self._config = config
        self._session = http.Session()
        self._session.trust_env = False
        if config.token:
            self._session.headers["Authorization"] = f"Bearer {config.token}"

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Post each; after one that must be tried again the rest of the batch waits, too."""
        outcomes: list[Outcome] = []
        for request in requests:
            late = bool(outcomes) and outcomes[-1].fate is Fate.RETRY
            outcomes.append(outcomes[-1] if late else self._post(signal, request))
        return outcomes

    def check(self) -> None:
        """Whether anything listens there. Nothing is posted."""
        try:
            self._session.head(self._url("logs"), timeout=self._config.timeout_s, allow_redirects=False)
        except http.RequestException as error:
            raise StorageUnavailable(f"the webhook does not answer ({type(error).__name__})") from None

    def close(self) -> None:
        """End the connections."""
        self._session.close()

    def _url(self, signal: Signal) -> str:
        return self._config.url.replace("{signal}", signal)

    def _post(self, signal: Signal, request: bytes) -> Outcome:
        try:
            body = request
            if self._config.format == "json":
                body = json.dumps(request_from_proto(parsed(signal, request)), separators=(",", ":")).encode()
        except StorageRejected as error:
            return Outcome(Fate.REJECTED, str(error))
        headers = {
            "Content-Type": _FORMATS[self._config.format],
            "Idempotency-Key": hashlib.sha256(request).hexdigest(),
            "X-Wafer-Signal": signal,
        }
        try:
            answer = self._session.post(
                self._url(signal), body, headers=headers, timeout=self._config.timeout_s, allow_redirects=False
            )
        except http.RequestException as error:
            return Outcome(Fate.RETRY, f"the webhook does not answer ({type(error).__name__})")
        status = answer.status_code
        if status in _OK:
            return ACCEPTED
        fate = Fate.RETRY if status in _LATER else Fate.REJECTED
        hint = ": are WAFER_WEBHOOK_URL, _TOKEN and _FORMAT right?" if status in _MENDED else ""
        return Outcome(fate, f"the webhook answers {status}{hint}")
