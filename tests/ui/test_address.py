"""Every view state is in the URL: what is written is what is read, whatever it is."""

from __future__ import annotations

import string
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as some

from wafermonitor.ui.address import SINCE, Now, Run, Runs, parse_url, url

words = some.text(string.ascii_letters + string.digits + " _-:/.+&=?%#äµ漢", max_size=40)
span_ids = some.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")
run_ids = some.tuples(some.integers(0, 2**128 - 1), span_ids).map(lambda pair: f"{pair[0]:032x}-{pair[1]}")
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
)


@given(addresses)
def test_u06_an_address_survives_its_url(address):
    assert parse_url(url(address)) == address


@given(some.text(max_size=200))
def test_any_text_opens_some_page(text):
    assert urlsplit(url(parse_url(f"/runs?{text}"))).path == "/runs"
    assert isinstance(parse_url(text), Now | Runs | Run)


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
