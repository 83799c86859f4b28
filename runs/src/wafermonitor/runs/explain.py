"""Why a run is as it is: sentences with numbers, worked out by rules from what is known. The same case gives the same words.

In: a `Case` (the run, its subjobs, the runs of its job before it; `storage.cohort` gathers it). Out: an `Explanation`.
Called by: query (`/v1/jobs/{run}/explain`), alerting (the cause of an alert).

An explanation says what is so, never what must be the reason: it compares with runs that went well and leaves the conclusion
to a person. It names nothing that it was not given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import takewhile
from statistics import median
from typing import NamedTuple

from wafermonitor.runs import differences
from wafermonitor.runs.differences import Place, Suspect
from wafermonitor.runs.paths import Path, Stretch, Tree, critical_path, elapsed_s, first_failure, is_bad, stretches, walk
from wafermonitor.runs.records import Feed, Run, RunKey
from wafermonitor.runs.state import SECOND_NS, Limits, State, clock_skew, clocks, last_sign
from wafermonitor.runs.wording import spell_bytes, spell_count, spell_duration, spell_list, spell_part, spell_time, spell_times

LEAST_PEERS = 3
"""Fewer good runs than these say nothing about how long is usual."""
_SLOW, _SHORT = 1.25, 0.5
"""Slow: above this many times the middle, and above nine of ten good runs. Short alike, below."""
_TELLING = 0.5
"""A subjob's subjob is named in its place when it has at least this share of the extra time."""
_MUCH_MEMORY = 1.5
_MAX_WORDS = 300


class ReasonKind(StrEnum):
    """What a sentence is about."""

    OUTCOME = "outcome"
    LIVENESS = "liveness"
    SUBJOB = "subjob"
    ERROR = "error"
    DURATION = "duration"
    CHANGE = "change"
    HISTORY = "history"
    FEED = "feed"


class Reason(NamedTuple):
    """One sentence and the numbers in it (their units in their names). `run` is the other run that it is about."""

    kind: ReasonKind
    text: str
    numbers: Mapping[str, float] = {}
    run: RunKey | None = None


class Explanation(NamedTuple):
    """A headline and the reasons, the most telling first; `cohort` good runs were compared with, `good_run` is the last."""

    headline: str
    reasons: tuple[Reason, ...] = ()
    good_run: RunKey | None = None
    cohort: int = 0

    @property
    def cause(self) -> str | None:
        """The two most telling sentences, for an alert: the headline says what the alert says itself."""
        return " ".join(reason.text for reason in self.reasons[:2]) or None


class Mates(NamedTuple):
    """Other open runs: silent or lost ones of the same process, living ones of it, living ones of the same feed."""

    silent: int = 0
    alive: int = 0
    alive_on_feed: int = 0


class Case(NamedTuple):
    """All that is known of a run. `recent` are runs of its job that began before it, `peers` good ones, the newest first.

    `said` is the message of the exception in the run that failed first. `place` and `good_place` say where the run and the
    newest of the peers ran.
    """

    tree: Tree
    now_ns: int
    limits: Limits = Limits()
    overdue: bool = False
    feed: Feed | None = None
    place: Place = Place()
    recent: Sequence[Run] = ()
    peers: Sequence[Tree] = ()
    good_place: Place = Place()
    said: str | None = None
    mates: Mates = Mates()

    @property
    def run(self) -> Run:
        """The run itself."""
        return self.tree.top.run

    @property
    def job(self) -> str:
        """What it is called in a sentence."""
        return self.run.job or "this run"


class Usual(NamedTuple):
    """How long good runs took: the middle, nine of ten at least, nine of ten at most (s), and how many there are."""

    mid_s: float
    low_s: float
    high_s: float
    runs: int


