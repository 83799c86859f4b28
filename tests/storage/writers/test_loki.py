"""The writer to Loki: the lines and labels that it makes, and what it does about lines that Loki will never take."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.backends import corpus
from tests.servers import http_sink, loki
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers.items import items, parsed
from wafermonitor.storage.writers.loki import Config, Writer
from wafermonitor.storage.writers.protocol import Fate

REQUEST = corpus.part("w", 0).requests["logs"]
DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
def server() -> Iterator[loki.Server]:
    running = loki.start()
    yield running
    running.stop()


@pytest.fixture
def out(server) -> Iterator[Writer]:
    writer = Writer(Config(url=server.url, tenant="fab"))
    yield writer
    writer.close()


def aged(places: set[int]) -> bytes:
    """The corpus with some lines that are too old for Loki."""
    request = parsed("logs", REQUEST)
    for place, record in enumerate(request.resource_logs[0].scope_logs[0].log_records):
        if place in places:
            record.time_unix_nano = time.time_ns() - 8 * DAY_NS
    return request.SerializeToString()


def test_a_line_is_the_body_and_everything_else_is_a_label_or_metadata(server, out):
    assert [one.fate for one in out.write("logs", [REQUEST])] == [Fate.ACCEPTED]
    lines = list(server.lines["fab"])
    assert [line.text for line in lines] == [item.body for item in items("logs", REQUEST)]
    first = lines[0]
    assert dict(first.labels) == {"service_name": corpus.SERVICE}
    metadata = dict(first.metadata)
    assert metadata["wafer_site_id"] == corpus.SITE
    assert metadata["event_name"] == "wafer.job.start"
    assert metadata[names.WAFER_JOB_NAME.replace(".", "_")] == "job 0"


def test_a_second_delivery_changes_nothing(server, out):
    for _ in range(2):
        out.write("logs", [REQUEST])
    assert len(server.lines["fab"]) == corpus.PER_SIGNAL


@pytest.mark.parametrize("old", [{3}, {0, 1, 2}, {0, 39}, set(range(1, 40))])
def test_just_the_lines_that_loki_refuses_are_given_back(server, out, old):
    request = aged(old)
    (outcome,) = out.write("logs", [request])
    assert outcome.fate is Fate.ACCEPTED
    assert outcome.rejected == len(old)
    whole = items("logs", request)
    assert items("logs", outcome.remains) == [whole[place] for place in sorted(old)]
    assert len(server.lines["fab"]) == len(whole) - len(old)
    assert "too far behind" in outcome.reason


def test_a_request_of_nothing_else_is_rejected(server, out):
    (outcome,) = out.write("logs", [aged(set(range(40)))])
    assert outcome.fate is Fate.REJECTED


@pytest.mark.parametrize("status", [302, 401, 403, 404, 405, 429, 500, 503])
def test_everything_else_is_tried_again(server, out, status):
    server.status = status
    outcomes = out.write("logs", [REQUEST] * 3)
    assert [one.fate for one in outcomes] == [Fate.RETRY] * 3
    assert server.posts == 1
    assert str(status) in outcomes[0].reason


def test_a_loki_that_is_not_set_up_for_otlp_loses_nothing(server, out):
    server.status, server.text = (
        400,
        (
            "stream '{service_name=\"s\"}' includes structured metadata, but this feature is disallowed. "
            "Please see `limits_config.allow_structured_metadata` or contact your Loki administrator to enable it."
        ),
    )
    (outcome,) = out.write("logs", [REQUEST])
    assert outcome.fate is Fate.RETRY
    assert "limits_config.allow_structured_metadata" in outcome.reason
    assert server.posts == 1


def test_a_redirection_is_not_followed_to_a_page_that_says_200(server):
    with http_sink.start() as page, http_sink.start() as gate:
        gate.status, gate.headers = 302, {"location": page.url + "/login"}
        out = Writer(Config(url=gate.url))
        (outcome,) = out.write("logs", [REQUEST])
        out.close()
    assert outcome.fate is Fate.RETRY
    assert "WAFER_LOKI_URL" in outcome.reason
    assert page.requests == []


def test_no_loki_there_is_said_without_the_address(server):
    out = Writer(Config(url=server.url.replace("//", "//user:password@")))
    server.kill()
    (outcome,) = out.write("logs", [REQUEST])
    assert outcome.fate is Fate.RETRY
    with pytest.raises(StorageUnavailable) as caught:
        out.check()
    out.close()
    assert "password" not in outcome.reason + str(caught.value)


def test_a_ready_loki_is_asked_and_a_request_without_lines_is_nothing(server, out):
    out.check()
    (outcome,) = out.write("logs", [b""])
    assert outcome.fate is Fate.ACCEPTED
    assert server.posts == 0
