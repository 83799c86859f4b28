"""Rows: one writer and reader protocol, and the engines behind it. Importing this loads no driver."""

from wafermonitor.storage.errors import StorageError, StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import Page, Reader, RunQuery, Storage, StoredRun, Writer

__all__ = [
    "Page",
    "Reader",
    "RunQuery",
    "Storage",
    "StorageError",
    "StorageRejected",
    "StorageUnavailable",
    "StoredRun",
    "Writer",
]
