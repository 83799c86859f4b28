"""What is told past the store: that no tick succeeds, when no delivery can be written; and a sign of life for whoever waits.

In: how each tick ended, routes, rules. Out: messages to the channels of the routes that take the alert `database`; a request
to an address that tells somebody when no more come. Called by: running.

Nothing of it is stored: each process that evaluates or stands by tells for itself, once for an outage, and its end.
"""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.request
from collections.abc import Callable, Sequence

from wafermonitor.alerting.notify.notifier import backoff_s, launched
from wafermonitor.alerting.notify.routes import Routes
from wafermonitor.alerting.notify.sending import Letter, send
from wafermonitor.alerting.rules import Rule, Where
from wafermonitor.runs.alerts import Alert, Finding, Kind, Subject, alert_id, opened
from wafermonitor.runs.state import SECOND_NS

KIND = "database"
PATIENCE_S = 120.0
"""A database that restarts is back by then."""
PING_S = 60.0
_PING_TIMEOUT_S = 10.0
log = logging.getLogger(__name__)


class Outage:
    """Ticks that fail one after the other, as this process sees it. `clock` gives now in ns."""

    def __init__(self, *, url: str = "", clock: Callable[[], int] = time.time_ns, patience_s: float = PATIENCE_S) -> None:
        self._url = url
        self._clock = clock
        self._patience_ns = round(patience_s * SECOND_NS)
        self._since_ns: int | None = None
        self._told: dict[str, Letter] = {}
        """By channel what was told of the beginning."""
        self._flying: dict[str, tuple[Letter, asyncio.Future[str]]] = {}
        self._failures: dict[str, tuple[int, int]] = {}
        """By channel how often it failed, and when it may be asked again."""

    def goes_on(self, reason: str, rules: Sequence[Rule], routes: Routes) -> None:
        """A tick failed for `reason`: tell whom the routes name, once that has lasted."""
        now_ns = self._clock()
        if self._since_ns is None:
            self._since_ns = now_ns
        self._land(now_ns)
        rule = next((one for one in rules if one.kind == KIND and one.where == Where()), None)
        if rule is None or now_ns - self._since_ns < self._patience_ns:
            return
        alert = _alert(rule, reason, self._since_ns, now_ns)
        for route in routes.of(alert):
            if route.quiet_until_ns(alert.severity, now_ns) is None:
                for name in route.channels:
                    letter = Letter(
                        routes.channels[name], Kind.FIRING, route.group(alert), [alert], url=self._url, now_ns=now_ns
                    )
                    self._send(name, letter, now_ns)

    def ends(self) -> None:
        """A tick succeeded: whoever was told is told."""
        now_ns = self._clock()
        self._land(now_ns)
        self._since_ns = None
        self._failures.clear()
        for before in self._told.values():
            if before.channel.resolved:
                over = [alert._replace(resolved_ns=now_ns) for alert in before.alerts]
                letter = Letter(before.channel, Kind.RESOLVED, before.group, over, url=self._url, now_ns=now_ns)
                _sent(letter)
        self._told.clear()

    def _send(self, name: str, letter: Letter, now_ns: int) -> None:
        if name in self._told or name in self._flying or now_ns < self._failures.get(name, (0, 0))[1]:
            return
        self._flying[name] = letter, _sent(letter)

    def _land(self, now_ns: int) -> None:
        for name, (letter, flight) in list(self._flying.items()):
            if not flight.done():
                continue
            del self._flying[name]
            if flight.exception() is None:
                self._told[name] = letter
                continue
            failures = self._failures.get(name, (0, 0))[0] + 1
            self._failures[name] = failures, now_ns + round(backoff_s(failures) * SECOND_NS)
            log.warning("channel %s: it cannot be told that nothing is evaluated", name)


class Ping:
    """Asks `address` after ticks, at most once a minute: an outer dead man's switch tells when that stops."""

    def __init__(self, address: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._clock = clock
        self._last_s: float | None = None
        self._flight: asyncio.Future[None] | None = None

    def tick(self) -> None:
        """A tick was stored, by this process or by the one that leads."""
        if not self._address or (self._flight is not None and not self._flight.done()):
            return
        if self._last_s is not None and self._clock() - self._last_s < PING_S:
            return
        self._last_s = self._clock()
        self._flight = launched(lambda: _ask(self._address))


def _sent(letter: Letter) -> asyncio.Future[str]:
    return launched(lambda: send(letter))


def _ask(address: str) -> None:
    try:
        with urllib.request.urlopen(address, timeout=_PING_TIMEOUT_S):  # noqa: S310 - the operator's own, checked by Config
            pass
    except (OSError, ValueError) as error:
        log.warning("alerting.ping: no answer: %s", type(error).__name__)  # its text may name the address


def _alert(rule: Rule, reason: str, since_ns: int, now_ns: int) -> Alert:
    summary = f"Nothing can be evaluated, and no other alert is told: {reason}"
    found = Finding(rule.name, rule.severity, Subject(), since_ns, summary, runbook=rule.runbook)
    return opened(found, now_ns)._replace(id=alert_id(found.fingerprint, since_ns))
