"""R5: everything is delivered three times, shuffled, in parallel and by every transport: each row is there once."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.flow.faults import stored
from tests.flow.faults.corpus import SECOND_NS, Corpus, Sent, decoded
from tests.flow.faults.load import Grpc, Http, HttpJson
from tests.servers import receiver

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TIMES = 3
SENDERS = (Http, HttpJson, Grpc) * 2


@pytest.fixture
def running(durable):
    server = receiver.start(durable.migrated())
    yield server
    server.stop()


def deliver(running: receiver.Server, requests: list[Sent]) -> None:
    """Every request `TIMES` times, in an order that is different each time, by several senders of each transport."""
    copies = requests * TIMES
    random.Random(5).shuffle(copies)

    def work(number: int) -> None:
        kind = SENDERS[number]
        sender = kind(running.otlp_grpc if kind is Grpc else running.otlp_http)
        try:
            for request in copies[number :: len(SENDERS)]:
                while not sender.send(request).took:
                    pass
        finally:
            sender.close()

    with ThreadPoolExecutor(len(SENDERS)) as pool:
        list(pool.map(work, range(len(SENDERS))))


def test_r05_redelivery_stores_each_row_once(running, soak):
    corpus = Corpus("r05")
    requests = [corpus.request(number) for number in range(500 if soak else 40)]
    deliver(running, requests)
    assert stored.differences(requests, running.dsn, "r05") == []


def test_r05_a_span_id_that_comes_again_with_another_start_is_another_span(running):
    """200 spans, every twentieth with the id of the first one and a start of its own: the case of Jaeger's storage tests."""
    corpus = Corpus("jaeger", job_every=None)
    parts = [decoded(Sent("traces", corpus.body("traces", number))) for number in range(2)]
    spans = [span for part in parts for group in part.resource_spans for scope in group.scope_spans for span in scope.spans]
    for number, span in enumerate(spans):
        span.trace_id = spans[0].trace_id
        if number % 20 == 0:
            span.span_id = spans[0].span_id
            span.start_time_unix_nano += number * SECOND_NS
            span.end_time_unix_nano += number * SECOND_NS
    requests = [Sent("traces", part.SerializeToString()) for part in parts]
    deliver(running, requests)
    assert stored.differences(requests, running.dsn, "jaeger") == []
    assert stored.count_stored(running.dsn, "jaeger") == (200, 0, 0)
