"""What the older routes are sent: an event, an array of events, or an object with `events`.

Each event is decoded by itself, so that a broken one stays alone. What OTLP's lanes mend is mended here as well
(`transcode.policies`).

In: a body. Out: a `Submission` of raw events, an `Event`, or an error that names the field and what to send instead.
Called by: `translation`, `routes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from wafermonitor.receiver.errors import ItemRejected, RequestRejected
from wafermonitor.receiver.transcode.json import MENDED_SURROGATE, first_pass
from wafermonitor.receiver.transcode.policies import MAX_ITEM_BYTES, Marks, Repair

FIELDS = {
    "the body": "one event, an array of events, or an object with the array `events`",
    "the event": "an object with app, entity and event",
    "events": "an array of events",
    "source": "the name of the program that hands the events on",
    "idempotency_key": "a text that is the same whenever this event is sent again",
    "site_id": "the name of the site",
    "app": "an object with app_id, name and version",
    "app.app_id": "a text",
    "app.name": "the name of the application",
    "app.version": "the version of the application",
    "entity": "an object with type, id, parent_id, business_key and sub_key",
    "entity.type": "job or subjob",
    "entity.id": "the UUID of the run, the same in all its events",
    "entity.parent_id": "the UUID of the job that the subjob is a part of, or null",
    "entity.business_key": "the name of the job; of a subjob its sub_key; app.name stands in for either",
    "entity.sub_key": "the name of the subjob",
    "event": "an object with kind and at",
    "event.kind": "started, progress, metric, finished, error or canceled",
    "event.at": "an RFC 3339 time such as 2026-09-21T10:30:00Z, or seconds since 1970",
    "event.metrics": "an object of numbers by name",
    "event.status": "a text",
    "event.metadata": "an object of values by name",
}
"""Each field, and what to send there: the second half of every error."""

NOT_A_NUMBER = "\0NaN"
"""What NaN, Infinity and -Infinity are read as: Python's encoder writes them bare, which no other reader takes for JSON."""

_BARE = re.compile(rb'"(?:[^"\\]|\\.)*"|(?P<bare>-?\b(?:NaN|Infinity)\b)', re.DOTALL)
_BARE_SPELLED = rb'"\u0000NaN"'
_REASON = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?\Z", re.DOTALL)
_SHOWN_LETTERS = 80

Text = str | int | float | None
"""A text, or the number that a loosely typed language makes of one."""


class App(msgspec.Struct):
    """Who runs the job."""

    app_id: Text = None
    name: Text = None
    version: Text = None


class Entity(msgspec.Struct):
    """The job or subjob: one run."""

    type: Text = None
    id: Text = None
    parent_id: Text = None
    business_key: Text = None
    sub_key: Text = None


class Occurrence(msgspec.Struct):
    """What happened to it."""

    kind: Text = None
    at: Text = None
    metrics: dict[str, Any] | None = None
    status: Text = None
    metadata: dict[str, Any] | None = None


class Event(msgspec.Struct):
    """One event. What is missing and must not be is found by `translation`, whose errors say more than a decoder's."""

    idempotency_key: Text = None
    site_id: Text = None
    app: App | None = None
    entity: Entity | None = None
    event: Occurrence | None = None


class Envelope(msgspec.Struct):
    """An object with `events`; without them the object is an event itself."""

    events: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    source: Text = None
    site_id: Text = None


class Submission(NamedTuple):
    """The raw events of one body, and what stands beside them: the site of those that name none, and who hands them on."""

    items: list[bytes]
    site: str = ""
    source: str = ""

    def body(self, items: Iterable[bytes]) -> bytes:
        """A body with only these events."""
        shown: dict[str, Any] = {"events": [msgspec.Raw(item) for item in items]}
        shown |= {"site_id": self.site} if self.site else {}
        shown |= {"source": self.source} if self.source else {}
        return msgspec.json.encode(shown)


_ENVELOPE: msgspec.json.Decoder[list[msgspec.Raw] | Envelope] = msgspec.json.Decoder(list[msgspec.Raw] | Envelope)
_SINGLE: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)
_EVENT: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def read(body: bytes) -> Submission:
    """The events of a body. RequestRejected when it is not JSON or none of the three shapes."""
    try:
        return _read(body)
    except msgspec.ValidationError as error:
        raise RequestRejected(_explain(str(error), "the body")) from None
    except msgspec.DecodeError:
        mended = _BARE.sub(_spelled, body)
        if mended == body:
            raise RequestRejected(wrong("the body", "it is not JSON")) from None
        return read(mended)
    except (UnicodeDecodeError, RecursionError):
        raise RequestRejected(wrong("the body", "it is not JSON in UTF-8")) from None


def _read(body: bytes) -> Submission:
    found = first_pass(_ENVELOPE, body)
    if isinstance(found, list):
        return Submission([bytes(item) for item in found])
    if found.events is msgspec.UNSET:
        return Submission([bytes(first_pass(_SINGLE, body))])
    return Submission([bytes(item) for item in found.events or ()], text(found.site_id), text(found.source))


def decode(item: bytes, marks: Marks) -> Event:
    """One event, with what was mended noted in `marks`. ItemRejected names the field and what to send."""
    if len(item) > MAX_ITEM_BYTES:
        raise ItemRejected(f"the event: it is larger than {MAX_ITEM_BYTES} bytes")
    if MENDED_SURROGATE in item:
        marks.add(Repair.SURROGATE)
    try:
        return _EVENT.decode(item)
    except UnicodeDecodeError:
        marks.add(Repair.INVALID_UTF8)
        return decode(item.decode("utf-8", "replace").encode(), marks)
    except msgspec.ValidationError as error:
        raise ItemRejected(_explain(str(error), "the event")) from None
    except (msgspec.DecodeError, RecursionError):
        raise ItemRejected(wrong("the event", "it is not JSON")) from None


def wrong(field: str, what: str) -> str:
    """An error text: the field, what is wrong with it, and what to send."""
    return f"{field}: {what}; send {FIELDS[field]}"


def shown(value: object) -> str:
    """A value as an error shows it."""
    return repr(str(value)[:_SHOWN_LETTERS])


def text(value: Text) -> str:
    """A text field without space around it; absent is empty."""
    return "" if value is None else str(value).strip()


def _spelled(token: re.Match[bytes]) -> bytes:
    return _BARE_SPELLED if token["bare"] else token[0]


def _explain(message: str, whole: str) -> str:
    """What msgspec says, with the field in front as our own errors have it."""
    match = _REASON.match(message)
    assert match is not None
    field = (match["path"] or "").lstrip(".")
    what = match["what"].replace("`", "")
    known = field if field in FIELDS else field.partition("[")[0]
    return wrong(known if known in FIELDS else whole, what[:1].lower() + what[1:])
