"""Our own part under test: the embedded PostgreSQL as shipped, the receiver, the read API; each a process of its own.

In: settings. Out: a `System` with addresses, process groups, and the truth about what is stored.
Called by: the benchmarks.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncpg
import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import unmix
from benchmarks.load import Load
from benchmarks.processes import Child, facts, wafer, wait_for
from wafermonitor.deploy.addresses import free_addresses
from wafermonitor.deploy.demo import work_folder

T = TypeVar("T")
TABLES = "span, span_late, run, run_open, dead_letter, process, feed"
_COPY_ROW_BYTES = 14
_STORED = """
SELECT span_id FROM wafer_data.span WHERE start_time >= $1
UNION ALL SELECT span_id FROM wafer_data.span_late WHERE start_time >= $1
"""
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class Truth(NamedTuple):
    """What the store holds of one load."""

    acked: int
    stored: int
    missing: int
    doubled: int
    strangers: int
    """Stored, but neither acknowledged nor without an answer: refused, and there all the same."""

    @property
    def holds(self) -> bool:
        """Everything acknowledged is there, once."""
        return not self.missing and not self.doubled


def compare(stored: NDArray[np.uint64], acked: NDArray[np.uint64], maybe: NDArray[np.uint64] | None = None) -> Truth:
    """Numbers of stored spans beside those that were acknowledged; those of `maybe` may be there as well, once."""
    numbers, times = np.unique(stored, return_counts=True)
    allowed = acked if maybe is None else np.concatenate([acked, maybe])
    return Truth(
        acked=len(acked),
        stored=int(times.sum()),
        missing=int(len(acked) - np.isin(acked, numbers).sum()),
        doubled=int((times > 1).sum()),
        strangers=int((~np.isin(numbers, allowed)).sum()),
    )


class System:
    """Running processes; made by `running`."""

    def __init__(self, work: Path, environment: Mapping[str, str], *, query: bool, dsn: str | None) -> None:
        self.work = work
        self._given = dsn
        self.addresses = free_addresses()
        self._query = query
        self._environment = {
            "WAFER_STORAGE_DATA_DIR": str(work / "store"),
            "WAFER_SPOOL_DIR": str(work / "spool"),
            **environment,
        }
        self.start()

    def start(self) -> None:
        """Start everything; also again, after `kill`."""
        self._children = ExitStack()
        self.groups: dict[str, Sequence[int]] = {}
        if self._given is None:
            self.store = self._children.enter_context(Child(wafer("storage", "serve", "--json"), self._environment))
            self.dsn = Path(facts(self.store, "dsn_file")["dsn_file"]).read_text().strip()
            self.groups["database"] = [self.store.pid]
        else:
            self.dsn = self._given
        environment = self._environment | {"WAFER_STORAGE_DSN": self.dsn}
        places = ("--grpc-address", self.addresses.receiver_grpc, "--http-address", self.addresses.receiver_http)
        self.receiver = self._children.enter_context(Child(wafer("receiver", "--ready-json", *places), environment))
        facts(self.receiver, "ready")
        self.groups = {"receiver": [self.receiver.pid], **self.groups}
        if self._query:
            api = self._children.enter_context(Child(wafer("query", "--address", self.addresses.query), environment))
            self.groups["query"] = [api.pid]
            wait_for(f"http://{self.addresses.query}/readyz")

    def stop(self) -> None:
        """End everything in order."""
        self._children.close()

    def kill(self) -> None:
        """SIGKILL for the receiver and for every process of PostgreSQL, one right after the other."""
        for child in (self.receiver, self.store):
            child.kill()
        self._children.close()

    def load(self, first: int, **more: Any) -> Load:
        """A load for our receiver."""
        transport = more.get("transport", "grpc")
        address = self.addresses.receiver_grpc if transport == "grpc" else self.addresses.receiver_http
        return Load(address=address, log="", first=first, **more)

    def ask(self, question: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Ask the store itself."""

        async def asked() -> T:
            connection = await asyncpg.connect(self.dsn, timeout=60)
            try:
                return await question(connection)
            finally:
                await connection.close()

        return asyncio.run(asked())

    def empty(self) -> None:
        """Remove all rows, and leave the server nothing to do from before."""

        async def work(connection: asyncpg.Connection) -> None:
            names = ", ".join(f"wafer_data.{name.strip()}" for name in TABLES.split(","))
            await connection.execute(f"TRUNCATE {names}")
            await connection.execute("CHECKPOINT")

        self.ask(work)

    def stored(self, since: datetime | None = None) -> NDArray[np.uint64]:
        """The numbers of all stored spans, or of those that began at `since` or later, as often as they are there."""

        async def work(connection: asyncpg.Connection) -> bytes:
            held = io.BytesIO()
            await connection.copy_from_query(_STORED, since or _EVER, output=held, format="binary", timeout=600)
            return held.getvalue()

        data = np.frombuffer(self.ask(work), dtype=np.uint8)
        rows = (len(data) - 21) // _COPY_ROW_BYTES
        ids = data[19 : 19 + rows * _COPY_ROW_BYTES].reshape(rows, _COPY_ROW_BYTES)[:, 6:].copy().view(">u8").ravel()
        return unmix(ids.astype(np.uint64))

    def truth(self, acked: NDArray[np.uint64], maybe: NDArray[np.uint64] | None = None) -> Truth:
        """Compare what was acknowledged with what is there."""
        return compare(self.stored(), acked, maybe)

    def version(self) -> str:
        """PostgreSQL's version."""

        async def work(connection: asyncpg.Connection) -> str:
            return str(await connection.fetchval("SHOW server_version"))

        return self.ask(work)


@contextmanager
def running(environment: Mapping[str, str] | None = None, *, query: bool = False, dsn: str | None = None) -> Iterator[System]:
    """Everything started on free ports, its data in a folder that goes away, or in the database `dsn`, which has the schema."""
    with work_folder("wafer-bench-") as (work, _):
        system = System(work, environment or {}, query=query, dsn=dsn)
        try:
            yield system
        finally:
            system.stop()
