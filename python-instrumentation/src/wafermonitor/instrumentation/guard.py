"""Telemetry never raises into the job: what goes wrong in our own code is logged once and dropped.

In: a function of ours that the job calls. Out: the same function, which gives None instead of raising.
Called by: every module that a job's own code path leads through.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

logger: Final = logging.getLogger("wafermonitor")
_seen: set[str] = set()


def guarded(function: Callable[P, R]) -> Callable[P, R | None]:
    """Catch every Exception of `function`. KeyboardInterrupt and SystemExit belong to the job and pass."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the whole point
            once(f"{function.__qualname__} failed: {type(error).__name__}: {error}", error, key=function.__qualname__)
            return None

    return call


def once(message: str, error: BaseException | None = None, *, key: str | None = None) -> None:
    """Log one warning, and never again one with the same key, which is the message if none is given.

    The stack goes to DEBUG: the job's log is not ours to fill.
    """
    key = key or message
    if key in _seen:
        return
    _seen.add(key)
    logger.warning("telemetry: %s", message)
    if error is not None:
        logger.debug("telemetry: %s", message, exc_info=error)