def explain(case: Case) -> Explanation:
    """Why the run failed, is slow, late, silent or lost; or that it is as usual."""
    top = case.tree.top
    usual = usual_durations(case.peers)
    headline = _headline(case, usual)
    if top.state is not State.ENDED:
        reasons = [*_liveness(case), *_progress(case), *_memory(case), *_slowness(case, usual)]
        troubled = top.state is not State.RUNNING or case.overdue or is_slow(elapsed_s(top.run, case.now_ns), usual)
        reasons += [*_companions(case), *_comparison(case)] if troubled else []
    elif is_bad(top.run):
        reasons = [*_failure(case), *_history(case), *_companions(case), *_comparison(case), *_memory(case)]
        reasons += _slowness(case, usual)
    else:
        reasons = [*_slowness(case, usual), *_missing(case, usual)]
        reasons += _comparison(case) if reasons else []
    good_run = case.peers[0].top.run.key if case.peers else None
    return Explanation(headline, tuple(reasons), good_run, len(case.peers))


def usual_durations(peers: Sequence[Tree]) -> Usual | None:
    """How long the good runs took; None where they are too few."""
    known = sorted(taken for peer in peers if (taken := elapsed_s(peer.top.run, 0)) is not None)
    if len(known) < LEAST_PEERS:
        return None
    edge = len(known) // 10
    return Usual(median(known), known[edge], known[-1 - edge], len(known))


def _headline(case: Case, usual: Usual | None) -> str:
    run, state = case.run, case.tree.top.state
    taken_s = elapsed_s(run, case.now_ns)
    after = "" if taken_s is None else f" after {spell_duration(taken_s)}"
    if state is State.ENDED:
        return _ended(case, usual, after, taken_s)
    if state is State.UNKNOWN:
        return f"Nobody can know how {case.job} is: its feed is behind."
    if state in {State.LOST, State.SILENT}:
        return f"{case.job} is {state.value}: nothing was heard of it for {spell_duration(_quiet_s(case))}."
    running = f"{case.job} is running" + ("" if taken_s is None else f" for {spell_duration(taken_s)}")
    if slow := _slow_words(taken_s, usual):
        return f"{running}: {slow}."
    return f"{running} and is overdue." if case.overdue else f"{running}, as usual." if usual else f"{running}."


def _ended(case: Case, usual: Usual | None, after: str, taken_s: float | None) -> str:
    run = case.run
    if is_bad(run):
        chain = first_failure(case.tree)
        where = f": {_called(chain[-1].run)} failed first" if chain else ""
        verb = {"failure": "failed", "timeout": "ran out of time"}.get(run.result or "", "was ended by an error")
        return f"{case.job} {verb}{after}{where}."
    verb = {"success": "ended well", "cancellation": "was cancelled", "skip": "was skipped"}.get(run.result or "", "ended")
    if slow := _slow_words(taken_s, usual):
        return f"{case.job} {verb}{after}: {slow}."
    if usual is not None and is_short(taken_s, usual):
        return f"{case.job} {verb}{after} already: usual is {spell_duration(usual.mid_s)}."
    return f"{case.job} {verb}{after}{', as usual' if usual else ''}."


def is_slow(taken_s: float | None, usual: Usual | None) -> bool:
    """Longer than the middle by a quarter and than nine of ten good runs."""
    return taken_s is not None and usual is not None and taken_s > max(_SLOW * usual.mid_s, usual.high_s)


def is_short(taken_s: float | None, usual: Usual | None) -> bool:
    """Shorter than half the middle and than nine of ten good runs."""
    return taken_s is not None and usual is not None and taken_s < min(_SHORT * usual.mid_s, usual.low_s)


def _slow_words(taken_s: float | None, usual: Usual | None) -> str | None:
    if taken_s is None or usual is None or not is_slow(taken_s, usual):
        return None
    return f"{spell_times(taken_s / usual.mid_s)} its usual {spell_duration(usual.mid_s)}"


def _quiet_s(case: Case) -> float:
    sign_ns = last_sign(case.run)
    return 0.0 if sign_ns is None else (clocks(case.feed, case.now_ns, case.limits)[0] - sign_ns) / SECOND_NS


