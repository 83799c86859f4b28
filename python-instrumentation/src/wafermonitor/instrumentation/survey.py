"""`wafer status`: is what a job says here arriving? Each step that can be seen from this host, and one answer.

In: the settings. Out: a dict for people and programs. Called by: `command`.

Seen from here: whether the endpoint takes an empty request, what the Collector on this host has passed on, holds back or
dropped, and what waits in the spool. What stands behind the receiver is for `wafer doctor`.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from wafermonitor.instrumentation import onward
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.endpoint import Answer, Endpoint
from wafermonitor.instrumentation.errors import InstrumentationUnavailable
from wafermonitor.instrumentation.onward import Page
from wafermonitor.instrumentation.replay import REJECTED, files
from wafermonitor.instrumentation.spool import SIGNALS, size_bytes

YES: Final = "yes"
NOT_YET: Final = "not yet"
NO: Final = "no"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_LOOK_EVERY_S: Final = 0.2
_NEXT_BATCH_S: Final = 1.0
"""What waits longer than this does not only wait for its batch."""
_NEXT_BEAT_S: Final = 12.0
"""Within this something is sent, if only the feed's beat. Whether that is dropped too tells an old loss from a present one."""


class Flow(NamedTuple):
    """One exporter of the Collector, in items; `waits` in bytes. `sends` and `drops`: it did while we looked."""

    exporter: str
    sent: float
    dropped: float
    cause: str
    waits: float
    sends: bool
    drops: bool

    def __str__(self) -> str:
        words = f"{self.sent:.0f} records passed on, {onward.size(self.waits)} wait"
        return words + (f", {self.dropped:.0f} dropped ({self.cause})" if self.dropped else "")


def survey(config: Config) -> dict[str, Any]:
    """`arriving` (yes, not yet, no) and `why` come first; then each step."""
    target = Endpoint.of(config)
    asked = {signal: target.post(signal, b"{}") for signal in SIGNALS} if config.mode in {"sidecar", "direct"} else {}
    target.close()
    flows = _flows(target, config.mode) if any(answer.outcome == "accepted" for answer in asked.values()) else []
    arriving, why = _verdict(config.mode, list(asked.values()), flows)
    found: dict[str, Any] = {"arriving": arriving, "why": why, "mode": config.mode}
    found["site"] = config.site_id or "unset (the Collector fills it in)"
    for signal, answer in asked.items():
        words = "answers" if answer.outcome == "accepted" else f"does not answer: {answer.reason}"
        found[signal] = f"{target.urls[signal]} {words}"
    for flow in flows if isinstance(flows, list) else []:
        found[flow.exporter] = str(flow)
    found["spool"] = str(config.spool_dir)
    found["waiting"] = {"files": len(files(config.spool_dir)), "bytes": size_bytes(config.spool_dir)}
    found["rejected"] = {"files": len(list((config.spool_dir / REJECTED).glob("*/*.jsonl")))}
    return found


def _flows(target: Endpoint, mode: str) -> list[Flow] | str:
    """What the Collector on this host says of its exporters; text where nothing can be seen."""
    if mode != "sidecar" or urlsplit(target.urls["logs"]).hostname not in _LOOPBACK:
        return "what becomes of it there cannot be seen from here"
    try:
        port = int(os.environ.get(onward.PORT_VARIABLE, "").strip() or onward.DEFAULT_PORT)
        before = after = onward.read(port)
        waiting = any(queue.used for queue in before.queues.values())
        end = time.monotonic() + (_NEXT_BEAT_S if before.dropped else _NEXT_BATCH_S if waiting else 0.0)
        while time.monotonic() < end and (before.sent, before.dropped) == (after.sent, after.dropped):
            time.sleep(_LOOK_EVERY_S)
            after = onward.read(port)
    except (InstrumentationUnavailable, ValueError) as error:
        return f"what the Collector does with it cannot be seen ({error})"
    return [_flow(name, before, after) for name in sorted(after.queues.keys() | after.dropped.keys())]


def _flow(exporter: str, before: Page, after: Page) -> Flow:
    sent, dropped = after.sent.get(exporter, 0.0), after.dropped.get(exporter, {})
    return Flow(
        exporter=exporter,
        sent=sent,
        dropped=sum(dropped.values()),
        cause=max(dropped, key=lambda kind: dropped[kind], default=""),
        waits=after.queues[exporter].used if exporter in after.queues else 0.0,
        sends=sent > before.sent.get(exporter, 0.0),
        drops=dropped != before.dropped.get(exporter, {}),
    )


def _verdict(mode: str, answers: list[Answer], flows: list[Flow] | str) -> tuple[str, str]:
    """The answer and its reason, from the first step that does not go on."""
    if mode == "off":
        return NO, "WAFER_MODE is off"
    if mode == "file":
        return NOT_YET, "WAFER_MODE is file: everything waits in the spool for `wafer replay`"
    failed = next((answer for answer in answers if answer.outcome != "accepted"), None)
    if failed is not None:
        return NOT_YET, f"{failed.reason}; what jobs say waits in the spool"
    return (YES, f"it is taken; {flows}") if isinstance(flows, str) else _passed_on(flows)


def _passed_on(flows: list[Flow]) -> tuple[str, str]:
    for flow in flows:
        if flow.drops or (flow.dropped and not flow.sent):
            return NO, f"the Collector drops what is for {flow.exporter} ({flow.cause}): {onward.remedy(flow.cause)}"
        if flow.waits and not flow.sends:
            size = onward.size(flow.waits)
            return NOT_YET, f"{size} wait in the Collector: {flow.exporter} cannot pass them on; is its receiver up?"
    return YES, "it is taken, and the Collector passes it on"
