"""The plug-in itself: it finds what is wrong with a server that is wrong, and says what it did not try."""

from __future__ import annotations

import ast
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conformance import page
from tests.conformance.otlp_server import table

SUITE = Path(__file__).parent / "otlp_server"
STATUS = b'{"message": "no"}'


class Wrong(http.server.BaseHTTPRequestHandler):
    """Says the same to everything."""

    protocol_version = "HTTP/1.1"
    status = 200
    body = b"{}"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def judged(tmp_path):
    """What the plug-in finds of a server that answers everything with one status and body."""
    servers = []

    def judge(status, body, *rules):
        kind = type("Kind", (Wrong,), {"status": status, "body": body})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = tmp_path / "found.json"
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE), "-k", " or ".join(rules),
             f"--otlp-http=http://127.0.0.1:{server.server_address[1]}", f"--otlp-json-table={found}", "--otlp-server=wrong 1"],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        return run, json.loads(found.read_text())

    yield judge
    for server in servers:
        server.shutdown()
        server.server_close()


def outcomes(found, rule, transport="http/json"):
    return {case[1] for case in found["rules"][rule]["cases"].values() if case[0] == transport}


@pytest.mark.slow
def test_a_server_that_takes_everything_fails_where_it_should_refuse(judged):
    run, found = judged(200, b"{}", "empty_request", "no_json_request", "empty_request_succeeds")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert outcomes(found, "bad-json") == {table.FAIL}
    assert outcomes(found, "empty-request") == {table.PASS}
    assert outcomes(found, "empty-request", "grpc") == {table.NOT_APPLICABLE}
    assert "MUST bad-json[http/json-traces-cut]: HTTP 200" in run.stdout


@pytest.mark.slow
def test_a_server_that_answers_500_fails_by_name(judged):
    _, found = judged(500, b"Traceback: no", "test_success", "fault_of_the_server", "refusal_is_a_status", "of_the_inside")
    assert outcomes(found, "success") == {table.FAIL}
    assert outcomes(found, "bad-not-ours") == {table.FAIL}
    assert outcomes(found, "status-body") == {table.FAIL}
    assert outcomes(found, "no-leak") == {table.FAIL}
    assert found["server"] == "wrong 1"


@pytest.mark.slow
def test_a_refusal_in_the_wrong_content_type_is_noticed(judged):
    _, found = judged(400, STATUS, "refusal_is_a_status", "has_a_bad_request", "status_says")
    assert outcomes(found, "status-body") == {table.PASS}
    assert outcomes(found, "status-body", "http/protobuf") == {table.FAIL}
    assert outcomes(found, "status-details") == {table.FAIL}
    assert outcomes(found, "status-message") == {table.FAIL}


@pytest.mark.slow
def test_without_an_address_and_without_a_server_of_its_own_it_says_what_to_give(tmp_path):
    (tmp_path / "otlp_server").symlink_to(SUITE)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "otlp_server"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--otlp-http URL" in run.stdout + run.stderr


def test_the_suite_knows_nothing_of_the_program_that_it_judges():
    for path in SUITE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] in ("wafermonitor", "tests")], path.name


def test_a_cell_counts_what_applies():
    assert table.cell([table.PASS, table.FAIL, table.NOT_APPLICABLE]) == "fail 1/2"
    assert table.cell([table.PASS, table.PASS]) == "pass 2"
    assert table.cell([table.NOT_APPLICABLE]) == "n/a"
    assert table.cell([]) == ""


def test_the_page_is_what_a_fresh_generation_gives():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run: make generate"


def test_our_own_receiver_keeps_every_rule_on_the_page():
    own = page.results()["wafermonitor"]
    failed = {name: cases for name, rule in own["rules"].items() if (cases := page.failed(rule["cases"]))}
    assert failed == {}
