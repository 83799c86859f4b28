"""The steps of maintenance: what each does, how often, and how long it may take.

In: an opened store, settings, now. Out: what was done in a few words, empty when there was nothing to do. Called by: `keeper`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeVar

from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.maintain.config import Config
from wafermonitor.storage.timescale import maintenance, rollups
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.store import Storage

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
NO_EXTRA = (
    'nothing is archived, so nothing is ever dropped: pip install "wafermonitor[archive]", or set WAFER_ARCHIVE_ENABLED=false'
)
"""Said wherever archiving is on and cannot be done."""
LAG_S = 120.0
"""Rollups that are further behind than this are an alarm."""
NAMES_S = 5 * MINUTE_S
"""In which some million names are looked at."""
_SHOWN = 3


class _Done(Protocol):
    """What steps of the archiver say of themselves."""

    @property
    def failed(self) -> tuple[str, ...]:
        """What failed and why."""


_D = TypeVar("_D", bound=_Done)


class Work(NamedTuple):
    """What a step is given."""

    store: Storage
    connection: Connection
    config: Config
    archive: ArchiveConfig
    now_ns: int
    rolls: bool
    """Whether the rollups' worker runs beside."""


class Step(NamedTuple):
    """Due again `interval_s` after a success (0: each round); may take `box_s`. `long`: with a lock and a loop of its own."""

    name: str
    does: str
    interval_s: float
    box_s: float
    run: Callable[[Work], Awaitable[str]]
    long: bool = False


async def _partitions(work: Work) -> str:
    made = await maintenance.partitions(work.connection, work.store.config.hot_days, work.now_ns)
    strays = await maintenance.strays(work.connection)
    if strays and await maintenance.move_strays(work.connection):
        strays = await maintenance.strays(work.connection)
    if strays:
        raise StorageRejected(f"rows are outside every prepared day, in {', '.join(strays)}")
    return _counted(made, "partitions made")


async def _runs(work: Work) -> str:
    ghosts, inferred = await maintenance.runs(work.connection, work.now_ns)
    return f"{ghosts} ghosts removed, inferred changed on {inferred} runs" if ghosts or inferred else ""


async def _rollups(work: Work) -> str:
    if not work.rolls:
        done = await rollups.run_once(work.store.pool)
        if done is not None:
            return f"{done.runs} changes rolled up, {done.again} hours made anew" if done.runs or done.again else ""
    lag_s, building = await maintenance.rollup_lag(work.connection)
    if lag_s > LAG_S and not building:
        raise StorageUnavailable(f"the rollups are {lag_s:.0f} s behind")
    return ""


async def _leftovers(work: Work) -> str:
    letters_s = work.config.dead_letter_days * DAY_S
    letters = await maintenance.forget(work.connection, work.now_ns, work.store.config.remember_arrivals_s, letters_s)
    return f"{letters} dead letters deleted" if letters else ""


async def _statistics(work: Work) -> str:
    return _counted(await maintenance.analyze(work.connection), "tables analyzed")


async def _indexes(work: Work) -> str:
    found = [
        f"{name} ({size / 1e6:.0f} MB, {ratio:.1f} times what it needs)"
        for name, size, ratio in await maintenance.bloated(work.connection)
    ]
    return f"REINDEX INDEX CONCURRENTLY would shrink {', '.join(found)}" if found else ""


async def _compression(work: Work) -> str:
    return _counted(
        await maintenance.compress(work.connection, work.config.compress_after_hours, work.now_ns), "chunks compressed"
    )


async def _archive(work: Work) -> str:
    """Also retention: the archiver drops what its manifest confirms, and nothing else."""
    if not work.archive.enabled:
        return ""
    with extra():
        from wafermonitor.storage.archive.archiver import run_once
    done = await _led(work, run_once)
    if done is None:
        return ""
    parts = [_counted(done.archived, "days archived"), _counted(done.dropped, "days dropped")]
    parts += [f"{done.late} late rows taken"] if done.late else []
    parts += [f"{done.removed} files deleted"] if done.removed else []
    return ", ".join(filter(None, parts))


