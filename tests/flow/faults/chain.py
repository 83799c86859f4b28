"""PostgreSQL ← receiver ← a stock Collector with the YAML that is shipped, each a process of its own, to be broken anywhere.

chain = Chain.start(postgres, link=True)      # `link`: the receiver reaches its database by a TCP link that can be cut
load = chain.load("r1", per_s=25)             # into the Collector
chain.arrived(load, within_s=60)              # sent == stored, field by field, or the test fails and says what differs
chain.stop()
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Self

from tests.flow.faults import stored
from tests.flow.faults.corpus import SITE, Corpus
from tests.flow.faults.load import Load
from tests.servers import collector, otlp_relay, postgres, receiver, tcp_proxy
from tests.servers.collector import until


class Chain:
    """The running parts. `link` and `relay` are there when they were asked for."""

    def __init__(self, database: postgres.Server) -> None:
        self.postgres = database
        self.dsn = database.migrated()
        self.link: tcp_proxy.Server | None = None
        self.relay: otlp_relay.Server | None = None
        self._parts = ExitStack()

    @classmethod
    def start(
        cls, database: postgres.Server, *, link: bool = False, relay: bool = False, environ: Mapping[str, str] | None = None
    ) -> Self:
        """Everything running. `environ` is the receiver's."""
        chain = cls(database)
        with ExitStack() as failed:
            failed.callback(chain.stop)
            chain._begin(link=link, relay=relay, environ=environ or {})
            failed.pop_all()
        return chain

    def _begin(self, *, link: bool, relay: bool, environ: Mapping[str, str]) -> None:
        dsn = self.dsn
        if link:
            self.link = tcp_proxy.to(dsn)
            self._parts.callback(self.link.stop)
            dsn = self.link.through(dsn)
        self.receiver = receiver.start(dsn, **environ)
        self._parts.callback(self.receiver.stop)
        far = self.receiver.otlp_grpc
        if relay:
            self.relay = otlp_relay.start(far, seed=11)
            self._parts.callback(self.relay.stop)
            far = self.relay.address
        self.collector = collector.start(environ={"WAFER_MANAGED_ENDPOINT": far, "WAFER_SITE_ID": SITE})
        self._parts.callback(self.collector.stop)

    def load(self, name: str, *, per_s: float | None = None, senders: int = 4) -> Load:
        """A load into the Collector that nobody else's has the name of."""
        return Load(Corpus(name), [self.collector.otlp_http], per_s=per_s, senders=senders)

    def arrived(self, load: Load, *, within_s: float) -> None:
        """Everything that the Collector took of `load` is stored, once and unchanged."""
        arrived(load, self.dsn, within_s=within_s)

    def stop(self) -> None:
        """End every process, the senders' side first."""
        self._parts.close()


def arrived(load: Load, dsn: str, *, within_s: float) -> None:
    """Everything taken of `load` is in the database `dsn`, once and unchanged."""
    name, sent = load.corpus.name, stored.count_sent(load.taken)
    until(lambda: (stored.count_stored(dsn, name) or (-1,)) >= sent, f"{sent} of {name} are stored", within_s)
    assert stored.differences(load.taken, dsn, name) == []


def last(seconds: float) -> None:
    """How long a fault lasts: nothing is waited for."""
    threading.Event().wait(seconds)
