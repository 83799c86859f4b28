"""The proof that a backend gets everything, once it is back: run by `tests/backends/test_<name>.py` on the real server.

    class Kafka(proof.Backend):
        name = "kafka"                                    # its table in docs/backends.toml, its fragments, its writer
        def read(self, signal): yield proof.Kept(key, {"name": …, "start_ns": …})    # by Kafka's own client
        …
    @pytest.mark.parametrize("way", proof.ways("kafka"))
    def test_nothing_is_lost(backend, way):
        proof.survives(backend, way)

Ways: `exporter` (Collector → backend), `bridge` (Collector → `wafer receiver --writer NAME` → backend), `direct` (the writer
alone, as a job in mode direct has it). The row of a way in docs/backends.toml says which signals it carries and whether it may
write an item twice; the proof holds it to that.

`arrives`: all is there, with the values that were sent. `survives`: that, and then the server is away for a while, Collector
and bridge get kill -9 meanwhile, and all come back. The direct way is told RETRY, and gives again even what was accepted, as
one who never heard the answer. Both return a `Report`.
"""

from __future__ import annotations

import http.client
import math
import os
import threading
import time
import tomllib
import urllib.request
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from tests.backends import corpus
from tests.servers import bridge, collector
from tests.servers.collector import until
from wafermonitor.storage.writers import loading
from wafermonitor.storage.writers.items import Item
from wafermonitor.storage.writers.protocol import Fate, Outcome, Signal

Way = Literal["exporter", "bridge", "direct"]
OUTAGE_S = 60.0 if os.environ.get("WAFER_TEST_SOAK") else 5.0
DEADLINE_S = 120.0
ROWS = Path(__file__).resolve().parents[2] / "docs" / "backends.toml"
NEVER = "never"
"""What `twice` of a row says when an item is kept once, whatever happens."""


counted: list[str] = []
"""What `survives` found, in words, for the end of a test run."""


class Kept(NamedTuple):
    """An item as the backend has it. `fields`: those of `storage.writers.items` that it keeps, and `site` and `service`."""

    key: str
    fields: Mapping[str, Any]


class Report(NamedTuple):
    """How many different items were sent and found, and how many more than once."""

    sent: int
    duplicates: int


class Backend(ABC):
    """A running server, its settings, and a reader of it that is not ours."""

    name: ClassVar[str]
    """Its table in docs/backends.toml, its writer, its fragments."""
    time_unit_ns: ClassVar[int] = 1
    """How finely it keeps times: each `…_ns` is compared after being cut to this."""

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Variables for the fragment and the writer."""

    @abstractmethod
    def read(self, signal: Signal) -> Iterable[Kept]:
        """Everything it has of this signal that has a `corpus.key` (others, such as beats, are passed over), each as often as
        it has it."""

    @abstractmethod
    def kill(self) -> None:
        """kill -9 of the server."""

    @abstractmethod
    def restart(self) -> None:
        """Start it again on the same port and data; returns when it answers."""

    def wants(self, way: Way, signal: Signal, item: Item) -> bool:
        """Whether it has a place for this item; false for what the row says it leaves out."""
        del way, signal, item
        return True

    def fragments(self, way: Way) -> tuple[str, ...]:
        """The Collector's files of a way."""
        return named(self.name, way, promised(self.name, way))


def promised(name: str, way: Way) -> dict[str, Any]:
    """The row of `name` and `way` in docs/backends.toml."""
    table = tomllib.loads(ROWS.read_text(encoding="utf-8")).get(name, {})
    assert way in table, f"docs/backends.toml has no [{name}.{way}]: what does this way promise?"
    row: dict[str, Any] = table[way]
    return row


