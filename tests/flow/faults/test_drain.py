"""R13: a receiver that is told to stop commits what it accepted; two of them are renewed one after the other under load."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from tests.flow.faults.chain import arrived
from tests.flow.faults.corpus import Corpus
from tests.flow.faults.load import GONE, Grpc, Http, Load
from tests.servers import receiver

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.slow, pytest.mark.timeout(300)]

DRAIN_S = 10.0
"""What is promised; with a store that is well it is far less."""
PER_S = 20.0
CANCELLED = 1001
ORDERLY = {503, 1014, GONE, CANCELLED}
"""Come back later, in either transport's words; or the connection is gone, or (gRPC) the call was not yet handed over."""


def test_r13_sigterm_under_load_loses_nothing(chain_of, soak):
    chain = chain_of()
    behind = chain.load("r13", per_s=PER_S)
    direct = [
        Load(Corpus("r13, HTTP"), [chain.receiver.otlp_http], connect=Http, per_s=PER_S),
        Load(Corpus("r13, gRPC"), [chain.receiver.otlp_grpc], connect=Grpc, per_s=PER_S),
    ]
    with behind.running(), direct[0].running(), direct[1].running():
        for _ in range(20 if soak else 2):
            for load in (behind, *direct):
                load.take(20)
            began_s = time.monotonic()
            assert chain.receiver.end() == 0
            assert time.monotonic() - began_s <= DRAIN_S
            chain.receiver.launch()
        for load in (behind, *direct):
            load.take(10)
    assert not behind.refusals
    for load in direct:
        assert {code for code, _ in load.refusals} <= ORDERLY, load.refusals
        arrived(load, chain.dsn, within_s=30)
    chain.arrived(behind, within_s=60)


@pytest.mark.servers
def test_r13_rolling_restart_of_two_receivers_on_one_store(durable, soak):
    dsn = durable.migrated()
    with ExitStack() as parts:
        pair = []
        for _ in range(2):
            pair.append(receiver.start(dsn))
            parts.callback(pair[-1].stop)
        loads = [
            Load(Corpus("rolling, HTTP"), [one.otlp_http for one in pair], connect=Http, per_s=PER_S),
            Load(Corpus("rolling, gRPC"), [one.otlp_grpc for one in pair], connect=Grpc, per_s=PER_S),
        ]
        with loads[0].running(), loads[1].running():
            for one in pair * (10 if soak else 1):
                for load in loads:
                    load.take(20)
                assert one.end() == 0
                for load in loads:
                    load.take(20)  # the other one takes all
                one.launch()
        for load in loads:
            assert {code for code, _ in load.refusals} <= ORDERLY, load.refusals
            arrived(load, dsn, within_s=30)


def test_r13_rolling_restart_on_one_address_behind_a_collector(chain_of, soak):
    share = {"WAFER_RECEIVER_SHARE_PORT": "true"}
    chain = chain_of(environ=share)
    second = receiver.start(chain.dsn, beside=chain.receiver, **share)
    load = chain.load("rolling, Collector", per_s=PER_S)
    try:
        with load.running():
            for one in (chain.receiver, second) * (10 if soak else 1):
                load.take(20)
                assert one.end() == 0
                load.take(20)  # into the other one, or into the Collector's queue
                one.launch()
            load.take(10)
        assert not load.refusals
        chain.arrived(load, within_s=60)
    finally:
        second.stop()
