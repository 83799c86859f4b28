"""What is usual is learned from history: hardly ever a false alarm, hardly ever a slowdown that is not found."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.histories import BEGIN_NS, EVERY, HOUR_S, KINDS, SECOND_NS, Job, Simulated
from wafermonitor.runs.bands import HISTORY, LEAST_RUNS, Band, Profile, profile

HOUR_NS = HOUR_S * SECOND_NS
NOW = BEGIN_NS + 10_000 * HOUR_NS


def runs(durations, every_ns=HOUR_NS, **given):
    """Good runs, one after another, so long (s)."""
    return [Simulated(BEGIN_NS + place * every_ns, duration, **given) for place, duration in enumerate(durations)]


def spread(count, middle=100.0, sigma=0.05, seed=1):
    """Durations around a middle."""
    chance = random.Random(seed)
    return [middle * math.exp(chance.gauss(0, sigma)) for _ in range(count)]


def band(history, at_ns=NOW, **traits) -> Band:
    found = profile(history, NOW).band(at_ns, **traits)
    assert found is not None
    return found


def test_too_few_good_runs_tell_nothing_about_the_next():
    history = runs(spread(LEAST_RUNS - 1)) + runs(spread(50), result="failure")
    few = profile(history, NOW)
    assert few.band(NOW) is None
    assert (few.runs, few.memory_bytes) == (LEAST_RUNS - 1, None)
    assert few.mid_s == pytest.approx(100, rel=0.1)
    assert profile(runs(spread(LEAST_RUNS)), NOW).band(NOW) is not None


def test_no_history_is_a_profile_too():
    assert profile([], NOW) == Profile(0, None, None, frozenset())


def test_a_band_has_two_sides_around_what_is_usual():
    found = band(runs(spread(200)))
    assert 70 < found.low_s < 90
    assert 95 < found.mid_s < 105
    assert 110 < found.high_s < 150
    assert found.count == 200


def test_runs_that_are_all_alike_may_still_differ_by_a_fifth():
    found = band(runs([60.0] * 100))
    assert (found.low_s, found.mid_s, found.high_s) == pytest.approx((60 * math.exp(-0.2), 60, 60 * math.exp(0.2)), rel=1e-4)


def test_few_runs_have_a_wider_band_than_many():
    assert band(runs(spread(10))).high_s > band(runs(spread(300))).high_s


def test_a_job_that_runs_often_has_a_wider_band_because_it_has_more_chances_to_leave_it():
    often, seldom = (band(runs(spread(300, sigma=0.1), every)) for every in (HOUR_NS // 12, 24 * HOUR_NS))
    assert often.high_s > seldom.high_s


def test_one_run_that_hung_does_not_hide_the_next():
    durations = spread(200)
    durations[50] = 5000.0
    assert band(runs(durations)).high_s < 150


@pytest.mark.parametrize("count", [72, 120, 240, 500])
def test_the_slow_and_hung_runs_of_the_past_do_not_hide_the_next_slow_one(count):
    durations = spread(count)
    for place in range(30, count, 100):
        durations[place] *= 2.0 + place % 7 / 7
    for place in range(60, count, 200):
        durations[place] += 1800.0
    assert band(runs(durations)).high_s < 180


@pytest.mark.parametrize("count", [120, 240, 500])
def test_what_one_of_twenty_runs_does_is_a_way_of_work(count):
    durations = [duration * (4 if place % 20 == 7 else 1) for place, duration in enumerate(spread(count))]
    found = band(runs(durations))
    assert found.low_s < 95
    assert 430 < found.high_s < 900


def test_stalls_beyond_a_way_of_work_do_not_reach_the_band():
    durations = [duration * (4 if place % 10 == 7 else 1) for place, duration in enumerate(spread(300))]
    durations[100] = durations[200] = 20_000.0
    assert 430 < band(runs(durations)).high_s < 900


def test_many_runs_that_take_long_each_in_its_own_way_are_usual():
    durations = spread(200)
    for number, place in enumerate(range(9, 200, 14)):
        durations[place] *= 2.0 * 1.6**number
    assert band(runs(durations)).high_s > 5000


def test_a_tail_that_falls_slowly_reaches_further_than_one_that_ends():
    """Equal but for the outer tenth, which exceeds the rest by as much in the mean."""
    body = [0.2 * place / 450 - 0.1 for place in range(450)]
    ranks = [(place + 0.5) / 50 for place in range(50)]
    slowly = [0.1 + 0.045 * ((1 - rank) ** -0.4 - 1) / 0.4 for rank in ranks]
    mean = sum(slowly) / 50 - 0.1
    ends = [0.1 + 2 * mean * rank for rank in ranks]
    reaches = []
    for tail in (slowly, ends):
        logs = body + tail
        random.Random(1).shuffle(logs)
        reaches.append(band(runs([100 * math.exp(log) for log in logs], HOUR_NS // 12)).high_s)
    assert reaches[0] > 1.2 * reaches[1]


def test_a_job_with_two_ways_has_one_band_over_both():
    chance = random.Random(1)
    found = band(runs([duration * (4 if chance.random() < 0.2 else 1) for duration in spread(300)]))
    assert found.low_s < 95
    assert 430 < found.high_s < 900


def test_recipes_that_take_different_times_have_bands_of_their_own():
    history = [
        run._replace(duration_s=(run.duration_s or 0) * factor, recipe=recipe)
        for place, run in enumerate(runs(spread(200)))
        for recipe, factor in [(("A", 1.0), ("B", 3.0))[place % 2]]
    ]
    a, b, unheard = band(history, recipe="A"), band(history, recipe="B"), band(history, recipe="C")
    assert a.high_s < 200 < b.low_s
    assert (unheard.low_s, unheard.high_s) == pytest.approx((a.low_s, b.high_s))


def test_hours_that_take_longer_have_bands_of_their_own():
    history = [
        run._replace(duration_s=(run.duration_s or 0) * (2.5 if place % 24 < 8 else 1.0))
        for place, run in enumerate(runs(spread(480)))
    ]
    midnight = BEGIN_NS + 1000 * 24 * HOUR_NS
    night, day = band(history, midnight + 3 * HOUR_NS), band(history, midnight + 12 * HOUR_NS)
    assert day.high_s < 180 < night.low_s < 260 < night.high_s


def test_what_lasts_becomes_usual_and_is_told_as_a_shift_until_then():
    before, slower = spread(300), spread(60, 200.0, seed=2)
    just_now = profile(runs(before + slower[:5]), NOW)
    assert just_now.shift is not None
    assert just_now.shift.factor == pytest.approx(2, rel=0.1)
    assert just_now.shift.since_ns == BEGIN_NS + 300 * HOUR_NS
    later = profile(runs(before + slower), NOW)
    assert later.shift is None
    found = later.band(NOW)
    assert found is not None
    assert found.low_s < 200 < found.high_s < 320


def test_a_speedup_is_a_shift_too():
    found = profile(runs(spread(300) + spread(6, 45.0)), NOW).shift
    assert found is not None
    assert found.factor == pytest.approx(0.45, rel=0.1)


def test_memory_and_errors_are_learned_from_the_same_runs():
    good = [run._replace(memory_bytes=10**9 + place) for place, run in enumerate(runs(spread(50)))]
    bad = runs([1.0, 2.0], result="failure", error_type="Oops", memory_bytes=10**12)
    found = profile(good + bad, NOW)
    assert found.error_types == {"Oops"}
    assert 10**9 < (found.memory_bytes or 0) < 2 * 10**9


def test_runs_after_now_are_not_known_yet():
    history = runs(spread(100))
    assert profile(history, history[49].start_ns) == profile(history[:50], history[49].start_ns)


def test_the_order_of_history_does_not_matter():
    history = runs(spread(100))
    assert profile(history[::-1], NOW) == profile(history, NOW)


def test_a_profile_is_the_same_after_it_was_kept_as_text():
    learned = profile(list(Job("seasonal", HOUR_S, 1).runs(500)), NOW)
    assert Profile.loads(learned.dumps()) == learned
    recipes = profile(list(Job("by recipe", HOUR_S, 1).runs(200)), NOW)
    assert Profile.loads(recipes.dumps()) == recipes
    assert Profile.loads(profile([], NOW).dumps()) == profile([], NOW)
    assert len(learned.dumps()) < 4096


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"runs": 1}', "null"])
def test_a_text_that_is_no_profile_is_refused(text):
    with pytest.raises(ValueError, match=r"profile|Expecting"):
        Profile.loads(text)


def test_nonsense_of_clocks_is_survived():
    found = profile(runs([0.0, -5.0, 1e-9, 1e12] * 5 + [None]), NOW)
    assert found.band(NOW) is not None


def alarms_of_a_month(kind, seed) -> int:
    """How many good runs of a month left their band; history is learned anew each day."""
    job = list(Job(kind, 4 * HOUR_S, seed).runs(360 + 180))
    alarms = 0
    for place in range(360, len(job)):
        run = job[place]
        if place % 6 == 0:
            learned = profile(job[max(0, place - HISTORY) : place], run.start_ns)
        found = learned.band(run.start_ns, recipe=run.recipe)
        assert found is not None
        alarms += run.result == "success" and not found.low_s <= run.duration_s <= found.high_s
    return alarms


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "stepping"])
def test_a_usual_month_raises_at_most_one_false_alarm(kind):
    assert sum(alarms_of_a_month(kind, seed) for seed in range(4)) <= 4


def test_a_lasting_change_by_a_third_is_told_and_soon_becomes_usual():
    assert 1 <= max(alarms_of_a_month("stepping", seed) for seed in range(4)) <= 12


@pytest.mark.slow
@pytest.mark.parametrize("every", ["hour", "day"])
def test_nearly_every_lasting_slowdown_by_two_is_found_within_ten_runs(every):
    tried = found = 0
    for kind in KINDS:
        for seed in range(4):
            job = list(Job(kind, EVERY[every], seed).runs(320))
            tried += 1
            found += is_found(job, 300)
    assert found / tried >= 0.95


def is_found(job, place):
    """Whether one of ten good runs from `place` on that take twice as long is above its band, or all are told as a shift."""
    learned = profile(job[:place], job[place].start_ns)
    slow = [run._replace(duration_s=run.duration_s * 2) for run in job[place:] if run.result == "success"][:10]
    for run in slow:
        usual = learned.band(run.start_ns, recipe=run.recipe)
        if usual is not None and run.duration_s > usual.high_s:
            return True
    return any(profile(job[:place] + slow[:count], slow[count - 1].start_ns).shift is not None for count in (5, 10))
