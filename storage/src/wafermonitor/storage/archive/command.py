"""`wafer archive`: archive days, look at what is archived, check it, bring days back, ask it.

In: flags and the environment. Out: lines, or one JSON object with `--json`; progress on stderr. Called by: people, timers.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from wafermonitor.instrumentation.service import configure_logging, stop_event
from wafermonitor.instrumentation.settings import options
from wafermonitor.storage.answers import Reporter, as_json_option, say
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.protocol import Entry, Place, Signal
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import ArchiveDamaged

if TYPE_CHECKING:
    from wafermonitor.storage.archive.adopting import Adopted
    from wafermonitor.storage.archive.archiver import Archiver, Compacted
    from wafermonitor.storage.archive.opening import Archive

_DAY = click.DateTime(["%Y-%m-%d"])
_TRACE_BYTES = 16
_OFF = "nothing to do: archiving is off (WAFER_ARCHIVE_ENABLED)"
_signal = click.option("--signal", type=click.Choice([one.value for one in Signal]), help="Only this signal.")
_site = click.option("--site", help="Only this site.")
_from = click.option("--from", "first", type=_DAY, help="Only days from this one on.")
_to = click.option("--to", "last", type=_DAY, help="Only days up to and including this one.")


@click.group()
def archive() -> None:
    """Old days as Parquet, in a folder or an S3-compatible store."""


@archive.command()
@options(Config)
@click.option("--dry-run", is_flag=True, help="Say what would be archived, dropped and deleted, and do nothing.")
@click.option("--keep-hot", is_flag=True, help="Archive, but drop nothing from the store.")
@as_json_option
def run(*, dry_run: bool, keep_hot: bool, as_json: bool, **flags: Any) -> int:
    """Do one round now. Exit code 1 if a day could not be archived; the next round tries it again."""
    return asyncio.run(_run(Config.load(**flags), dry_run=dry_run, drop=not keep_hot, as_json=as_json))


@archive.command()
@options(Config)
def serve(**flags: Any) -> None:
    """Do a round every `interval_hours` until SIGTERM or SIGINT."""
    configure_logging("wafer-archive")
    asyncio.run(_serve(Config.load(**flags)))


@archive.command("list")
@options(Config)
@_signal
@_site
@_from
@_to
@as_json_option
def list_(*, as_json: bool, signal: str | None, site: str | None, first: Any, last: Any, **flags: Any) -> None:
    """List archived days: files, rows, bytes, and who answers for them."""
    choice = _Choice(signal, site, first, last).checked()
    entries = asyncio.run(_entries(Config.load(**flags), choice))
    days = [_day_facts(place, group) for place, group in _by_place(entries)]
    lines = [
        f"{day['signal']:8} {day['day']} {day['site']:16} {day['files']:3} files {day['rows']:>12} rows "
        f"{day['bytes'] / 1e6:10.1f} MB  {day['answers']}"
        for day in days
    ]
    nothing = "nothing is archived" if choice == _ALL else "no archived day matches: `wafer archive list` shows what there is"
    say({"days": days}, "\n".join(lines) or nothing, as_json=as_json)


@archive.command()
@options(Config)
@_signal
@_site
@_from
@_to
@as_json_option
def verify(*, as_json: bool, signal: str | None, site: str | None, first: Any, last: Any, **flags: Any) -> int:
    """Read archived files again and compare every row with what was written. Exit code 1 if one differs."""
    config = Config.load(**flags)
    facts = asyncio.run(_verify(config, _Choice(signal, site, first, last).checked()))
    text = f"{facts['files']} files, {facts['rows']} rows are as they were written"
    if not facts["files"]:
        text = "no archived file was chosen: `wafer archive list` shows what there is"
    if facts["damaged"]:
        text = "\n".join([*facts["damaged"], f"{len(facts['damaged'])} of {facts['files']} files are damaged or missing"])
    if facts["unknown"]:
        text += (
            f"\n{facts['unknown']} more files are not in the manifest: the next round takes what a killed archiver left; "
            "after restoring an older backup run `wafer archive adopt`"
        )
    say(facts, text, as_json=as_json)
    return 1 if facts["damaged"] else 0


@archive.command()
@options(Config)
@click.argument("first", metavar="FIRST", type=_DAY)
@click.argument("last", metavar="[LAST]", type=_DAY, required=False)
@_signal
@click.option("--keep-days", type=click.IntRange(1), default=30, show_default=True, help="How long they stay this time.")
@as_json_option
def restore(*, as_json: bool, first: Any, last: Any, signal: str | None, keep_days: int, **flags: Any) -> None:
    """Bring dropped days from FIRST to LAST back into the store, of runs the whole months. Their files stay."""
    config = Config.load(**flags)
    last = last or first
    if first > last:
        raise click.UsageError(f"FIRST {first:%Y-%m-%d} is after LAST {last:%Y-%m-%d}")
    chosen = [Signal(signal)] if signal else list(Signal)
    facts = asyncio.run(_restore(config, chosen, first.date(), last.date(), keep_days))
    text = f"{facts['rows']} rows of {len(facts['days'])} days or months are back until {facts['until']}"
    if not facts["days"]:
        text = "nothing to bring back: the store has these days, or the archive has not (`wafer archive list`)"
    say(facts, text, as_json=as_json)


@archive.command()
@options(Config)
@as_json_option
def compact(*, as_json: bool, **flags: Any) -> int:
    """Merge the files of days that have several, because rows came late. Exit code 1 if those of a day could not be merged."""
    made = asyncio.run(_compact(Config.load(**flags)))
    text = f"{len(made.merged)} days were merged into one file each"
    facts = {"files": made.merged, "failed": made.failed}
    say(facts, "\n".join([text, *(f"failed: {one}" for one in made.failed)]), as_json=as_json)
    return 1 if made.failed else 0


@archive.command()
@options(Config)
@as_json_option
def adopt(*, as_json: bool, **flags: Any) -> int:
    """Take the archive over: after an older backup of the database was restored, or into a new database when the old is lost.

    Every file goes to the manifest. No other database can use the archive afterwards. Exit code 1 if a file could not be taken.
    """
    adopted = asyncio.run(_adopt(Config.load(**flags)))
    text = f"{adopted.files} files with {adopted.rows} rows were taken into the manifest"
    say(adopted._asdict(), "\n".join([text, *(f"failed: {one}" for one in adopted.failed)]), as_json=as_json)
    return 1 if adopted.failed else 0


@archive.command()
@options(Config)
@click.argument("signal", type=click.Choice([one.value for one in Signal]))
@_site
@_from
@_to
@click.option("--trace", help="Only rows of this trace, 32 hex; points have none.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Most rows.")
@as_json_option
def query(
    *, as_json: bool, signal: str, site: str | None, first: Any, last: Any, trace: str | None, limit: int, **flags: Any
) -> None:
    """Print archived rows of SIGNAL as JSON lines, whether their day has left the store or not; --json: as one object."""
    if trace and signal == Signal.METRICS:
        raise click.UsageError("points belong to no trace: leave --trace out")
    choice = _Choice(signal, site, first, last).checked()
    rows = _query(Config.load(**flags), choice, _trace_id(trace) if trace else None, limit, echo=not as_json)
    found = asyncio.run(rows)
    if as_json:
        say({"rows": found}, "", as_json=True)
    elif not found:
        click.echo("no archived rows match: `wafer archive list` shows what there is", err=True)


def _trace_id(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != _TRACE_BYTES:
        raise click.UsageError(f"--trace {text!r} is not 32 hex digits")
    return found


class _Choice(NamedTuple):
    """Which files; None does not choose. The days are included."""

    signal: str | None
    site: str | None
    first: datetime | None
    last: datetime | None

    def checked(self) -> _Choice:
        """Itself, where the days are in order."""
        if self.first and self.last and self.first > self.last:
            raise click.UsageError(f"--from {self.first:%Y-%m-%d} is after --to {self.last:%Y-%m-%d}")
        return self

    def of(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of `entries`."""
        return [
            one
            for one in entries
            if self.signal in {None, one.place.signal.value}
            and self.site in {None, one.place.site}
            and (self.first is None or one.place.day >= self.first.date())
            and (self.last is None or one.place.day <= self.last.date())
        ]