def _liveness(case: Case) -> Iterator[Reason]:
    """When it was last heard of, by whom, and who else of its process and feed still is."""
    run, state = case.run, case.tree.top.state
    sign_ns = last_sign(run)
    if state is State.RUNNING or sign_ns is None:
        return
    numbers = {"quiet_s": _quiet_s(case)}
    interval_s = run.heartbeat_interval_s or run.process_interval_s
    text = f"Its last sign is of {spell_time(sign_ns)}"
    if interval_s:
        numbers["heartbeat_interval_s"] = interval_s
        text += f", though it should come every {spell_duration(interval_s)}"
    yield Reason(ReasonKind.LIVENESS, f"{text}.", numbers)
    yield from _of_feed(case)
    if state is not State.UNKNOWN:
        yield _of_process(case)


def _of_feed(case: Case) -> Iterator[Reason]:
    if case.feed is None or case.feed.watermark_ns is None:
        yield Reason(ReasonKind.FEED, "No feed tells how far it has been heard: a cut link would look the same.")
    else:
        yield of_feed(case.feed, case.feed.watermark_ns, case.now_ns, case.limits)


def of_feed(feed: Feed, watermark_ns: int, now_ns: int, limits: Limits) -> Reason:
    """Whether a feed's link is up."""
    behind_s = max(0.0, (now_ns - clock_skew(feed) - watermark_ns) / SECOND_NS)
    if behind_s > limits.margin_s + limits.behind_s:
        text = f"Feed {feed.feed} of site {feed.site} is behind since {spell_time(watermark_ns)}."
    else:
        text = f"Feed {feed.feed} of site {feed.site} tells of times up to {spell_duration(behind_s)} ago: the link is up."
    return Reason(ReasonKind.FEED, text, {"behind_s": behind_s})


def _of_process(case: Case) -> Reason:
    place, mates = case.place, case.mates
    where = "" if place.host is None else f" on host {place.host}"
    process = "Its process" if place.pid is None else f"Its process {place.pid}"
    numbers = {"silent": float(mates.silent), "alive": float(mates.alive), "alive_on_feed": float(mates.alive_on_feed)}
    if mates.alive:
        text = f"{process}{where} is alive: {spell_count(mates.alive, 'other run')} of it {_is(mates.alive)} heard of."
    elif mates.silent:
        text = f"{process}{where} is silent as a whole: {spell_count(mates.silent, 'other run')} of it, too."
    else:
        text = f"{process}{where} has not been heard of since either."
    if mates.alive_on_feed and not mates.alive:
        others = spell_count(mates.alive_on_feed, "run")
        text = f"{text[:-1]}, while {others} of other processes of the feed {_is(mates.alive_on_feed)} going on."
    return Reason(ReasonKind.LIVENESS, text, numbers)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _progress(case: Case) -> Iterator[Reason]:
    """How far it had come, and which subjobs it is in."""
    progress, run = case.run.progress, case.run
    if progress is not None:
        parts = [] if progress.ratio is None else [f"{progress.ratio:.0%}"]
        if progress.completed is not None and progress.total:
            parts.append(spell_part(progress.completed, progress.total, progress.unit))
        parts += [f"stage {progress.stage}"] if progress.stage else []
        ago_s = max(0.0, (case.now_ns - progress.at_ns) / SECOND_NS)
        numbers = {"ago_s": ago_s} | ({} if progress.ratio is None else {"ratio": progress.ratio})
        if parts:
            yield Reason(ReasonKind.OUTCOME, f"It had come to {', '.join(parts)} by {spell_duration(ago_s)} ago.", numbers)
    inside = [part.run for _, part in walk(case.tree) if not part.run.ended]
    if inside:
        oldest = min(inside, key=lambda one: (one.start_ns or 0, one.span_id))
        more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
        yield Reason(ReasonKind.SUBJOB, f"It is in {_called(oldest)}{more}.", {"open_subjobs": float(len(inside))}, oldest.key)
    if run.deadline_ns is not None and case.now_ns > run.deadline_ns:
        over_s = (case.now_ns - run.deadline_ns) / SECOND_NS
        text = f"Its deadline, {spell_time(run.deadline_ns)}, is over by {spell_duration(over_s)}."
        yield Reason(ReasonKind.DURATION, text, {"over_s": over_s})
    elif case.overdue and run.expected_duration_s is not None:
        text = f"It announced that it would take {spell_duration(run.expected_duration_s)}."
        yield Reason(ReasonKind.DURATION, text, {"expected_s": run.expected_duration_s})


