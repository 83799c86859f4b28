"""A quota, as it is configured.

Called by: `config`, `quota`.
"""

from __future__ import annotations

from typing import NamedTuple


class Rate(NamedTuple):
    """What a site may send; None is without bound. Items are spans, log records and points."""

    bytes_per_s: float | None = None
    items_per_s: float | None = None
