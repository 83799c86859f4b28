"""Every view state is in the URL: what is written is what is read, whatever it is."""

from __future__ import annotations

import string
from datetime import date
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as some

from wafermonitor.ui.address import SINCE, Alerts, Job, Now, Run, Runs, parse_url, url

words = some.text(string.ascii_letters + string.digits + " _-:/.+&=?%#äµ漢", max_size=40)
span_ids = some.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")
run_ids = some.tuples(some.integers(0, 2**128 - 1), span_ids).map(lambda pair: f"{pair[0]:032x}-{pair[1]}")
days = some.dates(date(2000, 1, 1), date(2099, 12, 31)).map(date.isoformat)
zooms = some.tuples(some.decimals(0, 9999, places=3), some.decimals(0, 9999, places=3)).map(lambda pair: f"{pair[0]}-{pair[1]}")

addresses = some.one_of(
    some.builds(Now, site=words),
    some.builds(
        Runs,
        tab=some.sampled_from(["runs", "traces"]),
        q=words,
        site=words,
        job=words,
        state=words,
        result=words,
        app=words,
        lot=words,
        equipment=words,
        recipe=words,
        level=some.sampled_from(["jobs", "subjobs", "all"]),
        since=some.sampled_from(SINCE),
        before=words,
        after=words,
        sort=some.sampled_from(["newest", "failing"]),
        cursor=words,
    ),
    some.builds(
        Run,
        run=run_ids,
        view=some.sampled_from(["waterfall", "subjobs"]),
        rows=some.sampled_from(["focus", "all", "runs"]),
        span=span_ids,
        fold=some.lists(span_ids, max_size=40).map(tuple),
        zoom=zooms,
        severity=some.sampled_from(["debug", "info", "warn", "error"]),
        find=words,
    ),
    some.builds(
        Job,
        site=words,
        job=words,
        span=some.sampled_from(["7d", "30d", "90d"]),
        by=some.sampled_from(["equipment", "recipe", "product"]),
        month=some.just("") | days.map(lambda day: day[:7]),
        day=some.just("") | days,
    ),
    some.builds(
        Alerts,
        view=some.sampled_from(["firing", "history", "silences"]),
        site=words,
        job=words,
        rule=words,
        severity=words,
        state=some.sampled_from(["", "firing", "resolved"]),
        since=some.sampled_from(SINCE),
        before=words,
        after=words,
        cursor=words,
        alert=some.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}"),
        act=some.sampled_from(["", "acknowledge", "silence"]),
    ),
)


@given(addresses)
def test_u06_an_address_survives_its_url(address):
    assert parse_url(url(address)) == address


@given(some.text(max_size=200))
def test_any_text_opens_some_page(text):
    assert urlsplit(url(parse_url(f"/runs?{text}"))).path == "/runs"
    assert isinstance(parse_url(text), Now | Runs | Run | Job | Alerts)


def test_defaults_are_not_in_the_url():
    assert url(Now()) == "/"
    assert url(Runs(sort="failing", site="F 12")) == "/runs?site=F%2012&sort=failing"


def test_a_changed_filter_starts_at_the_first_page():
    page = Runs(job="a", cursor="xyz")
    assert "cursor" not in url(page, job="b")
    assert "cursor=next" in url(page, cursor="next")


def test_values_that_cannot_be_are_read_as_the_default():
    assert parse_url("/run?run=nonsense&zoom=a-b&view=pie&fold=zz") == Run()
    assert parse_url("/runs?since=99y&sort=oldest") == Runs()
    assert parse_url("/job?span=99y&month=2026-13&day=2026-05-32") == Job()
    assert parse_url("/alerts?alert=x&act=delete&state=none&view=all") == Alerts()


def test_what_is_unfolded_does_not_turn_the_page_back():
    history = Alerts(view="history", rule="late", cursor="xyz")
    assert "cursor=xyz" in url(history, alert="0" * 32, act="")
    assert "cursor" not in url(history, rule="lost")
