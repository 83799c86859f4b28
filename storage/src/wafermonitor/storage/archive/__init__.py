"""Old days as Parquet: archived after 72 hours, verified, read through the same questions. Importing this loads no driver."""

from wafermonitor.storage.archive.protocol import Days, Entry, Place, Signal

__all__ = ["Days", "Entry", "Place", "Signal"]
