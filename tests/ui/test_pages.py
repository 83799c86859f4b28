"""Each page in a real browser shows what is stored, and keeps what it shows in its address."""

from __future__ import annotations

import csv
import io
import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.ui import seed
from tests.ui.conftest import here
from wafermonitor.ui.source import OPEN_MOST

pytestmark = pytest.mark.browser


def test_now_shows_counts_failing_jobs_first_and_what_is_behind(fab, viewer):
    page = viewer.show(fab, "/")

    counts = {tile.get_attribute("data-look"): tile.locator(".tile-count").inner_text() for tile in page.locator(".tile").all()}
    assert counts == {"running": "6", "overdue": "1", "silent": "1", "lost": "1", "unknown": "2", "failed": "5"}
    words = page.locator(".live-row .live-state").all_inner_texts()
    assert [word.split()[0] for word in words] == ["lost", "silent", "unknown", "unknown", "overdue", *["running"] * 6]
    assert page.title() == "(3) Now · WaferMonitor"
    expect(page.locator(".behind")).to_contain_text(
        "gw-02 at site F15 is behind since 07:53:08 (6m 52s). 2 runs of it cannot be"
    )
    main = page.locator(".live-row", has_text="GAL-4471")
    expect(main).to_contain_text("56")
    expect(main).to_contain_text("14 of 25 wafers")
    expect(main.locator(".live-time")).to_have_text(re.compile(r"12m 34sends (\d\d:\d\d–|about )\d\d:\d\d"))
    unknown = page.locator(".live-row", has_text="archive_lot_files").locator(".live-time")
    expect(unknown).to_contain_text("end not known")
    assert unknown.locator("[title]").last.get_attribute("title")
    assert main.locator("[role=progressbar]").get_attribute("aria-valuenow") == "56"


def test_a_flood_of_lost_runs_hides_none_of_the_others_from_the_counts(own_fab, viewer):
    flood = seed.Fab(own_fab.clock.now_ns, start=90_000)
    program = seed.Program(flood, "flood")
    for number in range(OPEN_MOST + 20):
        seed.Job(program, "flooding", flood.at(-7_200 - number))
    own_fab.write(flood.batch)
    page = viewer.show(own_fab, "/")
    counts = {tile.get_attribute("data-look"): tile.locator(".tile-count").inner_text() for tile in page.locator(".tile").all()}
    assert counts == {"running": "6", "overdue": "1", "silent": "1", "lost": "200+", "unknown": "2", "failed": "5"}
    expect(page.locator(".behind")).to_contain_text("2 runs of it cannot be")


def test_a_tile_opens_exactly_the_runs_it_counts(fab, viewer):
    page = viewer.show(fab, "/")
    page.locator(".tile[data-look=unknown]").click()
    expect(page.locator("table.runs tbody tr")).to_have_count(2)
    assert here(page).endswith("/runs?state=unknown&sort=failing")


def test_runs_are_filtered_by_the_server_and_the_filter_is_in_the_address(fab, viewer):
    page = viewer.show(fab, "/runs")
    expect(page.locator("table.runs tbody tr")).to_have_count(50)
    page.get_by_label("Result").select_option("failed")
    expect(page.locator("table.runs tbody tr")).to_have_count(5)
    page.get_by_label("Job", exact=True).fill("overlay_fit")
    page.keyboard.press("Enter")
    expect(page.locator("table.runs tbody tr")).to_have_count(3)
    assert "job=overlay_fit" in here(page)
    page.reload()
    expect(page.locator("table.runs tbody tr")).to_have_count(3)
    expect(page.get_by_label("Job", exact=True)).to_have_value("overlay_fit")
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("table.runs tbody tr")).to_have_count(50)


@pytest.mark.parametrize("query", ["?job=lot%20yield", "?after=2026-11-22T10:00:00Z", "?q=GAL*"])
def test_an_address_is_shown_however_it_is_written(fab, viewer, query):
    page = viewer.show(fab, f"/runs{query}")
    expect(page.locator("#screen h1")).to_have_text("Runs")


def test_the_waterfall_of_each_run_is_an_element_of_its_own(fab, viewer):
    """Else the next run would be shown with the zoom and scroll of the last one."""
    page = viewer.show(fab, f"/run?run={fab.ids.main}&zoom=100-200")
    expect(page.locator(".wf")).to_have_attribute("data-key", f"wf-{fab.ids.main}")


def test_runs_are_paged_by_cursor_and_back_returns(fab, viewer):
    page = viewer.show(fab, "/runs")
    first = page.locator("table.runs tbody tr").first.get_attribute("data-key")
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("table.runs tbody tr")).to_have_count(25)
    assert page.locator(f"[data-key='{first}']").count() == 0
    assert "cursor=" in here(page)
    page.go_back()
    expect(page.locator(f"[data-key='{first}']")).to_have_count(1)


def test_the_csv_link_gives_every_row_that_matches(fab, viewer):
    page = viewer.show(fab, "/runs?result=success&job=lot_yield")
    link = page.get_by_role("link", name="CSV").get_attribute("href")
    answer = httpx.get(fab.url + link)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert len(rows) == page.locator("table.runs tbody tr").count() > 5
    assert {row["job"] for row in rows} == {"lot_yield"}


def test_events_and_logs_of_a_run_come_as_csv_and_a_missing_api_has_words(own_fab):
    answer = httpx.get(f"{own_fab.url}/run.csv?run={own_fab.ids.main}&severity=error")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(lines) == 3
    assert httpx.get(f"{own_fab.url}/run.csv?run=nonsense").status_code == 404
    own_fab.stop_api()
    gone = httpx.get(f"{own_fab.url}/runs.csv")
    assert gone.status_code == 502
    assert "does not answer" in gone.text
    own_fab.start_api()


