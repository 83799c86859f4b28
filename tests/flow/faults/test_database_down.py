"""R2: the database is stopped, killed or cut off under load and comes back: nothing is lost, and the receiver stays small."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

import pytest

from tests.flow.faults.chain import Chain, arrived, last
from tests.flow.faults.corpus import Corpus
from tests.flow.faults.load import GONE, Grpc, Http, Load

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.slow, pytest.mark.timeout(600)]

MOST_BYTES = 512 << 20
BACKLOG_S = 60.0
REFUSED = {(503, True), (1014, True)}
"""HTTP's 503 and gRPC's UNAVAILABLE, each with a hint when to come back."""
DOWN = {
    "stopped": (lambda chain: chain.postgres.end(), lambda chain: chain.postgres.restart()),
    "killed": (lambda chain: chain.postgres.kill(), lambda chain: chain.postgres.restart()),
    "cut off": (lambda chain: chain.link.cut(), lambda chain: chain.link.heal()),
    "silent": (lambda chain: chain.link.silence(), lambda chain: chain.link.heal()),
}


# What is silent is waited for, which takes its time.
@pytest.mark.parametrize("how", [pytest.param(how, marks=[pytest.mark.servers] * (how == "silent")) for how in DOWN])
def test_r02_a_database_that_is_down_costs_only_time(chain_of, soak, how):
    down, up = DOWN[how]
    chain = chain_of(link=True, environ={"WAFER_STORAGE_COMMAND_TIMEOUT_S": "1"})
    name = f"r02 {how}"
    behind = chain.load(f"{name}, Collector", per_s=50 if soak else 20)
    direct = [
        Load(Corpus(f"{name}, HTTP"), [chain.receiver.otlp_http], connect=Http, senders=2),
        Load(Corpus(f"{name}, gRPC"), [chain.receiver.otlp_grpc], connect=Grpc, senders=2),
    ]
    with behind.running(), direct[0].running(), direct[1].running():
        for load in (behind, *direct):
            load.take(10)
        down(chain)
        for load in direct:
            load.meet(2 if how == "silent" else 6)
        assert status(chain, "/readyz") == 503
        assert status(chain, "/healthz") == 200
        behind.take(20)
        last(60.0 if soak else 0.0)
        up(chain)
        began_s = time.monotonic()
        for load in (behind, *direct):
            load.take(10)
    # The backlog first: to compare all fields takes this test long, and that is not the receiver's time.
    chain.arrived(behind, within_s=BACKLOG_S - (time.monotonic() - began_s))
    for load in direct:
        assert set(load.refusals) <= REFUSED, load.refusals
        arrived(load, chain.dsn, within_s=BACKLOG_S)
    assert (GONE, False) not in behind.refusals
    assert chain.receiver.peak_bytes <= MOST_BYTES


def status(chain: Chain, path: str) -> int:
    """HTTP's status of one of the receiver's own pages."""
    try:
        with urllib.request.urlopen(f"http://{chain.receiver.otlp_http}{path}", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