async def _compaction(work: Work) -> str:
    """Rows that come late for an archived day make a file of their own each time; without this a day has ever more of them."""
    if not work.archive.enabled:
        return ""
    with extra():
        from wafermonitor.storage.archive.archiver import compact_once
    done = await _led(work, compact_once)
    if done is None:
        return ""
    return f"files of {len(done.merged)} archived days merged, {done.rows} rows" if done.merged else ""


async def _led(work: Work, steps: Callable[..., Awaitable[_D | None]]) -> _D | None:
    """What the archiver did; None when another process is at it. StorageUnavailable says what failed."""
    from wafermonitor.storage.archive.shelf import open_shelf
    from wafermonitor.storage.timescale.days import Days

    done = await steps(Days(work.store.pool), open_shelf(work.archive), work.archive, now_ns=work.now_ns)
    if done is not None and done.failed:
        raise StorageUnavailable("; ".join(done.failed[:_SHOWN]))
    return done


@contextmanager
def extra() -> Iterator[None]:
    """StorageRejected where what the archive needs is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(("pyarrow", "msgspec")):
            raise
        raise StorageRejected(NO_EXTRA) from None


async def _retention(work: Work) -> str:
    gone = await maintenance.forget_rollups(
        work.connection, work.config.rollup_years * 365.25, work.config.log_days, work.now_ns
    )
    days = work.config.drop_unarchived_days
    dropped: tuple[str, ...] = ()
    if days is not None and not work.archive.enabled:
        dropped = await maintenance.drop_unarchived(work.connection, days, work.config.drop_unarchived_run_days, work.now_ns)
    await maintenance.forget_files(work.connection, work.config.log_days, work.now_ns)
    alerts_ns, met_ns = (work.now_ns - int(days * DAY_S * 1e9) for days in (work.config.alert_days, work.config.met_days))
    over = await work.store.watch.prune(alerts_ns, met_ns)
    parts = [
        _counted(dropped, "days dropped without being archived"),
        f"{gone} old rollups deleted" if gone else "",
        f"{over} old alerts and expected runs deleted" if over else "",
    ]
    return ", ".join(filter(None, parts))


async def _names(work: Work) -> str:
    gone = await maintenance.forget_names(work.connection, work.now_ns, NAMES_S)
    counts = [(gone.series, "series"), (gone.resources, "resources"), (gone.scopes, "scopes"), (gone.processes, "processes")]
    parts = [f"{count} {what} deleted" for count, what in counts if count]
    return ", ".join(parts + ([] if gone.whole else ["the rest next time"]))


STEPS = (
    Step("partitions", "days made a week ahead, months of runs", 0, 2 * MINUTE_S, _partitions),
    Step("runs", "ghosts removed, runs lost for a day counted as ended", 0, 10 * MINUTE_S, _runs),
    Step("rollups", "rollups of jobs are in step", 0, HOUR_S, _rollups),
    Step("leftovers", "old first arrivals and dead letters deleted", 0, 10 * MINUTE_S, _leftovers),
    Step("statistics", "tables that changed much are analyzed", HOUR_S, 30 * MINUTE_S, _statistics),
    Step("indexes", "indexes that take too much room are named", DAY_S, 10 * MINUTE_S, _indexes),
    Step("retention", "what is too old is deleted", DAY_S, 2 * HOUR_S, _retention),
    Step("names", "names that no row has any more are deleted", DAY_S, 30 * MINUTE_S, _names),
    Step("compression", "days that are over are compressed", HOUR_S, 6 * HOUR_S, _compression, long=True),
    Step(
        "archive", "days that are over are archived, and dropped when the archive has them", DAY_S, DAY_S, _archive, long=True
    ),
    Step("compaction", "files of archived days that got late rows are merged", DAY_S, 6 * HOUR_S, _compaction, long=True),
)
"""In the order in which a round takes them."""


def _counted(names: tuple[str, ...], what: str) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{len(names)} {what}: {shown}"
