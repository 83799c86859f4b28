"""Why something did not come, or why it fails again and again: an expected run, a feed, a job. Sentences with numbers.

In: what `storage.causes` gathered. Out: an `Explanation`.  Called by: query (`/v1/alerts/{alert}/explain`), alerting (causes).

As in `explain`: worked out by rules, the same for the same data, and the conclusion is a person's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from wafermonitor.runs.alerts import ExpectedRun
from wafermonitor.runs.differences import all_suspects
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.explain import Explanation, Reason, ReasonKind, of_feed, of_suspect
from wafermonitor.runs.paths import Part, elapsed_s, is_bad
from wafermonitor.runs.records import Feed, Run
from wafermonitor.runs.state import SECOND_NS, Limits, State, clock_skew
from wafermonitor.runs.wording import spell_count, spell_duration, spell_list, spell_time

MAX_FEEDS = 3
MAX_ERRORS = 3


class Heard(NamedTuple):
    """A program, and when it was last heard of (ns)."""

    program: str
    last_ns: int


class Absence(NamedTuple):
    """An expected run and what is known around it. `last`: the job's runs, `before`: earlier expected runs, the newest first.

    `feeds` are those on which the job has run, `heard` its programs.
    """

    expected: ExpectedRun
    now_ns: int
    limits: Limits = Limits()
    feeds: Sequence[Feed] = ()
    last: Sequence[Part] = ()
    before: Sequence[ExpectedRun] = ()
    heard: Sequence[Heard] = ()


class Outage(NamedTuple):
    """A feed and the others of its site, and how many open runs cannot be judged because of it."""

    feed: Feed
    others: Sequence[Feed]
    unknown: int
    now_ns: int
    limits: Limits = Limits()


def explain_absence(case: Absence) -> Explanation:
    """Why an expected run is late, missed or unknown: what its feeds tell, when the job last ran, whether it still does."""
    reasons = [*_feeds(case.feeds, case.now_ns, case.limits), *_last_run(case), *_heard(case), *_record(case)]
    good = next((part.run.key for part in case.last if part.run.result == "success"), None)
    return Explanation(_absent(case), tuple(reasons), good)


def explain_outage(case: Outage) -> Explanation:
    """Whether a feed is alone in being behind, and what cannot be known because of it."""
    feed, others = case.feed, [one for one in case.others if one.watermark_ns is not None]
    if feed.watermark_ns is None:
        return Explanation(f"Feed {feed.feed} of site {feed.site} has never told how far it is.")
    headline = of_feed(feed, feed.watermark_ns, case.now_ns, case.limits).text
    behind = [one for one in others if _is_behind(one, case.now_ns, case.limits)]
    numbers = {"others": float(len(others)), "others_behind": float(len(behind))}
    if not others:
        text = f"It is the only feed of site {feed.site}: whether its host or the site's link is down, the site alone can tell."
    elif len(behind) == len(others):
        every = f"All {len(others)} other feeds" if len(others) > 1 else "The other feed"
        text = f"{every} of the site {'are' if len(others) > 1 else 'is'} behind, too: the site's link."
    else:
        up = len(others) - len(behind)
        which = (
            "The other feed of the site tells" if len(others) == 1 else f"{up} of {len(others)} other feeds of the site tell"
        )
        text = f"{which} of now: it is this host or its Collector."
    reasons = [Reason(ReasonKind.FEED, text, numbers)]
    if case.unknown:
        words = spell_count(case.unknown, "open run")
        reasons.append(Reason(ReasonKind.LIVENESS, f"{words} of it cannot be judged.", {"runs": float(case.unknown)}))
    return Explanation(headline, tuple(reasons))


def explain_job(job: str, runs: Sequence[Run]) -> Explanation:
    """How a job's last runs (newest first) failed: with which errors, together with what, since when."""
    ended = [run for run in runs if run.ended]
    failed = [run for run in ended if is_bad(run)]
    if not ended:
        return Explanation(f"No run of {job} that ended is known.")
    headline = f"{len(failed)} of the last {spell_count(len(ended), 'run')} of {job} failed."
    good = next((run for run in ended if run.result == "success"), None)
    return Explanation(headline, tuple(_failures(ended, failed)), None if good is None else good.key)


def explain_site(site: str, feeds: Sequence[Feed], heard: Sequence[Heard], now_ns: int, limits: Limits) -> Explanation:
    """What the feeds of a site tell, and when its programs were last heard of."""
    newest = sorted(heard, key=lambda one: (-one.last_ns, one.program))[:MAX_FEEDS]
    told = [f"{one.program} {_ago(one.last_ns, now_ns)}" for one in newest]
    reasons = list(_feeds(feeds, now_ns, limits))
    if told:
        reasons.append(Reason(ReasonKind.HISTORY, f"Its programs were last heard of: {spell_list(told)}."))
    behind = sum(_is_behind(feed, now_ns, limits) for feed in feeds)
    if feeds and behind == len(feeds):
        return Explanation(f"Site {site} cannot be heard: every feed of it is behind.", tuple(reasons))
    return Explanation(f"Site {site} can be heard." if feeds else f"Site {site} has no feed that tells.", tuple(reasons))


