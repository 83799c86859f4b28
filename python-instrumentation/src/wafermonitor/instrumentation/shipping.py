"""`wafer replay` as people see it: progress, totals.

In: a spool folder and the settings. Out: lines on the terminal or one JSON object. Called by: `command`.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.endpoint import Target
from wafermonitor.instrumentation.errors import InstrumentationUnavailable
from wafermonitor.instrumentation.replay import Replay, Summary, watch
from wafermonitor.instrumentation.spool import SIGNALS
from wafermonitor.instrumentation.target import target_of

_TIMEOUT_S: Final = 10.0
_INTERVAL_S: Final = (0.2, 60.0)


def ship(
    spool: Path, config: Config, *, watch: bool, interval: float, patience: float, endpoint: str | None, as_json: bool
) -> None:
    """Send the spool, once or until a signal. InstrumentationUnavailable when something had to stay behind."""
    target = target_of(config, url=endpoint, least_wait_s=_TIMEOUT_S)
    try:
        if watch:
            _ship_on(spool, target, min(max(interval, _INTERVAL_S[0]), _INTERVAL_S[1]), as_json=as_json)
        elif spool.is_dir():
            _ship_once(spool, target, patience, as_json=as_json)
        elif as_json:
            _print(Summary())
        else:
            click.echo(f"{spool}: nothing to send")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise InstrumentationUnavailable(f"{spool}: {error.strerror or error}; nothing unsent was removed") from None


def _ship_once(spool: Path, target: Target, patience_s: float, *, as_json: bool) -> None:
    with _stopping() as stop, Replay(spool, target, stop=stop, patience_s=patience_s) as replay:
        try:
            if as_json or not sys.stdout.isatty():
                replay.run()
            else:
                with click.progressbar(length=replay.waiting_bytes(), label="sending") as bar:
                    replay.on_advance = bar.update
                    replay.run()
        except InstrumentationUnavailable:
            if as_json:
                _print(replay.summary)
            raise
        _report(replay.summary, as_json=as_json)


def _ship_on(spool: Path, target: Target, interval_s: float, *, as_json: bool) -> None:
    for signal_name in SIGNALS:  # a spool that nobody has written to yet is no error for a watcher
        (spool / signal_name).mkdir(mode=0o700, parents=True, exist_ok=True)
    with _stopping() as stop:
        for summary in watch(spool, target, interval_s=interval_s, stop=stop):
            _report(summary, as_json=as_json)


def _report(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        _print(summary)
        return
    words = f"sent {summary.lines} lines in {summary.requests} requests, {summary.files_done} files done"
    extra = {"rejected": summary.rejected, "half-written": summary.broken, "taken in part": summary.partial}
    words += "".join(f", {count} {name}" for name, count in extra.items() if count)
    words += f", {summary.waiting_bytes} bytes wait" if summary.waiting_bytes else ""
    click.echo(words + (f" ({summary.reason})" if summary.reason else ""))


def _print(summary: Summary) -> None:
    click.echo(json.dumps(summary.as_dict()))


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set: what is on its way is finished first."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
