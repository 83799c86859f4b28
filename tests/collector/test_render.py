"""The older integrations.json as a file of the Collector: both shapes, priorities, spool, secrets, bridges."""

import json
import os

import pytest

from wafermonitor.collector import binary, fragments, lint, older
from wafermonitor.collector.config import Config
from wafermonitor.collector.documents import parse, read, variables
from wafermonitor.collector.errors import ConfigRejected
from wafermonitor.collector.render import FIRST_PORT, render
from wafermonitor.instrumentation.cli import main

LIST = [
    {"type": "local_api", "name": "primary", "enabled": True, "config": {"base_url": "http://local-api:18000"}},
    {"type": "filesystem", "name": "NFS a", "enabled": True, "config": {"path": "/backup/a"}},
    {"type": "filesystem", "name": "NFS b", "enabled": True, "config": {"path": "/backup/b", "format": "jsonl"}},
    {"type": "loki", "name": "loki", "enabled": False, "config": {"url": "http://loki:3100"}},
]
SECTIONS = {
    "ingest": {"port": 17000, "max_batch_size": 100, "flush_interval": 5},
    "backends": [
        {
            "type": "managed_api",
            "enabled": True,
            "url": "http://local-api:18000",
            "endpoint": "/v1/ingest/managed",
            "priority": 1,
        },
        {"type": "filesystem", "enabled": True, "path": "/backup/events", "format": "jsonl", "priority": 2},
        {"type": "s3", "enabled": False, "bucket": "events-backup", "region": "us-east-1", "priority": 3},
    ],
    "spool": {"enabled": True, "path": "/tmp/sidecar-spool", "max_size_mb": 1000},
}
CONTRIB = "WAFER_COLLECTOR_BIN" in os.environ


def rendered(content, *bridged, fan_out=False):
    return render(older.read(json.dumps(content)), frozenset(bridged), fan_out=fan_out)


def one(kind, **config):
    return [{"type": kind, "name": "x", "enabled": True, "config": config}]


def findings(result, tmp_path):
    path = tmp_path / "rendered.yaml"
    path.write_text(result.text("integrations.json"), encoding="utf-8")
    return [str(finding) for finding in lint.check([fragments.BASE, path], {})], path


def test_an_entry_becomes_a_copy_of_the_file_that_does_the_same(tmp_path):
    result = rendered(LIST)
    exporters = result.content["exporters"]
    assert exporters["otlp_http/primary_managed_http"]["endpoint"] == "http://local-api:18000"
    assert exporters["file/nfs_a_jsonl"]["path"] == "/backup/a/${env:WAFER_FEED_ID:-unset}.jsonl"
    assert exporters["file/nfs_b_jsonl"]["path"] == "/backup/b/${env:WAFER_FEED_ID:-unset}.jsonl"
    assert "loki" not in json.dumps(result.content)
    assert findings(result, tmp_path)[0] == []


def test_two_entries_of_one_type_have_spools_of_their_own():
    exporters = rendered(LIST).content["exporters"]
    ends = [exporters[f"otlp_grpc/nfs_{letter}_file_spool"]["endpoint"] for letter in "ab"]
    assert ends == [f"127.0.0.1:{FIRST_PORT}", f"127.0.0.1:{FIRST_PORT + 1}"]


def test_entries_of_one_name_are_told_apart():
    names = [entry.slug for entry in older.read(json.dumps(one("loki") + one("webhook"))).entries]
    assert names == ["x", "x_2"]


def test_the_files_own_variables_stay_where_nothing_was_said():
    assert variables(rendered(one("webhook")).content)["WAFER_WEBHOOK_URL"] == "http://127.0.0.1:9999/"


def test_priorities_are_levels_behind_one_spool(tmp_path):
    result = rendered(SECTIONS)
    assert result.failover
    connectors = result.content["connectors"]
    assert set(connectors) == {"failover/traces", "failover/metrics", "failover/logs"}
    assert connectors["failover/logs"]["priority_levels"] == [["logs/managed_api_managed_http"], ["logs/filesystem_file"]]
    assert result.content["exporters"]["otlp_http/managed_api_managed_http"]["sending_queue"] == {"enabled": False}
    assert findings(result, tmp_path)[0] == []


def test_equal_priorities_are_one_level_and_a_backend_without_one_gets_everything(tmp_path):
    rows = [{"type": "webhook", "name": name, "priority": level} for name, level in (("a", 5), ("b", 5), ("c", 9))]
    result = rendered({"backends": [*rows, {"type": "loki", "name": "d"}]})
    levels = [["traces/a_webhook", "traces/b_webhook"], ["traces/c_webhook"]]
    assert result.content["connectors"]["failover/traces"]["priority_levels"] == levels
    assert result.content["service"]["pipelines"]["logs/d_loki"]["receivers"] == ["forward/backends"]
    assert findings(result, tmp_path)[0] == []


