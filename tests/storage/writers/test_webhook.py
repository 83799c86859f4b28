"""The writer to any HTTP endpoint: what it posts, and what it makes of each answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.backends import corpus
from tests.servers import http_sink
from tests.servers.collector import free_ports
from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers.items import parsed
from wafermonitor.storage.writers.protocol import SIGNALS, Fate
from wafermonitor.storage.writers.webhook import Config, Writer

PART = corpus.part("w", 0)


@pytest.fixture
def sink() -> Iterator[http_sink.Server]:
    with http_sink.start() as running:
        yield running


def writer(sink: http_sink.Server, **settings: object) -> Writer:
    return Writer(Config(url=sink.url + "/{signal}", **settings))


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_request_is_posted_as_otlp_json_with_a_key_that_a_second_try_repeats(sink, signal):
    out = writer(sink, token="let me in")
    for _ in range(2):
        (outcome,) = out.write(signal, [PART.requests[signal]])
        assert outcome.fate is Fate.ACCEPTED
    out.close()
    first, second = sink.requests
    assert first.path == f"/{signal}"
    assert first.json == json.loads(json.dumps(request_from_proto(parsed(signal, PART.requests[signal]))))
    assert first.headers["authorization"] == "Bearer let me in"
    assert first.headers["x-wafer-signal"] == signal
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] != ""


def test_protobuf_is_posted_as_it_came(sink):
    out = writer(sink, format="protobuf")
    out.write("logs", [PART.requests["logs"]])
    out.close()
    assert sink.requests[0].body == PART.requests["logs"]
    assert sink.requests[0].headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize(
    ("status", "fate"),
    [(200, Fate.ACCEPTED), (204, Fate.ACCEPTED), (400, Fate.REJECTED), (413, Fate.REJECTED), (408, Fate.RETRY)]
    + [(status, Fate.RETRY) for status in (429, 500, 502, 503, 504)],
)
def test_an_answer_is_final_only_where_it_cannot_change(sink, status, fate):
    sink.status = status
    out = writer(sink)
    (outcome,) = out.write("logs", [PART.requests["logs"]])
    out.close()
    assert outcome.fate is fate
    assert fate is Fate.ACCEPTED or str(status) in outcome.reason


@pytest.mark.parametrize("status", [401, 403, 404, 405, 415])
def test_a_wrong_token_or_address_is_an_operators_mistake_and_loses_nothing(sink, status):
    sink.status = status
    out = writer(sink, token="wrong secret")
    (outcome,) = out.write("logs", [PART.requests["logs"]])
    out.close()
    assert outcome.fate is Fate.RETRY
    assert "WAFER_WEBHOOK_" in outcome.reason
    assert "secret" not in outcome.reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed_to_a_page_that_says_200(sink, status):
    with http_sink.start() as page:
        sink.status, sink.headers = status, {"location": page.url + "/login"}
        out = writer(sink, token="secret")
        (outcome,) = out.write("logs", [PART.requests["logs"]])
        out.close()
    assert outcome.fate is Fate.RETRY
    assert "WAFER_WEBHOOK_URL" in outcome.reason
    assert page.requests == []


def test_what_comes_after_a_refusal_for_now_waits_without_a_try(sink):
    sink.status = 503
    out = writer(sink)
    outcomes = out.write("logs", [PART.requests["logs"]] * 3)
    out.close()
    assert [one.fate for one in outcomes] == [Fate.RETRY] * 3
    assert len(sink.requests) == 1


def test_what_is_no_request_is_rejected_and_the_rest_goes_on(sink):
    out = writer(sink)
    outcomes = out.write("logs", [b"\xff\xff", PART.requests["logs"]])
    out.close()
    assert [one.fate for one in outcomes] == [Fate.REJECTED, Fate.ACCEPTED]


def test_nobody_there_is_said_without_the_address():
    out = Writer(Config(url=f"http://user:password@127.0.0.1:{free_ports(1)[0]}/"))
    (outcome,) = out.write("logs", [PART.requests["logs"]])
    assert outcome.fate is Fate.RETRY
    with pytest.raises(StorageUnavailable) as caught:
        out.check()
    out.close()
    assert "password" not in outcome.reason + str(caught.value)


def test_a_silent_endpoint_is_given_up_in_time(sink):
    sink.silent.set()
    out = writer(sink, timeout_s=0.1)
    (outcome,) = out.write("logs", [PART.requests["logs"]])
    out.close()
    assert outcome.fate is Fate.RETRY
