"""What a driver's error means: is it worth another try?

In: whatever clickhouse_connect, the network or an encoder raises inside `border()`. Out: StorageUnavailable or StorageRejected,
without driver text. Called by: `client`, `writer`, `reader`.

Rows are encoded here, in the types of the columns, before anything is sent, so only the encoder can find that a row will never
fit. Whatever the server says after that is for the operator to mend, and the data waits.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_connect.driver.exceptions import ClickHouseError

from wafermonitor.storage.errors import StorageError, StorageRejected, StorageUnavailable

log = logging.getLogger(__name__)

_REASONS = {
    60: "it lacks a table: run `wafer storage migrate`",
    81: "the database does not exist: run `wafer storage migrate`",
    16: "it lacks a column: run `wafer storage migrate`",
    47: "it lacks a column: run `wafer storage migrate`",
    159: "the statement took too long",
    192: "it refuses our account",
    193: "it refuses our account",
    194: "it refuses our account",
    516: "it refuses our account",
    497: "our account lacks a right",
    164: "it takes no writes",
    242: "it takes no writes: the table is read-only until its replica finds Keeper",
    241: "it is out of memory",
    243: "it is out of space",
    252: "merges are behind: too many parts",
    285: "too few replicas are alive for the quorum",
    286: "too few replicas took the rows in time",
    319: "it is not known whether the replicas took the rows",
}
"""Codes of ClickHouse's ErrorCodes.cpp."""


@contextmanager
def border(doing: str) -> Iterator[None]:
    """Nothing but StorageError leaves; `doing` completes the sentence "cannot …"."""
    try:
        yield
    except StorageError:
        raise
    except (ValueError, OverflowError, struct.error):
        log.debug("cannot %s", doing, exc_info=True)
        raise StorageRejected(f"cannot {doing}: a value does not fit its column") from None
    except ClickHouseError as error:
        code = getattr(error, "code", None)
        # The operator needs the server's own words, which no client sees.
        log.warning("cannot %s: ClickHouse says: %s", doing, str(error)[:2000])
        if code is None:
            raise StorageUnavailable(f"cannot {doing} now: the database does not answer") from None
        raise StorageUnavailable(f"cannot {doing} now: {_REASONS.get(code, 'the database failed')} (code {code})") from None
    except (OSError, EOFError, TimeoutError):
        log.debug("cannot %s", doing, exc_info=True)
        raise StorageUnavailable(f"cannot {doing} now: the database does not answer") from None
