"""What every test may use: where the repository is, and the shared inputs that may be absent."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Timing is not what property tests are about, and a shared machine is slow; soak looks much further than the everyday run.
settings.register_profile(
    "everyday", max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("soak" if os.environ.get("WAFER_TEST_SOAK") else "everyday")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process logs to that test's stderr, which is closed when the next one begins."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real inputs that are not ours to ship; a test that needs them is skipped where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder beside the repository is absent")
    return SHARED_DATA


LAYERS = frozenset({"postgres", "collector", "browser"})
OTHER_STORE = "WAFER_TEST_STORE"
"""In the reason of a test that belongs to another run of the same file."""
MAY_BE_SKIPPED = (
    OTHER_STORE,
    "WAFER_TEST_TSL_DSN",  # TimescaleDB's Community edition: nobody may ship it, so a server of it is given or not
    "this server can",
    "the server is not ours to kill",
    "the server has TimescaleDB",
    "may have none",
    "make soak",
    "only root ",
    "this machine lets root mount nothing",
    "this is no Debian",
    "the shared data folder",
)
"""Reasons for which a test of `make test-servers` may be skipped in CI: what was not given, and what a machine cannot have."""
_skipped_layers: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped of the layers that a CI machine can run."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    words = set(report.keywords)
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if "servers" in words:
        failed = not any(allowed in reason for allowed in MAY_BE_SKIPPED)
    else:
        failed = bool(LAYERS & words) and OTHER_STORE not in reason
    if failed:
        _skipped_layers.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped layer is a failure: a green run must mean that it ran."""
    if os.environ.get("CI") and _skipped_layers and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what proofs of backends counted, and name the skipped tests that failed the run."""
    reports = (
        report for kind in terminalreporter.stats.values() for report in kind if getattr(report, "when", "") == "teardown"
    )
    counted = [told for report in reports for name, told in report.user_properties if name == "proof"]
    if counted:
        terminalreporter.section("sent, and found more than once, although a server was away and what carries was killed")
        for told in sorted(counted):
            terminalreporter.line(told)
    if os.environ.get("CI") and _skipped_layers:
        terminalreporter.section("skipped, but CI must run them")
        for nodeid in _skipped_layers:
            terminalreporter.line(nodeid)
