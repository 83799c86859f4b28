"""What could never be stored: looked at, and sent again when the reason is gone.

In: dead letters of the store. Out: `wafer receiver dead-letters list|show|retry`. Called by: `receiver.command`.
"""

from __future__ import annotations

__all__: list[str] = []
