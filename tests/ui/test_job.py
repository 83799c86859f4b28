"""The Job page in a real browser: durations, success, reasons, the calendar of what should have run, and the ways to it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui import seed
from tests.ui.conftest import Viewer, here
from tests.ui.screenshots import drawn
from wafermonitor.query.models import EtaModel, ExpectationModel, ExpectedRunModel, RunModel
from wafermonitor.runs.alerts import ExpectedRun
from wafermonitor.runs.expectations import Expected, ExpectedState
from wafermonitor.ui.pages import job
from wafermonitor.ui.render import _environment

pytestmark = pytest.mark.browser
JOB = "/job?site=F12&job=recipe_audit"


def test_a_month_of_runs_shows_what_is_usual_what_is_not_and_why_some_failed(watched_fab, viewer):
    page = viewer.show(watched_fab, JOB)
    expect(page.locator("h1")).to_have_text("recipe_audit")
    figures = page.locator(".job-stats")
    expect(figures).to_contain_text("4 of 86 failed")
    expect(figures).to_contain_text("95.3")
    expect(page.locator(".plot .dot")).to_have_count(86)
    expect(page.locator(".plot .dot.bad")).to_have_count(4)
    assert page.locator(".plot .dot[data-outlier]").count() >= 2
    expect(page.locator(".band")).to_have_count(1)
    reasons = page.locator(".reasons-list li").all_inner_texts()
    assert [words.split()[:2] for words in reasons] == [["RecipeMissing", "3"], ["ToolOffline", "1"]]
    expect(page.locator(".day-bar")).to_have_count(31)
    assert page.locator("#screen *").count() <= 2_000


def test_a_dot_opens_its_run_and_a_bar_the_runs_of_its_day(watched_fab, viewer):
    page = viewer.show(watched_fab, JOB)
    page.locator(".plot .dot.bad").first.click()
    expect(page.locator(".run-head .pill").first).to_have_text("failure")
    page.keyboard.press("o")
    expect(page.locator(".job-stats")).to_be_visible()
    page.locator(".day-bar").nth(10).click()
    expect(page.locator("table.runs tbody tr")).to_have_count(3)
    expect(page.locator("table.runs")).to_contain_text("recipe_audit")


def test_the_calendar_shows_each_expected_run_and_each_day_is_a_link(watched_fab, viewer):
    page = viewer.show(watched_fab, JOB)
    today = page.locator(".cell[data-today]")
    expect(today).to_have_attribute("aria-label", "Friday 29 May: 1 missed, 2 expected")
    assert today.locator(".mark").all_inner_texts() == ["02:00", "10:00", "18:00"]
    tally = " ".join(page.locator(".tally").inner_text().split())
    assert tally == "3 missed 1 unknown 2 came late 6 expected 79 met"
    today.click()
    expect(page.locator(".day-list tbody tr")).to_have_count(3)
    expect(page.locator(".day-list tbody tr").first).to_contain_text("missed")
    assert "day=2026-05-29" in here(page)
    page.reload()
    drawn(page)
    expect(page.locator(".day-list tbody tr")).to_have_count(3)
    page.locator(".cell", has_text="25").first.click()
    late = page.locator(".day-list tbody tr", has_text="came late")
    expect(late).to_contain_text("23m 20s after its time")
    late.click()
    expect(page.locator(".run-head .pill").first).to_have_text("success")


def test_months_and_spans_are_turned_by_keys_and_links_and_stay_in_the_address(watched_fab, viewer):
    page = viewer.show(watched_fab, JOB)
    page.keyboard.press("[")
    expect(page.locator("#calendar-title")).to_have_text("Should have run: April 2026")
    assert "month=2026-04" in here(page)
    page.keyboard.press("]")
    expect(page.locator("#calendar-title")).to_have_text("Should have run: May 2026")
    page.get_by_role("link", name="7 days").click()
    expect(page.locator(".day-bar")).to_have_count(8)
    page.get_by_role("link", name="recipe", exact=True).click()
    expect(page.locator("table.groups tbody tr")).to_have_count(2)
    assert "span=7d" in here(page)
    assert "by=recipe" in here(page)


def test_days_are_those_of_the_viewers_zone(watched_fab, chromium):
    context = chromium.new_context(timezone_id="Pacific/Auckland", locale="en-GB")
    page = Viewer(context).show(watched_fab, JOB)
    # 02:00, 10:00 and 18:00 UTC are 14:00 and 22:00 of the same day and 06:00 of the next there.
    expect(page.locator(".cell", has_text="20").first.locator(".mark").first).to_contain_text("06:00")
    context.close()


def test_a_proposed_expectation_is_accepted_by_name(own_watched_fab, viewer):
    page = viewer.show(own_watched_fab, JOB)
    form = page.locator(".wishes form")
    form.get_by_role("button", name="Accept").click()
    expect(page.locator(".wishes form")).to_have_count(1)  # a name is needed
    form.get_by_label("Your name").fill("Ana")
    form.get_by_role("button", name="Accept").click()
    expect(page.locator("#said")).to_contain_text("Accepted")
    expect(page.locator(".wishes form")).to_have_count(0)
    expect(page.locator(".wishes")).to_contain_text("accepted")


def test_a_job_that_nobody_expects_says_so_and_one_of_no_name_leads_on(watched_fab, viewer):
    page = viewer.show(watched_fab, "/job?job=overlay_fit")
    expect(page.locator(".job-columns")).to_contain_text("Nothing is expected of this job")
    viewer.show(watched_fab, "/job?job=nobody_knows")
    expect(page.locator("main")).to_contain_text("No run has ended")
    page.get_by_role("link", name="Look at 90 days").click()
    expect(page.locator("main")).to_contain_text("in the last 90 days")
    viewer.show(watched_fab, "/job")
    expect(page.locator("main")).to_contain_text("No job is named")
    expect(page.get_by_role("link", name="All runs")).to_be_visible()


def test_the_job_is_reached_from_now_runs_and_run(watched_fab, viewer):
    page = viewer.show(watched_fab, "/")
    page.locator(".live-row", has_text="mes_sync").get_by_role("link", name="mes_sync over time").click()
    expect(page.locator("h1")).to_have_text("mes_sync")
    page = viewer.show(watched_fab, "/runs?job=spc_update")
    page.keyboard.press("j")
    page.keyboard.press("o")
    expect(page.locator(".job-page h1")).to_have_text("spc_update")
    page = viewer.show(watched_fab, f"/run?run={watched_fab.ids.main}")
    page.get_by_role("link", name="Over time").click()
    expect(page.locator(".job-page h1")).to_have_text("lot_yield")
    expect(page.locator(".job-stats")).to_contain_text("running")


def test_now_shows_what_should_be_there_beside_what_is(watched_fab, viewer):
    page = viewer.show(watched_fab, "/")
    words = page.locator(".live-row .live-state .pill").all_inner_texts()
    assert words[:3] == ["missed", "late", "lost"]
    late = page.locator(".live-row.not-there").nth(1)
    expect(late).to_contain_text("spc_update")
    expect(late).to_contain_text("should have started 07:45, missed after 08:05")
    expect(page.locator(".tile[data-look=missed] .tile-count")).to_have_text("2")
    page.locator(".tile[data-look=missed]").click()
    expect(page.locator(":focus")).to_contain_text("recipe_audit")
    badge = page.locator(".live-row", has_text="cdsem_import").locator(".alert-badge")
    expect(badge).to_have_text("1 alert")
    badge.click()
    expect(page.locator(".alert-detail")).to_contain_text("the process died or hangs")
    page = viewer.show(watched_fab, "/")
    page.locator(".live-row.not-there", has_text="recipe_audit").click()
    expect(page.locator(".day-list")).to_contain_text("missed")


def test_a_missed_run_that_somebody_looks_after_stands_below_what_nobody_does(own_watched_fab, viewer):
    fab = own_watched_fab
    missed = next(alert for alert in fab.story.alerts if alert.rule == "missed")
    fab.store(alerts=[missed._replace(acknowledged_ns=fab.clock.now_ns, acknowledged_by="Ana Ruiz", note="tool is down")])
    page = viewer.show(fab, "/")
    rows = page.locator(".live-row")
    assert rows.locator(".live-state .pill").all_inner_texts()[:7] == [
        "late", "lost", "silent", "unknown", "unknown", "overdue", "missed",
    ]  # fmt: skip
    row = rows.nth(6)
    expect(row).not_to_have_attribute("data-failing", "")
    expect(row.locator(".alert-badge")).to_have_text("Ana Ruiz")
    expect(page.locator(".tile[data-look=missed][data-alarm]")).to_have_count(1)
    row.locator(".alert-badge").click()
    expect(page.locator(".alert[data-open]")).to_contain_text("recipe_audit did not run")


def test_the_alerts_of_a_row_are_reached_without_a_mouse(watched_fab, viewer):
    page = viewer.show(watched_fab, "/")
    row = page.locator(".live-row", has_text="cdsem_import")
    row.focus()
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("1 alert")
    page.keyboard.press("Enter")
    expect(page.locator(".alert-detail")).to_contain_text("the process died or hangs")
    page = viewer.show(watched_fab, "/")
    row.focus()
    page.keyboard.press("a")
    expect(page.locator(".alert-detail")).to_contain_text("the process died or hangs")


def test_a_month_without_an_expected_run_says_since_when_they_are_watched(watched_fab, viewer):
    page = viewer.show(watched_fab, "/job?site=F12&job=recipe_audit&month=2026-03")
    expect(page.locator(".note", has_text="watched since")).to_contain_text("No run is expected in this month")
    expect(page.locator(".note", has_text="watched since").locator("time")).to_have_text("08:00")
    expect(page.locator(".calendar")).to_have_count(0)
    page = viewer.show(watched_fab, "/job?site=F12&job=recipe_audit")
    expect(page.locator(".calendar .mark").first).to_be_visible()
    expect(page.locator(".note", has_text="watched since")).to_have_count(0)


def ends(**fields):
    run = RunModel(
        run="r", site="F12", trace_id="a", span_id="b", start="2026-05-29T08:00:00Z", **({"state": "running"} | fields)
    )
    macro = _environment().from_string('{% import "parts.html" as p with context %}{{ p.ends(run) }}')
    return macro.render(run=run)


def test_an_end_to_come_is_an_interval_or_why_it_is_not_known():
    html = ends(
        eta=EtaModel(low="2026-05-29T14:20:00Z", mid="2026-05-29T14:25:00Z", high="2026-05-29T14:32:00Z", basis="20 runs")
    )
    assert 'title="20 runs">ends <time data-as="minute"' in html, "an end on another day is said with its day"
    assert html.count("<time") == 2
    html = ends(eta=EtaModel(low="2026-05-29T14:20:01Z", mid="2026-05-29T14:20:20Z", high="2026-05-29T14:20:59Z"))
    assert "ends about <time" in html
    assert html.count("<time") == 1
    html = ends(eta=EtaModel(low="2026-05-29T14:20:00Z", mid="2026-05-30T14:20:00Z", high="2026-05-31T14:20:00Z"))
    assert html.count('data-as="minute"') == 2
    assert 'title="too few runs"' in ends(eta=EtaModel(why_not="too few runs"))
    assert "end not known" in ends(eta=EtaModel(why_not="too few runs"))
    assert "of 10m 00s" in ends(eta=EtaModel(why_not="too few runs"), expected_duration_s=600)
    assert ends() == ""


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"cron": "0 2 * * *", "zone": "Europe/Berlin", "start_margin_s": 300},
            "at 0 2 * * * (Europe/Berlin), late after 5m 00s",
        ),
        ({"every_s": 28_800, "grace_s": 900}, "every 8h 00m, missed after another 15m 00s"),
        ({"after": "lot_yield", "within_s": 7_200}, "within 2h 00m after lot_yield ends, same lot"),
        ({"new": 1}, '{"new": 1}'),
    ],
)
def test_an_expectation_reads_as_one_line(spec, words):
    times = {"since": "2026-05-01T00:00:00Z", "changed": "2026-05-01T00:00:00Z"}
    assert job.wish_words(ExpectationModel(name="n", job="j", origin="api", spec=spec, **times)) == words


@pytest.mark.parametrize(
    ("late_s", "words"),
    [(0.4, "on the second"), (-12, "12 s before its time"), (1_400, "23m 20s after its time"), (None, "No run")],
)
def test_when_a_run_came_is_said_against_its_time(late_s, words):
    at = "2026-05-29T02:00:00Z"
    times = dict.fromkeys(("nominal", "opens", "late_after", "missed_after", "changed"), at)
    given = ExpectedRunModel(expectation="e", job="j", settled=True, state="missed", late_s=late_s, **times)
    assert job.row(given).words.startswith(words)


def test_what_is_not_there_is_counted_by_kind_and_none_is_hidden_without_a_word(own_watched_fab, viewer):
    fab = own_watched_fab
    page = viewer.show(fab, "/")
    tile = page.locator(".tile[data-look=missed]")
    expect(tile).to_contain_text("not started")
    expect(tile).to_contain_text("1 late, 1 missed")
    minute = 60 * seed.SECOND
    runs = []
    for number in range(25):
        nominal = fab.clock.now_ns - (60 + number) * minute
        due = Expected(nominal, nominal - minute, nominal + minute, nominal + 2 * minute)
        runs.append(
            ExpectedRun("often", "F12", f"job_{number}", "", due, ExpectedState.MISSED, changed_ns=nominal, settled=True)
        )
    fab.store(expected=runs)
    page = viewer.show(fab, "/")
    expect(page.locator(".not-there")).to_have_count(20)
    expect(page.locator(".note", has_text="more are late or missed")).to_contain_text("7 more")
