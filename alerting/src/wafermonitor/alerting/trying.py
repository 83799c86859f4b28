"""`wafer alerting check`, `test`, `learn`, `schema`: what a person does with rules and expectations before they count.

In: files of rules, flags, the environment (`WAFER_STORAGE_*`, `WAFER_ALERTING_*`). Out: lines, or one JSON object with
`--json`. Called by: people and scripts, through `alerting.command`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wafermonitor.alerting.config import Config
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.flags import Length
from wafermonitor.alerting.quantities import duration_s
from wafermonitor.instrumentation.settings import options
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.answers import Reporter, as_json_option, say
from wafermonitor.storage.config import Config as StorageConfig

if TYPE_CHECKING:
    from wafermonitor.alerting.declared import Declared
    from wafermonitor.alerting.learning import Proposal
    from wafermonitor.alerting.rehearsal import Rehearsed
    from wafermonitor.runs.alerts import Alert, Expectation
    from wafermonitor.runs.records import Run
    from wafermonitor.storage.protocol import Reader, Storage

DAY_NS = 86_400 * SECOND_NS
WARM_UP_NS = 14 * DAY_NS
"""History before a rehearsal from which is learnt what is usual."""
MOST_RUNS = 500_000
_PAGE = 1000
_MOST_JOBS = 1000


class _Moment(click.ParamType[int]):
    """A time: RFC 3339, or so long ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """`-30d` or `2026-11-01T00:00:00Z` → ns."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        try:
            if text.startswith("-"):
                return time.time_ns() - round(duration_s(text[1:]) * SECOND_NS)
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r}: expected a time such as -30d, 2026-11-01 or 2026-11-01T06:00:00Z", param, ctx)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * SECOND_NS


_FILE = click.argument("file", required=False, type=click.Path(path_type=Path))


@click.command()
@_FILE
@as_json_option
def check(*, file: Path | None, as_json: bool) -> int:
    """Read FILE (a file or folder of rules; else the configured one) and name every mistake. Exit code 1 when there is one."""
    try:
        found = _declared(file)
    except AlertingRejected as error:
        mistakes = str(error).splitlines()
        say({"ok": False, "mistakes": mistakes}, "\n".join(mistakes), as_json=as_json)
        return 1
    facts = {
        "ok": True,
        "rules": [rule.name for rule in found.rules],
        "expectations": [one.name for one in found.expectations],
        "calendars": list(found.calendars),
        "channels": list(found.routes.channels),
        "routes": [route.name for route in found.routes.routes],
    }
    counts = ", ".join(f"{len(names)} {what}" for what, names in facts.items() if isinstance(names, list))
    say(facts, f"well: {counts}", as_json=as_json)
    return 0


@click.command("test")
@_FILE
@options(StorageConfig)
@click.option("--from", "from_ns", type=_Moment(), default="-30d", show_default=True, help="Begin of the rehearsal.")
@click.option("--to", "to_ns", type=_Moment(), default="-0s", help="Its end.  [default: now]")
@click.option("--rule", "names", multiple=True, help="Only this rule; may be given more than once.")
@click.option("--site", "sites", multiple=True, help="Only runs of this site; may be given more than once.")
@click.option("--step", "step_s", type=Length(), help="How often is looked.  [default: by the range, 10s to 1h]")
@as_json_option
def test_(
    *,
    file: Path | None,
    from_ns: int,
    to_ns: int,
    names: Sequence[str],
    sites: Sequence[str],
    step_s: float | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Play rules and expectations of FILE (or the configured ones) over stored history, and say what would have fired.

    Nothing is stored, nobody is told. Rules about feeds, the store and this machine are left out: history says nothing of them.
    """
    from wafermonitor.alerting.rehearsal import rehearse

    found = _declared(file)
    if unknown := sorted(set(names) - {rule.name for rule in found.rules}):
        known = ", ".join(rule.name for rule in found.rules)
        raise click.BadParameter(f"no rule {', '.join(unknown)}; there are {known}", param_hint="--rule")
    rules = [rule for rule in found.rules if not names or rule.name in names]

    async def play() -> Rehearsed:
        async with _opened(flags) as store:
            runs = await _history(store.reader, from_ns - WARM_UP_NS, to_ns, tuple(sites))
            expectations = await _expectations(store, found)
            return rehearse(
                runs,
                rules,
                expectations,
                from_ns=from_ns,
                to_ns=to_ns,
                step_s=step_s,
                limits=await store.reader.limits(),
            )

    played = asyncio.run(play())
    say(_rehearsed_facts(played, from_ns, to_ns), _rehearsed_text(played), as_json=as_json)


