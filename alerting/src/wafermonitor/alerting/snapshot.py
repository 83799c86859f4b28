"""What is known at one tick: all that a judge may look at, so that the same snapshot always gives the same findings.

In: what the evaluator read from the store, or what the dry run took from history. Out: the same. Called by: judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from wafermonitor.alerting.rules import Rule
from wafermonitor.runs.alerts import Alert, Expectation, ExpectedRun, Finding
from wafermonitor.runs.bands import Profile
from wafermonitor.runs.records import Feed, Run, RunKey
from wafermonitor.runs.state import Limits
from wafermonitor.storage.protocol import StoreHealth, Tally

JobKey = tuple[str, str]
"""(site, job)."""


class Host(NamedTuple):
    """What this machine says of itself: (path, free ratio 0…1) of disks, (file, end of validity ns) of certificates.

    `unread`: (path, why) of those that could not be read.
    """

    disks: tuple[tuple[str, float], ...] = ()
    certificates: tuple[tuple[str, int], ...] = ()
    unread: tuple[tuple[str, str], ...] = ()


class Counted(Protocol):
    """Tallies of the runs that ended within `window_s`, up to `ago_s` ago."""

    def __call__(self, window_s: float, ago_s: float = 0.0) -> Sequence[Tally]: ...  # noqa: D102 - said above


class Gap(NamedTuple):
    """Nothing was read of the store between these two times, ns by its clock: the last tick before, the first one after."""

    began_ns: int
    back_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All times are ns by the store's clock.

    `open_runs`: every run that has not ended, its process's beat joined; `cut`: there are more than these. `ended`: runs
    whose end became known since the last tick, each once. `expected`: expected runs as they stand after this tick's
    matching: the unsettled, and those settled by it. `alerts`: open ones by fingerprint. `profiles`: what is usual for a
    job. `tallies(window_s, ago_s)`: runs that ended in the window_s before ago_s ago. `advanced`: when an open run's
    progress was last seen to grow (`advancing` keeps it between ticks). `health` is None when the store answers nothing
    about itself. `ticked_ns`: the tick before this one. `gap`: the last time in which nothing could be heard (`hearing`).
    `mended`: by lost run when a good run of its job began since (`mending`). `memo`: what judges worked out of this
    snapshot and need more than once.
    """

    now_ns: int
    ticked_ns: int | None
    limits: Limits
    feeds: Mapping[tuple[str, str], Feed] = field(default_factory=dict)
    open_runs: Sequence[Run] = ()
    cut: bool = False
    ended: Sequence[Run] = ()
    expectations: Mapping[str, Expectation] = field(default_factory=dict)
    expected: Sequence[ExpectedRun] = ()
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    profiles: Mapping[JobKey, Profile] = field(default_factory=dict)
    tallies: Counted = lambda window_s, ago_s=0.0: ()  # noqa: ARG005 - their names are the protocol's
    advanced: Mapping[RunKey, int] = field(default_factory=dict)
    newest_received_ns: int | None = None
    health: StoreHealth | None = None
    host: Host = field(default_factory=Host)
    gap: Gap | None = None
    mended: Mapping[RunKey, int] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def feed(self, run: Run) -> Feed | None:
        """The feed that brings `run`; None where it names none."""
        return None if run.feed is None else self.feeds.get((run.site, run.feed))


Judge = Callable[[Rule, Snapshot], Iterable[Finding]]
"""What holds now by `rule`: pure, and complete: an open alert of the rule that is not found again is over."""
