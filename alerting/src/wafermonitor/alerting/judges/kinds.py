"""What kinds of rules there are: which judge follows each, by which numbers, and what these are unless a file says otherwise.

In: nothing. Out: the records that each family of judges lists. Called by: the families; declared (validation, schema, docs).
"""

from __future__ import annotations

from typing import NamedTuple

from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Judge


class Limit(NamedTuple):
    """One number of a rule. Its unit is the end of its name: `_s` seconds, `_bytes`; none: a ratio or a count."""

    name: str
    default: float
    means: str

    def of(self, rule: Rule) -> float:
        """What `rule` sets it to."""
        return rule.limits.get(self.name, self.default)


class Kind(NamedTuple):
    """One kind of rule. `about` is what its alerts are about: run, job, site, feed, or system.

    `momentary`: it speaks of runs as they end, each once; such a rule can neither wait (`hold`) nor be asked seldom (`every`).
    """

    name: str
    judge: Judge
    about: str
    means: str
    limits: tuple[Limit, ...] = ()
    momentary: bool = False


LASTS = Limit("lasts_s", 86_400.0, "an alert about a run that ended is over after this long, or at the job's next good run")
SUBJOBS = Limit("subjobs", 0.0, "1: subjobs are judged like jobs; 0: only runs without a parent")
