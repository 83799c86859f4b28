"""The older JSON bodies as a lane of the pipeline: what is good becomes an OTLP request, and goes the way of all of them.

In: an admitted `Request` of the encoding `events`. Out: `Transcoded`, with a dead letter for each event that is refused.
Called by: `pipeline`, in a worker thread; `dead_letters.retry`.
"""

from __future__ import annotations

from collections import Counter

from wafermonitor.receiver.legacy import bodies
from wafermonitor.receiver.legacy.translation import Refusal, translate
from wafermonitor.receiver.transcode import python
from wafermonitor.receiver.transcode.assembly import MAX_REASONS
from wafermonitor.receiver.transcode.policies import MAX_SAMPLE_BYTES
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal, Transcoded
from wafermonitor.runs.records import UNSET_SITE, DeadLetter

SIGNAL = "events"
"""What the dead letters of this lane have in the place of OTLP's signals. Their sample is a body with this event alone."""


class Lane:
    """`protocol.Lane` for older bodies."""

    def __init__(self) -> None:
        self._otlp = python.Lane()

    def transcode(self, request: Request) -> Transcoded:
        """The rows of one body."""
        submission = bodies.read(request.body)
        translated = translate(submission)
        body = translated.request.SerializeToString()
        done = self._otlp.transcode(request._replace(signal=Signal.LOGS, encoding=Encoding.PROTOBUF, body=body))
        for index, refusal in translated.refusals.items():
            sample = submission.body([submission.items[index]])[:MAX_SAMPLE_BYTES]
            done.batch.dead.append(DeadLetter(refusal.site or UNSET_SITE, SIGNAL, refusal.reason, sample, request.received_ns))
        message = "; ".join(filter(None, (done.message, _message(list(translated.refusals.values())))))
        rejected, repaired = done.rejected + len(translated.refusals), done.repaired + translated.repaired
        return done._replace(rejected=rejected, message=message, repaired=repaired)


def _message(refusals: list[Refusal]) -> str:
    if not refusals:
        return ""
    reasons = Counter(refusal.reason for refusal in refusals)
    told = [f"{reason} ({number})" for reason, number in reasons.most_common(MAX_REASONS)]
    return f"{len(refusals)} events rejected for good: {'; '.join(told)}"
