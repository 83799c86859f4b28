"""`wafer collector …` on the command line: answers on stdout, one message when it cannot."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

import wafermonitor.collector
from tests.servers.collector import COMMAND, free_ports
from wafermonitor.collector import build, fragments
from wafermonitor.instrumentation.cli import main


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a sub-command in this process; (exit code, stdout, stderr)."""

    def run(*words, **environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        code = main(["collector", *words])
        answer = capsys.readouterr()
        return code, answer.out, answer.err

    return run


@pytest.fixture
def using(found):
    return {"WAFER_COLLECTOR_BIN": str(found.path)}


def test_an_unknown_backend_is_one_message(call):
    code, _, message = call("validate", "--backend", "nope")
    assert code == 2
    known = ", ".join(fragments.names("backends"))
    assert message == f"Error: collector.backends = 'nope': known: {known}, or the path of a YAML file\n"


def test_a_wrong_setting_stops_the_start(call):
    code, _, message = call("run", WAFER_METRICS_PORT="many")
    assert code == 2
    assert "collector.metrics_port = 'many': a port from 1 to 65535 (set WAFER_METRICS_PORT)" in message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--queue", "24h"), "--queue and --rate belong together"),
        (("--rate", "5"), "--queue and --rate belong together"),
        (("--queue", "a day", "--rate", "5"), "--queue a day: a number and s, m, h or d, as 24h"),
        (("--queue", "99999d", "--rate", "1e9"), "--queue 99999d: 2,399,976 h at 1e+09 items/s is more than any disk holds"),
    ],
)
def test_a_size_of_the_queue_needs_a_duration_and_a_rate(call, words, says):
    code, _, message = call("run", *words)
    assert code == 2
    assert says in message


def test_without_collector_and_go_every_command_says_what_to_install(call, tmp_path):
    nothing = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "WAFER_COLLECTOR_BIN": ""}
    for command in ("run", "install", "validate", "print", "components"):
        code, _, message = call(command, **nothing)
        assert code == 2
        assert "install otelcol-contrib 0.159 or newer" in message, command


def test_help_names_every_command(call):
    code, text, _ = call("--help")
    assert code == 0
    for name in ("run", "install", "files", "validate", "render", "print", "components", "beat"):
        assert f"\n  {name} " in text


@pytest.mark.collector
@pytest.mark.timeout(900)
def test_validate_answers_people_and_programs(call, using, tmp_path):
    assert (
        call("validate", "--backend", "file", "--receiver", "host", **using)[1]
        == "valid for Collector 0.159.0: base, file, host\n"
    )
    answer = json.loads(call("validate", "--json", **using)[1])
    assert answer["valid"] is True
    assert answer["findings"] == []
    assert answer["collector"]["source"] == "WAFER_COLLECTOR_BIN"
    own = tmp_path / "own.yaml"
    own.write_text("exporters: {nop: {colour: red}}\n")
    code, text, _ = call("validate", "--backend", str(own), "--json", **using)
    assert code == 2
    assert "colour" in json.loads(text)["problem"]


def test_our_rules_are_asked_without_a_collector(call, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "exporters: {otlp_http/own: {endpoint: 'http://127.0.0.1:9', colour: red}}\n"
        "service: {pipelines: {logs/own: {receivers: [forward/backends], exporters: [otlp_http/own]}}}\n"
    )
    chosen = ("validate", "--lint", "--backend", str(own))
    code, _, message = call(*chosen)
    assert code == 2
    assert message.startswith("Error: own.yaml: exporters::otlp_http/own::colour: no such key; known: auth, ")
    answer = json.loads(call(*chosen, "--json")[1])
    assert answer["problem"].startswith("own.yaml: exporters::otlp_http/own::colour")
    assert {"path": str(own), "where": "exporters::otlp_http/own::colour", "wrong": True}.items() <= answer["findings"][
        0
    ].items()
    own.write_text(own.read_text().replace(", colour: red", ""))
    code, text, message = call(*chosen)
    assert (code, text) == (0, "valid by our rules: base, own\n")
    assert message.startswith("may lose data: own.yaml: exporters::otlp_http/own: its queue is in memory")
    code, _, message = call(*chosen, "--strict")
    assert code == 2
    assert message.startswith("Error: own.yaml: exporters::otlp_http/own: its queue is in memory")


