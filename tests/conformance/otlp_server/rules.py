"""What a case says about itself: the rule, how binding it is, where it is written, over what it is tried.

In: `@rule(…)` above a test. Out: a `Rule`, read by the plug-in (`conftest.py`) and printed in the table.

A test that takes `client` is tried over each transport of its rule, one that takes `signal` with each signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

GRPC, PROTOBUF, JSON, HTTP = "grpc", "http/protobuf", "http/json", "http"
TRANSPORTS = (GRPC, PROTOBUF, JSON)
SIGNALS = ("traces", "logs", "metrics")


class Level(StrEnum):
    """The specification's own words; STRICT is what it does not ask for and a sender is glad of."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    RECOMMENDED = "RECOMMENDED"
    STRICT = "STRICT"


class Cost(StrEnum):
    """What a case takes: `quick` milliseconds, `heavy` hundreds of MiB on the wire, `slow` waits for time-outs."""

    QUICK = "quick"
    HEAVY = "heavy"
    SLOW = "slow"


@dataclass(frozen=True)
class Rule:
    """One sentence that a server keeps or not."""

    name: str
    level: Level
    text: str
    source: str
    transports: tuple[str, ...] = TRANSPORTS
    signals: tuple[str, ...] = SIGNALS
    cost: Cost = Cost.QUICK


def rule(name: str, level: Level, text: str, source: str, **more: Any) -> Callable[[Any], Any]:
    """Mark a test as the judge of a rule."""
    return pytest.mark.otlp(Rule(name, level, text, source, **more))
