"""A plug-in of Apprise: alerts as log records in the backends that runs, events and logs go to.

In: an address `wafer<writer>://?<setting>=<value>` such as `waferzabbix://`, and alerts. Out: an event `wafer.alert` for each,
in the shape that its writer gives to every log record; Zabbix makes a problem of it. Called by: `sending`.

What the address does not say stands in the environment, as for a bridge (`WAFER_ZABBIX_SERVER` …), secrets above all. A record
is named after what it says, so one that is told again after a lost answer is kept once where the writer can.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import apprise
from apprise.plugins import N_MGR
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from wafermonitor.alerting.errors import AlertingRejected, AlertingUnavailable
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.runs.alerts import Alert, Kind, Severity
from wafermonitor.semconv import SCOPE_NAME, events
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers import loading
from wafermonitor.storage.writers.protocol import Fate, Writer

PREFIX: Final = "wafer"
"""Of a scheme; Apprise takes only letters and digits there."""
SERVICE: Final = "wafermonitor-alerting"
_PAUSE_S: Final = 1.0
_SEVERITIES: Final[Mapping[Severity, tuple[int, str]]] = {
    Severity.INFO: (9, "INFO"),
    Severity.WARNING: (13, "WARN"),
    Severity.CRITICAL: (17, "ERROR"),
}
"""OpenTelemetry's number and text."""
_writers: dict[tuple[str, ...], Writer] = {}
_lock = threading.Lock()


_Base: Any = apprise.NotifyBase
"""Its own types say None where every plug-in has a text."""


class Backend(_Base):  # type: ignore[misc] # as said above
    """One writer. `alerts`, `kind`, `now_ns` and `timeout_s` are set by who sends; Apprise's own words are not written."""

    service_name = "WaferMonitor's writers"
    protocol = tuple(f"{PREFIX}{name}" for name in loading.names())
    service_url = ""
    setup_url = ""
    title_maxlen = 0
    alerts: Sequence[Alert] = ()
    kind: Kind = Kind.FIRING
    now_ns: int = 0
    timeout_s: float = 20.0

    def __init__(self, *, scheme: str, settings: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._name = scheme.removeprefix(PREFIX)
        self._settings = dict(settings)

    @staticmethod
    def parse_url(url: str, *_args: Any, **_kwargs: Any) -> dict[str, Any] | None:
        """What `__init__` takes."""
        found = apprise.NotifyBase.parse_url(url, verify_host=False)
        return None if not found else {**found, "scheme": str(found["schema"]).lower(), "settings": found["qsd"]}

    def url(self, privacy: bool = False, *_args: Any, **_kwargs: Any) -> str:
        """The address without its settings."""
        del privacy
        return f"{PREFIX}{self._name}://"

    def send(self, *_args: Any, **_kwargs: Any) -> bool:
        """Write the alerts, tried again while there is time. AlertingUnavailable or AlertingRejected."""
        request = records(self.alerts, self.kind, self.now_ns)
        end_s = time.monotonic() + self.timeout_s
        while True:
            (outcome,) = _writer(self._name, self._settings).write("logs", [request])
            if outcome.fate is Fate.ACCEPTED and not outcome.rejected:
                return True
            if outcome.fate is not Fate.RETRY:
                raise AlertingRejected(outcome.reason)
            if time.monotonic() + _PAUSE_S > end_s:
                raise AlertingUnavailable(outcome.reason)
            time.sleep(_PAUSE_S)


def register() -> None:
    """Make the schemes known to Apprise. May be called again."""
    with _lock:
        if Backend.protocol[0] not in N_MGR:
            manager: Any = N_MGR
            manager.add(Backend)


def records(alerts: Sequence[Alert], kind: Kind, now_ns: int) -> bytes:
    """One OTLP request: a log record for each alert, by site. The same alerts make the same bytes, but for escalations."""
    request = ExportLogsServiceRequest()
    for alert in alerts:
        why = Kind.RESOLVED if alert.resolved_ns is not None else kind
        outer = request.resource_logs.add()
        site, feed = alert.subject.site, alert.subject.feed
        outer.resource.attributes.extend(
            _pairs({names.WAFER_SITE_ID: site, names.WAFER_FEED_ID: feed, names.SERVICE_NAME: SERVICE})
        )
        inner = outer.scope_logs.add()
        inner.scope.name = SCOPE_NAME
        number, text = _SEVERITIES[alert.severity]
        record = inner.log_records.add(
            time_unix_nano=_moment(alert, why, now_ns),
            severity_number=number,
            severity_text=text,
            event_name=events.WAFER_ALERT,
            attributes=_pairs(_said(alert, why)),
        )
        record.body.string_value = alert.summary
        if alert.subject.run is not None:
            record.trace_id, record.span_id = alert.subject.run.trace_id, alert.subject.run.span_id
    return bytes(request.SerializeToString())


def _moment(alert: Alert, why: Kind, now_ns: int) -> int:
    """When it became so. An alert that has grown louder since it was opened is told once more, a moment later."""
    if why is Kind.RESOLVED:
        return alert.resolved_ns or now_ns
    return now_ns if why is Kind.ESCALATED else alert.opened_ns + int(alert.severity)


def _said(alert: Alert, why: Kind) -> dict[str, str | int | None]:
    return {
        names.WAFER_ALERT_ID: alert.id,
        names.WAFER_ALERT_FINGERPRINT: alert.fingerprint,
        names.WAFER_ALERT_RULE: alert.rule,
        names.WAFER_ALERT_KIND: why.value,
        names.WAFER_ALERT_SEVERITY: alert.severity.word,
        names.WAFER_ALERT_START_TIME_UNIX_NANO: alert.since_ns,
        names.WAFER_ALERT_EVIDENCE: alert.evidence,
        names.WAFER_ALERT_CAUSE: alert.cause,
        names.WAFER_ALERT_RUNBOOK: alert.runbook,
        names.WAFER_JOB_NAME: alert.subject.job,
        names.WAFER_JOB_OWNER: alert.owner,
    }


def _pairs(found: Mapping[str, str | int | None]) -> list[KeyValue]:
    pairs = []
    for name, value in found.items():
        pair = KeyValue(key=name)
        if isinstance(value, int):
            pair.value.int_value = value
        elif value:
            pair.value.string_value = value
        else:
            continue
        pairs.append(pair)
    return pairs


def _writer(name: str, settings: Mapping[str, str]) -> Writer:
    """The one of these settings, which is kept: it knows what it has found out about its backend. AlertingRejected."""
    place = (name, *(f"{key}={value}" for key, value in sorted(settings.items())))
    with _lock:
        if place not in _writers:
            try:
                _writers[place] = _made(name, settings)
            except (ConfigRejected, StorageRejected) as error:
                raise AlertingRejected(str(error)) from None
        return _writers[place]


def _made(name: str, settings: Mapping[str, str]) -> Writer:
    kind = loading.find(name)
    if "logs" not in kind.signals:
        raise StorageRejected(f"the writer {name!r} keeps no log records")
    known = {field.name: field for field in dataclasses.fields(kind.config_type)}
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise StorageRejected(f"the writer {name!r} has no setting {unknown[0]!r}: known are {', '.join(sorted(known))}")
    said = {kind.config_type.variables(known[key])[0]: value for key, value in settings.items()}
    return kind(kind.config_type.load({**os.environ, **said}))
