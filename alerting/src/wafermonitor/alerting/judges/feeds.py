"""The ways in: feeds that are behind, records that come late, clocks that are wrong.

In: a rule and a snapshot. Out: findings. Called by: `judges.judge`.

One alert for one outage: a feed is behind from when its watermark lags more than its margin allows until it has caught up,
however unevenly its queue drains. Late records of a feed that beats are that feed's lag; of others they are judged themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from wafermonitor.alerting.judges.findings import (
    again,
    finding,
    heard_until,
    lag_s,
    open_alerts,
    rfc3339,
    seconds,
    since,
    spoken,
)
from wafermonitor.alerting.judges.kinds import Kind, Limit
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.alerts import Finding, Subject
from wafermonitor.runs.state import SECOND_NS, clock_skew

FORGET = Limit("forget_s", 604_800.0, "a feed that never comes back is forgotten after this long")
CAUGHT_UP = Limit("caught_up", 0.5, "it has caught up when it is behind by less than this part of what opened the alert")
OVER = Limit("over_s", 300.0, "records arrive this long after what they tell of")
FEEDS = Limit("feeds_least", 3.0, "of fewer feeds than these nothing can be said about all")
SHARE = Limit("share", 0.5, "more than this part of the feeds is behind by `over_s`")
LASTS = Limit("lasts_s", 3_600.0, "an alert about a site without beats is over when no late record came for this long")
WRONG = Limit("over_s", 60.0, "a feed's clock is off by more than this")


def feed_behind(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Feeds that nobody hears, or not in time."""
    limits = snapshot.limits
    opens_s = limits.margin_s + limits.behind_s
    for feed in snapshot.feeds.values():
        heard_ns = heard_until(feed)
        if heard_ns is None:
            continue
        subject = Subject(site=feed.site, feed=feed.feed)
        behind_s = lag_s(feed, snapshot.now_ns)
        is_open = Finding(rule.name, rule.severity, subject, 0, "").fingerprint in snapshot.alerts
        if not (opens_s * CAUGHT_UP.of(rule) if is_open else opens_s) < behind_s <= FORGET.of(rule):
            continue
        since_ns = since(rule, snapshot, subject, heard_ns)
        dark = behind_s > limits.dark_s
        words = "given up: its runs count as lost, what it should have run as missed" if dark else "what it runs is unknown"
        summary = f"Feed {feed.feed} of site {feed.site} is behind since {rfc3339(since_ns)} ({spoken(behind_s)}); {words}"
        yield finding(rule, subject, since_ns, summary, {"behind_s": round(behind_s, 1), "dark": dark})


def ingestion_lag(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Most feeds are behind at once (then it is not their links), or records of sites without beats come late."""
    over_s = OVER.of(rule)
    lags = sorted(lag_s(feed, snapshot.now_ns) for feed in snapshot.feeds.values() if feed.watermark_ns is not None)
    known = [lag for lag in lags if lag <= snapshot.limits.dark_s]
    behind = [lag for lag in known if lag > over_s]
    if len(known) >= FEEDS.of(rule) and len(behind) > SHARE.of(rule) * len(known):
        subject = Subject()
        since_ns = since(rule, snapshot, subject, snapshot.now_ns - round(min(behind) * SECOND_NS))
        summary = f"{len(behind)} of {len(known)} feeds are behind by {spoken(min(behind))} or more: look at the receiver"
        yield finding(rule, subject, since_ns, summary, {"behind": len(behind), "feeds": len(known)})
    yield from _late_sites(rule, snapshot, over_s)


def clock_wrong(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Feeds whose host's clock is off. This is taken out where runs are judged; what is ahead is judged so much later."""
    for feed in snapshot.feeds.values():
        off_s = clock_skew(feed) / SECOND_NS
        if feed.watermark_ns is None or abs(off_s) <= WRONG.of(rule):
            continue
        subject = Subject(site=feed.site, feed=feed.feed)
        words = "behind" if off_s > 0 else "ahead"
        summary = f"The clock of feed {feed.feed} of site {feed.site} is {spoken(abs(off_s))} {words}"
        since_ns = since(rule, snapshot, subject, snapshot.now_ns)
        yield finding(rule, subject, since_ns, summary, {"skew_s": round(off_s, 3)})


def _late_sites(rule: Rule, snapshot: Snapshot, over_s: float) -> Iterator[Finding]:
    """Sites whose runs come without a feed that beats: how long after their end did they arrive?"""
    lags: dict[str, list[float]] = defaultdict(list)
    for run in snapshot.ended:
        feed = snapshot.feed(run)
        if (feed is None or feed.watermark_ns is None) and run.end_ns is not None and run.received_ns is not None:
            lags[run.site].append(seconds(run.end_ns, run.received_ns))
    for site, several in sorted(lags.items()):
        lag = median(several)
        if lag > over_s:
            subject = Subject(site=site)
            summary = f"Runs of site {site} arrive {spoken(lag)} after they ended"
            evidence = {"lag_s": round(lag, 1), "runs": len(several)}
            yield finding(rule, subject, since(rule, snapshot, subject, snapshot.now_ns), summary, evidence)
    for alert in open_alerts(rule, snapshot):
        heard = alert.subject.site is None or alert.subject.site in lags
        if not heard and seconds(alert.seen_ns, snapshot.now_ns) < LASTS.of(rule):
            yield again(alert, sure=False)


KINDS = (
    Kind("feed_behind", feed_behind, "feed", "a site's link is cut, or its Collector is down", (FORGET, CAUGHT_UP)),
    Kind("ingestion_lag", ingestion_lag, "system", "records arrive long after what they tell of", (OVER, FEEDS, SHARE, LASTS)),
    Kind("clock_wrong", clock_wrong, "feed", "the clock of a feed's host is wrong", (WRONG,)),
)