def test_one_level_needs_no_connector():
    rows = [{"type": "webhook", "name": name, "priority": 1} for name in "ab"]
    assert not rendered({"backends": rows}).failover


def test_a_level_that_is_asked_by_others_is_refused():
    rows = [{"type": "zabbix", "priority": 1}, {"type": "webhook", "priority": 2}]
    with pytest.raises(ConfigRejected, match="zabbix cannot be a level of priority"):
        rendered({"backends": rows})


def test_fan_out_sends_to_every_level_at_once(tmp_path):
    result = rendered(SECTIONS, fan_out=True)
    assert not result.failover
    assert "connectors" not in result.content
    assert findings(result, tmp_path)[0] == []


def test_path_size_and_port_are_kept_and_the_rest_is_said():
    result = rendered(SECTIONS, fan_out=True)
    assert result.content["extensions"]["file_storage"]["directory"] == "/tmp/sidecar-spool"
    queues = [settings["sending_queue"] for settings in result.content["exporters"].values() if "sending_queue" in settings]
    assert [queue["queue_size"] * 3 for queue in queues] == pytest.approx([500_000_000] * 2, abs=3)  # 1000 MB in six queues
    assert result.content["receivers"]["otlp/older_port"]["protocols"]["http"]["endpoint"] == "127.0.0.1:17000"
    text = "\n".join(result.notes)
    for word in ("max_batch_size", "flush_interval", "endpoint is left out", "format is left out", "WAFER_COLLECTOR_QUEUE_DIR"):
        assert word in text
        assert word in result.text("integrations.json")


@pytest.mark.parametrize("written", ["${env:HOOK}", "${HOOK}", "$HOOK", "env:HOOK"])
def test_a_secret_stays_a_name(written):
    result = rendered(one("managed_api", url="http://x:1", token=written))
    (settings,) = result.content["exporters"].values()
    assert settings["headers"] == {"authorization": "Bearer ${env:HOOK}"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (one("managed_api", token="abc"), r"x: token is a secret as text: write \$\{env:NAME\}"),
        (one("s3", aws_secret_access_key="abc"), "x: aws_secret_access_key is a secret as text"),
        (one("webhook", headers={"Authorization": "Basic abc"}), "x: Authorization is a secret as text"),
        (one("mysql", password="abc"), "x: password is a secret as text"),
        (one("datadog"), "x: type 'datadog' is unknown: known are aws_cloudwatch, .*; or a YAML file of your own"),
        (
            one("mysql", host="db"),
            "no Collector has an exporter for mysql: add --bridge mysql, and run `wafer receiver --writer",
        ),
        (one("webhook", colour="red"), "x: colour has no counterpart: take it out, and set it in the rendered file"),
        ([{"name": "x"}], "entry 1 has no type"),
        ([{"type": "loki", "enabled": "yes"}], "loki: enabled = 'yes': true or false"),
        ([{"type": "loki", "config": []}], None),
        ([{"type": "loki", "config": [1]}], "loki: config is no table"),
        ({"backends": [{"type": "loki", "priority": "first"}]}, "loki.priority = 'first': a whole number above 0"),
        ({"backends": [], "spool": {"max_size_mb": -1}}, "spool.max_size_mb = -1: a whole number above 0"),
        ({"backends": [], "spool": {"size": 1}}, "spool.size: known are enabled, path, max_size_mb"),
        ({"backends": [], "ingest": 5}, "ingest is no table"),
        ({"backends": [], "routes": []}, "'routes' is no section of it"),
        ({"pipelines": []}, "neither a list of"),
    ],
)
def test_what_cannot_be_taken_over_is_said(content, says):
    if says is None:
        assert rendered(content).content["exporters"]
        return
    with pytest.raises(ConfigRejected, match=says):
        rendered(content)


def test_what_is_no_json_is_said():
    with pytest.raises(ConfigRejected, match="not JSON"):
        older.read("{")


@pytest.mark.parametrize("bridged", ["x", "mysql", "all"])
def test_a_bridge_is_chosen_by_name_or_type(bridged, tmp_path):
    result = rendered(one("mysql", host="db", password="$PW"), bridged)
    assert result.content["exporters"]["otlp_http/x_bridge_mysql"]["endpoint"].startswith("${env:WAFER_BRIDGE_MYSQL:-")
    assert "run `wafer receiver --writer mysql` beside the Collector, with its settings (host, password)" in result.notes[0]
    assert findings(result, tmp_path)[0] == []


