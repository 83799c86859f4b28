"""One tick: read what is known, judge it, store what follows from it in one transaction.

In: a store, what is declared. Out: expected runs, alerts and deliveries in the store; a `Ticked` for whoever watches.
Called by: running (every few seconds), simulator.

Nothing that matters is kept between ticks: any process may make the next one, the same tick may be made twice, and one that
dies leaves nothing. What cannot be judged, a rule or an expectation, stops nothing else; it is an alert of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from wafermonitor.alerting import advancing, hearing, mending, reconciling, remembering
from wafermonitor.alerting.declared import Declared
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.judges import judge
from wafermonitor.alerting.judges.findings import again
from wafermonitor.alerting.looking import Seen, look
from wafermonitor.alerting.matching import Matched, Matcher
from wafermonitor.alerting.notify import plan
from wafermonitor.alerting.profiling import Profiles
from wafermonitor.alerting.reconciling import Reconciled, reconcile
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Host, Snapshot
from wafermonitor.alerting.tallying import Tallies, WindowWanted
from wafermonitor.runs.alerts import Alert, Delivery, Finding, Severity, Subject
from wafermonitor.runs.state import SECOND_NS, Limits
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import Storage
from wafermonitor.storage.watch import Lead, Outcome

FAULT = Rule("evaluator-fault", "evaluator_fault", Severity.WARNING)
"""The rule of alerts about what could not be judged."""
BLIND_KIND = "database"
"""The only kind of rule that can be judged while the store does not answer."""
LOST_KIND = "lost"
"""The kind of rule whose alerts end with the job's next good run, though what they tell of goes on."""
MOST_CAUSES = 20
"""Alerts of one tick whose cause is looked for; the others open without one."""
CAUSES_S = 5.0
_MOST_WINDOWS = 16
_log = logging.getLogger(__name__)

Explain = Callable[[Alert], Awaitable[str | None]]
"""The likely cause of an alert that opens, in a sentence or two; None: nothing to say."""


class Ticked(NamedTuple):
    """What a tick came to. `faults`: what could not be judged, by name. `cpu_s`: what it cost this process."""

    now_ns: int
    expectations: int
    waiting: int
    opened: list[Alert]
    resolved: list[Alert]
    open_alerts: list[Alert]
    faults: dict[str, str]
    cpu_s: float


class _Known(NamedTuple):
    """What the leader knows of earlier ticks."""

    notes: dict[str, str]
    alerts: list[Alert]
    ticked_ns: int | None


