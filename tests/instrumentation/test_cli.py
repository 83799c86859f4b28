"""The group `wafer`: quick, lists every command without loading one, and says errors in one line."""

import json
import subprocess
import sys
import time

import click
import pytest

from wafermonitor.instrumentation import cli
from wafermonitor.instrumentation.errors import ConfigRejected, InstrumentationUnavailable


def wafer(*arguments, env=None):
    return subprocess.run(
        [sys.executable, "-m", "wafermonitor.instrumentation.cli", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_help_lists_every_command_with_its_first_sentence():
    shown = wafer("--help").stdout
    for name, entry in cli.entries().items():
        assert f"\n  {name} " in shown
        assert cli.summary(entry.value), f"{entry.value} has no docstring"


@pytest.mark.slow
def test_help_loads_no_component():
    code = (
        "import sys\nfrom wafermonitor.instrumentation.cli import main\nmain(['--help'])\n"
        "light = ('wafermonitor.instrumentation', 'wafermonitor.semconv')\n"
        "heavy = ('opentelemetry', 'pydantic', 'panel', 'asyncpg')\n"
        "print([n for n in sys.modules if n.startswith(heavy) or (n.startswith('wafermonitor.') and not n.startswith(light))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_help_takes_less_than_300_ms_of_cpu():
    # CPU, not wall time: other tests share the machine.
    import resource

    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        wafer("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.3


@pytest.mark.slow
def test_version_and_unknown_commands():
    assert wafer("--version").stdout.startswith("wafer 0.")
    wrong = wafer("rnu")
    assert wrong.returncode == 2
    assert "there is no command 'rnu'. Did you mean: run?" in wrong.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigRejected("receiver.port = 'x': not a number"), 2, "Error: receiver.port = 'x': not a number\n"),
        (InstrumentationUnavailable("nobody there"), 75, "Error: nobody there\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.UsageError("wrong"), 2, "Error: wrong\n"),
    ],
)
def test_foreseen_errors_are_one_line_and_an_exit_code(monkeypatch, capsys, error, code, words):
    @click.command()
    def failing():
        raise error

    monkeypatch.setattr(cli.Wafer, "get_command", lambda *_: failing)
    assert cli.main(["status"]) == code
    assert capsys.readouterr().err.endswith(words)


def test_a_defect_keeps_its_traceback(monkeypatch):
    @click.command()
    def failing():
        raise ZeroDivisionError

    monkeypatch.setattr(cli.Wafer, "get_command", lambda *_: failing)
    with pytest.raises(ZeroDivisionError):
        cli.main(["status"])


@pytest.mark.slow
def test_a_missing_driver_names_its_extra():
    # A finder that hides the drivers stands for an installation without the extras.
    hide = (
        "import sys\n"
        "class Hidden:\n"
        "    names = 'fastapi pydantic_settings asyncpg grpc panel httpx uvicorn pydantic'.split()\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in self.names:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from wafermonitor.instrumentation.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", hide, "query"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith('Error: wafer query needs the extra "query": pip install "wafermonitor[query]"')
    shown = subprocess.run(
        [sys.executable, "-c", hide, "config", "show", "--json"], capture_output=True, text=True, check=False
    )
    found = json.loads(shown.stdout)
    assert found["query"] == {"needs": "query"}
    assert found["storage"] == {"needs": "timescale"}
    assert found["instrumentation"]["options"]


@pytest.mark.slow
def test_settings_are_shown_with_their_source_and_without_secrets(environment):
    env = {
        **environment,
        "SIDECAR_URL": "http://127.0.0.1:4999",
        "WAFER_TOKEN": "hunter2",
        "DATABASE_URL": "postgresql://wafer:hunter2@db/wafer",
    }
    done = wafer("config", "show", "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout
    found = json.loads(done.stdout)
    options = {option["name"]: option for option in found["instrumentation"]["options"]}
    assert (options["endpoint"]["value"], options["endpoint"]["source"]) == ("http://127.0.0.1:4999", "environment")
    assert "SIDECAR_URL" in options["endpoint"]["aliases"]
    assert options["site_id"]["value"] == "fab1"
    assert options["heartbeat_s"]["source"] == "default"
    text = wafer("config", env=env).stdout
    assert "hunter2" not in text
    assert "WAFER_SITE_ID" in text


@pytest.mark.slow
def test_a_wrong_setting_is_named_with_its_fix(environment):
    done = wafer("config", "show", "instrumentation", env={**environment, "WAFER_MODE": "sideways"})
    assert done.returncode == 2
    assert "instrumentation.mode = 'sideways'" in done.stdout
    assert "WAFER_MODE" in done.stdout


@pytest.mark.slow
def test_a_wrong_setting_of_one_component_hides_no_other(environment):
    done = wafer("config", "show", "--json", env={**environment, "WAFER_METRICS_PORT": "many"})
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert "collector.metrics_port = 'many'" in found["collector"]["error"]
    assert found["instrumentation"]["options"]


@pytest.mark.slow
def test_status_answers_whether_it_arrives_and_says_what_waits(environment, sink):
    env = {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "WAFER_METRICS_PORT": "1"}
    wafer("run", "--mode", "file", "--", "true", env=env)
    done = wafer("status", "--json", env=env)
    found = json.loads(done.stdout)
    assert (done.returncode, found["arriving"]) == (0, "yes")
    assert "what the Collector does with it cannot be seen" in found["why"]
    assert found["traces"] == f"{sink.url}/v1/traces answers"
    assert found["waiting"]["files"] == 2
    sink.status = 401
    refused = wafer("status", env=env)
    assert refused.returncode == 1
    assert refused.stdout.startswith("arriving  not yet\n")
    assert "set WAFER_TOKEN" in refused.stdout
    assert not sink.runs()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--timeout", "soon", "true"], "write 30s, 10m, 2h or 1h30m"),
        (["--attr", "novalue", "true"], "is not key=value"),
        (["--progress-regex", "(", "true"], "not a regular expression"),
        (["--progress-regex", "done", "true"], "needs groups"),
        (["--deadline", "noon", "true"], "2026-11-22T18:00:00+01:00"),
        ([], "Missing argument"),
    ],
)
def test_wrong_use_of_wafer_run_is_refused_before_anything_runs(arguments, words):
    done = wafer("run", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "wafermonitor.instrumentation.cli", "config", "show"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    began = time.monotonic()
    errors = process.stderr.read()
    process.wait(timeout=30)
    process.stderr.close()
    assert b"Traceback" not in errors
    assert time.monotonic() - began < 30
