"""Lengths of time on the command line, as they stand in files of rules.

In: words of a flag. Out: seconds. Called by: `trying`, `notify.command`.
"""

from __future__ import annotations

from typing import Any

import click

from wafermonitor.alerting.judges.findings import spoken
from wafermonitor.alerting.quantities import duration_s


class Length(click.ParamType[float]):
    """A duration with its unit: `5m` is 300.0. Within bounds, in seconds."""

    name = "duration"

    def __init__(self, least_s: float = 1.0, most_s: float = float("inf")) -> None:
        self._least_s = least_s
        self._most_s = most_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; the command ends with what is wrong."""
        try:
            found = duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if found < self._least_s:
            self.fail(f"{value!r}: expected {spoken(self._least_s)} or more", param, ctx)
        if found > self._most_s:
            self.fail(f"{value!r}: expected {spoken(self._most_s)} at most", param, ctx)
        return found
