"""`wafer alerting list`, `show`, `ack`, `silence`, `unsilence`, `notify-test`: what a person does about alerts at a terminal.

In: flags, the environment (`WAFER_STORAGE_*`, `WAFER_ALERTING_*`). Out: lines, or one JSON object with `--json`.
Called by: people and scripts, through `alerting.command`.
"""

from __future__ import annotations

import asyncio
import getpass
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from wafermonitor.alerting.config import Config
from wafermonitor.alerting.errors import AlertingRejected, AlertingUnavailable
from wafermonitor.alerting.flags import Length
from wafermonitor.instrumentation.settings import options
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.answers import as_json_option, say
from wafermonitor.storage.config import Config as StorageConfig

if TYPE_CHECKING:
    from wafermonitor.alerting.notify.routes import Channel
    from wafermonitor.runs.alerts import Alert, Delivery, Silence
    from wafermonitor.storage.watch import Watch

LONGEST_SILENCE_S = 366 * 86_400.0
_SHORT = 8
_MOST = 500


def _who(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--by", help="Who does it.  [default: the user of this session]")(function)


@click.command("list")
@options(StorageConfig)
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@click.option("--site", multiple=True, help="Only of this site; may be given more than once.")
@click.option("--job", multiple=True, help="Only of this job.")
@click.option("--rule", multiple=True, help="Only of this rule.")
@click.option("--limit", type=click.IntRange(1, _MOST), default=100, show_default=True, help="At most so many, the newest.")
@as_json_option
def list_(
    *, everything: bool, site: Sequence[str], job: Sequence[str], rule: Sequence[str], limit: int, as_json: bool, **flags: Any
) -> int:
    """Say what fires, since when, and who looks after it. Exit code 1 when something fires that nobody acknowledged."""
    from wafermonitor.storage.watch import AlertQuery

    query = AlertQuery(site=tuple(site), job=tuple(job), rule=tuple(rule), open=None if everything else True, limit=limit)

    async def read() -> tuple[list[Alert], list[Silence]]:
        async with _watch(flags) as watch:
            return (await watch.alerts(query)).items, await watch.silences()

    alerts, silences = asyncio.run(read())
    now_ns = time.time_ns()
    lines = [_line(alert, silences, now_ns) for alert in alerts] or ["nothing fires" if not everything else "no alerts"]
    lines += [_silence_line(one) for one in silences]
    facts = {"alerts": [_facts(one) for one in alerts], "silences": [_silence_facts(one) for one in silences]}
    say(facts, "\n".join(lines), as_json=as_json)
    return 1 if any(one.resolved_ns is None and one.acknowledged_ns is None for one in alerts) else 0


@click.command()
@click.argument("alert")
@options(Config)
@as_json_option
def show(*, alert: str, as_json: bool, **flags: Any) -> None:
    """Say all about ALERT (its id, or the first digits of it): what, why, who was told and when, or why nobody was."""
    from wafermonitor.alerting.declared import load
    from wafermonitor.alerting.notify.messages import write
    from wafermonitor.alerting.notify.planning import held
    from wafermonitor.alerting.notify.routes import Channel
    from wafermonitor.runs.alerts import Kind

    config = Config.load(**flags)

    async def read() -> tuple[Alert, list[Delivery], list[Silence]]:
        async with _watch({}) as watch:
            found = await _find(watch, alert)
            return found, await watch.alert_deliveries(found.id), await watch.silences()

    found, deliveries, silences = asyncio.run(read())
    now_ns = time.time_ns()
    why = held(load(config.rules).routes, found, silences, now_ns)
    lines = [found.id, write(Channel("", ""), Kind.FIRING, [found], url=config.url, now_ns=now_ns).body]
    if found.acknowledged_ns is not None:
        note = "" if found.note is None else f": {_clean(found.note)}"
        lines.append(f"looked after by {_clean(found.acknowledged_by or '')} since {_instant(found.acknowledged_ns)}{note}")
    lines += [_delivery_line(one) for one in deliveries] or ["nobody was told"]
    lines += [] if why is None else [f"not told now: {_clean(why)}"]
    facts = _facts(found) | {"deliveries": [_delivery_facts(one) for one in deliveries], "held": why}
    say(facts, "\n".join(lines), as_json=as_json)


@click.command()
@click.argument("alert")
@options(StorageConfig)
@_who
@click.option("--note", help="What is known or done about it.")
@as_json_option
def ack(*, alert: str, by: str | None, note: str | None, as_json: bool, **flags: Any) -> None:
    """Say that somebody looks after ALERT (its id, or the first digits of it): it is not escalated any more."""

    async def acknowledge() -> Alert:
        async with _watch(flags) as watch:
            found = await _find(watch, alert)
            return await watch.acknowledge(found.id, by or _user(), note) or found

    done = asyncio.run(acknowledge())
    say(_facts(done), f"{done.id[:_SHORT]} is looked after by {done.acknowledged_by}: {_clean(done.summary)}", as_json=as_json)


@click.command()
@options(StorageConfig)
@click.option(
    "--for", "length_s", type=Length(most_s=LONGEST_SILENCE_S), required=True, help="How long, such as 30m, 2h or 1d."
)
@click.option("--site", help="Only alerts of this site.")
@click.option("--job", help="Only alerts about this job.")
@click.option("--rule", help="Only alerts of this rule.")
@click.option("--why", required=True, help="The reason, for those who wonder why it is quiet.")
@_who
@as_json_option
def silence(
    *,
    length_s: float,
    site: str | None,
    job: str | None,
    rule: str | None,
    why: str,
    by: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Tell nobody of matching alerts for a while. They open and end all the same, and are told if they still hold then."""
    if site is None and job is None and rule is None:
        raise click.UsageError("a silence of everything is refused: give at least one of --site, --job and --rule")
    from wafermonitor.runs.alerts import Silence

    now_ns = time.time_ns()
    made = Silence(uuid.uuid4().hex, now_ns + round(length_s * SECOND_NS), by or _user(), why, now_ns, site, job, rule)

    async def add() -> None:
        async with _watch(flags) as watch:
            await watch.silence(made)

    asyncio.run(add())
    say(_silence_facts(made), _silence_line(made), as_json=as_json)


@click.command()
@click.argument("silence_id", metavar="SILENCE")
@options(StorageConfig)
@as_json_option
def unsilence(*, silence_id: str, as_json: bool, **flags: Any) -> None:
    """End SILENCE (its id, or the first digits of it) now: what still holds is told."""

    async def end() -> Silence:
        async with _watch(flags) as watch:
            found = [one for one in await watch.silences() if one.id.startswith(silence_id)]
            if len(found) != 1 or not await watch.unsilence(found[0].id):
                raise AlertingRejected(
                    f"{'several silences' if found else 'no silence'} in force {'begin' if found else 'begins'} with "
                    f"{silence_id!r}: `wafer alerting list` shows them"
                )
            return found[0]

    ended = asyncio.run(end())
    say(_silence_facts(ended), f"ended: {_silence_line(ended)}", as_json=as_json)


@click.command("notify-test")
@click.argument("names", metavar="[CHANNEL]...", nargs=-1)
@options(Config)
@as_json_option
def notify_test(*, names: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Send a message that says it is a test to each CHANNEL, or to all. Exit code 1 when one did not take it."""
    from wafermonitor.alerting.declared import load

    config = Config.load(**flags)
    channels = load(config.rules).routes.channels
    if unknown := sorted(set(names) - set(channels)):
        known = ", ".join(channels) or "none: set alerting.rules to a file with channels"
        raise click.BadParameter(f"no channel {', '.join(unknown)}; there are {known}", param_hint="CHANNEL")
    wanted = [channels[name] for name in dict.fromkeys(names)] or list(channels.values())
    if not wanted:
        raise AlertingRejected("there are no channels: set alerting.rules to a file that declares some")
    answers = asyncio.run(_test_all(wanted, config.url))
    lines = [f"{name}: {'took it: ' if ok else 'FAILED: '}{answer}" for name, (ok, answer) in answers.items()]
    facts = {"channels": [{"channel": name, "ok": ok, "answer": answer} for name, (ok, answer) in answers.items()]}
    say(facts, "\n".join(lines), as_json=as_json)
    return 0 if all(ok for ok, _ in answers.values()) else 1


async def _test_all(channels: Sequence[Channel], url: str) -> dict[str, tuple[bool, str]]:
    from wafermonitor.alerting.notify.notifier import attempt
    from wafermonitor.alerting.notify.sending import Letter
    from wafermonitor.runs.alerts import Finding, Kind, Severity, Subject, opened

    now_ns = time.time_ns()
    found = Finding("notify-test", Severity.INFO, Subject(), now_ns, "this is a test: nothing is wrong")
    # Over at once: a test must leave no incident open anywhere.
    alert = opened(found, now_ns)._replace(id=uuid.uuid4().hex, resolved_ns=now_ns)

    async def test(channel: Channel) -> tuple[bool, str]:
        letter = Letter(channel, Kind.RESOLVED, '["notify-test",{},0]', [alert], url=url, now_ns=now_ns)
        try:
            return True, await attempt(letter)
        except (AlertingUnavailable, AlertingRejected) as error:
            return False, str(error)

    return dict(zip((one.name for one in channels), await asyncio.gather(*map(test, channels)), strict=True))


@asynccontextmanager
async def _watch(flags: dict[str, Any]) -> AsyncIterator[Watch]:
    """What alerting keeps, of the store that the settings name."""
    from wafermonitor.storage.connect import connect

    opened = await connect(StorageConfig.load(**flags), watch=True)
    try:
        if opened.watch is None:
            raise AlertingRejected("this store keeps no alerts: set WAFER_ALERTING_DSN to a PostgreSQL that does")
        yield opened.watch
    finally:
        await opened.close()


async def _find(watch: Watch, text: str) -> Alert:
    """The alert of an id, or the open one whose id begins so."""
    from wafermonitor.storage.watch import AlertQuery

    if len(text) < _SHORT // 2:
        raise AlertingRejected(f"{text!r} is too short: give {_SHORT} digits of the alert's id, or all")
    whole = await watch.alert(text) if len(text) == 32 else None  # noqa: PLR2004 - hex digits of an id
    if whole is not None:
        return whole
    cursor, found = None, []
    while True:
        page = await watch.alerts(AlertQuery(open=True, cursor=cursor, limit=_MOST))
        found += [one for one in page.items if one.id.startswith(text)]
        cursor = page.cursor
        if cursor is None:
            break
    if len(found) != 1:
        word = "several open alerts begin" if found else "no open alert begins"
        raise AlertingRejected(f"{word} with {text!r}: `wafer alerting list` shows them")
    return found[0]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        raise click.UsageError("who are you? give --by") from None


def _line(alert: Alert, silences: Sequence[Silence], now_ns: int) -> str:
    place = " ".join(text for text in (alert.subject.site, alert.subject.job) if text)
    end = "" if alert.resolved_ns is None else f", over {_instant(alert.resolved_ns)}"
    known = "" if alert.acknowledged_by is None else f" (looked after by {_clean(alert.acknowledged_by)})"
    hush = next((one for one in silences if one.covers(alert.rule, alert.subject, now_ns)), None)
    quiet = "" if hush is None or end else f" (silenced until {_instant(hush.until_ns)})"
    head = f"{alert.id[:_SHORT]}  {alert.severity.word:<8}  {_instant(alert.since_ns)}{end}"
    return f"{head}  {_clean(place)}: {_clean(alert.summary)} [{alert.rule}]{known}{quiet}"


def _delivery_line(one: Delivery) -> str:
    when = _instant(one.due_ns if one.settled_ns is None else one.settled_ns)
    return f"{when}  {one.channel}: {one.kind.value} {one.state.value}, attempts {one.attempts}: {_clean(one.answer or '')}"


def _delivery_facts(one: Delivery) -> dict[str, Any]:
    found = {name: value for name, value in one._asdict().items() if not name.endswith("_ns")}
    return found | {
        name.removesuffix("_ns"): _instant(value) for name, value in one._asdict().items() if name.endswith("_ns") and value
    }


def _silence_line(one: Silence) -> str:
    about = ", ".join(f"{name} {value}" for name, value in (("site", one.site), ("job", one.job), ("rule", one.rule)) if value)
    return f"silence {one.id[:_SHORT]}: {_clean(about)} until {_instant(one.until_ns)} by {_clean(one.by)}: {_clean(one.why)}"


def _facts(alert: Alert) -> dict[str, Any]:
    times = ("opened_ns", "since_ns", "seen_ns", "resolved_ns", "acknowledged_ns")
    found = {name: value for name, value in alert._asdict().items() if name not in (*times, "severity", "subject")}
    found |= {name.removesuffix("_ns"): _instant(value) for name in times if (value := getattr(alert, name)) is not None}
    subject = alert.subject
    run = None if subject.run is None else subject.run.id
    return found | {"severity": alert.severity.word, **subject._asdict(), "run": run}


def _silence_facts(one: Silence) -> dict[str, Any]:
    found = {name: value for name, value in one._asdict().items() if not name.endswith("_ns")}
    return found | {"created": _instant(one.created_ns), "until": _instant(one.until_ns)}


def _instant(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clean(text: str) -> str:
    """Text of telemetry, for a terminal: escape sequences in it would be carried out."""
    from wafermonitor.alerting.notify.messages import plain

    return plain(text)


COMMANDS = (list_, show, ack, silence, unsilence, notify_test)