def _failure(case: Case) -> Iterator[Reason]:
    """Which subjob failed first, with what, and how many did."""
    run, chain = case.run, first_failure(case.tree)
    failed = [part for _, part in walk(case.tree) if is_bad(part.run)]
    if chain:
        last = chain[-1].run
        path = " in ".join(_called(part.run) for part in reversed(chain))
        at = "" if last.end_ns is None else f" at {spell_time(last.end_ns)}"
        text = f"{path[:1].upper()}{path[1:]} failed first{_with(last)}{at}."
        yield Reason(ReasonKind.SUBJOB, text, {"failed_subjobs": float(len(failed))}, last.key)
        if len(failed) > len(chain):
            everyone = sum(1 for _ in walk(case.tree))
            text = f"{len(failed)} of {everyone} subjobs failed."
            yield Reason(ReasonKind.SUBJOB, text, {"failed_subjobs": float(len(failed)), "subjobs": float(everyone)})
    elif case.tree.below.get(run.span_id):
        yield Reason(ReasonKind.OUTCOME, f"None of its subjobs failed: it failed itself{_with(run)}.")
    elif run.error_type:
        yield Reason(ReasonKind.ERROR, f"It failed{_with(run)}.")
    if case.said:
        yield Reason(ReasonKind.ERROR, f"It said: {_cut(case.said)}")
    if run.attempt is not None and run.attempt > 1:
        yield Reason(ReasonKind.OUTCOME, f"This was attempt {run.attempt}.", {"attempt": float(run.attempt)})


def _history(case: Case) -> Iterator[Reason]:
    """How often this error was seen, and whether the runs just before failed, too."""
    ended = [one for one in case.recent if one.ended]
    if case.run.job is None:
        return
    if not ended:
        yield Reason(ReasonKind.HISTORY, f"No run of {case.job} before it is known.")
        return
    failed = [one for one in ended if is_bad(one)]
    error = case.run.error_type
    numbers = {"runs": float(len(ended)), "failed": float(len(failed))}
    if error is not None:
        same = [one for one in failed if one.error_type == error]
        numbers["same_error"] = float(len(same))
        if same:
            text = f"{error} ended {len(same)} of the last {spell_count(len(ended), 'run')} before it, {_when(same[0])}."
            yield Reason(ReasonKind.HISTORY, text, numbers, same[0].key)
        else:
            text = f"{error} is new: it ended none of the last {spell_count(len(ended), 'run')} before it."
            yield Reason(ReasonKind.ERROR, text, numbers)
    streak = sum(1 for _ in takewhile(is_bad, ended))
    if streak:
        text = f"The {'run' if streak == 1 else f'{streak} runs'} just before it failed, too."
    elif error is None:
        text = f"{len(failed)} of the last {spell_count(len(ended), 'run')} before it failed."
    else:
        return
    yield Reason(ReasonKind.HISTORY, text, numbers | {"streak": float(streak)}, ended[0].key)


def _companions(case: Case) -> Iterator[Reason]:
    """With what else of this run most runs fail."""
    for one in differences.suspects(case.run, case.recent)[:2]:
        yield of_suspect(one)


def of_suspect(one: Suspect) -> Reason:
    """A value with which runs fail that go well without it."""
    text = (
        f"With {one.fact} {one.value} {one.failed} of {spell_count(one.runs, 'run')} failed, "
        f"with others {one.failed_elsewhere} of {one.runs_elsewhere}."
    )
    numbers = {
        "failed": float(one.failed),
        "runs": float(one.runs),
        "failed_elsewhere": float(one.failed_elsewhere),
        "runs_elsewhere": float(one.runs_elsewhere),
    }
    return Reason(ReasonKind.CHANGE, text, numbers)


