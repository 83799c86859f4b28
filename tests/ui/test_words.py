"""What pages say about runs, links and events, without a browser."""

from __future__ import annotations

import pytest

from wafermonitor.query.models import (
    EtaModel,
    ExplainModel,
    FeedModel,
    LogModel,
    PageModel,
    ProgressModel,
    ReasonModel,
    RunDetail,
    RunModel,
    SiteModel,
)
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events
from wafermonitor.ui.address import Now, Runs
from wafermonitor.ui.errors import UiUnavailable
from wafermonitor.ui.pages import alerts, now, run, runs
from wafermonitor.ui.render import ends, plain, render, timed
from wafermonitor.ui.states import LOOKS, look
from wafermonitor.ui.watched import Watch

T0, T60, T90 = "2026-05-29T08:00:00Z", "2026-05-29T08:01:00Z", "2026-05-29T08:01:30Z"


def a_run(model=RunModel, **fields):
    values = {"site": "F12", "trace_id": "a" * 32, "span_id": "b" * 16, "state": "running", "job": "lot_yield", "start": T0}
    return model(run=f"{'a' * 32}-{'b' * 16}", **(values | fields))


def test_every_look_has_a_word_an_icon_and_a_colour():
    icons, colours = render("icons.html"), render("colours.css")
    for key, meaning in LOOKS.items():
        assert meaning.word
        assert meaning.help
        assert f'id="i-{key}"' in icons
        assert f"--{key}:" in colours


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "running"),
        ({"overdue": True}, "overdue"),
        ({"overdue": True, "state": "silent"}, "silent"),
        ({"state": "ended", "result": "cancellation"}, "cancelled"),
        ({"state": "ended"}, "success"),
    ],
)
def test_the_worst_that_is_known_is_shown(fields, words):
    assert look(a_run(**fields)).word == words


def test_the_end_is_foretold_from_the_pace_else_from_what_was_expected():
    half = ProgressModel(at=T60, ratio=0.5)
    assert ends(a_run(progress=half, duration_s=90, expected_duration_s=600)) == "≈ 30 s left"
    assert ends(a_run(duration_s=90, expected_duration_s=600)) == "of 10m 00s"
    unknown = EtaModel(why_not="it has taken longer than all before it")
    assert ends(a_run(progress=half, duration_s=90, eta=unknown)) == "", "an even pace is no better than what is known"
    assert ends(a_run(duration_s=700, expected_duration_s=600, overdue=True, progress=half)) == "1m 40s over"
    assert ends(a_run(duration_s=700, overdue=True)) == "past its deadline"
    assert ends(a_run(state="silent", progress=half, duration_s=90)) == ""
    assert ends(a_run(state="ended", expected_duration_s=60)) == "1m 00s expected"


def test_a_link_that_is_behind_names_how_many_jobs_wait_for_it():
    sites = [SiteModel(site="F12", feeds=[FeedModel(feed="a"), FeedModel(feed="b", behind=True, watermark=T0)])]
    waiting = [a_run(state="unknown", feed="b"), a_run(state="unknown", feed="b"), a_run(feed="b")]
    page = PageModel[RunModel](items=waiting, server_time=T0)
    assert now.behind(sites, page) == [now.Behind("F12", "b", T0, 2)]
    assert now.behind(sites, page.model_copy(update={"cursor": "more"})) == [now.Behind("F12", "b", T0, 2, more=True)]


def test_a_count_of_a_list_that_was_cut_is_a_lower_bound():
    cut = PageModel[RunModel](items=[a_run(state="lost")], cursor="more", server_time=T0)
    none = PageModel[RunModel](items=[], server_time=T0)
    apart = {"running": none.model_copy(update={"items": [a_run()]}), "lost": cut}
    words = [tile.words for tile in now.tiles(Now(), now.totals(cut, apart), none)]
    assert words == ["1", "0", "0", "1+", "0", "0"]


def test_filters_become_the_apis_parameters():
    asked = runs.question(Runs(state="overdue", result="failed", since="6h", before="2026-05-29", sort="failing", lot="L 1"))
    assert asked == {
        "lot": ["L 1"],
        "overdue": ["true"],
        "result": ["failure", "error", "timeout"],
        "from": ["-6h"],
        "to": ["2026-05-29"],
        "order": ["failing"],
    }
    assert runs.question(Runs(state="open"))["state"] == ["running", "silent", "lost", "unknown"]
    assert runs.span_question(Runs(tab="traces", app="api", q="ignored")) == {"app": ["api"]}