def test_a_row_opens_its_run_with_waterfall_subjobs_logs_and_charts(fab, viewer):
    page = viewer.show(fab, "/runs?lot=GAL-4471")
    page.locator("table.runs tbody tr").first.click()
    expect(page.locator("h1")).to_have_text("lot_yield")
    assert here(page).endswith(f"/run?run={fab.ids.main}")
    expect(page.locator(".run-head .pill")).to_have_text("running")
    expect(page.locator(".stats")).to_contain_text("waiting for 2")
    expect(page.locator(".stats")).to_contain_text("14 of 15 subjobs ended")
    # In focus: the wafers that ended well are folded, the failed and the running one are not.
    assert page.locator(".wf-row[aria-expanded=false]").count() == 13
    expect(page.locator(".wf-row[data-look=failure]")).to_contain_text("GAL-4471-09")
    expect(page.locator(".wf-row[data-look=span-error]")).to_contain_text("cpk_per_test")
    expect(page.locator(".bar.open")).to_have_count(2)
    expect(page.locator("[data-chart] canvas").first).to_be_attached()
    expect(page.locator(".log-lines")).to_contain_text("lot_yield · 56 % · 14 of 25 wafers · sort")
    page.get_by_role("link", name="Subjobs").click()
    expect(page.locator("table.subjobs tbody tr")).to_have_count(15)
    page.locator("table.subjobs tbody tr", has_text="LimitsMissing").click()
    expect(page.locator(".run-head .pill")).to_have_text("failure")
    expect(page.locator(".log-lines")).to_contain_text("LimitsMissing: limit table of test 1042 is empty")
    page.get_by_role("link", name="Parent run").click()
    expect(page.locator(".run-about")).to_contain_text("GAL-4471")


def test_the_waterfall_keeps_fold_zoom_selection_and_mode_in_the_address(fab, viewer):
    page = viewer.show(fab, f"/run?run={fab.ids.main}")
    row = page.locator(".wf-row", has_text="GAL-4471-03")
    row.locator("a.fold").click()
    expect(page.locator(".wf-row", has_text="PUT /yield/{lot}")).to_have_count(1)
    page.locator(".wf-row", has_text="write_parquet").click()
    expect(page.locator(".wf-detail")).to_contain_text("52403")
    box = page.locator(".wf-axis").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 8, steps=4)
    page.mouse.up()
    page.wait_for_function("location.search.includes('zoom=')")
    zoom = page.evaluate("new URLSearchParams(location.search).get('zoom')")
    expect(page.locator(".wf")).to_have_attribute("data-zoom", zoom)
    address = page.evaluate("location.href")
    assert all(part in address for part in ("fold=", "span=", "zoom="))
    ticks = page.locator(".wf-axis span").all_inner_texts()
    page.goto(address)
    expect(page.locator(".wf-detail")).to_contain_text("52403")
    assert page.locator(".wf-axis span").all_inner_texts() == ticks
    page.get_by_role("link", name="Runs only").click()
    expect(page.locator(".wf-row")).to_have_count(16)


def test_a_plain_trace_opens_like_a_run(fab, viewer):
    page = viewer.show(fab, "/runs?tab=traces")
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(24)
    expect(rows.first).to_contain_text("dispatch-api")
    rows.first.click()
    expect(page.locator("h1")).to_have_text("GET /lots/{id}")
    expect(page.locator(".stats")).to_contain_text("plain trace")
    expect(page.locator(".wf-row")).to_have_count(3)
    expect(page.locator(".crumbs")).to_contain_text("Plain traces")


def test_lost_and_unknown_runs_say_what_that_means(fab, viewer):
    page = viewer.show(fab, f"/run?run={fab.ids.lost}")
    expect(page.locator(".why")).to_contain_text("No sign of life for 22m 50s: the run counts as dead.")
    expect(page.locator(".wf-took")).to_have_text("last sign 07:37:10")
    viewer.show(fab, f"/run?run={fab.ids.unknown}")
    expect(page.locator(".why")).to_contain_text("The feed gw-02 is behind, so nobody can know how the run is.")


def test_a_failed_run_says_why_and_leads_to_the_last_good_one(fab, viewer):
    page = viewer.show(fab, f"/run?run={fab.ids.failed}")
    why = page.locator(".explained")
    expect(why).to_contain_text("overlay_fit failed after 2 min 49 s")
    expect(why).to_contain_text("StdfTruncated is new")
    why.locator("a").first.click()
    expect(page.locator(".run-head .pill")).to_have_text("success")
    expect(page.locator(".explained")).to_have_count(0)


def test_an_id_that_is_not_stored_says_so_and_offers_a_way_on(fab, viewer):
    page = viewer.show(fab, f"/run?run={'0' * 31}1-{'0' * 15}2")
    expect(page.locator("main")).to_contain_text("No such run")
    expect(page.get_by_role("link", name="All runs")).to_be_visible()


def test_every_page_of_an_empty_store_has_words_and_an_action(empty_fab, viewer):
    for path, words in (("/", "Nothing is running"), ("/runs", "No runs yet"), ("/runs?tab=traces", "No plain traces yet")):
        page = viewer.show(empty_fab, path)
        expect(page.locator(".nothing").first).to_contain_text(words)
        expect(page.locator(".nothing .button").first).to_be_visible()
    page = viewer.show(empty_fab, "/runs?job=none")
    expect(page.locator(".nothing")).to_contain_text("Nothing matches")
    page.get_by_role("link", name="Clear the filters").click()
    expect(page.locator(".nothing")).to_contain_text("No runs yet")
