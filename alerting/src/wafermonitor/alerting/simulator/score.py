"""How well the evaluator did: the alerts it opened, held against what really happened.

In: a `Story`, what was `Played`, the alerts, the kind of each rule. Out: a `Score`. Called by: tests, benchmarks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from wafermonitor.alerting.simulator.accelerated import Played
from wafermonitor.alerting.simulator.fab import DAY_S, START_NS, After
from wafermonitor.alerting.simulator.story import Occasion, Outage, Story, TrueRun, usual_s
from wafermonitor.alerting.simulator.truth import NEVER, Fact, What, announces, facts, unheard
from wafermonitor.runs.alerts import Alert, Subject
from wafermonitor.runs.state import SECOND_NS, Limits
from wafermonitor.storage.watch import AlertQuery, Watch

FEED = "feed_behind"
DURATION = "duration_anomaly"
LONG = (DURATION, "overdue", "running_long")
"""A run that takes long is told of by one of these rules."""
MONTH_S = 30 * DAY_S
AFTERMATH_S = 1800.0
"""An alert that is opened so long after an outage may still be its doing."""

LONGEST_UNHEARD_S = 3.5 * 3600
"""After so long a run that announces nothing must be missed: longer than any took, and than outages held up its span."""


class Verdict(StrEnum):
    """What is said of one alert or one fact."""

    IN_TIME = "in time"
    A_TICK_LATE = "a tick late"
    TOO_LATE = "too late"
    NEVER = "never"


@dataclass(slots=True)
class Score:
    """Counts by what was to be told. `false`: told and not so; `false_in_outage`: of these, those near an outage of their host.

    `doubled`: alerts opened again for the same thing. `outages`: how many alerts each outage that could be seen had.
    `unheard`: told too early of runs that announce nothing and took longer than any before, of jobs without a longest duration.
    `wrong`: in words, the first of each kind.
    """

    expected: int = 0
    runs: int = 0
    ticks: int = 0
    told: dict[What, Counter[Verdict]] = field(default_factory=lambda: defaultdict(Counter))
    delays_s: dict[What, list[float]] = field(default_factory=lambda: defaultdict(list))
    false: Counter[str] = field(default_factory=Counter)
    false_in_outage: Counter[str] = field(default_factory=Counter)
    doubled: Counter[str] = field(default_factory=Counter)
    outages: Counter[int] = field(default_factory=Counter)
    span_only: Counter[Verdict] = field(default_factory=Counter)
    unheard: int = 0
    slow_runs: int = 0
    slow_found: int = 0
    job_months: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def false_slow_per_job_month(self) -> float:
        """False alarms of the duration band for each job and month."""
        return self.false[DURATION] / self.job_months if self.job_months else 0.0


async def all_alerts(watch: Watch) -> list[Alert]:
    """Every alert ever opened, the oldest first."""
    found: list[Alert] = []
    cursor = None
    while True:
        page = await watch.alerts(AlertQuery(cursor=cursor, limit=1000))
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return sorted(found, key=lambda alert: (alert.opened_ns, alert.id))


def score(story: Story, played: Played, alerts: Sequence[Alert], kinds: Mapping[str, str], limits: Limits) -> Score:
    """Hold `alerts` against the truth. `kinds`: rule → its kind, as the judges name them."""
    return _Judgement(story, played, alerts, kinds, limits).score


class _Judgement:
    """One comparison."""

    def __init__(self, story: Story, played: Played, alerts: Sequence[Alert], kinds: Mapping[str, str], limits: Limits) -> None:
        days = (story.fab.end_ns - START_NS) / SECOND_NS / DAY_S
        self.score = Score(expected=len(story.occasions), runs=len(story.runs), ticks=len(played.looked_ns))
        self.score.job_months = len(story.fab.jobs) * days * DAY_S / MONTH_S
        self._story = story
        self._played = played
        self._limits = limits
        self._runs = {(run.job.site, run.span_id): run for run in story.runs}
        self._occasions = {_name(one): one for one in story.occasions}
        self._by_kind: dict[str, dict[object, list[Alert]]] = defaultdict(lambda: defaultdict(list))
        for alert in alerts:
            kind = kinds.get(alert.rule, alert.rule)
            self._by_kind[kind][self._thing(alert.subject, kind)].append(alert)
        self._hold_against(facts(story, played.heard, limits))
        self._span_only()
        self._false()
        self._feeds()
        self._durations()

    def _thing(self, subject: Subject, kind: str) -> object:
        """What an alert is about: an occasion's name, a run's key, a feed."""
        if kind in {What.LATE, What.MISSED}:
            _, nominal, *lot = subject.detail.split(" ")
            at_ns = round(datetime.fromisoformat(nominal).timestamp()) * SECOND_NS
            return (subject.site, subject.job, lot[0] if lot else at_ns)
        if subject.run is not None:
            return (subject.run.site, subject.run.span_id)
        return (subject.site, subject.feed) if subject.feed is not None else subject.key

    def _hold_against(self, found: Iterable[Fact]) -> None:
        looked = self._played.looked_ns
        for fact in found:
            place = bisect_left(looked, fact.known_ns)
            if place >= len(looked) or looked[place] >= fact.until_ns:
                continue  # nobody looked while it could be known and was so
            name = _name(fact.thing) if isinstance(fact.thing, Occasion) else (fact.thing.job.site, fact.thing.span_id)
            opened = [alert.opened_ns for alert in self._by_kind[fact.what][name]]
            if not opened and self._told_more(fact, name, looked[place]):
                continue
            if not opened:
                self._say(fact.what, Verdict.NEVER, fact)
                continue
            ticks = bisect_left(looked, opened[0]) - place
            verdict = Verdict.IN_TIME if ticks <= 0 else Verdict.A_TICK_LATE if ticks == 1 else Verdict.TOO_LATE
            self._say(fact.what, verdict, fact, opened[0])
            if verdict is Verdict.A_TICK_LATE:
                self._wrong(
                    f"{fact.what} a tick late: {_words(fact.thing)}, known from {_clock(fact.known_ns)}, {_clock(opened[0])}"
                )
            self.score.delays_s[fact.what].append((opened[0] - fact.known_ns) / SECOND_NS)

    def _told_more(self, fact: Fact, name: object, at_ns: int) -> bool:
        """Whether what says more of it (missed of late, lost of silent) was told by then."""
        more = {What.LATE: What.MISSED, What.SILENT: What.LOST}.get(fact.what)
        return more is not None and any(alert.opened_ns <= at_ns for alert in self._by_kind[more][name])

    def _say(self, what: What, verdict: Verdict, fact: Fact, opened_ns: int | None = None) -> None:
        self.score.told[what][verdict] += 1
        if verdict in {Verdict.NEVER, Verdict.TOO_LATE}:
            at = "" if opened_ns is None else f", told at {_clock(opened_ns)}"
            self._wrong(f"{what} {verdict}: {_words(fact.thing)}, known from {_clock(fact.known_ns)}{at}")

    def _span_only(self) -> None:
        """What never came of jobs that announce nothing: told or not; when, nobody can say exactly."""
        end_ns = self._played.looked_ns[-1] if self._played.looked_ns else 0
        for occasion in unheard(self._story):
            wait_s = LONGEST_UNHEARD_S + max(0.0, occasion.job.host.lead_s)
            if occasion.missed_ns + round(wait_s * SECOND_NS) > end_ns:
                continue
            told = self._by_kind[What.MISSED][_name(occasion)]
            self.score.span_only[Verdict.IN_TIME if told else Verdict.NEVER] += 1
            if not told:
                self._wrong(f"missed never (announces nothing): {_words(occasion)}")

    def _false(self) -> None:
        for what in What:
            for name, opened in self._by_kind[what].items():
                if len(opened) > 1:
                    self.score.doubled[what] += len(opened) - 1
                    self._wrong(
                        f"{what} told {len(opened)} times: {name} at {', '.join(_clock(one.opened_ns) for one in opened)}"
                    )
                for alert in opened:
                    thing = self._occasions.get(name) if what in {What.LATE, What.MISSED} else self._runs.get(name)  # type: ignore[call-overload]  # the key of either
                    if isinstance(thing, Occasion) and _unheard(thing, alert.opened_ns):
                        self.score.unheard += 1
                    elif thing is None or not _is_so(what, thing, alert.opened_ns):
                        self._is_false(what, alert, thing)

    def _is_false(self, what: str, alert: Alert, thing: Occasion | TrueRun | None) -> None:
        self.score.false[what] += 1
        about = alert.subject.key if thing is None else _words(thing)
        near = thing is not None and any(
            one.host == thing.job.host and one.from_ns <= alert.opened_ns <= one.to_ns + round(AFTERMATH_S * SECOND_NS)
            for one in self._story.outages
        )
        self.score.false_in_outage[what] += near
        self._wrong(f"{what} is false at {_clock(alert.opened_ns)}{' in an outage' if near else ''}: {about}")

    def _feeds(self) -> None:
        """Exactly one alert for each outage that a tick could see, and no other."""
        allowed_ns = round((self._limits.margin_s + self._limits.behind_s) * SECOND_NS)
        left = {alert.id: alert for alerts in self._by_kind[FEED].values() for alert in alerts}
        for outage in self._story.outages:
            until_ns = outage.to_ns + round(AFTERMATH_S * SECOND_NS)
            ticks = [at_ns for at_ns in self._played.looked_ns if outage.from_ns <= at_ns <= until_ns]
            seen = any(self._played.heard.lag_ns(outage.host, at_ns) > allowed_ns for at_ns in ticks)
            own = [
                alert
                for alert in self._by_kind[FEED][outage.host.site, outage.host.name]
                if outage.from_ns <= alert.opened_ns <= until_ns
            ]
            for alert in own:
                left.pop(alert.id, None)
            if seen or own:
                self.score.outages[len(own) if seen else -len(own)] += 1
                if len(own) != 1 or not seen:
                    self._wrong(
                        f"{len(own)} alerts for an outage ({'seen' if seen else 'too short to be seen'}): {_outage(outage)}"
                    )
        for alert in left.values():
            self.score.false[FEED] += 1
            self._wrong(f"feed {alert.subject.feed} is said to be behind at {_clock(alert.opened_ns)}: {alert.summary}")

    def _durations(self) -> None:
        """Runs that took twice as long are found; others are not told of."""
        for name, alerts in self._by_kind[DURATION].items():
            run = self._runs.get(name)  # type: ignore[call-overload]  # the key of a run
            if run is None or not (run.slow or run.stalled_ns is not None or run.killed):
                self._is_false(DURATION, alerts[0], run)
        for run in self._story.runs:
            if run.slow and self._played.heard.ended_ns(run) < (self._played.looked_ns or [0])[-1]:
                self.score.slow_runs += 1
                key = run.job.site, run.span_id
                found = any(self._by_kind[kind].get(key) for kind in LONG)
                self.score.slow_found += found
                if not found:
                    self._wrong(f"slow run not found: {_words(run)}, usual {usual_s(run.job, run.start_ns):.0f} s")

    def _wrong(self, words: str) -> None:
        self.score.wrong.append(words)


def _is_so(what: What, thing: Occasion | TrueRun, at_ns: int) -> bool:
    """Whether it was really so at `at_ns`."""
    if isinstance(thing, Occasion):
        limit_ns = thing.late_ns if what is What.LATE else thing.missed_ns
        return thing.run is None or thing.run.start_ns > limit_ns
    if what is What.OVERDUE:
        over = thing.job.expected_s is not None and at_ns - thing.start_ns > thing.job.expected_s * SECOND_NS
        return over and (thing.killed or thing.end_ns - thing.start_ns > (thing.job.expected_s or 0) * SECOND_NS)
    return thing.killed and at_ns > thing.end_ns


def _unheard(one: Occasion, at_ns: int) -> bool:
    """Whether nobody could know at `at_ns` that its run had come, for it said nothing and took longer than ever."""
    run = one.run
    return run is not None and not announces(one.job) and one.job.longest_s is None and run.slow and at_ns < run.end_ns


def _name(one: Occasion) -> tuple[str, str, str | int]:
    """What an alert about it is found by: a lot where another job calls for it, else its nominal time."""
    return one.job.site, one.job.name, one.lot if isinstance(one.job.schedule, After) else one.nominal_ns


def _clock(at_ns: int) -> str:
    """A time as hours, minutes and seconds since the story began."""
    if at_ns == NEVER:
        return "never"
    hours, rest = divmod((at_ns - START_NS) / SECOND_NS, 3600)
    return f"{int(hours)}:{int(rest // 60):02d}:{rest % 60:04.1f}"


def _words(thing: Occasion | TrueRun) -> str:
    if isinstance(thing, TrueRun):
        return f"{thing.job.site}/{thing.job.name} {thing.run_id} {_clock(thing.start_ns)} to {_clock(thing.end_ns)}"
    came = "never came" if thing.run is None else f"came {_clock(thing.run.start_ns)}"
    due = f"due {_clock(thing.nominal_ns)}, late {_clock(thing.late_ns)}, missed {_clock(thing.missed_ns)}"
    return f"{thing.job.site}/{thing.job.name} {thing.lot} {due}, {came}"


def _outage(one: Outage) -> str:
    return f"{one.kind} of {one.host.site}/{one.host.name} {_clock(one.from_ns)} to {_clock(one.to_ns)}"
