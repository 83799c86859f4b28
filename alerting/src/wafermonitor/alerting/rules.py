"""A rule is data: which judge, for which jobs, with which numbers, how loud.

In: what `declared` read from YAML. Out: frozen records. Called by: declared (makes them), judges and evaluator (follow them).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from wafermonitor.runs.alerts import Severity, Subject


class Where(NamedTuple):
    """Patterns with `*` and `?`; an empty tuple matches all. A subject without the field matches only the empty tuple."""

    site: tuple[str, ...] = ()
    job: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()

    def takes(self, subject: Subject, owner: str | None = None) -> bool:
        """Whether `subject` is meant."""
        wanted = ((self.site, subject.site), (self.job, subject.job), (self.owner, owner))
        return all(not patterns or any(fnmatchcase(have or "", one) for one in patterns) for patterns, have in wanted)


class Rule(NamedTuple):
    """One rule. `kind` names its judge, `limits` are that judge's numbers with units in their names.

    A finding opens an alert after it was found for `hold_s`; the judge is asked at most every `every_s` (0: each tick).
    """

    name: str
    kind: str
    severity: Severity
    limits: Mapping[str, float] = {}
    where: Where = Where()
    hold_s: float = 0.0
    every_s: float = 0.0
    runbook: str | None = None
