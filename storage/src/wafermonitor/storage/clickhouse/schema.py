"""The tables: made, checked, and written out for a cluster.

In: `sql/incremental`, a client, or a cluster's name. Out: tables, SchemaTooOld, or SQL text. Called by: `store`, `operating`.

A file runs once; its name then stands in `schema_migration`. Every statement says IF NOT EXISTS, so one that was cut off is run
again. How long rows are kept is set anew by every upgrade; what no number of days is given for is never dropped.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import NamedTuple

from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.rowbinary import text
from wafermonitor.storage.clickhouse.rows import Table
from wafermonitor.storage.clickhouse.statements import statement as query
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected

UPGRADING = "upgrade the schema"
_TABLE = re.compile(
    r"^CREATE TABLE IF NOT EXISTS (\w+) \(\n(.*)^\)\nENGINE = (\w+)\((.*)\) -- shard: ([^\n]*)\n(.*)\Z",
    re.DOTALL | re.MULTILINE,
)
_VIEW = re.compile(
    r"^CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+) TO (\w+) AS\n(.*)^FROM (\w+)(.*)\Z", re.DOTALL | re.MULTILINE
)
_PLAIN_VIEW = re.compile(r"^CREATE VIEW IF NOT EXISTS (\w+) AS\n(.*)\Z", re.DOTALL | re.MULTILINE)
_SOURCE = re.compile(r"\bFROM (\w+)")
_KEPT = re.compile(r"^TTL (.*)\n", re.MULTILINE)
_KEEP = re.compile(r"{(\w+_(?:days|seconds))}")
_DAYS = re.compile(r"toIntervalDay\((\d+)\)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_APPLIED = Table("schema_migration", ("name",))


class Keep(NamedTuple):
    """How long what was received is kept: spans, records and points; runs; first arrivals; dead letters; rollups.

    None is for ever: an operator has to say that something goes, for nothing archives it.
    """

    raw_days: int | None
    run_days: int | None
    arrival_seconds: int
    letter_days: int = 90
    rollup_days: int = 3653


class Status(NamedTuple):
    """Which files have run, and which still have to."""

    applied: list[str]
    pending: list[str]


def migrations() -> list[str]:
    """Names of the files, in order."""
    folder = files(__package__).joinpath("sql", "incremental")
    return sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir())


def statements(name: str, keep: Keep) -> list[str]:
    """The statements of one file, with the comments before them."""
    whole = files(__package__).joinpath("sql", "incremental", f"{name}.sql").read_text("utf-8")
    parts = (part.strip() for part in whole.split(";\n"))
    return [_KEPT.sub(lambda rule: _rule(rule[0], keep), part.removesuffix(";")) for part in parts if part]


async def status(client: Client) -> Status:
    """What has run. SchemaTooOld never: a database without tables has everything before it."""
    doing = "look at the schema"
    names = {"database": client.database}
    ((exists,),) = await client.query(doing, query("schema_exists"), names, in_database=False)
    rows = await client.query(doing, query("schema_migrations")) if exists else []
    applied = [name for (name,) in rows]
    return Status(applied, [name for name in migrations() if name not in applied])


async def check(client: Client) -> None:
    """SchemaTooOld when a file has not run, StorageRejected when this program is older than the schema."""
    now = await status(client)
    if now.pending:
        raise SchemaTooOld("the database's schema is older than this program: run `wafer storage migrate`")
    unknown = sorted(set(now.applied) - set(migrations()))
    if unknown:
        raise StorageRejected(f"the database's schema is newer than this program ({unknown[-1]}): upgrade WaferMonitor")


async def upgrade(client: Client, keep: Keep) -> list[str]:
    """Run what has not run, and set how long rows are kept; the names of the files that ran."""
    await client.command(UPGRADING, f"CREATE DATABASE IF NOT EXISTS `{_checked(client.database)}`", in_database=False)
    await client.command(UPGRADING, _bootstrap())
    now = await status(client)
    unknown = sorted(set(now.applied) - set(migrations()))
    if unknown:
        raise StorageRejected(f"the database's schema is newer than this program ({unknown[-1]}): upgrade WaferMonitor")
    distributed = await _distributed(client)
    if distributed and now.pending:
        raise StorageRejected("these are tables of a cluster: apply what `wafer storage ddl --cluster NAME` prints")
    for name in now.pending:
        for statement in statements(name, keep):
            await client.command(UPGRADING, statement)
        await client.insert(UPGRADING, _APPLIED, [text(name)])
    if not distributed:
        await _keep(client, [rule for file in now.applied for rule in _kept(file, keep)])
    return now.pending


async def kept_days(client: Client) -> dict[str, int | None]:
    """After how many days rows of `span` and `run` are dropped, as the server has it; None for never."""
    rules = await _rules(client)
    found = {name: _DAYS.search(rules.get(f"{name}_local") or rules.get(name) or "") for name in ("span", "run")}
    return {name: None if days is None else int(days[1]) for name, days in found.items()}


def render(cluster: str, database: str, keep: Keep) -> str:
    """Everything as SQL for a cluster: what is one table on a server is a replicated one on each, and a distributed one."""
    on = f"ON CLUSTER `{_checked(cluster)}`"
    made = [f"CREATE DATABASE IF NOT EXISTS `{_checked(database)}` {on}", *_distribute(_bootstrap(), on, cluster, database)]
    for name in migrations():
        for statement in statements(name, keep):
            made += _distribute(statement, on, cluster, database)
        made.append(f"INSERT INTO `{database}`.schema_migration (name) SELECT '{name}'")
    return "\n\n".join(f"{statement};" for statement in made) + "\n"


def _bootstrap() -> str:
    return files(__package__).joinpath("sql", "bootstrap.sql").read_text("utf-8").strip()


def _distribute(statement: str, on: str, cluster: str, database: str) -> list[str]:
    """The statements for a cluster that stand for one for a server."""
    if view := _VIEW.search(statement):
        name, target, columns, source, rest = view.groups()
        head = f"CREATE MATERIALIZED VIEW IF NOT EXISTS `{database}`.{name} {on} TO `{database}`.{target}_local AS\n"
        return [f"{statement[: view.start()]}{head}{columns}FROM `{database}`.{source}_local AS {source}{rest}"]
    if view := _PLAIN_VIEW.search(statement):
        head = f"CREATE VIEW IF NOT EXISTS `{database}`.{view[1]} {on} AS\n"
        return [statement[: view.start()] + head + _SOURCE.sub(rf"FROM `{database}`.\1", view[2])]
    table = _TABLE.search(statement)
    if table is None:
        raise StorageRejected(f"no form for a cluster is known of: {statement[:60]}")
    name, columns, engine, arguments, shard, rest = table.groups()
    path = f"'/clickhouse/tables/{{shard}}/{database}/{name}_local', '{{replica}}'"
    replicated = f"Replicated{engine}({', '.join(part for part in (path, arguments) if part)})"
    local = f"CREATE TABLE IF NOT EXISTS `{database}`.{name}_local {on} (\n{columns})\nENGINE = {replicated}\n{rest}"
    distributed = (
        f"CREATE TABLE IF NOT EXISTS `{database}`.{name} {on} AS `{database}`.{name}_local\n"
        f"ENGINE = Distributed('{cluster}', '{database}', '{name}_local', {shard})"
    )
    return [statement[: table.start()] + local, distributed]


async def _distributed(client: Client) -> bool:
    ((count,),) = await client.query(UPGRADING, query("schema_distributed"), {"database": client.database})
    return bool(count)


async def _keep(client: Client, wanted: list[tuple[str, str | None]]) -> None:
    """Set the rules of these tables, or take them away. Who else upgrades meanwhile may have done so already."""
    rules = await _rules(client)
    for name, kept in wanted:
        if kept is not None:
            await client.command(UPGRADING, f"ALTER TABLE {name} MODIFY TTL {kept}")
        elif name in rules:
            await client.command(UPGRADING, f"ALTER TABLE {name} REMOVE TTL")


async def _rules(client: Client) -> dict[str, str]:
    """The rule of every table that has one, as the server words it."""
    asked = {"database": client.database}  # a database that is not there yet has none
    found = await client.query("look at the schema", query("schema_rules"), asked, in_database=False)
    return {name: rule for name, rule in found if rule}


def _rule(text: str, keep: Keep) -> str:
    """The line with the numbers of `keep`; nothing where one is None."""
    given = keep._asdict()
    if any(given[name] is None for name in _KEEP.findall(text)):
        return ""
    return _KEEP.sub(lambda match: str(given[match[1]]), text)


def _kept(file: str, keep: Keep) -> list[tuple[str, str | None]]:
    """(table, its rule) of every table of the file that can have one; None where its rows are kept for ever."""
    found: list[tuple[str, str | None]] = []
    every = keep._replace(raw_days=keep.raw_days or 1, run_days=keep.run_days or 1)
    for statement, ruled in zip(statements(file, keep), statements(file, every), strict=True):
        table = _TABLE.search(ruled)
        if table is not None and _KEPT.search(ruled):
            kept = _KEPT.search(statement)
            found.append((table[1], None if kept is None else kept[1]))
    return found


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise StorageRejected(f"{name[:60]!r} is no name for a database or a cluster: letters, digits, - and _")
    return name