_ALL = _Choice(None, None, None, None)


class _Opened:
    """A store with its archive, closed again in the end."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def __aenter__(self) -> Archive:
        from wafermonitor.storage.archive.opening import attach

        self._storage = await connect(StorageConfig.load())
        try:
            return attach(self._storage, self._config)
        except BaseException:
            await self._storage.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._storage.close()


def _steps(opened: Archive, reporter: Reporter | None = None) -> Archiver:
    from wafermonitor.storage.archive.archiver import Archiver, quiet

    return Archiver(opened.days, opened.shelf, opened.config, time.time_ns(), _teller(reporter) if reporter else quiet)


def _teller(reporter: Reporter) -> Any:
    def tell(step: str, where: str, rows: int) -> None:
        reporter(f"{step} {where}" + (f", {rows} rows" if rows else ""))

    return tell


async def _run(config: Config, *, dry_run: bool, drop: bool, as_json: bool) -> int:
    from wafermonitor.storage.archive import opening

    storage = await connect(StorageConfig.load())
    try:
        if dry_run:
            opened = opening.attach(storage, config)
            plan = await _steps(opened).plan()
            late = [one.value for one in Signal if config.enabled and await opened.days.late(one, 1)]
            lines = [f"would archive {name}: {rows} rows" for name, rows in plan.archive]
            lines += [f"would archive late {signal} of days that are fenced" for signal in late]
            lines += [f"would drop {name}" for name in plan.drop] + [f"would delete {path}" for path in plan.expire]
            say(
                {**plan._asdict(), "late": late},
                "\n".join(lines) or (_OFF if not config.enabled else "nothing to do"),
                as_json=as_json,
            )
            return 0
        done = await opening.run_once(storage, config, drop=drop, on_step=_teller(Reporter()))
    finally:
        await storage.close()
    if done is None:
        say({"busy": True}, "another process is doing it", as_json=as_json)
        return 0
    text = (
        _OFF
        if not config.enabled
        else (
            f"{len(done.archived)} days archived ({done.rows} rows), {len(done.dropped)} dropped, "
            f"{done.late} late rows taken, {done.removed} files deleted"
        )
    )
    say({"busy": False, **done._asdict()}, "\n".join([text, *(f"failed: {one}" for one in done.failed)]), as_json=as_json)
    return 1 if done.failed else 0


async def _serve(config: Config) -> None:
    from wafermonitor.storage.archive import opening

    stop = stop_event()
    storage = await connect(StorageConfig.load())
    try:
        opening.attach(storage, config)
        click.echo(f"archiving to {config.location} every {config.interval_hours:g} h")
        await opening.keep(storage, config, stop)
    finally:
        await storage.close()


async def _entries(config: Config, choice: _Choice) -> list[Entry]:
    async with _Opened(config) as opened:
        return choice.of((await opened.days.manifest()).entries)


async def _verify(config: Config, choice: _Choice) -> dict[str, Any]:
    damaged: list[str] = []
    rows = 0
    reporter = Reporter()
    async with _Opened(config) as opened:
        steps = _steps(opened)
        entries = choice.of((await opened.days.manifest()).entries)
        for number, entry in enumerate(entries, start=1):
            reporter(f"{number} of {len(entries)} files")
            try:
                await steps.verify(entry)
            except ArchiveDamaged as error:
                damaged.append(str(error))
            rows += entry.rows
        unknown = len(await steps.copies.unknown())
    return {"files": len(entries), "rows": rows, "damaged": damaged, "unknown": unknown}


async def _restore(config: Config, signals: list[Signal], first: date, last: date, keep_days: int) -> dict[str, Any]:
    until = datetime.now(UTC).date() + timedelta(days=keep_days)
    rows, done = 0, []
    async with _Opened(config) as opened, opened.days.leading() as leading:
        if not leading:
            raise click.ClickException("another process is archiving: try again when it is done")
        steps = _steps(opened, Reporter())
        for signal in signals:
            archived = await opened.days.archived(signal)
            days = [day for day, state in archived.items() if state.dropped and first <= day <= last]
            for day in sorted({day.replace(day=1) for day in days} if signal is Signal.RUNS else days):
                rows += await steps.restore(signal, day, until)
                done.append(f"{signal} {day:%Y-%m}" if signal is Signal.RUNS else f"{signal} {day}")
    return {"rows": rows, "days": done, "until": str(until)}


async def _compact(config: Config) -> Compacted:
    async with _Opened(config) as opened, opened.days.leading() as leading:
        if not leading:
            raise click.ClickException("another process is archiving: try again when it is done")
        return await _steps(opened, Reporter()).compact_all()


async def _adopt(config: Config) -> Adopted:
    from wafermonitor.storage.archive import adopting

    async with _Opened(config) as opened, opened.days.leading() as leading:
        if not leading:
            raise click.ClickException("another process is archiving: try again when it is done")
        return await adopting.adopt(_steps(opened, Reporter()))


async def _query(config: Config, choice: _Choice, trace_id: bytes | None, limit: int, *, echo: bool) -> list[dict[str, Any]]:
    """The rows; `echo` prints each as soon as it is read."""
    found: list[dict[str, Any]] = []
    async with _Opened(config) as opened:
        steps = _steps(opened)
        for _, entries in _by_place(choice.of((await opened.days.manifest()).entries)):
            for record in await asyncio.to_thread(steps.some, entries, trace_id, limit - len(found)):
                found.append(_plain(record))
                if echo:
                    click.echo(json.dumps(found[-1]))
            if len(found) >= limit:
                break
    return found


def _by_place(entries: Iterable[Entry]) -> list[tuple[Place, list[Entry]]]:
    found: dict[Place, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.place, []).append(entry)
    return sorted(found.items())


def _day_facts(place: Place, entries: list[Entry]) -> dict[str, Any]:
    return {
        "signal": place.signal.value,
        "site": place.site,
        "day": str(place.day),
        "files": len(entries),
        "rows": sum(entry.rows for entry in entries),
        "bytes": sum(entry.size_bytes for entry in entries),
        "answers": "archive" if entries[0].dropped else "store",
    }


def _plain(value: Any) -> Any:
    """A record as JSON has it: ids in hex, JSON texts as they are."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # which JSON has no number for
    if hasattr(value, "_asdict"):
        return {name: _plain(inner) for name, inner in value._asdict().items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