def test_a_run_in_trouble_is_explained_in_one_sentence():
    gone = {"model": RunDetail, "last_sign": T0, "server_time": T90}
    assert (
        run.why(a_run(state="lost", **gone)) == "No sign of life for 1m 30s: the run counts as dead. A new sign brings it back."
    )
    assert "one was due every 10 s" in run.why(a_run(state="silent", heartbeat_interval_s=10, **gone))
    assert "The feed etl-07 is behind" in run.why(a_run(state="unknown", feed="etl-07", **gone))
    assert run.why(a_run(**gone)) == ""


@pytest.mark.parametrize(
    ("event", "given", "text"),
    [
        (
            events.WAFER_JOB_PROGRESS,
            {
                names.WAFER_JOB_NAME: "j",
                names.WAFER_JOB_PROGRESS_RATIO: 0.5,
                names.WAFER_JOB_PROGRESS_COMPLETED: 1,
                names.WAFER_JOB_PROGRESS_TOTAL: 2,
                names.WAFER_JOB_PROGRESS_UNIT: "die",
            },
            "j · 50 % · 1 of 2 dies",
        ),
        (events.WAFER_JOB_EXCEPTION, {names.EXCEPTION_TYPE: "E", names.EXCEPTION_MESSAGE: "m"}, "E: m"),
        (
            events.WAFER_JOB_END,
            {names.WAFER_JOB_NAME: "j", names.WAFER_JOB_RESULT: "failure", names.ERROR_TYPE: "X"},
            "j · failure · X",
        ),
    ],
)
def test_a_lifecycle_event_reads_as_words(event, given, text):
    line = run.log_line(LogModel(time=T0, severity=9, severity_text="INFO", event_name=event, attributes=given))
    assert (line.event, line.text, line.rest) == (event, text, "")


def test_a_log_line_keeps_its_attributes_and_its_severity():
    line = run.log_line(LogModel(time=T0, severity=17, severity_text="ERROR", body={"a": 1}, attributes={"file": "x.stdf"}))
    assert (line.text, line.rest, line.look) == ('{"a": 1}', 'file="x.stdf"'.replace('"', ""), "log-error")


def test_what_programs_send_is_never_markup():
    page = PageModel[RunModel](items=[a_run(job="<img src=x onerror=alert(1)>", lot_ids=['"><script>'])], server_time=T0)
    html = render(
        "now.html",
        address=Now(),
        server_time=T0,
        sites=[],
        tiles=now.tiles(Now(), now.totals(page, {}), page),
        behind=[],
        watch=Watch(),
        badges={},
        missing=[],
        attended=[],
        in_trouble=0,
        alert_url=str,
        waiting=0,
        waiting_words="0",
        day_url=str,
        runs=page.items,
        more=False,
        missing_hidden=0,
        missing_cut=False,
        alerts_url="/alerts",
        failed=page.items,
        failed_url="/runs",
    )
    assert "<img" not in html
    assert "<script" not in html
    assert "&lt;img" in html


def test_times_in_sentences_are_moved_to_the_viewers_zone():
    html = timed("due 2026-05-29T02:00:00Z, last <run> 2026-05-28 18:00:38 UTC, 2026-02-31T00:00:00Z")
    assert '<time data-as="clock" data-ms="1780020000000" datetime="2026-05-29T02:00:00Z">2026-05-29T02:00:00Z</time>' in html
    assert 'datetime="2026-05-28T18:00:38Z">2026-05-28 18:00:38 UTC</time>' in html
    assert "&lt;run&gt;" in html
    assert html.endswith(", 2026-02-31T00:00:00Z")


def test_a_cause_is_not_said_twice():
    why = ExplainModel(
        headline="j is lost.", reasons=[ReasonModel(kind="liveness", text="Its last sign is of 07:37.")], server_time=T0
    )
    assert alerts.cause_beside("Its last sign is of 07:37. Feed etl-07 goes on.", why) is None
    assert alerts.cause_beside("The database is being reindexed.", why) == "The database is being reindexed."
    assert alerts.cause_beside("Anything", None) == "Anything"


def test_a_long_value_is_cut_and_says_so():
    assert plain("x" * 3_000).endswith("… (3,000 characters)")
    assert plain(["a", 1]) == '["a", 1]'


async def test_a_taken_address_names_the_way_out():
    import socket

    from wafermonitor.ui import Config
    from wafermonitor.ui.app import start

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UiUnavailable, match="WAFER_UI_ADDRESS"):
            await start(Config(address=f"127.0.0.1:{taken.getsockname()[1]}"))