def test_without_pyyaml_that_is_said_and_the_collector_alone_is_asked(call, monkeypatch, tmp_path):
    for name in ("catalog", "lint", "queues", "documented", "documents"):
        monkeypatch.delitem(sys.modules, f"wafermonitor.collector.{name}", raising=False)
        monkeypatch.delattr(wafermonitor.collector, name, raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    wanted = 'the extra "collector": pip install "wafermonitor[collector]"'
    code, _, message = call("validate", WAFER_COLLECTOR_BIN=str(tmp_path / "none"))
    assert message.startswith(f"our rules were not asked: they need {wanted}\nError: {tmp_path}/none cannot be run")
    for words in (("validate", "--lint"), ("files",)):
        code, _, message = call(*words)
        assert code == 1
        assert message.startswith(f"Error: wafer collector needs {wanted}")


@pytest.mark.collector
@pytest.mark.timeout(900)
def test_print_shows_the_merge(call, using):
    code, text, _ = call("print", "--backend", "managed", "--backend", "file", "--json", **using)
    assert code == 0
    assert {"otlp_grpc/managed", "otlp_grpc/file_spool", "file/jsonl", "nop"} == set(json.loads(text)["exporters"])
    assert "otlp_grpc/managed:" in call("print", **using)[1]


@pytest.mark.collector
@pytest.mark.timeout(900)
def test_run_makes_each_queue_as_large_as_was_asked(start):
    server = start(("file",), words=("--queue", "2h", "--rate", "10"))
    told = server.wait("queue-size")
    assert told["queue_bytes"] == 2 * 3600 * 10 * 800
    assert told["queues"] == 3
    page = urllib.request.urlopen(f"http://127.0.0.1:{server.environ['WAFER_METRICS_PORT']}/metrics").read().decode()
    capacity = {line.split()[-1] for line in page.splitlines() if line.startswith("otelcol_exporter_queue_capacity")}
    assert {float(one) for one in capacity} == {57_600_000.0}


@pytest.mark.collector
@pytest.mark.timeout(900)
def test_run_says_what_our_rules_find_in_a_file_of_ones_own(start, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "exporters: {otlp_http/own: {endpoint: 'http://127.0.0.1:9', headers: {authorization: 'Bearer ${env:OWN_TOKEN}'}}}\n"
        "service: {pipelines: {logs/own: {receivers: [forward/backends], exporters: [otlp_http/own]}}}\n"
    )
    server = start(("file", str(own)))
    told = server.wait("finding")
    assert told["text"].startswith("may lose data: own.yaml: exporters::otlp_http/own: its queue is in memory")
    assert (told["path"], told["wrong"]) == (str(own), False)
    assert [one["wrong"] for one in server.events if one["event"] == "finding" and "OWN_TOKEN" in one["text"]] == [False]


@pytest.mark.collector
@pytest.mark.timeout(900)
def test_components_lists_the_parts(call, using):
    assert "file_storage" in call("components", **using)[1]
    answer = json.loads(call("components", "--json", **using)[1])
    assert "forward" in answer["components"]["connectors"]


@pytest.mark.collector
@pytest.mark.timeout(900)
def test_install_takes_a_collector_that_is_there(call, using, found):
    code, text, _ = call("install", **using)
    assert code == 0
    assert text == f"Collector {found.version} (WAFER_COLLECTOR_BIN): {found.path}\n"


@pytest.mark.collector
@pytest.mark.timeout(900)
def test_install_finds_what_was_built(call, found, tmp_path):
    cache = {"PATH": str(tmp_path), "WAFER_COLLECTOR_BIN": "", "XDG_CACHE_HOME": str(tmp_path)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        built = build.target(fragments.MANIFESTS["minimal"])
    built.parent.mkdir(parents=True)
    built.symlink_to(found.path)
    code, text, _ = call("install", "--json", **cache)
    assert code == 0
    assert json.loads(text) == {"path": str(built), "version": found.version, "source": "cache"}


def test_one_beat_that_nobody_takes_is_an_error(call, tmp_path):
    port = free_ports(1)[0]
    code, _, message = call("beat", "--once", WAFER_OTLP_HTTP=f"127.0.0.1:{port}", WAFER_SPOOL_DIR=str(tmp_path))
    assert code == 75
    assert "no beat" in message


def test_one_beat_waits_for_nobody_but_the_spool(call, tmp_path):
    file = tmp_path / "logs" / "host-1-1.jsonl"
    file.parent.mkdir()
    file.write_text("{}\n")
    code, _, message = call("beat", "--once", WAFER_SPOOL_DIR=str(tmp_path))
    assert code == 75
    assert f"what jobs left in {tmp_path} has to be sent first (`wafer replay --watch`" in message


@pytest.mark.slow
def test_the_beat_goes_on_until_sigterm_and_says_a_failure_once(tmp_path):
    environ = {"WAFER_OTLP_HTTP": f"127.0.0.1:{free_ports(1)[0]}", "WAFER_COLLECTOR_BEAT_S": "0.05"}
    environ["WAFER_SPOOL_DIR"] = str(tmp_path)
    with subprocess.Popen([*COMMAND, "beat"], env=os.environ | environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "does not answer" in first
    assert rest == ""
