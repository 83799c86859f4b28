"""The Alerts page in a real browser: what fires, why, who was told; acknowledging and silencing; and who looks at all."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import Viewer, here
from tests.ui.screenshots import drawn
from wafermonitor.runs.alerts import Severity, Subject

pytestmark = pytest.mark.browser


def summaries(page):
    return page.locator(".alert .name").all_inner_texts()


def test_what_nobody_looks_after_comes_first_and_the_loudest_of_that(watched_fab, viewer):
    page = viewer.show(watched_fab, "/alerts")
    assert [words.split()[0] for words in summaries(page)] == [
        "recipe_audit",
        "cdsem_import",
        "Feed",
        "etest_load",
        "etest_load",
    ]
    first = page.locator(".alert").first
    expect(first).to_contain_text("critical")
    expect(first).to_contain_text("5h 30m")
    expect(first).to_contain_text("start margin 5m 00s")
    expect(page.locator(".alert[data-attended]")).to_have_count(2)
    expect(page.locator(".alert", has_text="42m 10s")).to_contain_text("Ana Ruiz")
    expect(page.locator(".alert", has_text="never seen before")).to_contain_text("silent until 30 May 08:00")
    expect(page.locator("#bell")).to_have_text("3")
    expect(page.locator(".deadman")).to_have_count(0)


def test_an_alert_says_since_when_in_numbers_why_and_who_was_told(watched_fab, viewer):
    page = viewer.show(watched_fab, "/alerts")
    page.locator(".alert-row", has_text="cdsem_import").click()
    detail = page.locator(".alert-detail")
    expect(detail.locator(".evidence")).to_contain_text("heartbeat interval")
    expect(detail.locator(".evidence")).to_contain_text("07:37:10")
    expect(detail).to_contain_text("the process died or hangs")
    expect(detail.locator(".reasons")).to_contain_text("Feed etl-07 of site F12 tells of times up to 3 s ago")
    assert detail.get_by_role("link", name="Runbook").get_attribute("href") == "https://runbooks.example/cdsem-import#lost"
    messages = detail.locator(".deliveries li")
    expect(messages).to_have_count(3)
    expect(messages.nth(1)).to_contain_text("sent after 3 attempts: 202 after two refusals")
    assert f"alert={watched_fab.story.ids['lost']}" in here(page)
    page.reload()
    drawn(page)
    expect(page.locator(".alert-detail .deliveries li")).to_have_count(3)
    page.locator(".alert-detail").get_by_role("link", name="The run").click()
    expect(page.locator("h1")).to_have_text("cdsem_import")
    expect(page.locator(".run-head")).to_contain_text("lost")
    page.go_back()
    page.locator(".alert-detail").get_by_role("link", name="The job over time").click()
    expect(page.locator("h1")).to_have_text("cdsem_import")
    assert "/job?site=F12&job=cdsem_import" in here(page)


def test_an_alert_is_acknowledged_without_a_mouse_and_the_name_is_remembered(own_watched_fab, viewer):
    page = viewer.show(own_watched_fab, "/")
    for key in ("g", "a"):
        page.keyboard.press(key)
    expect(page.locator("h1")).to_have_text("Alerts")
    page.keyboard.press("j")
    page.keyboard.press("a")
    expect(page.locator(":focus")).to_have_attribute("name", "by")
    page.keyboard.type("Ana Ruiz")
    page.keyboard.press("Tab")
    page.keyboard.type("tool is down until noon")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("Ana Ruiz looks after it")
    card = page.locator(".alert", has_text="recipe_audit did not run")
    expect(card).to_have_attribute("data-attended", "")
    expect(card.locator(".alert-times")).to_contain_text("tool is down until noon")
    expect(page.locator("form[data-act]")).to_have_count(0)
    expect(page.locator("#bell")).to_have_text("2")
    stored = own_watched_fab.call(own_watched_fab.storage.watch.alert(own_watched_fab.story.ids["missed"]))
    assert (stored.acknowledged_by, stored.note) == ("Ana Ruiz", "tool is down until noon")
    page.locator(".alert", has_text="cdsem_import").get_by_role("link", name="Acknowledge").click()
    expect(page.get_by_label("Your name")).to_have_value("Ana Ruiz")
    expect(page.locator(":focus")).to_have_attribute("name", "note")
    form = page.locator("form[data-act=acknowledge]")
    expect(form.locator(".as-you")).to_have_text("as Ana Ruiz – not you?")
    expect(form.locator("[name=by]")).to_be_hidden()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(form.locator("[name=by]")).to_be_focused()
    page.keyboard.type("J. Weiss")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("J. Weiss looks after it")


def test_a_silence_is_made_from_an_alert_shown_and_ended(own_watched_fab, viewer):
    page = viewer.show(own_watched_fab, "/alerts")
    page.locator(".alert", has_text="Feed gw-02").get_by_role("link", name="Silence").click()
    form = page.locator("form[data-act=silence]")
    expect(form.get_by_label("Site")).to_have_value("F15")
    expect(form.get_by_label("Rule")).to_have_value("feed-behind")
    form.get_by_label("8 hours").check()
    form.get_by_label("Why").fill("link is being mended")
    form.get_by_label("Your name").fill("Ana")
    form.get_by_role("button", name="Silence").click()
    expect(page.locator(".alert", has_text="Feed gw-02")).to_contain_text("silent until 16:00")
    page.keyboard.press("Escape")
    page.keyboard.press("v")
    expect(page.locator("table.alerts")).to_be_visible()
    page.keyboard.press("v")
    row = page.locator(".silences li", has_text="link is being mended")
    expect(row).to_contain_text("rule feed-behind of every job at site F15")
    row.get_by_role("button", name="End now").click()
    expect(row).to_have_count(0)
    expect(page.locator(".silences li")).to_have_count(2)


def test_a_silence_that_cannot_be_says_why_and_keeps_what_was_typed(own_watched_fab, viewer):
    page = viewer.show(own_watched_fab, "/alerts?view=silences")
    page.keyboard.press("s")
    form = page.locator("form[data-act=silence]")
    form.get_by_label("Why").fill("shutdown")
    form.get_by_label("Your name").fill("Ana")
    form.get_by_role("button", name="Silence").click()
    expect(form.locator(".told")).to_have_text("Say what is silenced: a site, a job or a rule.")
    expect(form.get_by_label("Why")).to_have_value("shutdown")
    form.get_by_label("Site").fill("F12")
    form.get_by_label("or until").fill("2026-05-29T07:00")
    form.get_by_role("button", name="Silence").click()
    expect(form.locator(".told")).to_contain_text("until")
    own_watched_fab.stop_api()
    form.get_by_label("or until").fill("2026-05-30T07:00")
    form.get_by_role("button", name="Silence").click()
    expect(form.locator(".told")).to_contain_text("nothing was changed")
    own_watched_fab.start_api()
    form.get_by_role("button", name="Silence").click()
    expect(page.locator(".silences li", has_text="shutdown")).to_contain_text("until 30 May 07:00")


def test_the_history_is_filtered_by_the_server_and_the_filter_is_in_the_address(watched_fab, viewer):
    page = viewer.show(watched_fab, "/alerts?view=history")
    rows = page.locator("table.alerts tbody tr[data-row]")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="Next page").click()
    expect(rows).to_have_count(15)
    page.get_by_label("Severity").select_option("critical")
    expect(rows).to_have_count(22)
    page.get_by_label("State").select_option("firing")
    expect(rows).to_have_count(2)
    page.get_by_label("Rule").fill("lost")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    assert set(here(page).partition("?")[2].split("&")) == {"view=history", "rule=lost", "severity=critical", "state=firing"}
    rows.first.click()
    expect(page.locator(".alert-unfolded .deliveries li")).to_have_count(3)
    page.reload()
    drawn(page)
    expect(page.locator(".alert-unfolded .deliveries li")).to_have_count(3)
    page.get_by_label("Rule").fill("none")
    page.keyboard.press("Enter")
    expect(page.locator(".nothing")).to_contain_text("Nothing matches")
    page.get_by_role("link", name="Clear the filters").click()
    expect(rows).to_have_count(50)


def test_a_link_to_an_alert_shows_it_wherever_it_stands_by_now(own_watched_fab, viewer):
    over = next(alert for alert in own_watched_fab.story.alerts if alert.resolved_ns is not None)
    page = viewer.show(own_watched_fab, f"/alerts?alert={over.id}")
    apart = page.get_by_label("The alert of this link")
    expect(apart).to_contain_text(over.summary)
    expect(apart).to_contain_text("resolved")
    expect(apart.get_by_role("link", name="Acknowledge")).to_have_count(0)
    page = viewer.show(own_watched_fab, f"/alerts?alert={'0' * 32}")
    expect(page.locator("main")).to_contain_text("No alert of this id is kept any more")
    page.get_by_role("link", name="Close this").click()
    expect(page.locator("main")).not_to_contain_text("No alert of this id")


def test_what_fires_and_what_is_over_shows_at_once(own_watched_fab, viewer):
    page = viewer.show(own_watched_fab, "/alerts")
    page.evaluate("window.same = true")
    fab = own_watched_fab
    fab.clock.pass_s(5)
    story = type(fab.story)(fab.clock.now_ns, fab.ids)
    made = story.alert("new", Severity.CRITICAL, Subject(site="F15", job="mes_sync"), (30, 1), "mes_sync stands still")
    alert = next(one for one in story.alerts if one.id == made)
    fab.store(alerts=[alert])
    expect(page.locator(".alert", has_text="mes_sync stands still")).to_contain_text("critical")
    expect(page.locator("#bell")).to_have_text("4")
    fab.store(alerts=[alert._replace(resolved_ns=fab.clock.now_ns)])
    expect(page.locator(".alert", has_text="mes_sync stands still")).to_have_count(0)
    expect(page.locator("#bell")).to_have_text("3")
    assert page.evaluate("window.same"), "the page was loaded again"


def test_what_is_typed_stays_while_alerts_come_and_go(own_watched_fab, viewer):
    fab = own_watched_fab
    page = viewer.show(fab, f"/alerts?alert={fab.story.ids['lost']}&act=acknowledge")
    page.get_by_label("Your name").fill("Ana")
    page.get_by_label("Note").press_sequentially("rest")
    story = type(fab.story)(fab.clock.now_ns, fab.ids)
    made = story.alert("new", Severity.CRITICAL, Subject(site="F15"), (90_000, 1), "everything stands still")
    fab.store(alerts=[one for one in story.alerts if one.id == made])
    expect(page.locator(".alert").first).to_contain_text("everything stands still")
    page.keyboard.type("arting")
    expect(page.get_by_label("Note")).to_have_value("restarting")


def test_when_nobody_evaluates_every_page_about_it_says_so(own_watched_fab, viewer):
    page = viewer.show(own_watched_fab, "/alerts")
    own_watched_fab.clock.pass_s(300)
    strip = page.locator(".deadman")
    expect(strip).to_contain_text("Nobody evaluates since 08:00:00 (5m 00s).")
    expect(strip).to_contain_text("wafer alerting run")
    viewer.show(own_watched_fab, "/")
    expect(page.locator(".deadman")).to_contain_text("Nobody evaluates since")
    viewer.show(own_watched_fab, "/job?site=F12&job=recipe_audit")
    expect(page.locator(".deadman")).to_contain_text("Nobody evaluates since")
    own_watched_fab.store()
    expect(page.locator(".deadman")).to_have_count(0)


def test_an_empty_store_says_that_nobody_has_looked_and_what_to_do(empty_fab, viewer):
    page = viewer.show(empty_fab, "/alerts")
    expect(page.locator(".deadman")).to_contain_text("Nobody has evaluated yet")
    expect(page.locator(".nothing")).to_contain_text("Nothing is known to fire")
    empty_fab.store()
    expect(page.locator(".nothing")).to_contain_text("Nothing fires")
    viewer.show(empty_fab, "/alerts?view=history")
    expect(page.locator(".nothing")).to_contain_text("No alert yet")
    viewer.show(empty_fab, "/alerts?view=silences")
    expect(page.locator(".nothing")).to_contain_text("No silence is in force")
    page.get_by_role("link", name="New silence").first.click()
    expect(page.locator("form[data-act=silence]")).to_be_visible()


def test_a_store_that_keeps_no_alerts_shows_everything_else(own_fab, viewer):
    own_fab.without_watch()
    page = viewer.show(own_fab, "/alerts")
    expect(page.locator(".nothing")).to_contain_text("Alerts are not kept here")
    viewer.show(own_fab, "/")
    expect(page.locator(".live-row").first).to_contain_text("cdsem_import")
    expect(page.locator(".deadman")).to_have_count(0)
    viewer.show(own_fab, "/job?job=lot_yield")
    expect(page.locator(".dot").first).to_be_attached()
    expect(page.locator(".nothing", has_text="Expected runs are not kept here")).to_contain_text("WAFER_ALERTING_DSN")


def test_an_api_that_is_gone_leaves_the_alerts_with_their_age(own_watched_fab, viewer):
    page = viewer.show(own_watched_fab, "/alerts")
    own_watched_fab.stop_api()
    expect(page.locator("#banner")).to_contain_text("Stale since")
    assert len(summaries(page)) == 5
    own_watched_fab.start_api()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#banner")).to_be_hidden()


def test_on_a_telephone_nothing_is_wider_than_the_screen(watched_fab, chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, timezone_id="UTC", locale="en-GB")
    viewer = Viewer(context)
    lost = watched_fab.story.ids["lost"]
    paths = ("/", "/alerts", f"/alerts?alert={lost}&act=silence", "/alerts?view=silences&act=silence", "/alerts?view=history")
    for path in (*paths, "/job?job=recipe_audit&day=2026-05-28", "/runs"):
        page = viewer.show(watched_fab, path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    context.close()


def test_what_a_rule_says_is_never_markup(own_watched_fab, viewer):
    fab = own_watched_fab
    story = type(fab.story)(fab.clock.now_ns, fab.ids)
    bad = "<img src=x onerror=alert(1)>"
    subject = Subject(site="F12", job=bad, detail='"><script>')
    more = {"evidence": {bad: bad}, "cause": bad, "runbook": "javascript:alert(1)"}
    made = story.alert("<b>", Severity.CRITICAL, subject, (90_000, 1), bad, **more)
    fab.store(alerts=[one for one in story.alerts if one.id == made])
    page = viewer.show(fab, f"/alerts?alert={made}")
    expect(page.locator(".alert-detail")).to_contain_text("<img")
    assert page.locator("main img, main script, main b b").count() == 0
    assert page.locator("[href^='javascript']").count() == 0


def test_many_alerts_stay_readable_and_few_elements(own_watched_fab, viewer):
    fab = own_watched_fab
    story = type(fab.story)(fab.clock.now_ns, fab.ids)
    for number in range(300):
        subject = Subject(site="F12", job=f"job-{number}")
        story.alert(
            "flood", Severity.WARNING, subject, (60 + number, 50), f"job-{number} failed", evidence={"failed_runs": number}
        )
    flood = [one for one in story.alerts if one.rule == "flood"]
    fab.store(alerts=flood)
    page = viewer.show(fab, "/alerts")
    expect(page.locator(".alert")).to_have_count(100)
    expect(page.locator(".note")).to_contain_text("205 more fire")
    assert page.locator("#screen .alert svg, #screen .alert time").count() <= 2_000


def test_pressed_twice_is_done_once(own_watched_fab, viewer):
    page = viewer.show(own_watched_fab, "/alerts?view=silences&act=silence")
    form = page.locator("form[data-act=silence]")
    for name, words in (("job", "twice_job"), ("why", "once is enough"), ("by", "Ana")):
        form.locator(f"[name={name}]").fill(words)
    form.evaluate("form => { form.requestSubmit(); form.requestSubmit(); }")
    expect(page.locator("#said")).to_contain_text("Silenced")
    expect(page.locator(".silences li", has_text="twice_job")).to_have_count(1)
    page.reload()
    drawn(page)
    expect(page.locator(".silences li", has_text="twice_job")).to_have_count(1)


def test_a_very_long_name_leaves_the_summary_its_room(own_watched_fab, viewer):
    fab = own_watched_fab
    story = type(fab.story)(fab.clock.now_ns, fab.ids)
    more = {"acknowledged_ns": story.at(-100), "acknowledged_by": "X" * 200, "note": "n" * 1_000}
    made = story.alert("long", Severity.CRITICAL, Subject(site="F12", job="j" * 200), (90, 1), "word " + "W" * 300, **more)
    fab.store(alerts=[one for one in story.alerts if one.id == made])
    page = viewer.show(fab, f"/alerts?alert={made}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1_440
    assert page.locator(".alert[data-open] .alert-what").bounding_box()["width"] > 500
    assert 150 < page.locator(".alert[data-open] .alert-badges .badge").bounding_box()["width"] < 250
    assert page.locator(".badge", has_text="Ana Ruiz").bounding_box()["width"] > 60
