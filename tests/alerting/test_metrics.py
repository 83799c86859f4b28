"""What `/metrics` of alerting shows, and whether the rules for Prometheus ask for what is there."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
import yaml

from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.metrics import MOST_SERIES, Meters, shown
from wafermonitor.runs.alerts import Alert, Finding, Severity, Subject, alert_id

SECOND = 1_000_000_000
NOON = 1_780_488_000 * SECOND


def alert(job: str, severity=Severity.WARNING, since_ns=NOON, **fields) -> Alert:
    found = Finding("missed", severity, Subject("F1", job), since_ns, "it did not come")
    key, times = found.fingerprint, (since_ns, since_ns, since_ns)
    return Alert(alert_id(key, since_ns), key, found.rule, severity, found.subject, *times, found.summary, "{}")._replace(
        **fields
    )


def series(meters: Meters, name: str) -> dict[tuple[str, ...], float]:
    """Values of a metric by the values of its labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in meters.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_each_open_alert_is_a_series_until_it_is_over():
    meters = Meters()
    meters.show([alert("a"), alert("b", Severity.CRITICAL, acknowledged_ns=NOON), alert("a", since_ns=NOON - SECOND)])
    assert series(meters, "wafer_alert") == {
        ("missed", "warning", "F1", "a", "", "false"): 2,
        ("missed", "critical", "F1", "b", "", "true"): 1,
    }
    assert (
        series(meters, "wafer_alert_since_timestamp_seconds")["missed", "warning", "F1", "a", "", "false"] == NOON / SECOND - 1
    )
    meters.show([])
    assert series(meters, "wafer_alert") == {}
    assert set(series(meters, "wafer_alerts_open").values()) == {0}


def test_a_storm_of_alerts_is_counted_whole_and_shown_in_part():
    meters = Meters()
    meters.show([alert(f"job-{number}") for number in range(MOST_SERIES + 50)])
    assert len(series(meters, "wafer_alert")) == MOST_SERIES
    assert series(meters, "wafer_alerts_open")["warning", "false"] == MOST_SERIES + 50


def test_the_pages_say_whether_anybody_evaluates():
    now_s = NOON / SECOND
    meters = Meters(clock=lambda: now_s)
    with shown(meters, "127.0.0.1:0") as port:

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        assert get("/healthz") == (503, "nobody evaluates\n")
        assert "wafer_alerting_last_tick_age_seconds +Inf\n" in get("/metrics")[1]
        meters.ticked(NOON - 5 * SECOND)
        assert get("/healthz") == (200, "ok\n")
        assert "wafer_alerting_last_tick_age_seconds 5.0\n" in get("/metrics")[1]
        meters.ticked(NOON - 61 * SECOND)
        assert get("/healthz")[0] == 503
        assert get("/other")[0] == 404
        with pytest.raises(AlertingRejected, match=f"cannot listen at 127.0.0.1:{port}"), shown(meters, f"127.0.0.1:{port}"):
            pass


@pytest.mark.parametrize("address", ["127.0.0.1", "", "here:there"])
def test_an_address_without_a_port_is_refused(address):
    with pytest.raises(AlertingRejected, match=r"expected host:port"), shown(Meters(), address):
        pass


def test_the_page_about_notifications_names_every_metric(repository):
    page = (repository / "docs" / "notifications.md").read_text(encoding="utf-8")
    named = {
        name.removesuffix("_total")
        for name in re.findall(r"^\|.*?`(wafer_\w+)|, `(wafer_\w+)", page, re.MULTILINE)
        for name in name
        if name
    }
    assert named == {family.name for family in Meters().registry.collect()}


def test_the_rules_for_prometheus_ask_only_for_what_is_shown(repository):
    text = (repository / "examples" / "prometheus" / "wafermonitor.rules.yaml").read_text()
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    wanted = {name for rule in rules for name in re.findall(r"\bwafer_\w+", rule["expr"])}
    families = {family.name: family for family in Meters().registry.collect()}
    names = set(families) | {f"{name}_total" for name, family in families.items() if family.type == "counter"}
    assert len(rules) == 4
    assert wanted
    assert wanted <= names
