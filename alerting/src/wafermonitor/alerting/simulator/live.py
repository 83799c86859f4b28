"""A story told to a real OTLP endpoint, so many times as fast as life: for demonstrations, and as load.

In: a `Story`, an endpoint, a pace. Out: OTLP/HTTP requests, and a `Sent` that counts them. Called by: `command`.

The story's times become times of now: what takes an hour in it takes an hour divided by the pace, heartbeats and expected
durations too. Links fail as in the story, so what an outage delays is sent late and bears its old time. Whatever is still open
when it is over ends as cancelled, so nothing is left that looks lost but what the story has killed.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol

from wafermonitor.alerting.errors import AlertingRejected, AlertingUnavailable
from wafermonitor.alerting.simulator.batches import attributes, resource_attributes
from wafermonitor.alerting.simulator.fab import START_NS, Host
from wafermonitor.alerting.simulator.story import Story, TrueRun
from wafermonitor.alerting.simulator.telling import SPAN, Arrival, Message, arrivals
from wafermonitor.instrumentation import otlp_json
from wafermonitor.instrumentation.endpoint import Answer
from wafermonitor.instrumentation.spool import Signal
from wafermonitor.runs import lifecycle
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.semconv import SCHEMA_URL, SCOPE_NAME
from wafermonitor.semconv import attributes as names

FLUSH_S = 0.2
MOST_ITEMS = 2000
"""Of one request."""
PATIENCE_S = 60.0
"""How long an endpoint may refuse before the story is given up."""
_SCOPE = {"name": SCOPE_NAME, "schema_url": SCHEMA_URL}
_SCALED = (names.WAFER_JOB_HEARTBEAT_INTERVAL, names.WAFER_JOB_EXPECTED_DURATION)
_SHORTEST_PAUSE_S = 0.05


class Target(Protocol):
    """Where requests go: `instrumentation.endpoint.Endpoint`."""

    def post(self, signal: Signal, body: bytes) -> Answer:
        """Send one request of OTLP/JSON."""


@dataclass(slots=True)
class Sent:
    """What was sent. `behind_s`: by how much the story was late at most; the endpoint or this machine is too slow for it."""

    requests: int = 0
    bytes: int = 0
    spans: int = 0
    events: int = 0
    beats: int = 0
    retries: int = 0
    runs: int = 0
    cancelled: int = 0
    behind_s: float = 0.0
    seconds: float = 0.0
    stopped: bool = False
    rejected: list[str] = field(default_factory=list)


class Pace:
    """Story time as time of now. `begin_ns`: now when the story begins."""

    def __init__(self, rate: float, begin_ns: int) -> None:
        self.rate = rate
        self.begin_ns = begin_ns

    def wall_ns(self, at_ns: int) -> int:
        """When `at_ns` of the story is."""
        return self.begin_ns + round((at_ns - START_NS) / self.rate)

    def story_ns(self, wall_ns: int) -> int:
        """Where the story is at `wall_ns`."""
        return START_NS + round((wall_ns - self.begin_ns) * self.rate)


class Teller:
    """Tells one story once. `stop` may be set from a signal handler or another thread."""

    def __init__(self, story: Story, target: Target, rate: float, stop: Event | None = None) -> None:
        self.sent = Sent()
        self.stop = stop or Event()
        self._story = story
        self._target = target
        self._pace = Pace(rate, time.time_ns())
        self._open: dict[bytes, TrueRun] = {}

    def tell(self, told: Callable[[float], None] = lambda _ratio: None) -> Sent:
        """Tell it to its end or until `stop`; `told` is called with how much of it is told, 0 to 1.

        AlertingUnavailable: the endpoint took nothing for PATIENCE_S. AlertingRejected: it takes nothing from us.
        """
        begin_s = time.monotonic()
        try:
            for group in self._groups(told):
                self._send(group)
        finally:
            self.sent.stopped = self.stop.is_set()
            self.sent.seconds = time.monotonic() - begin_s
        self._cancel()
        return self.sent

    def _groups(self, told: Callable[[float], None]) -> Iterator[list[Message]]:
        """What is due, as often as FLUSH_S, MOST_ITEMS at a time."""
        coming = arrivals(self._story)
        held: Arrival | None = next(coming, None)
        end_ns = self._story.fab.end_ns
        while held is not None and not self.stop.is_set():
            now_ns = min(self._pace.story_ns(time.time_ns()), end_ns)
            group: list[Message] = []
            while held is not None and held.received_ns <= now_ns and len(group) < MOST_ITEMS:
                group.append(held.message)
                held = next(coming, None)
            if group:
                yield group
                told((now_ns - START_NS) / (end_ns - START_NS))
            if held is None or (held.received_ns > now_ns >= end_ns):
                break
            due_ns = self._pace.wall_ns(held.received_ns)
            late_s = (time.time_ns() - due_ns) / SECOND_NS
            self.sent.behind_s = max(self.sent.behind_s, late_s)
            if late_s < 0:
                self.stop.wait(max(FLUSH_S, min(-late_s, 1.0)))
        told(1.0)

    def _send(self, group: Iterable[Message]) -> None:
        """One request of each signal."""
        logs: dict[tuple[Host, int], list[dict[str, Any]]] = defaultdict(list)
        spans: dict[tuple[Host, int], list[dict[str, Any]]] = defaultdict(list)
        senders: dict[tuple[Host, int], dict[str, Any]] = {}
        for message in group:
            run = message.run
            key = (message.host, 0 if run is None else int.from_bytes(run.span_id, "big"))
            senders[key] = resource_attributes(message.host, run)
            if message.event == SPAN and run is not None:
                spans[key].append(self._span(message, run))
                self.sent.spans += 1
            else:
                logs[key].append(self._beat(message) if run is None else self._event(message, run))
                self.sent.beats += run is None
                self.sent.events += run is not None
            self._note(message)
        if logs:
            parts = [otlp_json.logs_request(senders[key], items, scope=_SCOPE)["resourceLogs"] for key, items in logs.items()]
            self._post("logs", {"resourceLogs": [one for part in parts for one in part]})
        if spans:
            told = [otlp_json.spans_request(senders[key], items, scope=_SCOPE)["resourceSpans"] for key, items in spans.items()]
            self._post("traces", {"resourceSpans": [one for part in told for one in part]})

    def _note(self, message: Message) -> None:
        run = message.run
        if run is None:
            return
        if message.event == lifecycle.START:
            self.sent.runs += 1
            self._open[run.span_id] = run
        elif message.event == SPAN:
            self.sent.runs += run.job.interval_s is None
            self._open.pop(run.span_id, None)

    def _post(self, signal: Signal, request: dict[str, Any]) -> None:
        """Until it is taken. What an endpoint refuses for good is counted and left out."""
        body = json.dumps(request, separators=(",", ":")).encode()
        given_up_s = time.monotonic() + PATIENCE_S
        pause_s = 0.1
        while True:
            answer = self._target.post(signal, body)
            if answer.outcome == "accepted":
                self.sent.requests += 1
                self.sent.bytes += len(body)
                return
            if answer.outcome == "rejected":
                self.sent.rejected.append(answer.reason)
                return
            if answer.outcome == "refused":
                raise AlertingRejected(answer.reason)
            if time.monotonic() > given_up_s or (self.stop.is_set() and pause_s > 1):
                raise AlertingUnavailable(f"nothing is taken for {PATIENCE_S:.0f} s: {answer.reason}")
            self.sent.retries += 1
            time.sleep(max(answer.retry_after_s, pause_s))
            pause_s = min(pause_s * 2, 5.0)

    def _cancel(self) -> None:
        """End what is open and was not killed: by its end event and its span, now."""
        now_ns = self._pace.story_ns(time.time_ns())
        messages = []
        for run in list(self._open.values()):
            if run.killed and run.end_ns <= now_ns:
                continue
            run.end_ns, run.result, run.error_type, run.killed = now_ns, "cancellation", None, False
            messages += [Message(now_ns, run.host, lifecycle.END, run), Message(now_ns, run.host, SPAN, run)]
            self.sent.cancelled += 1
        for first in range(0, len(messages), MOST_ITEMS):
            self._send(messages[first : first + MOST_ITEMS])

    def _stamp_ns(self, message: Message) -> int:
        """The clock of the host, whose lead is not accelerated."""
        return self._pace.wall_ns(message.at_ns) + message.stamp_ns - message.at_ns

    def _attributes(self, message: Message, run: TrueRun) -> dict[str, Any]:
        told = attributes(message, run)
        lead_ns = message.stamp_ns - message.at_ns
        told[names.WAFER_JOB_START_TIME_UNIX_NANO] = self._pace.wall_ns(run.start_ns) + lead_ns
        for name in _SCALED:
            if name in told:
                told[name] = max(_SHORTEST_PAUSE_S, told[name] / self._pace.rate)
        if run.nominal_ns is not None and names.WAFER_JOB_NOMINAL_TIME in told:
            told[names.WAFER_JOB_NOMINAL_TIME] = _rfc3339(self._pace.wall_ns(run.nominal_ns))
        return told

    def _event(self, message: Message, run: TrueRun) -> dict[str, Any]:
        return otlp_json.log_record(
            event_name=message.event,
            time_ns=self._stamp_ns(message),
            severity="DEBUG" if message.event == lifecycle.HEARTBEAT else "INFO",
            attributes=self._attributes(message, run),
            trace_id=run.trace_id,
            span_id=run.span_id,
        )

    def _span(self, message: Message, run: TrueRun) -> dict[str, Any]:
        told = self._attributes(message, run)
        start_ns = told.pop(names.WAFER_JOB_START_TIME_UNIX_NANO)
        return otlp_json.span(
            trace_id=run.trace_id,
            span_id=run.span_id,
            parent_span_id=None,
            name=run.job.name,
            start_ns=start_ns,
            end_ns=self._stamp_ns(message),
            attributes=told,
            error=run.error_type,
        )

    def _beat(self, message: Message) -> dict[str, Any]:
        record = otlp_json.log_record(
            event_name=message.event,
            time_ns=self._stamp_ns(message),
            severity="DEBUG",
            attributes={},
            trace_id=b"",
            span_id=b"",
        )
        return {key: value for key, value in record.items() if key not in {"traceId", "spanId", "flags"}}


def _rfc3339(at_ns: int) -> str:
    seconds, rest = divmod(at_ns, SECOND_NS)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"