def test_all_bridges_are_those_that_there_are(tmp_path):
    result = rendered(LIST, "all")
    assert {"otlp_http/primary_managed_http", "otlp_http/nfs_a_bridge_files"} <= result.content["exporters"].keys()
    assert findings(result, tmp_path)[0] == []


def test_two_entries_of_one_bridge_are_said():
    assert [note for note in rendered(LIST, "NFS a").notes if "one bridge" in note] == []
    (note,) = [note for note in rendered(LIST, "all").notes if "one bridge" in note]
    assert note.startswith("NFS a and NFS b go to one bridge, which is sent everything 2 times: keep one of them, or ")


def test_what_a_bridge_writes_unless_told_is_said():
    assert "x: the bridge writes JSON lines unless WAFER_FILES_FORMAT is csv or parquet" in rendered(one("csv"), "csv").notes


def test_a_file_that_cannot_be_written_is_named(capsys, tmp_path):
    source = tmp_path / "integrations.json"
    source.write_text(json.dumps(one("webhook")), encoding="utf-8")
    output = tmp_path / "absent" / "rendered.yaml"
    assert main(["collector", "render", str(source), "-o", str(output)]) == 2
    assert f"Error: {output} cannot be written: No such file or directory\n" in capsys.readouterr().err


def test_a_bridge_that_nothing_asks_for_is_said():
    with pytest.raises(ConfigRejected, match="--bridge y: no entry has that name or type; there are all, mysql, x"):
        rendered(one("mysql"), "y")
    with pytest.raises(ConfigRejected, match="there is no bridge to managed_api"):
        rendered(one("managed_api"), "x")


def test_a_key_that_the_exporter_documents_is_taken_over():
    (settings,) = rendered(one("webhook", url="http://x:1/", timeout="5s")).content["exporters"].values()
    assert settings["timeout"] == "5s"


def test_nothing_switched_on_is_said():
    assert rendered([]).notes == ["no backend is switched on: the Collector would take data and keep none"]


@pytest.mark.parametrize("kind", sorted({kind.name for kind in older.kinds().values()}))
def test_the_table_names_files_that_are_there_and_variables_that_they_read(kind):
    entry = older.kinds()[kind]
    files = [fragments.HERE / "backends" / f"{name}.yaml" for name in entry.files]
    if entry.bridge:
        assert (fragments.HERE / "backends" / f"bridge-{entry.bridge}.yaml").is_file()
    assert files or entry.bridge
    read_there = {name for path in files for name in variables(read(path, {}).raw)} | {"header"}
    assert set(entry.keys.values()) <= read_there


def test_the_command_writes_the_file_and_says_what_was_left_out(tmp_path, capsys):
    source, out = tmp_path / "integrations.json", tmp_path / "rendered.yaml"
    source.write_text(json.dumps(SECTIONS))
    assert main(["collector", "render", str(source), "--priorities", "failover", "-o", str(out)]) == 0
    assert "ingest.max_batch_size is left out" in capsys.readouterr().err
    assert out.read_text().startswith("# Made of integrations.json by `wafer collector render`.\n")
    assert "failover/traces" in parse(out.read_text())["connectors"]
    source.write_text(json.dumps(one("managed_api", token="abc")))
    assert main(["collector", "render", str(source)]) == 2
    assert capsys.readouterr().err.startswith(f"Error: {source}: x: token is a secret as text")


@pytest.mark.collector
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("content", "fan_out"), [(LIST, False), (SECTIONS, True), *([(SECTIONS, False)] if CONTRIB else [])])
def test_a_collector_validates_what_was_rendered(found, tmp_path, content, fan_out):
    _, path = findings(rendered(content, fan_out=fan_out), tmp_path)
    assert binary.validate(found.path, [fragments.BASE, path], Config.load({})) is None


@pytest.mark.collector
@pytest.mark.timeout(900)
def test_levels_of_priority_without_the_connector_are_refused_with_two_ways_out(found, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WAFER_COLLECTOR_BIN", str(found.path))
    source = tmp_path / "integrations.json"
    source.write_text(json.dumps(SECTIONS))
    code = main(["collector", "render", str(source)])
    answer = capsys.readouterr()
    if "failover" in binary.components(found.path)["connectors"]:
        assert code == 0
        return
    assert code == 2
    assert "priorities need the failover connector" in answer.err
    assert "WAFER_COLLECTOR_BIN" in answer.err
    assert "--priorities fan-out" in answer.err
    assert main(["collector", "render", str(source), "--priorities", "fan-out"]) == 0
    assert "otlp_http/managed_api_managed_http" in parse(capsys.readouterr().out)["exporters"]
