"""Alerts told by a channel `wafer<writer>://`, as `wafer alerting run` tells them, with the settings of a backend under test.

late = alerts.opened_now("job 0")
alerts.tell(backend, late)                              # it fires
alerts.tell(backend, late._replace(resolved_ns=…))      # it is over
"""

from __future__ import annotations

import os
import time
from unittest import mock

from tests.backends import corpus
from tests.backends.proof import Backend
from wafermonitor.alerting.notify import Channel
from wafermonitor.alerting.notify.sending import Letter, send
from wafermonitor.runs.alerts import Alert, Finding, Kind, Severity, Subject, opened


def opened_now(job: str) -> Alert:
    """Run of `job` at the corpus' site is late, since this moment."""
    subject = Subject(site=corpus.SITE, job=job, detail="L1")
    now_ns = time.time_ns()
    return opened(Finding("late", Severity.WARNING, subject, now_ns, f"{job} is late", '{"late_s": 612}'), now_ns)


def tell(backend: Backend, alert: Alert) -> None:
    """Returns when the backend has it; an error of alerting says why not."""
    kind = Kind.FIRING if alert.resolved_ns is None else Kind.RESOLVED
    channel = Channel(backend.name, f"wafer{backend.name}://")
    with mock.patch.dict(os.environ, backend.environment):
        send(Letter(channel, kind, '["r",{},0]', [alert], url="", now_ns=time.time_ns()))
