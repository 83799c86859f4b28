"""How long a run is foreseen to take, and how wrong such forecasts were: the arithmetic behind `bands` and `eta`.

In: logarithms of durations in order of start, their starts, their traits (recipe, product, equipment). Out: a `Forecast`, and
the errors it would have made. Called by: `bands`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, Self

TRAITS = ("recipe", "product", "equipment")
"""What may tell runs of one job apart."""
WIDTHS = (10, 30, 120)
"""The level of late is the middle of so many runs: what would have foreseen best."""
_WORTH_A_WIDTH = 0.95
_MOST_AHEAD = 30
_AROUND = 15
_HOUR_NS = 3_600 * 1_000_000_000
_DAY_HOURS, _WEEK_HOURS = 24, 168
_MONDAY = 72
"""Hours from the beginning of the week to that of 1970."""
_DAYS_FOR_HOURS, _DAYS_FOR_WEEK = 3, 15
_KEPT = 101
_WORTH_A_TRAIT, _WORTH_A_SEASON = 0.9, 0.93
"""By what part the errors must shrink for a trait, or a season, to be believed."""
_LEAST_OF_TRAIT = 3
_DRAWN = 2.0
"""What is estimated from n runs (or days) counts n / (n + this)."""


class Forecast(NamedTuple):
    """A run is foreseen at `level` + its trait's + its hour's; all are logarithms of seconds.

    `trait` names what tells runs apart, `effects` says how much for each of its values. `season` has an entry for each hour of
    the week in UTC from Monday on, or none. `errors` are quantiles of what forecasts were wrong by, the least first.
    """

    level: float
    trait: str | None
    effects: dict[str, float]
    season: tuple[float, ...]
    errors: tuple[float, ...]

    def known(self, traits: Mapping[str, str | None]) -> bool:
        """Whether a run of these traits can be foreseen; one of an unheard recipe cannot where recipes tell runs apart."""
        return self.trait is None or traits.get(self.trait) in self.effects

    def between(self, start_ns: int, traits: Mapping[str, str | None]) -> tuple[float, float]:
        """The foreseen logarithm, twice; of unknown traits the least and the greatest of all."""
        centre = self.level + (self.season[hour_of_week(start_ns)] if self.season else 0.0)
        if self.trait is None:
            return centre, centre
        effect = self.effects.get(traits.get(self.trait) or "")
        if effect is not None:
            return centre + effect, centre + effect
        return centre + min(self.effects.values()), centre + max(self.effects.values())

    @classmethod
    def of(cls, fields: Sequence[Any]) -> Self:
        """From its fields, as JSON has them."""
        level, trait, effects, season, errors = fields
        return cls(level, trait, dict(effects), tuple(season), tuple(errors))


class Learned(NamedTuple):
    """The forecast, by what each run differed from what was foreseen an hour before, and the rest without trait and season."""

    forecast: Forecast
    errors: list[float]
    rest: list[float]


def learn(logs: Sequence[float], starts: Sequence[int], traits: Mapping[str, Sequence[str | None]]) -> Learned:
    """The forecast after these runs. It is to be used for an hour, so its errors are those of a forecast of that age."""
    trait, effects = _trait(logs, traits)
    rest = list(logs)
    if trait is not None:
        rest = [log - effects.get(value or "", 0.0) for log, value in zip(rest, traits[trait], strict=True)]
    season = _season(rest, starts)
    if season:
        rest = [log - season[hour_of_week(start)] for log, start in zip(rest, starts, strict=True)]
    an_hour = _HOUR_NS * len(rest) / max(starts[-1] - starts[0], 1)
    ahead = max(1, min(round(an_hour), _MOST_AHEAD))
    errors, width = _errors(rest, WIDTHS[-1], ahead), WIDTHS[-1]
    for narrower in WIDTHS[-2::-1]:
        others = _errors(rest, narrower, ahead)
        if _size(others) < _WORTH_A_WIDTH * _size(errors):
            errors, width = others, narrower
    level = median(rest[-width:])
    return Learned(Forecast(round(level, 5), trait, effects, season, _quantiles(errors)), errors, rest)


def regime(logs: Sequence[float], starts: Sequence[int], least: int) -> int:
    """Where what is usual began: after the last lasting change of the level, else 0.

    Nearly all runs since then lie beyond nearly all before, and they are of more than a day, so that a night is no change.
    """
    count = len(logs)
    step = max(1, count // 40)
    for place in range(count - least, least - 1, -step):
        if starts[-1] - starts[place] <= (_DAY_HOURS + 1) * _HOUR_NS:
            continue
        before, after = median(logs[:place]), median(logs[place:])
        if abs(after - before) < _CHANGE:
            continue
        border, sign = (before + after) / 2, 1.0 if after > before else -1.0
        strays_before = sum(sign * (log - border) > 0.0 for log in logs[:place])
        strays_after = sum(sign * (log - border) < 0.0 for log in logs[place:])
        if strays_before <= 0.05 * place and strays_after <= 0.05 * (count - place):
            return place
    return 0


_CHANGE = 0.2


def hour_of_week(time_ns: int) -> int:
    """0 to 167, from Monday 00:00 UTC on."""
    return (time_ns // _HOUR_NS + _MONDAY) % _WEEK_HOURS


def _trait(logs: Sequence[float], traits: Mapping[str, Sequence[str | None]]) -> tuple[str | None, dict[str, float]]:
    """What tells the runs apart best, if anything does, and the effect of each of its values."""
    centre = median(logs)
    offs = [log - centre for log in logs]
    best: tuple[float, str | None, dict[str, float]] = (_WORTH_A_TRAIT * _size(offs), None, {})
    for name, values in traits.items():
        groups: dict[str, list[float]] = {}
        for value, off in zip(values, offs, strict=True):
            groups.setdefault(value or "", []).append(off)
        effects = {value: median(group) for value, group in groups.items() if len(group) >= _LEAST_OF_TRAIT}
        if len(effects) <= 1:
            continue
        errors = [
            (off - effects[value]) * (1.0 + 1.0 / len(groups[value]))
            for off, value in ((off, value or "") for off, value in zip(offs, values, strict=True))
            if value in effects
        ]
        size = _size(errors)
        if size < best[0]:
            best = (size, name, {value: round(effect, 5) for value, effect in effects.items()})
    return best[1], best[2]


def _season(logs: Sequence[float], starts: Sequence[int]) -> tuple[float, ...]:
    """The effect of each hour of the week, drawn towards that of its hour of the day and of its day, and those towards none."""
    days = (starts[-1] - starts[0]) / (_DAY_HOURS * _HOUR_NS)
    if days < _DAYS_FOR_HOURS:
        return ()
    level = _around(logs)
    offs = [log - middle for log, middle in zip(logs, level, strict=True)]
    hours = [hour_of_week(start) for start in starts]
    season = [0.0] * _WEEK_HOURS
    slack = [0.0] * len(logs)
    kinds: list[Callable[[int], int]] = [lambda hour: hour % _DAY_HOURS]
    if days >= _DAYS_FOR_WEEK:
        kinds += [lambda hour: hour // _DAY_HOURS, lambda hour: hour]
    rest = offs
    for kind in kinds:
        effects, counts = _effects(rest, [kind(hour) for hour in hours], [start // (_DAY_HOURS * _HOUR_NS) for start in starts])
        season = [effect + effects.get(kind(hour), 0.0) for hour, effect in enumerate(season)]
        rest = [off - effects.get(kind(hour), 0.0) for off, hour in zip(rest, hours, strict=True)]
        slack = [more + 1.0 / (counts[kind(hour)] + _DRAWN) for more, hour in zip(slack, hours, strict=True)]
    size = _size([off * (1.0 + more) for off, more in zip(rest, slack, strict=True)])
    return tuple(round(effect, 5) for effect in season) if size < _WORTH_A_SEASON * _size(offs) else ()


def _effects(offs: Sequence[float], cells: Sequence[int], days: Sequence[int]) -> tuple[dict[int, float], dict[int, int]]:
    """The middle of each cell, drawn towards none the more the fewer days speak for it; and how many days those are."""
    by_cell: dict[int, dict[Hashable, list[float]]] = {}
    for off, cell, day in zip(offs, cells, days, strict=True):
        by_cell.setdefault(cell, {}).setdefault(day, []).append(off)
    counts = {cell: len(by_day) for cell, by_day in by_cell.items()}
    effects = {
        cell: median(median(group) for group in by_day.values()) * counts[cell] / (counts[cell] + _DRAWN)
        for cell, by_day in by_cell.items()
    }
    return effects, counts


def _around(logs: Sequence[float]) -> list[float]:
    """The middle of the runs around each."""
    return [median(logs[max(0, place - _AROUND) : place + _AROUND + 1]) for place in range(len(logs))]


def _errors(logs: Sequence[float], width: int, ahead: int) -> list[float]:
    """Each less the middle of `width` runs, the last of them `ahead` before it; of the first few, of the others among them."""
    first = min(len(logs), _FIRST)
    errors = [log - median([*logs[:place], *logs[place + 1 : first]]) for place, log in enumerate(logs[:first])]
    window = sorted(logs[:first])
    end = first
    for place in range(first, len(logs)):
        while end <= place - ahead:
            insort(window, logs[end])
            end += 1
        while len(window) > max(width, _FIRST):
            del window[bisect_left(window, logs[end - len(window)])]
        middle = (window[(len(window) - 1) // 2] + window[len(window) // 2]) / 2
        errors.append(logs[place] - middle)
    return errors


_FIRST = 10


def _quantiles(values: Sequence[float]) -> tuple[float, ...]:
    """All of them in order, or `_KEPT` that stand for them."""
    ordered = sorted(values)
    if len(ordered) > _KEPT:
        ordered = [ordered[round(place * (len(ordered) - 1) / (_KEPT - 1))] for place in range(_KEPT)]
    return tuple(round(value, 5) for value in ordered)


def _size(values: Sequence[float]) -> float:
    """The mean of what is wrong, whichever way."""
    return sum(map(abs, values)) / max(len(values), 1)
