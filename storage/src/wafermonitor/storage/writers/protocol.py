"""What a writer is: OTLP requests in, and of each whether the backend has it.

In: serialized `Export{Trace,Logs,Metrics}ServiceRequest`s. Out: an `Outcome` for each, in the same order.
Implemented by: every module of this folder. Called by: `receiver.bridge` (in worker threads), `instrumentation` in mode direct.

Delivery is at least once: the caller gives again what was answered with RETRY, and what it never heard of. A writer names what
it writes after its content (a document id, a key, a file name) wherever the backend lets it, so that a second try changes
nothing. ACCEPTED is said only of what the backend itself has said to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from wafermonitor.instrumentation.environment import EnvironmentConfig

Signal = Literal["traces", "logs", "metrics"]
SIGNALS: tuple[Signal, ...] = ("traces", "logs", "metrics")


class Fate(Enum):
    """What became of a request."""

    ACCEPTED = "accepted"
    """The backend keeps it."""
    RETRY = "retry"
    """Not now: the backend is away, full or slow; some of it may be kept already."""
    REJECTED = "rejected"
    """The backend will never take it."""


class Outcome(NamedTuple):
    """The fate of one request, and why it was not accepted, without addresses and secrets.

    A request may be accepted but for some items that the backend will never take: `rejected` says how many, `remains` is a
    request of just these, for whoever keeps what was refused.
    """

    fate: Fate
    reason: str = ""
    rejected: int = 0
    remains: bytes = b""


ACCEPTED = Outcome(Fate.ACCEPTED)


class Writer(Protocol):
    """Made of a `config`; thread-safe; opens its connection when it is first needed and again after it broke."""

    config_type: ClassVar[type[EnvironmentConfig]]
    """What can be set: `WAFER_<NAME>_<FIELD>` for a bridge, the entry's keys for a job in mode direct."""
    signals: ClassVar[frozenset[Signal]]
    """What it has a place for; the rest is rejected before it comes here."""
    port: ClassVar[int]
    """Where the bridge listens on loopback unless told otherwise, and where its Collector file sends."""

    def __init__(self, config: Any) -> None:
        """Does not connect. StorageRejected for settings that contradict one another."""

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Write each request; an Outcome for each, in order. Raises nothing for what the backend or the network does."""

    def check(self) -> None:
        """Ask whether the backend would take something now. StorageUnavailable or StorageRejected says why not."""

    def close(self) -> None:
        """Let go of connections. May be called twice."""
