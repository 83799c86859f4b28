"""A dead letter sent again: decoded by today's lane, stored if the store takes it now, and only then forgotten.

A crash between the two leaves the letter; sending it once more stores nothing twice, because the store knows its rows.

In: a store and a letter. Out: what became of it. Called by: `command`.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from wafermonitor.receiver import arrivals, legacy
from wafermonitor.receiver.dead_letters import samples
from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.transcode import json, python
from wafermonitor.receiver.transcode.protocol import Encoding, Lane
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected
from wafermonitor.storage.protocol import Storage, StoredDeadLetter

REFUSED = "the store refuses the row"
EMPTY = "the sample holds no item"


class Outcome(NamedTuple):
    """`stored`: its rows are in the store and the letter is gone. Otherwise it is kept, and `answer` says why."""

    key: str
    stored: bool
    answer: str


def lanes() -> dict[Encoding, Lane]:
    """The lanes that every other one is compared with."""
    return {Encoding.PROTOBUF: python.Lane(), Encoding.JSON: json.Lane(), Encoding.EVENTS: legacy.Lane()}


async def retry(storage: Storage, stored: StoredDeadLetter) -> Outcome:
    """Send one letter again. StorageUnavailable and SchemaTooOld pass through; the letter is untouched then."""
    answer = await _send(storage, stored)
    if answer is None:
        await storage.writer.forget_dead_letter(stored.key)
        return Outcome(stored.key, stored=True, answer="")
    await storage.writer.mark_dead_letter(stored.key, time.time_ns(), answer)
    return Outcome(stored.key, stored=False, answer=answer)


async def _send(storage: Storage, stored: StoredDeadLetter) -> str | None:
    """None when everything in the sample is stored, or why something is not."""
    try:
        request = samples.request_of(stored.letter)
        done = await arrivals.transcode(storage.writer, lanes()[request.encoding], request)
    except RequestRejected as error:
        return str(error)
    # What is still refused has its letter already: this one.
    done.batch.dead.clear()
    if done.batch.items:
        try:
            await storage.writer.write([done.batch])
        except SchemaTooOld:
            raise
        except StorageRejected:
            return REFUSED
    return done.message or (None if done.batch.items else EMPTY)
