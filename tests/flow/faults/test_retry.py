"""R11: a backend refuses 70 % of what a stock Collector sends for five seconds: sent == stored, field by field."""

from __future__ import annotations

import pytest

from tests.flow.faults.chain import last

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.slow, pytest.mark.timeout(600)]

REFUSED_SHARE = 0.7


def test_r11_what_is_refused_is_sent_again_until_it_is_stored(chain_of, soak):
    """As the Collector project's own testbed does it; at full length with 10,000 spans a second."""
    per_s, refusing_s = (125.0, 5.0) if soak else (25.0, 3.0)
    chain = chain_of(relay=True)
    load = chain.load("r11", per_s=per_s)
    with load.running():
        load.take(20)
        chain.relay.refuse(REFUSED_SHARE)
        last(refusing_s)
        chain.relay.refuse(0.0)
        load.take(20)
    chain.arrived(load, within_s=120)
    assert chain.relay.refused > 0
    assert not load.refusals
