"""The table of files: read from their headers and their content."""

import json

import pytest

from wafermonitor.collector import catalog, fragments
from wafermonitor.collector.documents import read, variables
from wafermonitor.collector.errors import ConfigRejected
from wafermonitor.instrumentation.cli import main


@pytest.mark.parametrize("row", catalog.rows(), ids=lambda row: f"{row.kind}-{row.name}")
def test_a_header_has_every_field_and_every_variable_with_its_default(row):
    assert row.title.endswith(".") or row.title[0].isupper()
    assert row.does.endswith(".")
    assert row.needs.startswith("base.yaml")
    assert row.loses
    read_there = variables(read(fragments.HERE / row.kind / f"{row.name}.yaml", {}).raw)
    assert {setting.name for setting in row.settings} == set(read_there)
    for setting in row.settings:
        assert setting.meaning
        assert setting.default


def test_a_row_says_what_a_file_carries_and_which_collector_has_its_parts():
    rows = {row.name: row for row in catalog.rows()}
    assert rows["loki"].signals == ("logs",)
    assert {rows[name].build for name in ("managed", "file", "routing", "syslog", "bridge-files")} == {"minimal"}
    assert rows["kafka"].build == "full"
    assert rows["failover"].build == rows["otlp-files"].build == "contrib"
    assert rows["managed"].queue_bytes == 1_000_000_000
    assert rows["managed"].hours == pytest.approx(3.47, abs=0.01)
    assert rows["host"].hours is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# A.\n#\n# Needs   base.yaml.\n# Loses   nothing.\n", "does not say what it sends or takes"),
        ("# A.\n#\n# Sends   all.\n# Needs   base.yaml.\n", "does not say what it loses"),
    ],
)
def test_a_header_that_lacks_something_is_named(tmp_path, monkeypatch, text, says):
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "own.yaml").write_text(text)
    monkeypatch.setattr(fragments, "HERE", tmp_path)
    with pytest.raises(ConfigRejected, match=says):
        catalog.row("backends", "own")


def test_the_command_lists_them_for_people_and_programs(capsys):
    assert main(["collector", "files"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (place,) = [
        at for at, line in enumerate(lines) if line.split() == ["backends/managed", "minimal", "traces,", "metrics,", "logs"]
    ]
    assert "The receiver of WaferMonitor" in lines[place + 1]
    assert max(map(len, lines)) <= 100
    assert main(["collector", "files", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["statsd"]["settings"][0] == {"name": "WAFER_STATSD", "meaning": "address", "default": "127.0.0.1:8125"}
