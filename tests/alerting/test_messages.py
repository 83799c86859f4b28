"""What messages say, and what no telemetry can make them say."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.alerting.notify import Channel
from wafermonitor.alerting.notify.messages import FIELDS, LONGEST_TITLE, check_template, facts, plain, said, span, write
from wafermonitor.runs.alerts import Alert, Finding, Kind, Severity, Subject, alert_id
from wafermonitor.runs.records import RunKey

SECOND = 1_000_000_000
NOON = 1_780_488_000 * SECOND
CHANNEL = Channel("mail", "mailto://relay")


def alert(job="etl", summary="etl did not come by 02:10", **fields) -> Alert:
    found = Finding("missed", Severity.WARNING, Subject("F1", job, RunKey("F1", b"\xab" * 16, b"\xcd" * 8)), NOON, summary)
    return Alert(
        alert_id(found.fingerprint, NOON), found.fingerprint, found.rule, found.severity, found.subject, NOON, NOON, NOON,
        summary, json.dumps({"late_s": 612.3456789, "none": None, "of": "nightly"}),
    )._replace(**fields)  # fmt: skip


def told(*alerts, kind=Kind.FIRING, channel=CHANNEL, url=""):
    return write(channel, kind, alerts, url=url, now_ns=NOON + 3_725 * SECOND)


def test_one_alert_is_told_in_a_few_lines():
    one = alert(cause="load failed", owner="ida", runbook="https://wiki/etl")
    message = told(one, url="https://wafer.fab.example/")
    assert message.title == "[warning] F1: etl did not come by 02:10"
    assert message.body.splitlines() == [
        "warning: etl did not come by 02:10",
        "since 2026-06-03 12:00:00 UTC, for 1 h 2 min",
        f"rule missed · site F1 · job etl · run {'ab' * 16}-{'cd' * 8}",
        "evidence: late 10 min 12 s, of nightly",
        "cause: load failed",
        "owner: ida",
        "runbook: https://wiki/etl",
        f"link: https://wafer.fab.example/alerts?alert={one.id}",
    ]


def test_an_end_says_from_when_to_when():
    message = told(alert(resolved_ns=NOON + 60 * SECOND), kind=Kind.RESOLVED)
    assert message.title == "[over: warning] F1: etl did not come by 02:10"
    assert "since 2026-06-03 12:00:00 UTC, until 2026-06-03 12:01:00 UTC (1 min)" in message.body


def test_many_alerts_are_counted_and_twenty_are_shown():
    message = told(*(alert(f"job-{number}") for number in range(25)), url="http://here")
    assert message.title == "[warning] 25 alerts missed at F1"
    assert message.body.count("rule missed") == 20
    assert message.body.endswith("and 5 more: http://here/alerts")


def test_a_channel_may_have_its_own_words_and_zone():
    channel = CHANNEL._replace(title="$severity $count $job", body="$summary $since ($$)", zone="Europe/Berlin")
    assert told(alert("a"), alert("b"), channel=channel) == (
        "warning 2 a",
        "etl did not come by 02:10 2026-06-03 14:00:00 CEST ($)\n\netl did not come by 02:10 2026-06-03 14:00:00 CEST ($)",
    )


def test_every_field_may_be_named_and_no_other():
    every = " ".join(f"${name}" for name in FIELDS)
    assert check_template(every) is None
    assert told(alert(), channel=CHANNEL._replace(title=every, body=every)).title
    assert "$nothing is no field" in (check_template("$nothing") or "")
    assert "'$$'" in (check_template("5 $ and more") or "")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("two\r\nlines\tand\x00more\x1b[31m", "two lines andmore[31m"),
        ("<script>alert(1)</script>", "\u2039script\u203aalert(1)\u2039/script\u203a"),
        ("<!channel> @everyone @HERE ida@fab.example", "\u2039!channel\u203a (at)everyone (at)HERE ida@fab.example"),
        ("exe\u202egnp.\u200bfile\u00a0x", "exegnp.file x"),
        ("  a   b  ", "a b"),
        ("é ü 微", "é ü 微"),
    ],
)
def test_text_of_telemetry_is_one_line_of_plain_text(given, shown):
    assert plain(given) == shown


@given(st.text(max_size=2_000), st.text(max_size=400), st.text(max_size=400))
def test_no_text_makes_a_message_longer_or_more_than_it_is(summary, job, cause):
    message = told(alert(job, summary, cause=cause))
    assert len(message.title) <= LONGEST_TITLE
    assert len(message.body.splitlines()) <= 9
    assert all(len(line) <= 1_200 for line in message.body.splitlines())
    for text in (message.title, message.body.replace("\n", "")):
        assert not any(unicodedata.category(char).startswith("C") for char in text)
        assert not set("<>") & set(text)


def test_evidence_is_bounded_and_may_be_anything():
    assert facts("no json") == facts("[1]") == {}
    assert said("no json") == said("[1]") == ""
    assert len(facts(json.dumps({f"n{number}": number for number in range(99)}))) == 8
    assert facts('{"a": {"b": [1, "x"]}, "c": true}') == {"a": '{"b": [1, "x"]}', "c": "true"}


@pytest.mark.parametrize(
    ("evidence", "says"),
    [
        ({"late_s": 612.4, "over_s": 600}, "late 10 min 12 s, over 10 min"),
        ({"memory_bytes": 8_123_456_789, "free_bytes": 12}, "memory 8.12 GB, free 12 B"),
        ({"ended_ns": NOON}, "ended 2026-06-03T12:00:00Z"),
        ({"failed_ratio": 0.125, "ratio": 0.5}, "failed 12.5 %, share 50 %"),
        (
            {"runs_least": 10, "wait_s": "long", "open": True, "huge_ns": 10**30},
            "runs least 10, wait s long, open true, huge ns",
        ),
    ],
)
def test_evidence_is_said_in_units(evidence, says):
    assert said(json.dumps(evidence)).startswith(says)


def test_times_in_sentences_are_those_of_the_channel():
    words = "etl missed: due 2026-06-03T02:00:00Z, seen 2026-06-03 01:59:30 UTC, version 2026-06-03T2, 2026-02-31T02:00:00Z"
    message = told(alert(summary=words), channel=CHANNEL._replace(zone="Europe/Berlin"))
    local = "due 2026-06-03 04:00:00 CEST, seen 2026-06-03 03:59:30 CEST, version 2026-06-03T2, 2026-02-31T02:00:00Z"
    assert f"warning: etl missed: {local}" in message.body


def test_a_site_that_the_summary_names_is_not_said_twice():
    assert told(alert(summary="Job etl at F1 missed")).title == "[warning] Job etl at F1 missed"


def test_lengths_of_time_are_told_in_two_units():
    assert [span(value) for value in (-1, 0.4, 59, 61, 3_725, 90_061)] == [
        "0 s",
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h 2 min",
        "1 d 1 h",
    ]