def named(name: str, way: Way, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The Collector's files of a row: as it says, else called as the backend."""
    fragment = row.get("fragment", name if way == "exporter" else f"bridge-{name}")
    return (fragment,) if isinstance(fragment, str) else tuple(fragment)


def ways(name: str) -> list[Way]:
    """The ways of the rows of `name` that can be tried here.

    The exporter is left out when no Collector that we can build has the parts of its fragment and WAFER_COLLECTOR_BIN names
    none that has all, or when its row has no test.
    """
    table = tomllib.loads(ROWS.read_text(encoding="utf-8")).get(name, {})
    known: tuple[Way, ...] = ("exporter", "bridge", "direct")
    found = [way for way in known if "test" in table.get(way, {})]
    if "exporter" in found and not all(can_be_run(one) for one in named(name, "exporter", table["exporter"])):
        found.remove("exporter")
    return found


def can_be_run(fragment: str) -> bool:
    """Whether a Collector that we can build, or the one that is named, has the parts of `backends/<fragment>.yaml`."""
    return bool(os.environ.get("WAFER_COLLECTOR_BIN")) or not collector.lacking(fragment, "full")


def arrives(backend: Backend, way: Way) -> Report:
    """One part of the corpus is sent and found, with its values."""
    with _standing(backend, way) as (line, sent):
        sent.add(line, 0)
        sent.wait()
        line.end()
        return sent.report()


def survives(backend: Backend, way: Way) -> Report:
    """What was sent before, during and after the absence of the server is found, with its values."""
    with _standing(backend, way) as (line, sent):
        sent.add(line, 0)
        sent.wait()
        sent.add(line, 1)  # is on its way when the server ends
        backend.kill()
        away_until = time.monotonic() + OUTAGE_S
        try:
            sent.add(line, 2)
            line.break_down()
            sent.add(line, 3)
            threading.Event().wait(max(away_until - time.monotonic(), 0.0))
        finally:
            backend.restart()
        line.mend()
        sent.add(line, 4)
        sent.wait()
        line.end()
        report = sent.report()
        counted.append(f"{backend.name}, {way}: {report.sent} sent, {report.duplicates} of them twice")
        return report


class _Line(Protocol):
    """What stands between the sender and the backend."""

    def send(self, signal: Signal, request: bytes) -> None: ...
    def break_down(self) -> None: ...
    def mend(self) -> None: ...
    def end(self) -> None: ...


class _Sent:
    """What was sent, and whether it is all there."""

    def __init__(self, backend: Backend, way: Way) -> None:
        self._backend, self._way = backend, way
        self._row = promised(backend.name, way)
        self._tag = f"t{uuid.uuid4().hex[:8]}"
        self._expected: dict[Signal, dict[str, Item]] = {signal: {} for signal in self._row["signals"]}

    def add(self, line: _Line, number: int) -> None:
        """Make a part and send it."""
        part = corpus.part(self._tag, number)
        for signal, expected in self._expected.items():
            wanted = {key: one for key, one in part.items[signal].items() if self._backend.wants(self._way, signal, one)}
            expected.update(wanted)
            line.send(signal, part.requests[signal])

    def wait(self) -> None:
        """Until every item is there."""
        missing = {signal: set(expected) for signal, expected in self._expected.items()}
        trouble: list[Exception] = []

        def all_there() -> bool:
            for signal in [signal for signal, keys in missing.items() if keys]:
                try:
                    missing[signal] -= {one.key for one in self._found(signal)}
                except AssertionError:
                    raise
                except Exception as error:  # noqa: BLE001 - a server that is just back; told when it stays so
                    trouble[:] = [error]
            return not any(missing.values())

        try:
            until(all_there, "everything is there", DEADLINE_S, every_s=0.2)
        except AssertionError as error:
            told = {
                signal: f"{len(keys)} of {len(self._expected[signal])}: {sorted(keys)[:5]}" for signal, keys in missing.items()
            }
            raise AssertionError(f"{self._backend.name}, {self._way}: {error}; missing: {told}") from next(iter(trouble), None)

    def report(self) -> Report:
        """Compare what was found with what was sent, value by value, and with what the row promises."""
        duplicates = 0
        for signal, expected in self._expected.items():
            found = self._found(signal)
            counts = Counter(one.key for one in found)
            assert set(counts) == set(expected), f"{signal}: {sorted(set(counts) ^ set(expected))[:5]}"
            duplicates += counts.total() - len(counts)
            for one in found:
                self._compare(signal, expected[one.key], one)
        if self._row["twice"].startswith(NEVER):
            assert duplicates == 0, f"{self._backend.name}, {self._way}: {duplicates} duplicates, though `twice` says never"
        return Report(sum(len(expected) for expected in self._expected.values()), duplicates)

    def _found(self, signal: Signal) -> list[Kept]:
        return [one for one in self._backend.read(signal) if one.key.startswith(f"{self._tag}-")]

    def _compare(self, signal: Signal, item: Item, kept: Kept) -> None:
        assert kept.fields, f"{signal}: nothing of {kept.key} is compared"
        for field, value in kept.fields.items():
            wanted = getattr(item.resource, field) if field in {"site", "service"} else getattr(item, field)
            if field.endswith("_ns"):
                unit = self._backend.time_unit_ns
                wanted, value = wanted // unit, value // unit  # noqa: PLW2901 - both are cut alike
            same = math.isclose(value, wanted) if isinstance(wanted, float) else value == wanted
            assert same, f"{signal} {kept.key}: {field} is {value!r}, sent was {wanted!r}"


@contextmanager
def _standing(backend: Backend, way: Way) -> Iterator[tuple[_Line, _Sent]]:
    sent = _Sent(backend, way)
    with ExitStack() as stack:
        line: _Line = _Direct(backend, stack) if way == "direct" else _Collected(backend, way, stack)
        yield line, sent


class _Collected:
    """A Collector, and a bridge behind it or not."""

    def __init__(self, backend: Backend, way: Way, stack: ExitStack) -> None:
        environment = dict(backend.environment)
        self._bridge: bridge.Server | None = None
        if way == "bridge":
            self._bridge = bridge.start(backend.name, environment)
            stack.callback(self._bridge.stop)
            environment[f"WAFER_BRIDGE_{backend.name.upper()}"] = f"http://{self._bridge.http}"
        self._collector = collector.start(backend.fragments(way), environ=environment)
        stack.callback(self._collector.stop)

    def send(self, signal: Signal, request: bytes) -> None:
        """As an SDK does: again and again until it is taken."""
        until(lambda: _posted(f"http://{self._collector.otlp_http}/v1/{signal}", request), f"the Collector takes {signal}")

    def break_down(self) -> None:
        """kill -9 of both; the Collector's supervisor starts it again, the bridge stays away."""
        before = self._collector.count("ready")
        self._collector.kill()
        if self._bridge is not None:
            self._bridge.kill()
        self._collector.wait("ready", before + 1)

    def mend(self) -> None:
        """The bridge comes back."""
        if self._bridge is not None:
            self._bridge.launch()

    def end(self) -> None:
        """Stop both in order, so that nothing is under way; nothing may have been put aside, and none dropped."""
        assert self._collector.count("data-lost") == 0, self._collector.events
        self._collector.end()
        if self._bridge is not None:
            self._bridge.end()
            assert self._bridge.dead_letters() == []


class _Direct:
    """The writer in this process, given again what it did not accept."""

    def __init__(self, backend: Backend, stack: ExitStack) -> None:
        kind = loading.find(backend.name)
        self._make: Callable[[], Any] = lambda: kind(kind.config_type.load(backend.environment))
        self._writer = self._make()
        self._accepted: list[tuple[Signal, bytes]] = []
        self._waiting: list[tuple[Signal, bytes]] = []
        stack.callback(self.close)

    def send(self, signal: Signal, request: bytes) -> None:
        """Once; what must be tried again waits for `mend`."""
        (outcome,) = self._write(signal, [request])
        (self._accepted if outcome.fate is Fate.ACCEPTED else self._waiting).append((signal, request))

    def break_down(self) -> None:
        """It was told to try again, and is gone without a word: another writer in its place."""
        assert self._waiting, "the writer accepted what no server can have"
        self.close()
        self._writer = self._make()

    def mend(self) -> None:
        """Give everything again, also what was accepted, as one who never heard the answer."""
        for signal, request in [*self._waiting, *self._accepted]:
            until(partial(self._accepts, signal, request), f"the writer takes {signal}")
        self._waiting.clear()

    def end(self) -> None:
        """Give what waits, until it is taken; then nothing is under way, because writers are synchronous."""
        for signal, request in self._waiting:
            until(partial(self._accepts, signal, request), f"the writer takes {signal}")

    def close(self) -> None:
        """Let go of its connections."""
        self._writer.close()

    def _accepts(self, signal: Signal, request: bytes) -> bool:
        return self._write(signal, [request])[0].fate is Fate.ACCEPTED

    def _write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        outcomes: Sequence[Outcome] = self._writer.write(signal, requests)
        assert len(outcomes) == len(requests)
        for outcome in outcomes:
            assert outcome.fate is not Fate.REJECTED, outcome.reason
            assert not outcome.rejected, outcome.reason
            assert outcome.fate is Fate.ACCEPTED or outcome.reason
        return outcomes


def _posted(url: str, request: bytes) -> bool:
    sending = urllib.request.Request(url, request, {"Content-Type": "application/x-protobuf"})
    try:
        with urllib.request.urlopen(sending, timeout=10) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False