def _absent(case: Absence) -> str:
    expected, due = case.expected, case.expected.due
    what = f"{expected.job} for {expected.subject}" if expected.subject else expected.job
    when = f"it was due at {spell_time(due.nominal_ns)}"
    ago = f"{when}, {_ago(due.nominal_ns, case.now_ns)}"
    if expected.state is ExpectedState.MET and expected.start_ns is not None:
        late_s = (expected.start_ns - due.nominal_ns) / SECOND_NS
        if expected.start_ns > due.late_ns:
            return f"{what} came {spell_duration(late_s)} late: {when}."
        return f"{what} came in time: {when}."
    if expected.state is ExpectedState.MISSED:
        return f"{what} did not run: {ago}."
    if expected.state is ExpectedState.LATE:
        return f"{what} has not started: {ago}."
    if expected.state is ExpectedState.UNKNOWN:
        return f"Nobody can know whether {what} started: {ago}, and not everything has been told since."
    return f"{what} is not late: it is due at {spell_time(due.nominal_ns)}."


def _feeds(feeds: Sequence[Feed], now_ns: int, limits: Limits) -> Iterator[Reason]:
    """Those that are behind first."""
    known = [(feed, feed.watermark_ns) for feed in feeds if feed.watermark_ns is not None]
    for feed, watermark_ns in sorted(known, key=lambda pair: (pair[1] + clock_skew(pair[0]), pair[0].feed))[:MAX_FEEDS]:
        yield of_feed(feed, watermark_ns, now_ns, limits)


def _last_run(case: Absence) -> Iterator[Reason]:
    due, job = case.expected.due, case.expected.job
    if not case.last:
        yield Reason(ReasonKind.HISTORY, f"No run of {job} is known.")
        return
    run, state = case.last[0]
    taken_s = elapsed_s(run, case.now_ns)
    numbers = {} if taken_s is None else {"taken_s": taken_s}
    began = "at an unknown time" if run.start_ns is None else f"at {spell_time(run.start_ns)}"
    if run.start_ns is not None:
        before_s = (due.nominal_ns - run.start_ns) / SECOND_NS
        numbers["before_s"] = before_s
        began += f", {spell_duration(before_s)} {'before' if before_s >= 0 else 'after'} this one was due"
    if not run.ended:
        words = "is still running" if state is State.RUNNING else f"is {state.value}"
        lasting = "" if taken_s is None else f" for {spell_duration(taken_s)}"
        text = f"The run before it, begun {began}, has not ended: it {words}{lasting}."
        yield Reason(ReasonKind.HISTORY, text, numbers, run.key)
        return
    after = "" if taken_s is None else f" after {spell_duration(taken_s)}"
    error = f" with {run.error_type}" if run.error_type else ""
    outcome = f"failed{error}" if is_bad(run) else f"ended with {run.result}"
    yield Reason(ReasonKind.HISTORY, f"{job} last ran {began}, and {outcome}{after}.", numbers, run.key)


def _heard(case: Absence) -> Iterator[Reason]:
    for one in sorted(case.heard, key=lambda one: (-one.last_ns, one.program))[:1]:
        ago_s = max(0.0, (case.now_ns - one.last_ns) / SECOND_NS)
        text = f"Its program {one.program} was last heard of {_ago(one.last_ns, case.now_ns)}."
        yield Reason(ReasonKind.LIVENESS, text, {"ago_s": ago_s})


def _record(case: Absence) -> Iterator[Reason]:
    """How the expected runs before it went."""
    told = [one for one in case.before if one.state in {ExpectedState.MET, ExpectedState.MISSED}]
    if not told:
        return
    missed = [one for one in told if one.state is ExpectedState.MISSED]
    late = [one for one in told if one.start_ns is not None and one.start_ns > one.due.late_ns]
    text = f"Of the {len(told)} expected runs before it, {len(missed)} did not come and {len(late)} came late"
    streak = sum(1 for _ in takewhile(lambda one: one.state is ExpectedState.MISSED, told))
    text += f"; the last {streak} did not come." if streak > 1 else "; the last did not come." if streak else "."
    numbers = {"before": float(len(told)), "missed": float(len(missed)), "late": float(len(late)), "streak": float(streak)}
    yield Reason(ReasonKind.HISTORY, text, numbers)


def _failures(ended: Sequence[Run], failed: Sequence[Run]) -> Iterator[Reason]:
    if not failed:
        return
    errors = Counter(run.error_type or "no error type" for run in failed)
    ranked = sorted(errors.items(), key=lambda item: (-item[1], item[0]))
    more = len(ranked) - MAX_ERRORS
    told = [f"{count} with {error}" for error, count in ranked[:MAX_ERRORS]] + ([f"{more} other errors"] if more > 0 else [])
    yield Reason(ReasonKind.ERROR, f"They failed: {spell_list(told)}.", {"errors": float(len(ranked))}, failed[0].key)
    for one in all_suspects(ended)[:2]:
        yield of_suspect(one)
    streak = list(takewhile(is_bad, ended))
    first = streak[-1] if streak else None
    if first is not None and first.start_ns is not None and len(streak) > 1:
        text = f"The last {len(streak)} runs failed, the first of them begun at {spell_time(first.start_ns)}."
        yield Reason(ReasonKind.HISTORY, text, {"streak": float(len(streak))}, first.key)


def _is_behind(feed: Feed, now_ns: int, limits: Limits) -> bool:
    if feed.watermark_ns is None:
        return False
    return (now_ns - clock_skew(feed) - feed.watermark_ns) / SECOND_NS > limits.margin_s + limits.behind_s


def _ago(at_ns: int, now_ns: int) -> str:
    elapsed = (now_ns - at_ns) / SECOND_NS
    return f"{spell_duration(elapsed)} ago" if elapsed >= 0 else f"in {spell_duration(elapsed)}"
