"""Alerts that changed, for streams: asked of what alerting keeps, made to JSON once, told once.

In: a Watch. Out: changed alerts with their JSON, and the token that stands for having seen them.  Called by: stream.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wafermonitor.query.watched import alert_model
from wafermonitor.runs.alerts import Alert
from wafermonitor.storage.watch import Watch

MAX_REMEMBERED = 50_000
MAX_MISSED = 20_000


class Told(NamedTuple):
    """Alerts with their JSON, in the order they changed, and the token to go on from. `more`: there may be another page."""

    alerts: list[tuple[Alert, str]]
    token: str
    more: bool = False


class AlertFeed:
    """The change feed of alerts. `token` is None until `begin`, and when the store does not know it any more."""

    def __init__(self, watch: Watch, clock: Callable[[], int]) -> None:
        self._watch = watch
        self._clock = clock
        self._told: OrderedDict[str, int] = OrderedDict()
        self.token: str | None = None

    async def begin(self) -> None:
        """From now on, whatever was told before."""
        token = (await self._watch.alert_changes(None)).token
        self._told.clear()
        self.token = token

    async def news(self) -> Told:
        """What changed since the last time, a page at most: an alert that is only seen again has not changed.

        Where nothing changed there is no more, though the token moves on: in a busy store it always does.
        """
        assert self.token is not None
        changes = await self._watch.alert_changes(self.token)
        more = bool(changes.alerts) and changes.token != self.token
        told = Told(await self._told_as(changes.alerts), changes.token)
        fresh = [pair for pair in told.alerts if self._is_new(pair[0])]
        self.token = changes.token  # last, and nobody else runs until the caller has passed it on
        return Told(fresh, changes.token, more)

    async def missed(self, token: str) -> list[Told] | None:
        """Everything since `token`, page by page; None when it is too much."""
        pages: list[Told] = []
        while True:
            changes = await self._watch.alert_changes(token)
            pages.append(Told(await self._told_as(changes.alerts), changes.token))
            if not changes.alerts or changes.token == token:
                return pages
            token = changes.token
            if sum(len(page.alerts) for page in pages) > MAX_MISSED:
                return None

    async def _told_as(self, alerts: Sequence[Alert]) -> list[tuple[Alert, str]]:
        if not alerts:
            return []
        silences = await self._watch.silences()
        now_ns = self._clock()
        return [(alert, alert_model(alert, silences, now_ns).model_dump_json()) for alert in alerts]

    def _is_new(self, alert: Alert) -> bool:
        value = hash(alert._replace(seen_ns=0))
        new = self._told.get(alert.id) != value
        self._told[alert.id] = value
        self._told.move_to_end(alert.id)
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        return new
