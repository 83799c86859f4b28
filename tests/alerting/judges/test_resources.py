"""Memory of runs, disks and certificates of this machine."""

from __future__ import annotations

import pytest

from tests.alerting.judges.world import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Ticks,
    ended,
    evidence,
    found,
    rule,
    run,
    usual,
)  # fmt: skip
from wafermonitor.alerting.snapshot import Host
from wafermonitor.runs.alerts import Severity


@pytest.mark.parametrize(("taken", "told"), [(None, 0), (8 * 10**9, 0), (8 * 10**9 + 1, 1)])
def test_a_run_may_take_eight_gigabytes(taken, told):
    assert len(found(rule("memory"), open_runs=[run(memory_bytes=taken)])) == told
    assert len(found(rule("memory"), ended=[ended(memory_bytes=taken)])) == told


def test_an_alert_while_it_runs_ends_with_it_and_one_at_its_end_with_the_next():
    ticks = Ticks(rule("memory"))
    (alert,) = ticks.tick(open_runs=[run(memory_bytes=9 * 10**9)])
    assert alert.summary == "lot_yield of fab1 takes 9.0 GB of memory; 8.0 GB are allowed"
    assert alert.since_ns == NOW - MINUTE
    assert not ticks.tick(ended=[ended(memory_bytes=9 * 10**9)])
    (alert,) = ticks.tick(ended=[ended("b", memory_bytes=12 * 10**9)])
    assert alert.summary == "lot_yield of fab1 took 12.0 GB of memory; 8.0 GB are allowed"
    assert ticks.tick(NOW + HOUR)
    assert not ticks.tick(NOW + HOUR, ended=[ended("c", end=NOW + HOUR)])


def test_a_job_that_usually_takes_as_much_may_be_let_be():
    known = usual(memory=10**10)
    assert found(rule("memory"), open_runs=[run(memory_bytes=11 * 10**9)], profiles=known)
    lax = rule("memory", times_usual=1.5)
    assert not found(lax, open_runs=[run(memory_bytes=11 * 10**9)], profiles=known)
    assert found(lax, open_runs=[run(memory_bytes=40 * 10**9)], profiles=known)
    assert found(lax, open_runs=[run(memory_bytes=11 * 10**9)]), "nothing is usual yet"


def test_a_lost_run_takes_no_memory():
    assert not found(rule("memory"), open_runs=[run(start=NOW - DAY, last_sign_ns=NOW - HOUR, memory_bytes=9 * 10**9)])


@pytest.mark.parametrize(
    ("free", "severity"), [(0.1, None), (0.0999, Severity.WARNING), (0.03, Severity.WARNING), (0.0299, Severity.CRITICAL)]
)
def test_a_disk_that_is_nearly_full(free, severity):
    told = found(rule("disk"), host=Host(disks=(("/var/lib/wafermonitor", free), ("/", 0.5))))
    assert [(one.severity, one.subject.detail) for one in told] == ([(severity, "/var/lib/wafermonitor")] if severity else [])


@pytest.mark.parametrize("kind", ["disk", "certificate"])
def test_what_cannot_be_read_any_more_keeps_its_alert_and_opens_none(kind):
    ticks, bad = Ticks(rule(kind)), Host(disks=(("/data", 0.01),), certificates=(("/data", NOW),))
    assert not ticks.tick(host=Host(unread=(("/data", "gone"),)))
    assert len(ticks.tick(host=bad)) == 1
    assert len(ticks.tick(host=Host(unread=(("/data", "gone"),)))) == 1
    assert not ticks.tick(host=Host())


@pytest.mark.parametrize(
    ("left_s", "severity"),
    [
        (14 * 86_400, None),
        (14 * 86_400 - 1, Severity.WARNING),
        (172_800, Severity.WARNING),
        (172_799, Severity.CRITICAL),
        (-60, Severity.CRITICAL),
    ],
)
def test_a_certificate_that_ends_soon(left_s, severity):
    told = found(rule("certificate"), host=Host(certificates=(("/etc/wafer/tls.pem", NOW + left_s * 10**9),)))
    assert [one.severity for one in told] == ([severity] if severity else [])
    if left_s < 0:
        assert told[0].summary == "The certificate /etc/wafer/tls.pem ended 1 min ago (2026-09-21T14:12:20Z)"
        assert evidence(told[0]) == {"left_s": -60}
