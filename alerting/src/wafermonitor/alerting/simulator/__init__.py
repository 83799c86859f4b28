"""A fab in which everything is known: sites, links that fail, jobs that come, are late, crash or never start.

In: a seed and a size. Out: the records a receiver would write, and beside them what really happened. Called by: tests,
benchmarks, `wafer simulate`.
"""

from __future__ import annotations

__all__: list[str] = []
