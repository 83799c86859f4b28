"""What an evaluator would have kept of the seeded fab: alerts of every kind, messages, silences, a month of expected runs, and
the month of runs that met them.

In: now in ns, the ids of the seeded runs. Out: a batch of runs, and a filled Watch. Called by: `screens.py` for a watched fab.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tests.ui import seed
from wafermonitor.runs.alerts import (
    Alert,
    Delivery,
    DeliveryState,
    Expectation,
    ExpectedRun,
    Finding,
    Kind,
    Origin,
    Severity,
    Silence,
    Subject,
    alert_id,
)
from wafermonitor.runs.expectations import Expected, ExpectedState
from wafermonitor.runs.records import Batch, RunKey
from wafermonitor.storage.watch import Outcome

JOB = "recipe_audit"
HOUR = 3_600
DAYS = 32
EQUIPMENT = ("ETCH-05", "ETCH-06", "LITHO-11")


class Tick(NamedTuple):
    """One expected run of the month and the run that came, if any."""

    nominal_s: float
    state: ExpectedState
    start_s: float | None = None
    run: seed.Job | None = None


def month(now_ns: int) -> tuple[Batch, list[Tick]]:
    """`recipe_audit`, three times a day for a month: slower in the last week on one equipment, four fail, three do not come."""
    fab = seed.Fab(now_ns, start=7)
    draw = random.Random(77)
    program = seed.Program(fab, "recipe-audit", host="etl-08")
    midnight = datetime.fromtimestamp(now_ns // seed.SECOND, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    ticks = []
    for number in range(DAYS * 3):
        nominal = midnight - timedelta(days=DAYS - 1) + timedelta(hours=8 * number + 2)
        nominal_s = (int(nominal.timestamp()) * seed.SECOND - now_ns) / seed.SECOND
        if nominal_s > 0:
            break
        ticks.append(_tick(fab, program, draw, number, nominal_s))
    last_s = ticks[-1].nominal_s
    ticks += [Tick(last_s + 8 * HOUR * later, ExpectedState.EXPECTED) for later in range(1, 7)]
    return fab.batch, ticks


def _tick(fab: seed.Fab, program: seed.Program, draw: random.Random, number: int, nominal_s: float) -> Tick:
    if number in {20, 57, 93}:
        return Tick(nominal_s, ExpectedState.MISSED)
    if number == 70:
        return Tick(nominal_s, ExpectedState.UNKNOWN)
    late_s = 1_400 if number in {33, 81} else draw.uniform(1, 40)
    equipment = EQUIPMENT[number % 3]
    slow = 1.55 if number > 70 and equipment == "ETCH-06" else 1.0
    took_s = 610 * draw.uniform(0.9, 1.12) * slow * (2.6 if number == 48 else 1.0)
    lot = f"GAL-{4100 + number}"
    run = seed.Job(program, JOB, fab.at(nominal_s + late_s), **seed.about([lot], 0, equipment, ("RIE_A", "RIE_B")[number % 2]))
    bad = {11: "RecipeMissing", 40: "RecipeMissing", 66: "ToolOffline", 90: "RecipeMissing"}.get(number)
    run.end(fab.at(nominal_s + late_s + took_s * (0.2 if bad else 1.0)), "failure" if bad else "success", bad or "")
    return Tick(nominal_s, ExpectedState.MET, nominal_s + late_s, run)


class Story:
    """The alerts of the fab; `ids` by rule."""

    def __init__(self, now_ns: int, ids: seed.Seeded) -> None:
        self.now_ns = now_ns
        self.alerts: list[Alert] = []
        self.deliveries: list[Delivery] = []
        self.ids: dict[str, str] = {}
        self._tell(ids)

    def at(self, seconds: float) -> int:
        """Seconds from now → ns."""
        return self.now_ns + round(seconds * seed.SECOND)

    def alert(
        self, rule: str, severity: Severity, subject: Subject, ages_s: tuple[float, float], summary: str, **more: object
    ) -> str:
        """One alert; `ages_s`: so since, opened."""
        since_s, opened_s = ages_s
        evidence = json.dumps(more.pop("evidence", {}))
        made = Alert("", "", rule, severity, subject, self.at(-opened_s), self.at(-since_s), self.at(-3), summary, evidence)
        fingerprint = Finding(rule, severity, subject, made.since_ns, summary).fingerprint
        made = made._replace(fingerprint=fingerprint, id=alert_id(fingerprint, made.opened_ns), **more)
        self.alerts.append(made)
        self.ids.setdefault(rule, made.id)
        return made.id

    def message(self, alert: str, channel: str, kind: Kind, age_s: float, **more: object) -> None:
        """One message about it."""
        number = len(self.deliveries) + 1
        at_ns = self.at(-age_s)
        values = {"state": DeliveryState.SENT, "attempts": 1, "answer": "accepted", "settled_ns": at_ns + seed.SECOND} | more
        self.deliveries.append(Delivery(f"{number:032x}", channel, kind, "F12", (alert,), at_ns, at_ns, **values))

    def _tell(self, ids: seed.Seeded) -> None:
        lost = _key("F12", ids.lost)
        found = self.alert(
            "lost",
            Severity.CRITICAL,
            Subject(site="F12", job="cdsem_import", run=lost),
            (1_370, 1_060),
            "cdsem_import on CDSEM-01 gives no sign since 22m 50s and counts as dead",
            evidence={
                "last_sign": _time(self.at(-1_370)),
                "heartbeat_interval_s": 10,
                "silent_s": 1_370,
                "progress_ratio": 0.31,
            },
            cause="Its host etl-07 still reports, so the process died or hangs. Its last line was about edge detection.",
            runbook="https://runbooks.example/cdsem-import#lost",
            owner="metrology",
        )
        self.message(found, "metrology-mail", Kind.FIRING, 1_050)
        self.message(found, "on-call", Kind.FIRING, 1_050, attempts=3, answer="202 after two refusals")
        self.message(found, "on-call", Kind.ESCALATED, 150)
        missed = self.alert(
            "missed",
            Severity.CRITICAL,
            Subject(site="F12", job=JOB, detail=f"audit {_time(self.at(-6 * HOUR))}"),
            (5.5 * HOUR, 4.9 * HOUR),
            "recipe_audit did not run at 02:00",
            evidence={"nominal": _time(self.at(-6 * HOUR)), "start_margin_s": 300, "grace_s": 900, "missed_of_last_ratio": 0.1},
            cause="No program announced it on any feed of its job; all of them were in time.",
            owner="litho-apps",
        )
        self.message(
            missed, "litho-chat", Kind.FIRING, 4.9 * HOUR, state=DeliveryState.WAITING, attempts=4, answer="connection refused",
            settled_ns=None,
        )  # fmt: skip
        self.alert(
            "feed-behind",
            Severity.WARNING,
            Subject(site="F15", feed="gw-02"),
            (412, 370),
            "Feed gw-02 of site F15 is behind since 07:53",
            evidence={"behind_s": 412, "waiting_runs": 2},
        )
        self.alert(
            "long-running",
            Severity.WARNING,
            Subject(site="F12", job="etest_load"),
            (730, 700),
            "etest_load runs 42m 10s, usually 25m",
            evidence={"running_s": 2_530, "usual_s": 1_500, "band_high_s": 1_830},
            cause="The step upsert takes 2.1 times as long as in the last 20 good runs.",
            acknowledged_ns=self.at(-500),
            acknowledged_by="Ana Ruiz",
            note="database is being reindexed until 09:00",
        )
        self.alert(
            "new-error",
            Severity.INFO,
            Subject(site="F12", job="etest_load", detail="psycopg.OperationalError"),
            (9_000, 8_990),
            "etest_load failed with an error never seen before: psycopg.OperationalError",
            evidence={"error_type": "psycopg.OperationalError", "runs_before": 214},
        )
        for number in range(60):
            opened_s = 86_400 + number * 41_000
            rule, job = (("late", JOB), ("failure-rate", "overlay_fit"), ("duration", "lot_yield"))[number % 3]
            severity = (Severity.WARNING, Severity.CRITICAL, Severity.INFO)[number % 3]
            subject = Subject(site="F12", job=job, detail=f"{number}")
            self.alert(
                rule, severity, subject, (opened_s + 60, opened_s), f"{job}: {rule} ({number})",
                resolved_ns=self.at(-opened_s + 600 + 97 * number), evidence={"failure_ratio": 0.12, "limit_ratio": 0.1},
            )  # fmt: skip


async def fill(watch: object, now_ns: int, ids: seed.Seeded, ticks: list[Tick]) -> Story:
    """Store it all; nothing was judged since 3 s."""
    story = Story(now_ns, ids)
    spec = json.dumps({"cron": "0 2,10,18 * * *", "zone": "UTC", "start_margin_s": 300, "grace_s": 900})
    begin = story.at(-40 * 86_400)
    await watch.declare([Expectation("audit", "F12", JOB, Origin.DECLARED, spec, begin, story.at(-3), begin)])
    learned = json.dumps({"every_s": 28_800, "start_margin_s": 600})
    await watch.save(Expectation("learned audit", None, JOB, Origin.PROPOSED, learned, begin, begin, story.at(-7_200)))
    expected = [_expected(story, tick) for tick in ticks]
    late = Expected(story.at(-900), story.at(-960), story.at(-600), story.at(300))
    expected.append(
        ExpectedRun("lot end", "F12", "spc_update", "GAL-4471", late, ExpectedState.LATE, changed_ns=story.at(-590))
    )
    async with watch.lead() as lead:
        await lead.store(Outcome(alerts=story.alerts, deliveries=story.deliveries, expected=expected))
    why = "scanner is being serviced"
    await watch.silence(Silence("5" * 32, story.at(4 * HOUR), "Ana Ruiz", why, story.at(-HOUR), site="F12", job="overlay_fit"))
    await watch.silence(Silence("6" * 32, story.at(86_400), "J. Weiss", "known and harmless", story.at(-90), rule="new-error"))
    return story


def _expected(story: Story, tick: Tick) -> ExpectedRun:
    nominal = story.at(tick.nominal_s)
    due = Expected(nominal, nominal - 60 * seed.SECOND, nominal + 300 * seed.SECOND, nominal + 1_200 * seed.SECOND)
    run = None if tick.run is None else _key("F12", tick.run.id)
    start = None if tick.start_s is None else story.at(tick.start_s)
    settled = tick.state not in {ExpectedState.EXPECTED, ExpectedState.LATE}
    return ExpectedRun("audit", "F12", JOB, "", due, tick.state, start, run, settled, nominal)


def _key(site: str, run: str) -> RunKey:
    trace, span = run.split("-")
    return RunKey(site, bytes.fromhex(trace), bytes.fromhex(span))


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // seed.SECOND, UTC).isoformat().replace("+00:00", "Z")
