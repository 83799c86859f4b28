"""The archive as a source: days that have left the store are answered from their files, in the same lists and pages.

In: the opened store, `WAFER_ARCHIVE_*`. Out: a store whose reader answers for both. Called by: command.
"""

from __future__ import annotations

from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.opening import merged
from wafermonitor.storage.protocol import Storage


async def attach(storage: Storage, config: Config) -> Storage:
    """`storage` with its archive; as it is where no day can leave it, or without the extra "archive"."""
    return await merged(storage, config)
