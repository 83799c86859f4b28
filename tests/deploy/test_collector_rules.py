"""Alerts, dashboard and pod for a site's Collectors: each alert says what it should, and every metric is one that there is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.servers import collector, prometheus
from wafermonitor.collector.config import Config

pytestmark = pytest.mark.timeout(300, func_only=True)  # the first time, what the fixtures need is fetched

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "collector.rules.yaml"
BOARD = ROOT / "deploy" / "grafana" / "collector.json"
POD = ROOT / "deploy" / "kubernetes" / "sidecar.yaml"
METRIC = re.compile(r"\b(?:otelcol_\w+|up)\b(?=[{ ])")
LATER = re.compile(r"otelcol_(exporter_(sent|send_failed)|receiver_(accepted|refused))_(spans|log_records|metric_points)")
"""Counters that come with the first item."""


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return json.loads(BOARD.read_text())["panels"]


def expressions():
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture(scope="module")
def tool():
    """Debian's program that tries rules on made-up hours."""
    why = prometheus.missing()
    if why is not None:
        pytest.skip(why)
    return prometheus.packages() / "usr" / "bin" / "vmalert-tool"


def tried(tool, tmp_path, rules_text):
    """Run the made-up hours on these rules."""
    (tmp_path / "rules.yaml").write_text(rules_text)
    cases = Path(__file__).with_name("collector.rules.test.yaml").read_text().replace("@RULES@", str(tmp_path / "rules.yaml"))
    (tmp_path / "cases.yaml").write_text(cases)
    return subprocess.run(
        [tool, "unittest", "--disableAlertgroupLabel", f"--files={tmp_path / 'cases.yaml'}"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # else its data stand in a folder that every run shares
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.servers
@pytest.mark.xdist_group("prometheus")
def test_each_alert_fires_and_ends_when_it_should(tool, tmp_path):
    done = tried(tool, tmp_path, RULES.read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    late = tried(tool, tmp_path, RULES.read_text().replace("> 0.95 *", "> 1.95 *"))
    assert late.returncode != 0, "these hours notice nothing"


def test_each_alert_has_an_hour_that_tries_it():
    cases = yaml.safe_load(Path(__file__).with_name("collector.rules.test.yaml").read_text())["tests"]
    fired = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.servers
@pytest.mark.collector
@pytest.mark.xdist_group("prometheus")
def test_every_metric_is_one_that_a_real_collector_has_and_a_real_prometheus_takes_every_expression(tool):
    del tool
    found = {name for expression in expressions() for name in METRIC.findall(expression) if not LATER.fullmatch(name)} - {"up"}
    assert len(found) > 5
    server = collector.start(environ={"WAFER_MANAGED_ENDPOINT": "127.0.0.1:9"})

    def page():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.environ['WAFER_METRICS_PORT']}/metrics", timeout=10) as answer:
            return set(re.findall(r"^(\w+)", answer.read().decode(), re.MULTILINE))

    try:
        collector.until(lambda: found <= page(), f"the page has {sorted(found)}")
    finally:
        server.stop()
    with_prometheus = prometheus.start()
    try:
        for expression in expressions():
            query = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
            with_prometheus.ask("query", query=query)
    finally:
        with_prometheus.stop()


def test_the_dashboard_is_whole():
    board = json.loads(BOARD.read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 6
    names = {variable["name"] for variable in board["templating"]["list"]}
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel["targets"]:
            used = set(re.findall(r"\$(?!__)\{?(\w+)", target["expr"] + target["datasource"]["uid"]))
            assert used <= names
            assert 'job="wafer-collector"' in target["expr"]


def test_the_pod_keeps_the_collector_until_its_job_has_ended_and_names_settings_that_there_are():
    settings, job = yaml.safe_load_all(POD.read_text())
    pod = job["spec"]["template"]["spec"]
    [sidecar] = pod["initContainers"]
    [program] = pod["containers"]
    assert sidecar["restartPolicy"] == "Always", "else it would have to end before the job begins"
    assert sidecar["startupProbe"]["httpGet"]["port"] == 13133
    variables = {name for option in Config.options() for name in (option.environment, *option.aliases)}
    used = {entry["name"] for container in (sidecar, program) for entry in container["env"]} | settings["data"].keys()
    assert used <= variables
    mounted = {mount["name"] for container in (sidecar, program) for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    from wafermonitor.instrumentation.cli import wafer

    for container in (sidecar, program):
        words = container["command"]
        assert words[0] == "wafer"
        assert CliRunner().invoke(wafer, [*words[1:3][: 2 if words[1] == "collector" else 1], "--help"]).exit_code == 0
