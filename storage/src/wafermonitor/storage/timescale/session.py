"""One connection for an upgrade or a look, with asyncpg's own types.

In: an address. Out: a connection, closed afterwards; StorageError instead of driver errors. Called by: `store`, `embedded`,
`wafer storage` commands.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.timescale.failures import border

CONNECT_TIMEOUT_S = 10.0
SETTINGS = {"application_name": "wafermonitor", "timezone": "UTC"}


@asynccontextmanager
async def open_session(
    dsn: str, timeout_s: float = CONNECT_TIMEOUT_S, command_timeout_s: float | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """A connection; `command_timeout_s` bounds each statement.

    StorageUnavailable: nobody answers, or the account is refused. StorageRejected: `dsn` is no address.
    """
    with border("reach the database"):
        try:
            connection = await asyncpg.connect(
                dsn, timeout=timeout_s, command_timeout=command_timeout_s, server_settings=SETTINGS
            )
        except (asyncpg.exceptions.ClientConfigurationError, ValueError):
            raise StorageRejected(
                "WAFER_STORAGE_DSN is no usable address: postgresql://user:password@host:port/database"
            ) from None
        try:
            yield connection
        finally:
            # Also ends a connection whose server is gone, where an orderly close would wait.
            connection.terminate()
