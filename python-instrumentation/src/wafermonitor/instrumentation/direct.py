"""Mode `direct` with `direct_backends`: requests go to the first backend that takes them, in the order of the list.

In: `Config.direct_backends`, OTLP requests as protobuf or JSON. Out: an `Answer`, as an `Endpoint` gives it. Called by:
`transport` (jobs), `outbox` (`wafer run`, `wafer start/progress/end`), `replay`, `survey`; all by `target.target_of`.

A backend that does not answer in time, or says that it cannot take anything now, rests (1 s, then twice as long, at most 30 s)
while the next one is asked. When none takes a request the answer is `retry`: the caller's spool is the last of the list.
Items that one refuses for good are offered to the next; what all refuse is kept under `rejected/` in the spool. Of a request
that one took but for some items just these wait in the spool for the others, so that the one does not get the rest again.
A signal for which no backend of the list has a place is not kept: the list says where telemetry goes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from wafermonitor.instrumentation.backends import Lane
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.endpoint import Answer
from wafermonitor.instrumentation.guard import once
from wafermonitor.instrumentation.otlp_json import proto_from_request, proto_type, request_from_proto
from wafermonitor.instrumentation.spool import REJECTED, SIGNALS, Signal, Spool

_JSON: Final = "application/json"


class Direct:
    """The backends of one process, in order. For one thread at a time, as an `Endpoint`."""

    def __init__(self, lanes: Sequence[Lane], spool_dir: Path) -> None:
        self._lanes = lanes
        self._waiting = Spool(spool_dir)
        self._refused = Spool(spool_dir / REJECTED)

    @classmethod
    def of(cls, config: Config, environ: Mapping[str, str], *, least_wait_s: float = 0.0) -> Direct:
        """The backends that the settings name. Nothing is loaded or opened yet."""
        lanes = [Lane(backend, environ) for backend in config.direct_backends]
        for lane in lanes:
            lane.wait_s = max(lane.wait_s, least_wait_s)
        return cls(lanes, config.spool_dir)

    def post(self, signal: Signal, body: bytes, *, content_type: str = _JSON) -> Answer:
        """Write one request. Trouble of a backend is an answer too; nothing is raised for it."""
        if content_type == _JSON:
            try:
                body = proto_from_request(signal, json.loads(body)).SerializeToString()
            except ValueError as error:
                return Answer("rejected", f"not OTLP/JSON: {error}")
        if not body:
            return self._empty()
        return self._deliver(signal, body)

    def check(self) -> list[tuple[Lane, str]]:
        """Of each backend, in order, why it would take nothing now; an empty text when it would."""
        return [(lane, lane.check()) for lane in self._lanes]

    def homeless(self) -> list[Signal]:
        """The signals that no backend has a place for; none while a backend cannot be used, because it might."""
        writers = [lane.open() for lane in self._lanes]
        if any(writer is None for writer in writers):
            return []
        return [signal for signal in SIGNALS if not any(writer and signal in writer.signals for writer in writers)]

    def close(self, wait_s: float = 1.0) -> None:
        """End all connections, within `wait_s` together."""
        until_s = time.monotonic() + wait_s
        for lane in self._lanes:
            lane.close(until_s - time.monotonic())
        self._waiting.close()
        self._refused.close()

    def _deliver(self, signal: Signal, request: bytes) -> Answer:
        reasons: list[str] = []
        answers: set[str] = set()
        for lane in self._lanes:
            writer = lane.open()
            if writer is None:
                answers.add("refused")
                reasons.append(lane.unusable)
                continue
            if signal not in writer.signals:
                continue
            if lane.resting:
                answers.add("retry")
                reasons.append(f"{lane.backend} did not answer a moment ago")
                continue
            written = lane.write(signal, request)
            if written.fate == "accepted" and not written.remains:
                return Answer("accepted", "; ".join(reasons) if "accepted" in answers else "")
            took = written.fate == "accepted" and _count(signal, written.remains) < _count(signal, request)
            answers.add("rejected" if written.fate == "accepted" and not took else written.fate)
            reasons.append(f"{lane.backend}: {written.reason}")
            once(f"{lane.backend.place}: {written.reason}; the next backend is asked", key=f"{lane.backend.place} fails")
            if took:
                request = written.remains
        return self._left(signal, request, answers, "; ".join(reasons))

    def _left(self, signal: Signal, request: bytes, answers: set[str], reason: str) -> Answer:
        """No backend was left for `request`, which may be the rest of a longer one."""
        if not answers:
            once(f"no backend of direct_backends has a place for {signal}: they are not sent")
            return Answer("accepted", f"no backend has a place for {signal}")
        later = next((word for word in ("retry", "refused") if word in answers), "")
        if "accepted" not in answers:
            return Answer("retry" if later == "retry" else "refused" if later else "rejected", reason)
        if not later:
            once(f"no backend takes some of the {signal} ({reason}): they are kept in {self._refused.directory}")
        spool = self._waiting if later else self._refused
        dropped = spool.dropped
        spool.append(signal, request_from_proto(proto_type(signal).FromString(request)))
        if spool.dropped > dropped:  # then rather twice than not at all
            return Answer("retry", reason)
        return Answer("accepted", reason)

    def _empty(self) -> Answer:
        """An empty request asks whether anybody would take something."""
        problems = []
        for lane in self._lanes:
            problem = lane.check()
            if not problem:
                return Answer("accepted")
            problems.append(f"{lane.backend}: {problem}")
        return Answer("retry", "; ".join(problems) or "direct_backends is empty")


def _count(signal: Signal, request: bytes) -> int:
    """How many spans, log records or data points a request has."""
    message = proto_type(signal).FromString(request)
    if signal == "traces":
        return sum(len(inner.spans) for outer in message.resource_spans for inner in outer.scope_spans)
    if signal == "logs":
        return sum(len(inner.log_records) for outer in message.resource_logs for inner in outer.scope_logs)
    metrics = [metric for outer in message.resource_metrics for inner in outer.scope_metrics for metric in inner.metrics]
    return sum(len(getattr(metric, kind).data_points) for metric in metrics if (kind := metric.WhichOneof("data")))
