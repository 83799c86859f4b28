"""`wafer receiver dead-letters`: what could never be stored, why, and another try.

In: filters, keys; the store of `WAFER_STORAGE_*`. Out: lines or one JSON object on stdout.
Called by: people whose items were refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from wafermonitor.receiver.dead_letters.retry import Outcome
    from wafermonitor.storage.protocol import DeadLetterQuery, Storage, StoredDeadLetter

F = TypeVar("F", bound=Callable[..., Any])
NS = 1_000_000_000
MAX_PAGE = 1000
REASON_LETTERS = 100

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _filters(function: F) -> F:
    """Which letters."""
    function = click.option("--reason", "text", help="Only letters whose reason contains this, in any case.")(function)
    function = click.option(
        "--signal", multiple=True, help="Only letters of this signal: traces, logs, metrics, events (older routes)."
    )(function)
    return click.option("--site", multiple=True, help="Only letters of this site; may be given several times.")(function)


@click.group("dead-letters")
def dead_letters() -> None:
    """Items that could not be stored: why, what they were, and another try.

    The store is the one of WAFER_STORAGE_DSN, or the embedded PostgreSQL. Exit codes: 0 done, 1 something is still refused,
    2 wrong use, 75 the store does not answer.
    """


@dead_letters.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True, help="Letters on a page.")
@click.option("--cursor", help="Continue where a page ended; the page says so.")
@_as_json
def list_letters(
    *, site: tuple[str, ...], signal: tuple[str, ...], text: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List dead letters, the newest first."""
    from wafermonitor.storage.protocol import DeadLetterQuery

    query = DeadLetterQuery(site=site, signal=signal, text=text, cursor=cursor, limit=limit)
    asyncio.run(_list(query, as_json=as_json))


@dead_letters.command()
@click.argument("key")
@_as_json
def show(*, key: str, as_json: bool) -> None:
    """Show one dead letter: reason, source, time, size, and its sample decoded."""
    asyncio.run(_show(key, as_json=as_json))


@dead_letters.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--all", "every", is_flag=True, help="All letters that the filters leave, instead of keys.")
@_filters
@_as_json
def retry(
    *, keys: tuple[str, ...], every: bool, site: tuple[str, ...], signal: tuple[str, ...], text: str | None, as_json: bool
) -> int:
    """Decode dead letters again and store what is accepted now; a letter that is stored is gone.

    Nothing is stored twice, however often it is tried. Exit code 1 when a letter is still refused: `list` shows the answer.
    """
    if every == bool(keys):
        raise click.UsageError("name the keys of letters (`wafer receiver dead-letters list` shows them), or give --all")
    if keys and (site or signal or text):
        raise click.UsageError("--site, --signal and --reason choose among --all; keys need no choice")
    from wafermonitor.storage.protocol import DeadLetterQuery

    query = DeadLetterQuery(site=site, signal=signal, text=text, limit=MAX_PAGE) if every else None
    return asyncio.run(_retry(keys, query, as_json=as_json))


async def _list(query: DeadLetterQuery, *, as_json: bool) -> None:
    async with _store() as storage:
        page = await storage.reader.dead_letters(query)
    if as_json:
        _print({"items": [_facts(stored) for stored in page.items], "cursor": page.cursor})
        return
    for stored in page.items:
        letter = stored.letter
        tried = f", tried again {stored.retries} times" if stored.retries else ""
        _say(f"{stored.key}  {_time(letter.received_ns)}  {letter.site}  {letter.signal}  {len(letter.sample)} B{tried}")
        _say(f"    {letter.reason[:REASON_LETTERS]}")
    if page.cursor is not None:
        click.echo(f"more: --cursor {page.cursor}", err=True)
    elif not page.items:
        click.echo("no dead letters", err=True)


async def _show(key: str, *, as_json: bool) -> None:
    from wafermonitor.receiver.dead_letters.samples import view

    async with _store() as storage:
        stored = await _letter(storage, key)
    facts = _facts(stored) | {"sample": view(stored.letter)}
    if as_json:
        _print(facts)
        return
    sample = facts.pop("sample")
    for name, value in facts.items():
        _say(f"{name + ':':<13} {'-' if value is None else value}")
    click.echo(json.dumps(sample, indent=2))


async def _retry(keys: tuple[str, ...], query: DeadLetterQuery | None, *, as_json: bool) -> int:
    from wafermonitor.receiver.dead_letters.retry import retry as send_again

    outcomes: list[Outcome] = []
    async with _store() as storage:
        letters = _chosen(storage, query) if query is not None else _named(storage, keys)
        async for stored in letters:
            outcome = await send_again(storage, stored)
            outcomes.append(outcome)
            if not as_json:
                _say(f"{outcome.key}  {'stored' if outcome.stored else f'still refused: {outcome.answer}'}")
    done = sum(outcome.stored for outcome in outcomes)
    if as_json:
        _print({"stored": done, "refused": len(outcomes) - done, "items": [outcome._asdict() for outcome in outcomes]})
    else:
        click.echo(f"{done} stored, {len(outcomes) - done} still refused", err=True)
    return 0 if done == len(outcomes) else 1


async def _named(storage: Storage, keys: tuple[str, ...]) -> AsyncIterator[StoredDeadLetter]:
    # All are looked up before the first is sent: a mistyped key changes nothing.
    for stored in [await _letter(storage, key) for key in dict.fromkeys(keys)]:
        yield stored


async def _chosen(storage: Storage, query: DeadLetterQuery) -> AsyncIterator[StoredDeadLetter]:
    from dataclasses import replace

    while True:
        page = await storage.reader.dead_letters(query)
        for stored in page.items:
            yield stored
        if page.cursor is None:
            return
        query = replace(query, cursor=page.cursor)


async def _letter(storage: Storage, key: str) -> StoredDeadLetter:
    stored = await storage.reader.dead_letter(key)
    if stored is None:
        raise click.UsageError(f"no dead letter has the key {key[:80]!r}; `wafer receiver dead-letters list` shows them")
    return stored


@asynccontextmanager
async def _store() -> AsyncIterator[Storage]:
    from wafermonitor.storage.config import Config
    from wafermonitor.storage.connect import connect

    storage = await connect(Config.load())
    try:
        yield storage
    finally:
        await storage.close()


def _facts(stored: StoredDeadLetter) -> dict[str, Any]:
    letter = stored.letter
    return {
        "key": stored.key,
        "site": letter.site,
        "signal": letter.signal,
        "reason": letter.reason,
        "received": _time(letter.received_ns),
        "size_bytes": len(letter.sample),
        "retries": stored.retries,
        "retried": None if stored.retried_ns is None else _time(stored.retried_ns),
        "answer": stored.answer,
    }


def _time(time_ns: int) -> str:
    seconds, rest_ns = divmod(time_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03}Z"


def _say(line: str) -> None:
    """One line, without what a sender wrote to move the reader's cursor."""
    click.echo("".join(letter if letter.isprintable() else "\ufffd" for letter in line))


def _print(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts))
