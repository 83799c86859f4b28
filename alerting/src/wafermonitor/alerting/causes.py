"""The likely cause of an alert: what `storage.causes` says of its run, its expected run, its feed or its job.

In: an alert that opens. Out: a sentence or two, or None. Called by: evaluator, which bounds the time and survives errors.
"""

from __future__ import annotations

import json

from wafermonitor.runs.alerts import Alert, Subject
from wafermonitor.runs.records import RunKey, parse_run_id
from wafermonitor.storage.causes import explain_subject
from wafermonitor.storage.protocol import Reader
from wafermonitor.storage.watch import Watch


class Causes:
    """Explains alerts from one store."""

    def __init__(self, reader: Reader, watch: Watch) -> None:
        self._reader = reader
        self._watch = watch

    async def __call__(self, alert: Alert) -> str | None:
        """The cause as of when it opens; None where nothing is unusual about what it is about."""
        cause = await explain_subject(self._reader, self._watch, _narrowest(alert), alert.opened_ns)
        return None if cause is None else cause.explanation.cause


def _narrowest(alert: Alert) -> Subject:
    """The alert's subject, with the run that its evidence names where it names none itself."""
    subject = alert.subject
    if subject.run is not None or subject.site is None:
        return subject
    named = json.loads(alert.evidence).get("run")
    return subject._replace(run=RunKey(subject.site, *parse_run_id(named))) if isinstance(named, str) else subject
