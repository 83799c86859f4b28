"""The feed's beat: says up to which moment this Collector has passed everything on.

In: `Config`. Out: one log record `wafer.feed.beat` to the Collector's own OTLP/HTTP port, so that it takes the same queue as
the lifecycle events and cannot overtake them after an outage. Called by: `supervise` every `beat_s`; `wafer collector beat`
beside a Collector that something else runs.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import Any, Final

from wafermonitor.collector.config import Config, reachable
from wafermonitor.collector.errors import CollectorRejected, CollectorUnavailable
from wafermonitor.semconv import SCHEMA_URL, SCOPE_NAME, attributes, events

TIMEOUT_S: Final = 3.0
SERVICE: Final = "wafer-collector"
_SEVERITY_DEBUG: Final = 5
_RETRYABLE: Final = frozenset({429, 502, 503, 504})


def request(config: Config, time_ns: int) -> dict[str, Any]:
    """One beat as an OTLP/JSON request. Its resource names site and feed; `time_ns` becomes the feed's watermark."""
    resource = {
        attributes.WAFER_SITE_ID: config.site_id,
        attributes.WAFER_FEED_ID: config.feed_id,
        attributes.SERVICE_NAME: SERVICE,
    }
    record = {
        "timeUnixNano": str(time_ns),
        "observedTimeUnixNano": str(time_ns),
        "severityNumber": _SEVERITY_DEBUG,
        "severityText": "DEBUG",
        "eventName": events.WAFER_FEED_BEAT,
    }
    pairs = [{"key": key, "value": {"stringValue": value}} for key, value in resource.items()]
    scope = {"scope": {"name": SCOPE_NAME}, "logRecords": [record], "schemaUrl": SCHEMA_URL}
    return {"resourceLogs": [{"resource": {"attributes": pairs}, "scopeLogs": [scope], "schemaUrl": SCHEMA_URL}]}


def send(config: Config, time_ns: int | None = None) -> None:
    """Send one beat now.

    CollectorUnavailable: not taken, the next one will do. CollectorRejected: something else listens there.
    """
    body = json.dumps(request(config, time.time_ns() if time_ns is None else time_ns))
    host, port = reachable(config.otlp_http)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/v1/logs", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise CollectorUnavailable(f"no beat: {config.otlp_http} does not answer ({error})") from None
    finally:
        connection.close()
    if answer.status in _RETRYABLE:
        raise CollectorUnavailable(f"no beat: the Collector refuses ({answer.status}); its queue or memory is full")
    if answer.status != http.client.OK:
        raise CollectorRejected(f"no beat: {config.otlp_http} answers {answer.status}; is it a Collector's OTLP/HTTP port?")
