"""One trial: a fab is played to a store and the evaluator as shipped, and scored.

In: a seed, a size, a store and its clock. Out: a `Score`. Called by: tests, benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable

from wafermonitor.alerting.declared import load
from wafermonitor.alerting.evaluator import Evaluator
from wafermonitor.alerting.simulator.accelerated import Clock, Tick, Trouble, play
from wafermonitor.alerting.simulator.fab import Size, build
from wafermonitor.alerting.simulator.score import Score, all_alerts, score
from wafermonitor.alerting.simulator.story import tell
from wafermonitor.runs.state import Limits
from wafermonitor.storage.protocol import Storage


async def trial(
    seed: int,
    size: Size,
    storage: Storage,
    clock: Clock,
    *,
    limits: Limits | None = None,
    trouble: Trouble | None = None,
    told: Callable[[int], None] = lambda _now_ns: None,
) -> Score:
    """Play the fab of `seed` with the standard rules, and score what was told of it."""
    if storage.watch is None:
        raise ValueError("this store keeps no alerts")
    limits = limits or Limits()
    story, declared = tell(build(seed, size)), load(None)

    def evaluator(shown: Storage) -> Tick:
        return Evaluator(shown, declared).tick

    played = await play(story, storage, clock, evaluator, limits=limits, trouble=trouble, told=told)
    kinds = {rule.name: rule.kind for rule in declared.rules}
    return score(story, played, await all_alerts(storage.watch), kinds, limits)
