"""What a viewer changes: acknowledges an alert, silences, ends a silence, accepts or declines a proposal.

In: the name of the act and the fields of its form, as the browser sent them; the viewer's zone. Out: what to say about it;
UiRejected with words for the viewer where it cannot be. Called by: session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from pydantic import ValidationError

from wafermonitor.ui.errors import UiRejected
from wafermonitor.ui.source import Source

FOR = ("1h", "8h", "1d")
_LONGEST = 2_000
Act = Callable[[Source, Mapping[str, str], tzinfo], Awaitable[str]]


async def perform(source: Source, act: str, given: Mapping[str, Any], zone: tzinfo) -> str:
    """Do it and say that it was done. `given` holds the form's fields."""
    do = _ACTS.get(act)
    if do is None:
        raise UiRejected(f"This page does not know how to {act[:40]}: load it again.")
    fields = {name: value.strip()[:_LONGEST] for name, value in given.items() if isinstance(value, str)}
    try:
        return await do(source, fields, zone)
    except ValidationError as error:
        first = error.errors()[0]
        raise UiRejected(f"{_LABELS.get(str(first['loc'][-1]), str(first['loc'][-1]))}: {first['msg']}.") from None


async def _acknowledge(source: Source, given: Mapping[str, str], zone: tzinfo) -> str:
    del zone
    by = _need(given, "by", "your name")
    alert, note = given.get("alert", ""), given.get("note") or None
    found = await source.change(lambda: source.client.acknowledge(alert, by=by, note=note))
    return f"{found.acknowledged_by or by} looks after it. It is not escalated any more."


async def _silence(source: Source, given: Mapping[str, str], zone: tzinfo) -> str:
    by, why = _need(given, "by", "your name"), _need(given, "why", "why it may be silent")
    scope = {name: given.get(name) or None for name in ("site", "job", "rule")}
    if not any(scope.values()):
        raise UiRejected("Say what is silenced: a site, a job or a rule.")
    until = _until(given, zone)
    await source.change(lambda: source.client.silence(by=by, why=why, until=until, **scope))
    return "Silenced. Nobody is told until then; the alerts are still shown."


async def _unsilence(source: Source, given: Mapping[str, str], zone: tzinfo) -> str:
    del zone
    by = _need(given, "by", "your name")
    await source.change(lambda: source.client.unsilence(given.get("silence", ""), by=by))
    return "The silence has ended."


async def _accept(source: Source, given: Mapping[str, str], zone: tzinfo) -> str:
    del zone
    by = _need(given, "by", "your name")
    await source.change(lambda: source.client.accept(given.get("expectation", ""), by=by))
    return "Accepted: its runs are expected from now on."


async def _decline(source: Source, given: Mapping[str, str], zone: tzinfo) -> str:
    del zone
    by = _need(given, "by", "your name")
    await source.change(lambda: source.client.decline(given.get("expectation", ""), by=by))
    return "Declined: nothing is expected by it."


_ACTS: dict[str, Act] = {
    "acknowledge": _acknowledge,
    "silence": _silence,
    "unsilence": _unsilence,
    "accept": _accept,
    "decline": _decline,
}
_LABELS = {"by": "Your name", "why": "Why", "until": "Until", "note": "Note", "site": "Site", "job": "Job", "rule": "Rule"}


def _need(given: Mapping[str, str], name: str, words: str) -> str:
    if not (value := given.get(name, "")):
        raise UiRejected(f"Please say {words}.")
    return value


def _until(given: Mapping[str, str], zone: tzinfo) -> str:
    """The end of a silence: `until` by the viewer's clock where it is given, else the time span `for`."""
    if not (text := given.get("until", "")):
        span = given.get("for", "")
        return f"+{span if span in FOR else FOR[0]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UiRejected("Until: this is no date with a time.") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return moment.astimezone(UTC).isoformat()