class Evaluator:
    """One process's evaluator. Any number may tick: one leads at a time, the others get None."""

    def __init__(
        self,
        storage: Storage,
        declared: Declared,
        *,
        host: Callable[[], Host] = Host,
        explain: Explain | None = None,
        catch_up_s: float = 7 * 86_400.0,
    ) -> None:
        if storage.watch is None:
            raise AlertingRejected("this store keeps no alerts: set WAFER_ALERTING_DSN to a PostgreSQL that does")
        self._reader = storage.reader
        self._watch = storage.watch
        self._declared = declared
        self._faults: dict[str, str] = {}
        self._host = host
        self._explain = explain
        self._matcher = Matcher(self._reader, catch_up_ns=round(catch_up_s * SECOND_NS))
        self._profiles = Profiles(self._reader)
        self._tallies = Tallies(self._reader)
        self._mark: str | None = None

    def follow(self, declared: Declared, faults: Mapping[str, str] | None = None) -> None:
        """From the next tick on follow `declared`; `faults`: what of it cannot be read, by name."""
        self._declared = declared
        self._faults = dict(faults or {})

    async def tick(self) -> Ticked | None:
        """Evaluate once; None when another process leads. Raises StorageUnavailable: nothing is stored, try again."""
        async with self._watch.lead() as lead:
            return None if lead is None else await self._tick(lead)

    async def _tick(self, lead: Lead) -> Ticked:
        began_s = time.process_time()
        known = _Known(await lead.notes(), await lead.open_alerts(), await self._watch.ticked_ns())
        if known.notes.get(remembering.MARK) != self._mark:
            self._forget()
        seen, matched = await self._see(lead, known)
        notes = dict(seen.notes) if seen is not None else {}
        snapshot = _blind(lead, known) if seen is None else await self._snapshot(seen, matched, known, notes)
        faults = self._faults | {f"expectation {name}": text for name, text in matched.faults.items()}
        faults |= dict(snapshot.host.unread)
        if snapshot.cut:
            faults["open runs"] = (
                f"more than {len(snapshot.open_runs)} are open; the others are not judged, and their alerts stay"
            )
        found = await self._judge(snapshot, known, notes, faults, blind=seen is None)
        settled, deliveries = await self._settle(lead, known, found, faults)
        settled = await self._explained(settled)
        notes[remembering.HOLDING] = reconciling.dumps(settled.holding)
        if seen is not None:
            notes[remembering.ENDED] = _ended(known, seen, found)
            notes[remembering.CALLED] = _called(known, matched, lead.now_ns)
        notes[remembering.MARK] = mark = uuid.uuid4().hex
        changed = {name: text for name, text in notes.items() if known.notes.get(name) != text}
        self._mark = None
        await lead.store(Outcome(matched.stored, settled.stored, deliveries, matched.watched, changed))
        self._mark = mark
        self._profiles.ended(seen.ended if seen is not None else ())
        return Ticked(
            lead.now_ns,
            len(snapshot.expectations),
            len(matched.expected),
            settled.opened,
            settled.resolved,
            settled.open_alerts,
            faults,
            time.process_time() - began_s,
        )

    def _forget(self) -> None:
        """Another process has evaluated meanwhile, so that what was read before may be old."""
        self._matcher.forget()
        self._profiles.forget()
        self._tallies.forget()

    async def _see(self, lead: Lead, known: _Known) -> tuple[Seen | None, Matched]:
        """What the store knows; None when it does not answer. Then it is another one than the alerts', which did."""
        try:
            seen = await look(lead, self._reader, known.notes, known.ticked_ns)
            return seen, await self._matcher.match(seen.sight)
        except StorageUnavailable as error:
            _log.warning("the store does not answer: %s", error)
            return None, Matched([], [], {}, {}, [])

    async def _snapshot(self, seen: Seen, matched: Matched, known: _Known, notes: dict[str, str]) -> Snapshot:
        now_ns, sight = seen.sight.now_ns, seen.sight
        advanced = advancing.advance(advancing.loads(known.notes.get(advancing.NOTE)), seen.open_runs, sight.feeds, now_ns)
        notes[advancing.NOTE] = advancing.dumps(advanced)
        notes[hearing.NOTE], gap = hearing.hear(known.notes.get(hearing.NOTE), known.ticked_ns, now_ns)
        self._tallies.begin(now_ns)
        readable = {one.name: one for one in sight.expectations if one.name not in matched.faults}
        snapshot = Snapshot(
            now_ns=now_ns,
            ticked_ns=known.ticked_ns,
            limits=sight.limits,
            feeds=sight.feeds,
            open_runs=seen.open_runs,
            cut=seen.cut,
            ended=seen.ended,
            expectations=readable,
            expected=matched.expected,
            alerts={alert.fingerprint: alert for alert in known.alerts},
            profiles=await self._profiles.of(seen.open_runs, seen.ended, now_ns),
            tallies=self._tallies,
            advanced=advancing.since(advanced),
            newest_received_ns=seen.health.newest_received_ns,
            health=seen.health,
            host=self._host(),
            gap=gap,
        )
        lost = {rule.name for rule in self._declared.rules if rule.kind == LOST_KIND}
        told = {alert.subject.run for alert in known.alerts if alert.rule in lost}
        mended = mending.mend(mending.loads(known.notes.get(mending.NOTE)), told, snapshot)
        notes[mending.NOTE] = mending.dumps(mended)
        return replace(snapshot, mended=mended)

    async def _judge(
        self, snapshot: Snapshot, known: _Known, notes: dict[str, str], faults: dict[str, str], *, blind: bool
    ) -> dict[str, list[Finding]]:
        """By rule what it found; rules that were not asked, or failed, are left out."""
        asked = remembering.read_numbers(known.notes.get(remembering.ASKED))
        found: dict[str, list[Finding]] = {}
        for rule in self._declared.rules:
            if blind and rule.kind != BLIND_KIND:
                continue
            if rule.every_s and snapshot.now_ns - asked.get(rule.name, 0) < rule.every_s * SECOND_NS:
                continue
            try:
                found[rule.name] = await self._ask(rule, snapshot)
            except StorageUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the other rules are judged
                _log.exception("rule %s", rule.name)
                faults[f"rule {rule.name}"] = f"{type(error).__name__}: {error}"
            if rule.every_s:
                asked[rule.name] = snapshot.now_ns
        names = {rule.name for rule in self._declared.rules if rule.every_s}
        found[FAULT.name] = [again(alert, sure=False) for alert in known.alerts if _of_unasked(alert, names - found.keys())]
        notes[remembering.ASKED] = remembering.numbers_text({name: at for name, at in asked.items() if name in names})
        return found

    async def _ask(self, rule: Rule, snapshot: Snapshot) -> list[Finding]:
        """Ask a judge, as often as it needs numbers that were not read yet."""
        for _ in range(_MOST_WINDOWS):
            try:
                return judge(rule, snapshot)
            except WindowWanted as wanted:
                await self._tallies.read(wanted.window_s, wanted.ago_s)
        raise AlertingRejected(f"rule {rule.name} asks for more than {_MOST_WINDOWS} windows")

    async def _settle(
        self, lead: Lead, known: _Known, found: dict[str, list[Finding]], faults: dict[str, str]
    ) -> tuple[Reconciled, list[Delivery]]:
        """The alerts after this tick, and the messages about them. Routes that fail stop no alert."""
        rules = {rule.name: rule for rule in (*self._declared.rules, FAULT)}
        holding = reconciling.loads(known.notes.get(remembering.HOLDING))
        found[FAULT.name] += _fault_findings(faults, lead.now_ns)
        settled = reconcile(rules, found, known.alerts, holding, lead.now_ns)
        routes = self._declared.routes
        since_ns = lead.now_ns - round(routes.memory_s * SECOND_NS)
        told, silences = await lead.deliveries(since_ns), await lead.silences()
        try:
            return settled, plan(
                routes,
                now_ns=lead.now_ns,
                opened=settled.opened,
                resolved=settled.resolved,
                open_alerts=settled.open_alerts,
                deliveries=told,
                silences=silences,
            )
        except Exception as error:  # noqa: BLE001 - the alerts are stored all the same, and told by a later tick
            _log.exception("routes")
            faults["routes"] = f"{type(error).__name__}: {error}"
            found[FAULT.name] += _fault_findings({"routes": faults["routes"]}, lead.now_ns)
            return reconcile(rules, found, known.alerts, holding, lead.now_ns), []

    async def _explained(self, settled: Reconciled) -> Reconciled:
        """With the likely cause of what opened: as many as there is time for."""
        if self._explain is None or not settled.opened:
            return settled
        causes: dict[str, str] = {}
        try:
            async with asyncio.timeout(CAUSES_S):
                for alert in [one for one in settled.opened if one.cause is None][:MOST_CAUSES]:
                    cause = await self._explain(alert)
                    if cause:
                        causes[alert.id] = cause
        except Exception as error:  # noqa: BLE001 - an alert without a cause is better than none
            _log.warning("causes of alerts: %s: %s", type(error).__name__, error)
        opened = [one._replace(cause=causes.get(one.id, one.cause)) for one in settled.opened]
        return settled._replace(opened=opened)