def _comparison(case: Case) -> Iterator[Reason]:
    """What is another than in the last good run."""
    if not case.peers:
        if case.recent:
            yield Reason(ReasonKind.HISTORY, f"No good run of {case.job} is known to compare with.")
        return
    good = [peer.top.run for peer in case.peers]
    found = differences.changes(case.run, case.place, good, case.good_place)
    if found:
        told = [
            f"{one.fact.removeprefix(differences.PARAMETER)} {one.before or 'none'} → {one.after or 'none'}"
            + (" (as in other good runs)" if one.seen else "")
            for one in found
        ]
        text = f"Other than in the last good run ({_started(good[0])}): {', '.join(told)}."
        yield Reason(ReasonKind.CHANGE, text, {"changes": float(len(found))}, good[0].key)
    else:
        facts = spell_list(differences.known_facts(case.run, case.place))
        same = f"{facts} are the same" if " and " in facts else f"{facts} is the same" if facts else "nothing else is known"
        text = f"Nothing known is other than in the last good run ({_started(good[0])}): {same}."
        yield Reason(ReasonKind.CHANGE, text, {"changes": 0.0}, good[0].key)


def _memory(case: Case) -> Iterator[Reason]:
    usual = [peer.top.run.memory_bytes for peer in case.peers if peer.top.run.memory_bytes]
    used = case.run.memory_bytes
    if used and len(usual) >= LEAST_PEERS and used > _MUCH_MEMORY * median(usual):
        middle = median(usual)
        text = f"It used {spell_bytes(used)} of memory; usual is {spell_bytes(middle)}."
        yield Reason(ReasonKind.CHANGE, text, {"memory_bytes": float(used), "usual_bytes": float(middle)})


def _slowness(case: Case, usual: Usual | None) -> Iterator[Reason]:
    """Which subjob took how much longer than it does in good runs, and what the end waited for."""
    taken_s = elapsed_s(case.run, case.now_ns)
    timed_out = case.run.result == "timeout"
    if taken_s is None or not (timed_out or is_slow(taken_s, usual)):
        return
    if usual is not None:
        verb = "It took" if case.run.ended else "By now it has taken"
        text = f"{verb} {spell_duration(taken_s)}; good runs take {_range(usual)} ({usual.runs} runs)."
        yield Reason(
            ReasonKind.DURATION, text, {"taken_s": taken_s, "low_s": usual.low_s, "mid_s": usual.mid_s, "high_s": usual.high_s}
        )
        yield from _slow_subjob(case, taken_s - usual.mid_s)
    yield from _waited_for(case, taken_s)


def _range(usual: Usual) -> str:
    low, high = spell_duration(usual.low_s), spell_duration(usual.high_s)
    return low if low == high else f"{low} to {high}"


def _slow_subjob(case: Case, extra_s: float) -> Iterator[Reason]:
    """The subjobs that took longer than in good runs: the greatest extra time, and where in it most of that is."""
    now = stretches(case.tree, case.now_ns)
    before = [stretches(peer, 0) for peer in case.peers]
    extra = {path: stretch.busy_s - _usual_busy(before, path) for path, stretch in now.items()}
    path = _costliest(extra, (), 0.0)
    if path is None or extra[path] < _TELLING * extra_s:
        if now:
            yield Reason(ReasonKind.SUBJOB, "The extra time is in the run itself, not in its subjobs.", {"extra_s": extra_s})
        return
    while (inner := _costliest(extra, path, _TELLING * extra[path])) is not None:
        path = inner
    stretch, name = now[path], " › ".join(path)
    counts = [found[path].runs for found in before if path in found]
    usual_s = _usual_busy(before, path)
    numbers = {"busy_s": stretch.busy_s, "usual_s": usual_s, "runs": float(stretch.runs)}
    if not counts:
        text = f"Subjob {name} took {spell_duration(stretch.busy_s)}; good runs have none."
    else:
        numbers["usual_runs"] = float(median(counts))
        text = (
            f"Subjob {name} took {spell_duration(stretch.busy_s)}, {spell_duration(stretch.busy_s - usual_s)} longer than the "
            f"usual {spell_duration(usual_s)}"
        ) + _spread(stretch, median(counts))
    yield Reason(ReasonKind.SUBJOB, text, numbers, stretch.longest.key)


