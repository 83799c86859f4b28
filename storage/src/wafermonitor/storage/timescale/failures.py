"""What a driver's error means: is it worth another try?

In: whatever asyncpg or the network raises inside `border()`. Out: StorageUnavailable or StorageRejected, without driver text.
Called by: `writer`, `reader`. Source: PostgreSQL manual, appendix A (SQLSTATE classes).

Only what the rows themselves cause is permanent, because what is called permanent is dropped by the Collector; a missing table
or a lacking right is for the operator to mend, and the data waits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from wafermonitor.storage.errors import StorageError, StorageRejected, StorageUnavailable

log = logging.getLogger(__name__)

_PERMANENT_CLASSES = ("21", "22", "23", "54")
"""Cardinality, data, integrity, program limit (an index row or a JSON text that is too large)."""
_SERVER_BROKEN = ("58", "XX")
"""System errors and corruption: the operator's log needs the server's own words, which no client sees."""
_REASONS = {
    "08": "the connection to the database was lost",
    "28": "the database refuses our account: user and password stand in WAFER_STORAGE_DSN",
    "3D": "the database does not exist: make it, or name another in WAFER_STORAGE_DSN",
    "25": "the database takes no writes at the moment",
    "40": "the database was busy with the same rows",
    "42": "the database lacks a table or a right: run `wafer storage migrate`",
    "53": "the database is out of space, memory or connections",
    "55": "the database object is locked",
    "57": "the database is stopping or cancelled the statement",
    "58": "the database cannot read or write its files",
}
TRANSIENT = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Errors after which the same transaction may succeed at once."""


@contextmanager
def border(doing: str) -> Iterator[None]:
    """Nothing but StorageError leaves; `doing` completes the sentence "cannot …"."""
    try:
        yield
    except StorageError:
        raise
    except (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        # What asyncpg says when a killed server's last words reach a connection between two statements.
        asyncpg.InternalClientError,
        OSError,
        EOFError,
        TimeoutError,
        ValueError,
        OverflowError,
    ) as error:
        if isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "").startswith(_SERVER_BROKEN):
            log.warning("cannot %s: PostgreSQL says: %s", doing, error)
        log.debug("cannot %s", doing, exc_info=True)
        raise _meaning(error, doing) from None


def _meaning(error: Exception, doing: str) -> StorageError:
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state[:2] in _PERMANENT_CLASSES:
            return StorageRejected(f"cannot {doing}: a value does not fit (SQLSTATE {state})")
        return StorageUnavailable(f"cannot {doing} now: {_REASONS.get(state[:2], 'the database failed')} (SQLSTATE {state})")
    if isinstance(error, asyncpg.DataError | ValueError | OverflowError):
        return StorageRejected(f"cannot {doing}: a value does not fit its column")
    return StorageUnavailable(f"cannot {doing} now: the database does not answer")
