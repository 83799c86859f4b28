"""R3: every statement takes longer: what is in flight stays bounded, more is refused with a hint, and memory does not grow."""

from __future__ import annotations

import pytest

from tests.flow.faults.chain import arrived, last
from tests.flow.faults.corpus import Corpus
from tests.flow.faults.load import Grpc, Http, Load
from tests.servers import receiver, tcp_proxy

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(900)]

QUEUE_BYTES = 1 << 19
SENDERS = 20
"""Of each transport; together they hold several times as much as the queue takes."""
GROWTH = 1.1


def test_r03_a_slow_database_bounds_what_is_in_flight(durable, soak):
    delay_s, looks, pause_s = (2.0, 300, 1.0) if soak else (0.1, 8, 0.25)
    dsn = durable.migrated()
    link = tcp_proxy.to(dsn)
    limits = {"WAFER_RECEIVER_QUEUE_BYTES": str(QUEUE_BYTES), "WAFER_RECEIVER_MAX_REQUEST_BYTES": str(QUEUE_BYTES)}
    running = receiver.start(link.through(dsn), **limits)
    loads = [
        Load(Corpus("r03, HTTP"), [running.otlp_http], connect=Http, senders=SENDERS),
        Load(Corpus("r03, gRPC"), [running.otlp_grpc], connect=Grpc, senders=SENDERS),
    ]
    try:
        with loads[0].running(), loads[1].running():
            link.slow(delay_s)
            for load in loads:
                load.meet(2 * SENDERS)
            held = []
            for look in range(looks):
                if look == looks // 10:  # by then every connection has been answered: what memory is, it stays
                    before_bytes = running.peak_bytes
                    running.forget_peak()
                last(pause_s)
                held.append(running.measure("wafer_receiver_queue_bytes"))
            after_bytes = running.peak_bytes
            for load in loads:
                load.take(1)  # slow, and yet it goes on
            link.heal()
        assert 0 < max(held) <= QUEUE_BYTES
        assert after_bytes <= GROWTH * before_bytes
        for load in loads:
            assert {hint for _, hint in load.refusals} == {True}, load.refusals
            assert {code for code, _ in load.refusals} <= {503, 1014, 429, 1008}, load.refusals
            arrived(load, dsn, within_s=60)
    finally:
        running.stop()
        link.stop()