def _spread(stretch: Stretch, usual_runs: float) -> str:
    """Whether it is more of them, one of them, or all of them."""
    if stretch.runs > _SLOW * usual_runs:
        return f": {stretch.runs} of it ran, usually {usual_runs:g}."
    if stretch.runs > 1 and stretch.longest_s > _TELLING * stretch.busy_s:
        return f": {_called(stretch.longest)} alone took {spell_duration(stretch.longest_s)}."
    return f" ({stretch.runs} runs)." if stretch.runs > 1 else "."


def _waited_for(case: Case, taken_s: float) -> Iterator[Reason]:
    """The greatest step of the critical path."""
    steps = critical_path(case.tree, case.now_ns)
    if len(steps) < 2 or not taken_s:  # noqa: PLR2004 - a run without subjobs waited for itself, which says nothing
        return
    told = [f"{' › '.join(step.path) or 'the run itself'} {spell_duration(step.own_s)}" for step in steps[:3] if step.own_s > 0]
    text = f"On its critical path: {', '.join(told)} of {spell_duration(taken_s)}."
    yield Reason(ReasonKind.DURATION, text, {"longest_s": steps[0].own_s, "taken_s": taken_s}, steps[0].longest.key)


def _missing(case: Case, usual: Usual | None) -> Iterator[Reason]:
    """A run that ended well much too soon: which subjobs it did not have."""
    taken_s = elapsed_s(case.run, case.now_ns)
    if not is_short(taken_s, usual):
        return
    now = stretches(case.tree, case.now_ns)
    before = [stretches(peer, 0) for peer in case.peers]
    for path in sorted({path for found in before for path in found}):
        counts = [found[path].runs if path in found else 0 for found in before]
        here = now[path].runs if path in now else 0
        if here < median(counts):
            text = f"It ran {here} of subjob {' › '.join(path)}, usually {median(counts):g}."
            yield Reason(ReasonKind.SUBJOB, text, {"runs": float(here), "usual_runs": float(median(counts))})
            return


def _usual_busy(before: Sequence[Mapping[Path, Stretch]], path: Path) -> float:
    known = [found[path].busy_s for found in before if path in found]
    return median(known) if known else 0.0


def _costliest(extra: Mapping[Path, float], above: Path, least_s: float) -> Path | None:
    """The direct subjobs of `above` with the greatest extra time, more than `least_s`."""
    direct = [path for path in extra if len(path) == len(above) + 1 and path[:-1] == above and extra[path] > least_s]
    return min(direct, key=lambda path: (-extra[path], path), default=None)


def _called(run: Run) -> str:
    """A subjob in a sentence: its job, and the wafer or lot or run id that tells it from its like."""
    names = run.substrate_ids or run.lot_ids or ((run.run_id,) if run.run_id else ())
    return f"subjob {run.job or '?'}" + (f" ({names[0]})" if len(names) == 1 else "")


def _with(run: Run) -> str:
    return f" with {run.error_type}" if run.error_type else ""


def _when(run: Run) -> str:
    at_ns = run.end_ns or run.start_ns
    return "last at an unknown time" if at_ns is None else f"last at {spell_time(at_ns)}"


def _started(run: Run) -> str:
    return "of an unknown time" if run.start_ns is None else spell_time(run.start_ns)


def _cut(words: str) -> str:
    line = " ".join("".join(one if one.isprintable() else " " for one in words).split())
    return line if len(line) <= _MAX_WORDS else f"{line[:_MAX_WORDS]}…"
