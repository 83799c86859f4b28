"""The feed's beat: says up to which moment this Collector has passed everything on.

In: `Config`. Out: one log record `wafer.feed.beat` to the Collector's own OTLP/HTTP port, so that it takes the same queue as
the lifecycle events and cannot overtake them after an outage. Called by: `supervise` every `beat_s`; `wafer collector beat`
beside a Collector that something else runs.

What jobs put into the spool while the Collector did not answer comes by another way: a moment is told of only when the log
records that waited there at that moment are sent.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from wafermonitor.collector.config import Config, reachable
from wafermonitor.collector.errors import CollectorError, CollectorRejected, CollectorUnavailable
from wafermonitor.instrumentation import replay
from wafermonitor.semconv import SCHEMA_URL, SCOPE_NAME, attributes, events

TIMEOUT_S: Final = 3.0
_LOOK_S: Final = 0.5
_PATIENCE_S: Final = 20.0
"""A spool that waits longer than this is spoken of. Its shipping may try again only every five seconds."""
SERVICE: Final = "wafer-collector"
_SEVERITY_DEBUG: Final = 5
_RETRYABLE: Final = frozenset({429, 502, 503, 504})


class Mark(NamedTuple):
    """A moment, ns, and what waited in the spool then: file → where it ended, bytes."""

    time_ns: int
    waiting: Mapping[str, int]

    @classmethod
    def now(cls, config: Config) -> Mark:
        """This moment. The spool counts where its shipping is this Collector's business. CollectorUnavailable: unreadable."""
        with _reading(config):
            return cls(time.time_ns(), replay.unsent(config.spool_dir) if config.replay else {})

    def is_passed(self, config: Config) -> bool:
        """Whether all that waited then is sent. CollectorUnavailable: the spool cannot be read."""
        with _reading(config):
            return replay.is_sent(config.spool_dir, self.waiting)


def keep(config: Config, stop: threading.Event, tell: Callable[[str], None]) -> None:
    """One beat now, then one every `beat_s`, until `stop`. What is wrong is told once, until a beat is taken again."""
    told = ""

    def say(problem: str, text: str) -> None:
        nonlocal told
        if problem != told and not stop.is_set():
            tell(text)
        told = problem

    while not stop.is_set():
        began_s = time.monotonic()
        try:
            mark = Mark.now(config)
            while not mark.is_passed(config):
                if time.monotonic() - began_s > _PATIENCE_S:
                    say("spool", _waits(config))
                if stop.wait(min(_LOOK_S, config.beat_s)):
                    return
            send(config, mark.time_ns)
            told = ""
        except CollectorError as error:
            say("beat", str(error))
        stop.wait(max(0.0, began_s + config.beat_s - time.monotonic()))


def once(config: Config) -> None:
    """One beat. CollectorUnavailable: not taken, or the spool has to be sent first; CollectorRejected: as `send`."""
    mark = Mark.now(config)
    if not mark.is_passed(config):
        raise CollectorUnavailable(_waits(config))
    send(config, mark.time_ns)


@contextlib.contextmanager
def _reading(config: Config) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CollectorUnavailable(f"no beat: the spool {config.spool_dir} cannot be read: {error.strerror}") from None


def _waits(config: Config) -> str:
    return (
        f"no beat: what jobs left in {config.spool_dir} has to be sent first (`wafer replay --watch` does it where no "
        "`wafer collector run` does); `wafer collector doctor` says what hinders"
    )


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


def send(config: Config, time_ns: int) -> None:
    """Send one beat.

    CollectorUnavailable: not taken, the next one will do. CollectorRejected: something else listens there.
    """
    body = json.dumps(request(config, time_ns))
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