def _blind(lead: Lead, known: _Known) -> Snapshot:
    alerts = {alert.fingerprint: alert for alert in known.alerts}
    return Snapshot(now_ns=lead.now_ns, ticked_ns=known.ticked_ns, limits=Limits(), alerts=alerts)


def _ended(known: _Known, seen: Seen, found: Mapping[str, list[Finding]]) -> str:
    """The note of runs that need not be judged again: what is told of one, or was told while it went on, is told."""
    before = remembering.read_numbers(known.notes.get(remembering.ENDED))
    told = {finding.subject.run for findings in found.values() for finding in findings}
    told |= {alert.subject.run for alert in known.alerts}
    return remembering.numbers_text(remembering.ended(before, seen.ended, told, seen.sight.now_ns))


def _called(known: _Known, matched: Matched, now_ns: int) -> str:
    """The note of runs that have called for others."""
    before = remembering.read_numbers(known.notes.get(remembering.CALLED))
    return remembering.numbers_text(remembering.called(before, matched.called, now_ns))


def _of_unasked(alert: Alert, rules: set[str]) -> bool:
    """Whether it is about a rule that failed when it was asked last, and was not asked in this tick."""
    return alert.rule == FAULT.name and alert.subject.detail.removeprefix("rule ") in rules


def _fault_findings(faults: Mapping[str, str], now_ns: int) -> list[Finding]:
    return [
        Finding(FAULT.name, FAULT.severity, Subject(detail=name), now_ns, f"The evaluator cannot follow {name}: {text}")
        for name, text in faults.items()
    ]
