"""R1: the receiver is killed again and again under load, behind a stock Collector: sent == stored."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.slow, pytest.mark.timeout(900)]


def test_r01_kill9_of_the_receiver_loses_and_doubles_nothing(chain_of, soak):
    kills, per_s, between = (20, 62.5, 900) if soak else (3, 25.0, 25)
    chain = chain_of()
    load = chain.load("r01", per_s=per_s)
    with load.running():
        for _ in range(kills):
            load.take(between)
            chain.receiver.kill()
            load.take(10)  # the Collector takes on while nobody is behind it
            chain.receiver.launch()
        load.take(between)
    assert not load.refusals
    chain.arrived(load, within_s=120)
