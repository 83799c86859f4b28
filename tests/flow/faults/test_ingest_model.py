"""R12: written, redelivered, reordered, and the receiver killed in the middle, in any order that hypothesis thinks of.

A small model in Python says what must be stored after each step: what was acknowledged is there, nothing is there twice,
nothing is there that was not sent; and once everything was acknowledged, each run is what its messages say, in any order.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.flow.faults import stored
from tests.flow.faults.corpus import SECOND_NS, Corpus, Sent, pair
from tests.flow.faults.load import Grpc, Http, HttpJson
from tests.receiver.otlp import START_NS, logs, spans, text
from tests.servers import receiver
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(1800)]

TRIES = 200
RUNS = 4
MESSAGES = ("start", "progress 1", "progress 2", "progress 3", "end", "span")
JOB = "modelled"
_services = (f"model {number}" for number in itertools.count())


def message(service: str, run: int, kind: str) -> Sent:
    """One message about a run: three seconds long, 1/4 to 3/4 done, a failure by its event, a success by its span."""
    trace_id = trace_of(service, run)
    if kind == "span":
        request = spans(1, first=1, trace_id=trace_id)
        group = request.resource_spans[0]
        made = group.scope_spans[0].spans[0]
        made.start_time_unix_nano, made.end_time_unix_nano = START_NS, START_NS + 3 * SECOND_NS
    else:
        request = logs(1)
        group = request.resource_logs[0]
        made = group.scope_logs[0].log_records[0]
        made.trace_id, made.span_id = trace_id, (1).to_bytes(8, "big")
        name, _, step = kind.partition(" ")
        made.event_name = {
            "start": events.WAFER_JOB_START,
            "progress": events.WAFER_JOB_PROGRESS,
            "end": events.WAFER_JOB_END,
        }[name]
        made.time_unix_nano = START_NS + {"start": 0, "progress": int(step or 0) * 1000, "end": 2 * SECOND_NS}[name]
        if name == "progress":
            made.attributes.append(pair(names.WAFER_JOB_PROGRESS_RATIO, int(step) / 4))
        if name == "end":
            made.attributes.append(text(names.WAFER_JOB_RESULT, "failure"))
    made.attributes.append(text(names.WAFER_JOB_NAME, JOB))
    group.resource.attributes.append(text(names.SERVICE_NAME, service))
    return Sent("traces" if kind == "span" else "logs", request.SerializeToString())


def trace_of(service: str, run: int) -> bytes:
    """A trace of its own for each run."""
    return hashlib.sha256(f"{service}/{run}".encode()).digest()[:16]


def run_model(kinds: set[str]) -> tuple[int | None, int | None, str | None, float | None]:
    """Start, end, result and progress of a run of which these messages have been acknowledged."""
    start_ns = START_NS if kinds & {"start", "span"} else None
    done = [int(kind[-1]) / 4 for kind in kinds if kind.startswith("progress")]
    if "span" in kinds:
        return start_ns, START_NS + 3 * SECOND_NS, "success", max(done, default=None)
    if "end" in kinds:
        return start_ns, START_NS + 2 * SECOND_NS, "failure", max(done, default=None)
    return start_ns, None, None, max(done, default=None)


class Ingest(RuleBasedStateMachine):
    """The model, and the receiver that is held to it."""

    server: receiver.Server

    @initialize()
    def begin(self) -> None:
        self.service = next(_services)
        self.corpus = Corpus(self.service, job_every=None)
        self.sent: dict[int, Sent] = {}
        self.acked: set[int] = set()
        self.told: set[tuple[int, str]] = set()
        self.pool = ThreadPoolExecutor(4)

    @rule(number=st.integers(1, 4))
    def write(self, number: int) -> None:
        self._deliver(self._new(number))

    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        if self.sent:
            self._deliver(data.draw(st.lists(st.sampled_from(sorted(self.sent)), min_size=1, max_size=6)))

    @rule(number=st.integers(1, 4), data=st.data())
    def kill(self, number: int, data: st.DataObject) -> None:
        """In the middle of new requests and old ones; what was not answered may be stored or not."""
        again = data.draw(st.lists(st.sampled_from(sorted(self.sent)), max_size=3)) if self.sent else []
        under_way = [self.pool.submit(self._once, one) for one in (*self._new(number), *again)]
        self.server.kill()
        self.acked |= {one.result() for one in under_way} - {None}
        self.server.launch()
        self._compare()

    @rule(run=st.integers(0, RUNS - 1), kinds=st.permutations(MESSAGES), share=st.integers(1, len(MESSAGES)))
    def tell(self, run: int, kinds: Sequence[str], share: int) -> None:
        """Some messages about a run, at once, in any order."""
        chosen = kinds[:share]
        requests = [message(self._of_runs, run, kind) for kind in chosen]
        assert all(self.pool.map(self._until_taken, range(len(requests)), requests))
        self.told |= {(run, kind) for kind in chosen}

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        self._deliver(sorted(self.sent))
        self._compare()
        assert stored.differences(self.sent.values(), self.server.dsn, self.service) == []
        rows = stored.rows("model_runs", self.server.dsn, self._of_runs)
        found = {row["trace_id"]: tuple(row[1:]) for row in rows}
        told = {run: {kind for one, kind in self.told if one == run} for run, _ in self.told}
        assert found == {trace_of(self._of_runs, run).hex(): run_model(kinds) for run, kinds in told.items()}
        self.pool.shutdown()

    @property
    def _of_runs(self) -> str:
        return f"{self.service}, runs"

    def _new(self, number: int) -> list[int]:
        first = len(self.sent)
        self.sent |= {one: self.corpus.request(one) for one in range(first, first + number)}
        return list(range(first, first + number))

    def _deliver(self, numbers: Sequence[int]) -> None:
        requests = [self.sent[number] for number in numbers]
        assert all(self.pool.map(self._until_taken, range(len(requests)), requests))
        self.acked |= set(numbers)

    def _compare(self) -> None:
        """acknowledged ⊆ stored ⊆ sent, and nothing twice."""
        lost = stored.differences([self.sent[number] for number in self.acked], self.server.dsn, self.service)
        assert [line for line in lost if not line.startswith("never sent")] == []
        uncalled = stored.differences(self.sent.values(), self.server.dsn, self.service)
        assert [line for line in uncalled if not line.startswith("lost")] == []

    def _once(self, number: int) -> int | None:
        return number if self._try(number, self.sent[number]) else None

    def _until_taken(self, turn: int, request: Sent) -> bool:
        return any(self._try(turn, request) for _ in range(TRIES))

    def _try(self, turn: int, request: Sent) -> bool:
        kind = (Http, Grpc, HttpJson)[turn % 3]
        sender = kind(self.server.otlp_grpc if kind is Grpc else self.server.otlp_http)
        try:
            return sender.send(request).took
        finally:
            sender.close()


@pytest.fixture
def server(durable) -> Iterator[receiver.Server]:
    running = receiver.start(durable.migrated())
    yield running
    running.stop()


def test_r12_ingest_is_what_the_model_says(server, soak):
    machine = type("Held", (Ingest,), {"server": server})
    examples, steps = (30, 30) if soak else (3, 8)
    run_state_machine_as_test(
        machine, settings=settings(settings.default, max_examples=examples, stateful_step_count=steps, deadline=None)
    )