@click.command()
@options(StorageConfig)
@click.option("--from", "from_ns", type=_Moment(), default="-28d", show_default=True, help="How far back is looked.")
@click.option("--site", "sites", multiple=True, help="Only jobs of this site; may be given more than once.")
@click.option("--job", "jobs", multiple=True, help="Only this job; may be given more than once.")
@click.option("--zone", "zones", multiple=True, help="Time zones that schedules may follow, beside UTC, such as Europe/Berlin.")
@click.option("--accept", metavar="NAME", help="Say yes to the proposal NAME: from now on it is expected.")
@click.option("--decline", metavar="NAME", help="Delete the proposal NAME.")
@click.option("--dry-run", is_flag=True, help="Store no proposals.")
@as_json_option
def learn(
    *,
    from_ns: int,
    sites: Sequence[str],
    jobs: Sequence[str],
    zones: Sequence[str],
    accept: str | None,
    decline: str | None,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Propose expectations from history: when jobs run, how long they take. Nothing is expected until a person says yes."""
    if accept is not None or decline is not None:
        answered = asyncio.run(_answer(flags, accept, decline))
        verb = "is expected from now on" if accept is not None else "is proposed no more"
        say(_expectation_facts(answered), f"{answered.name} {verb}", as_json=as_json)
        return

    async def look() -> list[tuple[Expectation, Proposal]]:
        async with _opened(flags) as store:
            return await _learn(store, from_ns, sites, jobs, ("UTC", *zones), keep=not dry_run)

    found = asyncio.run(look())
    lines = [f"{one.name}: {one.job} at {one.site}: {proposal.words}" for one, proposal in found]
    hint = "accept one with `wafer alerting learn --accept NAME`" if found else "nothing to propose"
    say({"proposals": [_proposal_facts(*one) for one in found]}, "\n".join([*lines, hint]), as_json=as_json)


@click.command()
def schema() -> None:
    """Print the JSON Schema of files of rules, for editors."""
    from wafermonitor.alerting.schema import schema as made

    click.echo(json.dumps(made(), indent=2, ensure_ascii=False))


def _declared(file: Path | None) -> Declared:
    from wafermonitor.alerting.declared import load

    return load(Config.load().rules if file is None else file)


@asynccontextmanager
async def _opened(flags: dict[str, Any]) -> AsyncIterator[Storage]:
    from wafermonitor.storage.connect import connect

    store = await connect(StorageConfig.load(**flags), watch=True)
    try:
        yield store
    finally:
        await store.close()


async def _history(reader: Reader, from_ns: int, to_ns: int, sites: tuple[str, ...]) -> list[Run]:
    """Every run that started then."""
    from wafermonitor.storage.protocol import RunQuery

    runs: list[Run] = []
    cursor: str | None = None
    report = Reporter()
    while True:
        page = await reader.runs(RunQuery(site=sites, from_ns=from_ns, to_ns=to_ns, cursor=cursor, limit=_PAGE))
        runs += [stored.run for stored in page.items]
        cursor = page.cursor
        if cursor is None:
            return runs
        if len(runs) > MOST_RUNS:
            raise AlertingRejected(f"more than {MOST_RUNS} runs: rehearse a shorter time by --from, or one site by --site")
        report(f"{len(runs)} runs read")


async def _expectations(store: Storage, found: Declared) -> list[Expectation]:
    """Those of the file, and those that people accepted."""
    from wafermonitor.runs.alerts import Origin

    stored = [] if store.watch is None else await store.watch.expectations(Origin.API)
    named = {one.name: one._replace(since_ns=0) for one in (*stored, *found.expectations)}
    return list(named.values())


async def _learn(
    store: Storage, from_ns: int, sites: Sequence[str], jobs: Sequence[str], zones: Sequence[str], *, keep: bool
) -> list[tuple[Expectation, Proposal]]:
    from wafermonitor.alerting.awaiting import starts_of
    from wafermonitor.alerting.learning import expectation, propose
    from wafermonitor.runs.alerts import Origin
    from wafermonitor.runs.bands import profile
    from wafermonitor.storage.protocol import StartsWanted

    if store.watch is None:
        raise AlertingRejected("this store keeps no expectations: set WAFER_ALERTING_DSN to a PostgreSQL that does")
    now_ns = time.time_ns()
    expected = {(one.site, one.job) for one in await store.watch.expectations() if one.origin is not Origin.PROPOSED}
    known = [
        (tally.site, tally.job)
        for tally in await store.reader.tallies(from_ns, now_ns)
        if (not sites or tally.site in sites) and (not jobs or tally.job in jobs)
    ]
    wanted = [job for job in known if not expected & {job, (None, job[1])}][:_MOST_JOBS]
    found = []
    feeds = {(feed.site, feed.feed): feed for site in await store.reader.sites() for feed in site.feeds}
    for (site, job), starts, past in zip(
        wanted,
        await store.reader.starts([StartsWanted(site, job, from_ns) for site, job in wanted], 2000),
        await store.reader.history(wanted),
        strict=True,
    ):
        if not await _is_root(store.reader, site, job):
            continue
        proposal = propose(starts_of(starts, feeds, nominal=False), profile(past, now_ns), zones)
        if proposal is not None:
            made = expectation(proposal, site, job, now_ns)
            found.append((made, proposal))
            if keep:
                await store.watch.save(made)
    return found


async def _is_root(reader: Reader, site: str, job: str) -> bool:
    """Whether runs of the job stand by themselves: subjobs come with their run."""
    from wafermonitor.storage.protocol import RunQuery

    return bool((await reader.runs(RunQuery(site=(site,), job=(job,), subjobs=False, limit=1))).items)


async def _answer(flags: dict[str, Any], accept: str | None, decline: str | None) -> Expectation:
    """Accept or decline a proposal; AlertingRejected names those that there are."""
    from wafermonitor.alerting.learning import accepted
    from wafermonitor.runs.alerts import Origin

    async with _opened(flags) as store:
        if store.watch is None:
            raise AlertingRejected("this store keeps no expectations: set WAFER_ALERTING_DSN to a PostgreSQL that does")
        proposed = {one.name: one for one in await store.watch.expectations(Origin.PROPOSED)}
        name = accept if accept is not None else decline or ""
        if name not in proposed:
            raise AlertingRejected(
                f"no proposal {name!r}; there are {', '.join(proposed) or 'none: run `wafer alerting learn`'}"
            )
        if accept is None:
            await store.watch.forget(name)
            return proposed[name]
        active = accepted(proposed[name], time.time_ns())
        await store.watch.save(active)
        return active


def _rehearsed_text(played: Rehearsed) -> str:
    lines = [_fired_line(alert) for alert in played.fired]
    counts = Counter(alert.rule for alert in played.fired)
    total = ", ".join(f"{count} × {rule}" for rule, count in counts.most_common()) or "nothing would have fired"
    lines.append(f"{total} ({played.runs} runs, looked at each {played.step_s:g} s)")
    if played.left_out:
        lines.append(f"not rehearsed, history does not tell: {', '.join(played.left_out)}")
    return "\n".join(lines)


def _fired_line(alert: Alert) -> str:
    from wafermonitor.alerting.judges.findings import spoken

    length = "still" if alert.resolved_ns is None else spoken((alert.resolved_ns - alert.opened_ns) / SECOND_NS)
    return f"{_instant(alert.opened_ns)}  {alert.severity.word:<8}  {alert.rule:<16}  {length:>12}  {_clean(alert.summary)}"


def _rehearsed_facts(played: Rehearsed, from_ns: int, to_ns: int) -> dict[str, Any]:
    return {
        "from": _instant(from_ns),
        "to": _instant(to_ns),
        "step_s": played.step_s,
        "runs": played.runs,
        "not_rehearsed": list(played.left_out),
        "fired": [
            {
                "rule": alert.rule,
                "severity": alert.severity.word,
                "opened": _instant(alert.opened_ns),
                "resolved": None if alert.resolved_ns is None else _instant(alert.resolved_ns),
                "site": alert.subject.site,
                "job": alert.subject.job,
                "run": None if alert.subject.run is None else alert.subject.run.id,
                "detail": alert.subject.detail,
                "summary": alert.summary,
                "evidence": json.loads(alert.evidence),
            }
            for alert in played.fired
        ],
    }


def _proposal_facts(one: Expectation, proposal: Proposal) -> dict[str, Any]:
    numbers = {"in_time": proposal.met, "called_for": proposal.ticks, "runs": proposal.runs}
    return _expectation_facts(one) | numbers | {"words": proposal.words}


def _expectation_facts(one: Expectation) -> dict[str, Any]:
    return {"name": one.name, "site": one.site, "job": one.job, "origin": one.origin.value, "spec": json.loads(one.spec)}


def _instant(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clean(text: str) -> str:
    """Text of telemetry, for a terminal: escape sequences in it would be carried out."""
    from wafermonitor.alerting.notify.messages import plain

    return plain(text)


COMMANDS = (check, test_, learn, schema)
