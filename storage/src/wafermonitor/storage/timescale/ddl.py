"""The schema as plain files for psql: what `wafer storage migrate` does, for those whose changes an administrator makes.

In: the SQL files of this release. Out: text of three files, applied in this order. Called by: `wafer storage ddl`.

    schema         roles, schemas, tables, views and functions, the days of this week; on an empty database
    enhancements   hypertables, where TimescaleDB was made in the database; nothing elsewhere
    configuration  PostgreSQL's settings for this host
"""

from __future__ import annotations

from collections.abc import Iterator

from wafermonitor.storage.timescale import migrate, online, tuning
from wafermonitor.storage.timescale.statements import statement

_HEAD = "-- WaferMonitor {release}: {what}. psql -v ON_ERROR_STOP=1 -f FILE, as {who}.\n"


def schema(hot_days: int) -> str:
    """One transaction, for an empty database; where the schema is there already, it fails and changes nothing."""
    return "".join(_schema(hot_days))


def _schema(hot_days: int) -> Iterator[str]:
    yield _head("the schema", "somebody who may make roles and schemas")
    yield "BEGIN;\n"
    yield migrate.bootstrap()
    yield "SET LOCAL ROLE wafer_owner;\n"
    for file in migrate.incremental():
        text = file.sql
        if text.startswith(online.MARK):
            # The database is empty: nobody is in the way, and CONCURRENTLY would not be allowed here.
            text = "".join(f"{one};\n" for one in online.statements(text)).replace(" CONCURRENTLY", "")
        yield f"\n-- {file.name}\n{text}\n{_note(file.name, file.sha256)}"
    yield _idempotent()
    yield "RESET ROLE;\n"
    yield _days(hot_days)
    yield "COMMIT;\n"


def enhancements(hot_days: int) -> str:
    """The tables by day become hypertables where the extension is there. Days with rows are left to `wafer storage convert`."""
    return "".join(
        (
            _head("hypertables, after CREATE EXTENSION timescaledb", "somebody who may act as wafer_owner"),
            "BEGIN;\nSET LOCAL ROLE wafer_owner;\n",
            statement("make_hypertables"),
            _idempotent(),
            "RESET ROLE;\n",
            _days(hot_days),
            "COMMIT;\n",
        )
    )


def configuration(of: tuning.Host) -> str:
    """ALTER SYSTEM for a host of this size."""
    return _head("settings of the server", "a superuser") + tuning.statements(tuning.settings(of, timescaledb=True))


def _head(what: str, who: str) -> str:
    return _HEAD.format(release=migrate.release(), what=what, who=who)


def _idempotent() -> str:
    files = "".join(f"\n-- {file.name}\n{file.sql}\n" for file in migrate.idempotent())
    return files + _note(migrate.IDEMPOTENT, migrate.idempotent_sha256())


def _note(name: str, sha256: str) -> str:
    """With the values in their places: they are names and hexadecimal numbers of ours."""
    text = statement("note_migration")
    for place, value in enumerate((name, sha256, migrate.release()), 1):
        text = text.replace(f"${place}", f"'{value}'")
    return f"{text.rstrip()};\n"


def _days(hot_days: int) -> str:
    today = "(now() AT TIME ZONE 'UTC')::date"
    oldest = f"{today} - {hot_days}"
    return f"SELECT wafer_data.keep_partitions({oldest}, {today} + {migrate.DAYS_AHEAD}, {oldest});\n"
