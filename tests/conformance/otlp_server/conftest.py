"""The plug-in: options, one test per rule, transport and signal, and the table at the end.

In: `--otlp-http`, `--otlp-grpc` and what else `pytest --help` names under "OTLP server"; without both, the fixture
`otlp_own_server` of a surrounding conftest says where to send. Out: test results, `--otlp-json-table`, `--otlp-markdown-table`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from . import table
from .rules import GRPC, Cost, Level, Rule
from .wire import Client, Endpoint, Grpc, Http

PROPERTY = "otlp"
REVIVAL_S = 5.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the server is and how far to go."""
    group = parser.getgroup("otlp", "OTLP server")
    add = group.addoption
    add("--otlp-http", metavar="URL", help="base address of OTLP/HTTP, e.g. http://127.0.0.1:4318")
    add("--otlp-grpc", metavar="HOST:PORT", help="address of OTLP/gRPC without TLS, e.g. 127.0.0.1:4317")
    add("--otlp-header", metavar="NAME=VALUE", action="append", default=[], help="sent with every request, e.g. a token")
    add("--otlp-signals", default="traces,logs,metrics", help="those that the server takes; the others do not apply")
    add("--otlp-level", choices=[level.value for level in Level], help="only the rules of this level")
    add("--otlp-limit-bytes", type=int, default=64 << 20, help="the server's limit of an HTTP body (default 64 MiB)")
    add("--otlp-grpc-limit-bytes", type=int, help="the server's limit of a gRPC message, if it is known")
    add("--otlp-idle-s", type=float, default=15.0, help="how long a half-open connection may stay (default 15)")
    add("--otlp-heavy", action="store_true", help="also cases that move hundreds of MiB")
    add("--otlp-slow", action="store_true", help="also cases that wait for time-outs")
    add("--otlp-server", metavar="NAME", default="", help="name and version, for the table")
    add("--otlp-json-table", metavar="FILE", help="write the results as JSON")
    add("--otlp-markdown-table", metavar="FILE", help="write the results as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    """The mark, and the table."""
    config.addinivalue_line("markers", "otlp(rule): a rule that an OTLP server keeps or not")
    config.pluginmanager.register(Tables(config))


def option(config: pytest.Config, name: str, default: Any = None) -> Any:
    """An option's value; the default when this folder is only one of many, since pytest read the options before it."""
    value = config.getoption(name, default)
    return default if value is None else value


def rule_of(item: Any) -> Rule | None:
    """The rule that a test judges."""
    mark = item.get_closest_marker("otlp")
    return mark.args[0] if mark else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each transport and each signal of the rule."""
    rule = rule_of(metafunc.definition)
    if rule is None:
        return
    if "client" in metafunc.fixturenames:
        metafunc.parametrize("client", rule.transports, indirect=True, scope="session")
    if "signal" in metafunc.fixturenames:
        metafunc.parametrize("signal", rule.signals, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out other levels; give every case its place in the table."""
    level = option(config, "otlp_level")
    kept = [item for item in items if level is None or (rule := rule_of(item)) is None or rule.level == level]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    places = sorted({_place(item) for item in items})
    for item in items:
        rule = rule_of(item)
        if rule is not None:
            order = places.index(_place(item))
            transport = item.callspec.params.get("client", rule.transports[0])
            shown = [rule.name, rule.level.value, rule.text, rule.source, transport, _case(item, rule), order]
            item.user_properties.append((PROPERTY, shown))


def _case(item: Any, rule: Rule) -> str:
    return f"{rule.name}[{item.callspec.id}]"


def _place(item: pytest.Item) -> tuple[str, int]:
    return str(item.path), item.location[1] or 0


@pytest.fixture(scope="session")
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """The server under test."""
    config = request.config
    http, grpc = option(config, "otlp_http"), option(config, "otlp_grpc")
    if http is None and grpc is None:
        try:
            own: Endpoint = request.getfixturevalue("otlp_own_server")
        except pytest.FixtureLookupError:
            pytest.exit("name a server: --otlp-http URL, --otlp-grpc HOST:PORT, or both", pytest.ExitCode.USAGE_ERROR)
        return own
    headers = tuple(tuple(header.split("=", 1)) for header in config.getoption("otlp_header"))
    return Endpoint(
        http,
        grpc,
        headers,
        config.getoption("otlp_limit_bytes"),
        config.getoption("otlp_grpc_limit_bytes"),
        config.getoption("otlp_idle_s"),
        tuple(config.getoption("otlp_signals").split(",")),
    )


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest, endpoint: Endpoint) -> Iterator[Client]:
    """A client of the transport that the case names."""
    transport = request.param
    if (endpoint.grpc if transport == GRPC else endpoint.http) is None:
        pytest.skip(f"no address for {transport.partition('/')[0]} was given")
    if transport != GRPC:
        yield Http(transport, endpoint)
        return
    over = Grpc(endpoint)
    yield over
    over.close()


@pytest.fixture(autouse=True)
def applicable(request: pytest.FixtureRequest) -> None:
    """Skip what the server does not offer, and what nobody asked for."""
    rule = rule_of(request.node)
    if rule is None:
        return
    own = option(request.config, "otlp_http") is None and option(request.config, "otlp_grpc") is None
    if rule.cost is not Cost.QUICK and not own and not request.config.getoption(f"otlp_{rule.cost}"):
        pytest.skip(f"only with --otlp-{rule.cost}")
    signal = request.node.callspec.params.get("signal", rule.signals[0])
    if signal not in request.getfixturevalue("endpoint").signals:
        pytest.skip(f"the server takes no {signal}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Stop when a case has ended the server: all that follow would fail for nothing of their own."""
    report = yield
    if report.failed and rule_of(item) is not None and "endpoint" in getattr(item, "funcargs", {}):
        endpoint: Endpoint = item.funcargs["endpoint"]
        if not _listens(endpoint):
            item.session.shouldstop = f"the server no longer listens after {item.name}"
    return report


def _listens(endpoint: Endpoint) -> bool:
    end = time.monotonic() + REVIVAL_S
    url = urlsplit(endpoint.http or f"http://{endpoint.grpc}")
    while time.monotonic() < end:
        try:
            socket.create_connection((url.hostname or "", url.port or 80), REVIVAL_S).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def _note(report: pytest.TestReport) -> str:
    if report.outcome == "passed":
        return ""
    if report.outcome == "skipped":
        return str(report.longrepr[2]).removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longrepr)
    first = text.partition("\n")[0].removeprefix("AssertionError: ").removeprefix("Failed: ")
    return first.rstrip(": ")[: table.NOTE]


class Tables:
    """Keeps every result; shows and writes them at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._found: list[table.Result] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One case is over."""
        shown = dict(report.user_properties).get(PROPERTY)
        if isinstance(shown, list) and (report.when == "call" or report.outcome != "passed"):
            outcome = {"passed": table.PASS, "failed": table.FAIL, "skipped": table.NOT_APPLICABLE}[report.outcome]
            self._found.append(table.Result(*shown[:6], outcome=outcome, note=_note(report), order=shown[6]))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The table."""
        if not self._found:
            return
        about = {"server": option(self._config, "otlp_server", ""), "date": datetime.now(UTC).date().isoformat()}
        for name, written in (("otlp_json_table", table.as_json), ("otlp_markdown_table", table.as_markdown)):
            target = option(self._config, name)
            if target:
                Path(target).write_text(written(self._found, about), encoding="utf-8")
        terminalreporter.section("OTLP server")
        for line in table.summary(self._found):
            terminalreporter.line(line)
