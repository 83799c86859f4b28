"""`wafer storage`: what people and `wafer up` see of the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.servers import postgres as server
from wafermonitor.instrumentation.cli import main
from wafermonitor.storage.command import storage
from wafermonitor.storage.config import Config
from wafermonitor.storage.timescale import migrate

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WAFER_CONFIG", "DATABASE_URL", *(f"WAFER_STORAGE_{field.upper()}" for field in Config.model_fields)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def _answer(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(storage, [*words, "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    return json.loads(done.stdout)


def test_a_store_is_upgraded_looked_at_and_swept(postgres: server.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", postgres.database())
    before = _answer("status")
    assert (before["current"], before["applied"], before["hot_from"]) == (False, [], None)
    assert (before["tier"], before["timescaledb"], before["native"]) == ("plain", None, [])
    names = [file.name for file in migrate.incremental()]
    assert before["pending"] == names
    assert _answer("migrate") == {"applied": names, "idempotent": True}
    assert _answer("migrate") == {"applied": [], "idempotent": False}
    after = _answer("status")
    assert (after["current"], after["applied"], after["pending"]) == (True, names, [])
    assert str(after["version"]).split(".")[0].isdigit()
    assert postgres.folder.password() not in json.dumps(after)
    assert _answer("sweep") == {"busy": False, "partitions": [], "ghosts": 0, "inferred": 0, "strays": []}


def test_the_terminal_gets_one_line(postgres: server.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", postgres.migrated())
    done = CliRunner().invoke(storage, ["status"], standalone_mode=False)
    assert done.stdout.count("\n") == 1
    assert "schema ready for" in done.stdout


def test_a_schema_that_is_not_there_makes_the_status_fail_and_names_the_way_out(
    postgres: server.Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", postgres.database())
    assert main(["storage", "status"]) == 1
    assert "schema is not there yet: run `wafer storage migrate`" in capsys.readouterr().out


def test_the_embedded_store_is_upgraded_and_stopped_again(home: Path) -> None:
    assert _answer("migrate", "--data-dir", str(home))["idempotent"] is True
    found = _answer("status", "--data-dir", str(home))
    assert (found["embedded"], found["current"]) == (True, True)


@pytest.mark.parametrize("command", ["migrate", "status", "sweep"])
def test_memory_has_nothing_to_look_after(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", "memory://")
    assert main(["storage", command]) == 2
    assert "needs no maintenance" in capsys.readouterr().err


def test_a_server_of_the_operators_is_not_served(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", "postgresql://127.0.0.1:1/wafer")
    assert main(["storage", "serve"]) == 2
    assert "nothing to serve" in capsys.readouterr().err


def test_nobody_answering_says_to_try_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", "postgresql://127.0.0.1:1/wafer")
    assert main(["storage", "status"]) == 75
    assert "cannot reach the database now" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "said"), [(":wrong@", "refuses our account"), ("/nowhere", "does not exist")])
def test_an_address_that_leads_nowhere_names_the_setting_and_no_password(
    change: str, said: str, postgres: server.Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    password = postgres.folder.password()
    dsn = postgres.dsn_of("postgres")
    wrong = dsn.replace(f":{password}@", change) if change.endswith("@") else dsn.replace("/postgres", change)
    assert wrong != dsn
    monkeypatch.setenv("WAFER_STORAGE_DSN", wrong)
    assert main(["storage", "status"]) == 75
    told = capsys.readouterr().err
    assert said in told
    assert "WAFER_STORAGE_DSN" in told
    assert password not in told
