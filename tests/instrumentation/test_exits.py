"""What a signal means that a handler of the program has taken."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from wafermonitor.instrumentation import exits


@pytest.mark.parametrize(("number", "meant"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, None)])
def test_a_reload_is_no_wish_to_end(number: signal.Signals, meant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    handler: Callable[..., None] = lambda seen, frame: called.append(seen)  # noqa: E731 - a handler, as programs write them
    monkeypatch.setattr(exits, "received", None)
    monkeypatch.setattr(exits, "_previous", {number: handler})
    exits._on_signal(number, None)
    assert called == [number]
    assert exits.received is meant


def test_a_reload_that_ends_the_program_is_a_wish_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(exits, "received", None)
    monkeypatch.setattr(exits, "_previous", {signal.SIGHUP: stop})
    with pytest.raises(SystemExit):
        exits._on_signal(signal.SIGHUP, None)
    assert exits.received is signal.SIGHUP
