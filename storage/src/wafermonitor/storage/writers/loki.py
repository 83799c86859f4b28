"""Grafana Loki 3, by its OTLP endpoint: log records and lifecycle events, as the Collector's exporter sends them.

In: OTLP requests of logs. Out: POSTs to `<url>/otlp/v1/logs`. Called by: `receiver.bridge`, jobs in mode direct.

Shape: the line is the body, at the record's time; the label `service_name`; everything else is structured metadata, with `_`
for `.`: `wafer_site_id`, `wafer_job_name`, `wafer_job_run_id`, `trace_id`, `span_id`, `severity_number`, `severity_text`,
`scope_name` … Loki has no place for an event's name, so it is sent as the attribute `event.name` too:
    {service_name="sorter"} | wafer_site_id="fab1" | event_name="wafer.job.end"

Loki keeps one of two lines that are equal in labels, time and text, so a second delivery changes nothing. It takes the good
lines of a request and answers 400 for the bad (too old, too long): halves are sent until just these are known. A wrong tenant,
password or address, and a Loki that is set up to keep no structured metadata, are tried again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import requests as http

from wafermonitor.instrumentation.environment import EnvironmentConfig, option, positive
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers.items import count, parsed, part
from wafermonitor.storage.writers.protocol import ACCEPTED, Fate, Outcome, Signal

EVENT_NAME: Final = "event.name"
_OK: Final = range(200, 300)
_REFUSED: Final = frozenset({400, 413, 422})
_NOT_SET_UP: Final = "allow_structured_metadata"
"""The setting that Loki names in a 400 which is about itself, and not about a line."""
_REASON_CHARACTERS: Final = 200


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One Loki."""

    component: ClassVar[str] = "loki"

    url: str = option(str, "Loki's address, without a path.", default="http://127.0.0.1:3100")
    tenant: str = option(str, "Tenant (X-Scope-OrgID); a Loki without tenants does not look at it.", default="wafermonitor")
    user: str = option(str, "User, where one is asked for.", default="")
    password: str = option(str, "Password or token of the user.", default="", secret=True)
    ca_file: str = option(str, "Certificates that sign Loki's; empty: the system's.", default="")
    timeout_s: float = option(positive, "How long to wait for an answer.", default=10.0)


class Writer:
    """Posts; one kept connection for each thread."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset({"logs"})
    port: ClassVar[int] = 14515

    def __init__(self, config: Config) -> None:
        self._url = config.url.rstrip("/")
        self._timeout_s = config.timeout_s
        self._session = http.Session()
        self._session.trust_env = False
        self._session.verify = config.ca_file or True
        self._session.headers["X-Scope-OrgID"] = config.tenant
        if config.user:
            self._session.auth = (config.user, config.password)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Post each; after one that must be tried again the rest of the batch waits, too."""
        outcomes: list[Outcome] = []
        for request in requests:
            late = bool(outcomes) and outcomes[-1].fate is Fate.RETRY
            outcomes.append(outcomes[-1] if late else self._keep(signal, request))
        return outcomes

    def check(self) -> None:
        """Whether Loki says that it is ready."""
        try:
            status = self._session.get(f"{self._url}/ready", timeout=self._timeout_s).status_code
        except http.RequestException as error:
            raise StorageUnavailable(f"Loki does not answer ({type(error).__name__})") from None
        if status not in _OK:
            raise StorageUnavailable(f"Loki is not ready ({status})")

    def close(self) -> None:
        """End the connections."""
        self._session.close()

    def _keep(self, signal: Signal, request: bytes) -> Outcome:
        try:
            total = count(signal, request)
            refused = dict(self._refused(signal, request, range(total))) if total else {}
        except StorageRejected as error:
            return Outcome(Fate.REJECTED, str(error))
        except StorageUnavailable as error:
            return Outcome(Fate.RETRY, str(error))
        if not refused:
            return ACCEPTED
        reason = next(iter(refused.values()))
        if len(refused) == total:
            return Outcome(Fate.REJECTED, reason)
        return Outcome(Fate.ACCEPTED, reason, len(refused), part(signal, request, refused.__contains__))

    def _refused(self, signal: Signal, request: bytes, places: range) -> Iterator[tuple[int, str]]:
        """Those of `places` that Loki will never take, and why. StorageUnavailable: not now."""
        message = parsed(signal, part(signal, request, places.__contains__))
        for record in _records(message):
            if record.event_name and all(pair.key != EVENT_NAME for pair in record.attributes):
                record.attributes.add(key=EVENT_NAME).value.string_value = record.event_name
        why = self._post(message.SerializeToString())
        if why is None:
            return
        if len(places) == 1:
            yield places[0], why
            return
        middle = len(places) // 2
        yield from self._refused(signal, request, places[:middle])
        yield from self._refused(signal, request, places[middle:])

    def _post(self, body: bytes) -> str | None:
        """None when Loki has it, else why some of it is refused. StorageUnavailable: not now."""
        headers = {"Content-Type": "application/x-protobuf"}
        try:
            # Who follows a redirection asks for a page, and what was posted is nowhere.
            answer = self._session.post(
                f"{self._url}/otlp/v1/logs", body, headers=headers, timeout=self._timeout_s, allow_redirects=False
            )
        except http.RequestException as error:
            raise StorageUnavailable(f"Loki does not answer ({type(error).__name__})") from None
        if answer.status_code in _OK:
            return None
        if answer.status_code in _REFUSED:
            if _NOT_SET_UP in answer.text:
                raise StorageUnavailable(f"Loki keeps no structured metadata: set limits_config.{_NOT_SET_UP} there")
            return f"Loki answers {answer.status_code}: {answer.text[:_REASON_CHARACTERS].strip()}"
        hint = ": is the user, its password or the tenant right?" if answer.status_code in {401, 403} else ""
        hint = ": is WAFER_LOKI_URL right?" if answer.status_code in {404, 405, *range(300, 400)} else hint
        raise StorageUnavailable(f"Loki answers {answer.status_code}{hint}")


def _records(message: Any) -> Iterator[Any]:
    for outer in message.resource_logs:
        for inner in outer.scope_logs:
            yield from inner.log_records
