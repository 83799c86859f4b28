"""`wafer status`: is what a job says here arriving? Each step that can be seen from this host, and one answer.

In: the settings. Out: a dict for people and programs. Called by: `command`.

Seen from here: whether the endpoint takes an empty request, or which of the direct backends would take something; what the
Collector on this host has passed on, holds back or dropped, and what waits in the spool. What stands behind the receiver is for
`wafer doctor`.
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
from wafermonitor.instrumentation.replay import files
from wafermonitor.instrumentation.spool import REJECTED, SIGNALS, size_bytes

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
    arriving, why, steps = _of_backends(config) if config.writes_itself else _of_endpoint(config)
    found: dict[str, Any] = {"arriving": arriving, "why": why, "mode": config.mode}
    found["site"] = config.site_id or ("unset" if config.writes_itself else "unset (the Collector fills it in)")
    found |= steps
    found["spool"] = str(config.spool_dir)
    found["waiting"] = {"files": len(files(config.spool_dir)), "bytes": size_bytes(config.spool_dir)}
    found["rejected"] = {"files": len(list((config.spool_dir / REJECTED).glob("*/*.jsonl")))}
    return found


def _of_endpoint(config: Config) -> tuple[str, str, dict[str, str]]:
    """Whether it is arriving, why, and each step, where there is an OTLP endpoint or none at all."""
    target = Endpoint.of(config)
    asked = {signal: target.post(signal, b"{}") for signal in SIGNALS} if config.sends_otlp else {}
    target.close()
    flows = _flows(target, config.mode) if any(answer.outcome == "accepted" for answer in asked.values()) else []
    steps: dict[str, str] = {}
    for signal, answer in asked.items():
        words = "answers" if answer.outcome == "accepted" else f"does not answer: {answer.reason}"
        steps[signal] = f"{target.urls[signal]} {words}"
    for flow in flows if isinstance(flows, list) else []:
        steps[flow.exporter] = str(flow)
    return *_verdict(config.mode, list(asked.values()), flows), steps


def _of_backends(config: Config) -> tuple[str, str, dict[str, str]]:
    """The same of mode `direct` with backends: the first that answers has it."""
    from wafermonitor.instrumentation.direct import Direct

    direct = Direct.of(config, os.environ)
    problems = direct.check()
    homeless = direct.homeless()
    direct.close()
    steps = {
        f"direct_backends[{position}]": f"{lane.backend} " + (f"does not answer: {problem}" if problem else "answers")
        for position, (lane, problem) in enumerate(problems)
    }
    if homeless:
        steps["not sent"] = f"{', '.join(homeless)}: no backend of the list has a place for them"
    first = next((str(lane.backend) for lane, problem in problems if not problem), None)
    if first is not None:
        return YES, f"{first} takes it", steps
    return NOT_YET, "none of direct_backends answers; what jobs say waits in the spool", steps


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
