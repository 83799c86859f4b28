"""Which ending an exception stands for."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from concurrent.futures import BrokenExecutor

import pytest

from wafermonitor.instrumentation.results import described, ending_of


@pytest.mark.parametrize(
    ("error", "result", "error_type", "exit_code"),
    [
        (None, "success", None, None),
        (ValueError("x"), "failure", "ValueError", None),
        (SystemExit(), "success", None, 0),
        (SystemExit(0), "success", None, 0),
        (SystemExit(3), "failure", "SystemExit", 3),
        (SystemExit("no lot"), "failure", "SystemExit", 1),
        (SystemExit(143), "cancellation", "signal.SIGTERM", 143),
        (KeyboardInterrupt(), "cancellation", "signal.SIGINT", None),
        (asyncio.CancelledError(), "cancellation", "CancelledError", None),
        (MemoryError(), "error", "MemoryError", None),
        (BrokenExecutor("a worker was killed"), "error", "BrokenExecutor", None),
        (TimeoutError("late"), "timeout", "TimeoutError", None),
        (subprocess.TimeoutExpired(["secret"], 3), "timeout", "TimeoutExpired", None),
        (subprocess.CalledProcessError(2, ["secret"]), "failure", "CalledProcessError", None),
    ],
)
def test_an_exception_maps_to_result_and_error_type(
    error: BaseException | None, result: str, error_type: str | None, exit_code: int | None
) -> None:
    ending = ending_of(error)
    assert (ending.result, ending.error_type, ending.exit_code) == (result, error_type, exit_code)
    assert "secret" not in ending.message


def test_an_exit_while_a_signal_is_ending_the_process_is_a_cancellation() -> None:
    ending = ending_of(SystemExit(0), signal.SIGTERM)
    assert (ending.result, ending.error_type) == ("cancellation", "signal.SIGTERM")


def test_an_exception_is_described_without_its_stack_unless_asked() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert "exception.stacktrace" not in described(ValueError("x"), stacktrace=False)
    assert "ValueError: x" in described(ValueError("x"), stacktrace=True)["exception.stacktrace"]
    assert described(OddError(), stacktrace=False)["exception.message"] == ""
