"""Alerts as log records in other backends, through Apprise: what the records say, and what a bad address is told."""

from __future__ import annotations

import json

import pytest

from wafermonitor.alerting.errors import AlertingRejected, AlertingUnavailable
from wafermonitor.alerting.notify import Channel, backends
from wafermonitor.alerting.notify.addresses import check_address
from wafermonitor.alerting.notify.routes import Engine
from wafermonitor.alerting.notify.sending import Letter, send
from wafermonitor.runs.alerts import Alert, Finding, Kind, Severity, Subject, opened
from wafermonitor.runs.records import RunKey
from wafermonitor.storage.writers.items import items

SECOND_NS = 1_000_000_000
NOON_NS = 1_780_488_000 * SECOND_NS
# Apprise imports a module that Python 3.13 has no more, where it is still there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def an_alert(**changes: object) -> Alert:
    subject = Subject(site="F1", job="lot_yield", run=RunKey("F1", b"t" * 16, b"s" * 8))
    finding = Finding("late", Severity.WARNING, subject, NOON_NS - 5, "lot_yield is late", '{"late_s": 612}', owner="yield")
    return opened(finding, NOON_NS)._replace(**changes)


def a_letter(url: str, *alerts: Alert, kind: Kind = Kind.FIRING, timeout_s: float = 1.0) -> Letter:
    channel = Channel("there", url, timeout_s=timeout_s)
    return Letter(channel, kind, '["r",{},0]', alerts, url="", now_ns=NOON_NS + 9 * SECOND_NS)


def test_an_alert_is_an_event_with_all_that_is_known_of_it():
    alert = an_alert()
    (record,) = items("logs", backends.records([alert], Kind.FIRING, NOON_NS + 1))
    assert (record.event_name, record.body, record.severity, record.severity_text) == ("wafer.alert", alert.summary, 13, "WARN")
    assert (record.resource.site, record.resource.service) == ("F1", "wafermonitor-alerting")
    assert (record.trace_id, record.span_id) == (("t" * 16).encode().hex(), ("s" * 8).encode().hex())
    assert record.attributes == {
        "wafer.alert.id": alert.id,
        "wafer.alert.fingerprint": alert.fingerprint,
        "wafer.alert.rule": "late",
        "wafer.alert.kind": "firing",
        "wafer.alert.severity": "warning",
        "wafer.alert.start_time_unix_nano": NOON_NS - 5,
        "wafer.alert.evidence": '{"late_s": 612}',
        "wafer.job.name": "lot_yield",
        "wafer.job.owner": "yield",
    }


def test_the_same_alert_told_again_is_the_same_record_and_a_louder_one_another():
    alert = an_alert()
    first, again = (items("logs", backends.records([alert], Kind.FIRING, NOON_NS + late))[0] for late in (1, 20))
    louder, over = (
        items("logs", backends.records([alert._replace(**now)], Kind.FIRING, NOON_NS + 30))[0]
        for now in ({"severity": Severity.CRITICAL}, {"resolved_ns": NOON_NS + SECOND_NS})
    )
    assert first.id == again.id
    assert first.time_ns < louder.time_ns < over.time_ns
    assert over.attributes["wafer.alert.kind"] == "resolved"


def test_it_is_written_by_the_writer_of_the_address(tmp_path):
    send(a_letter(f"waferfiles://?dir={tmp_path}&format=jsonl", an_alert(), an_alert(resolved_ns=NOON_NS + SECOND_NS)))
    lines = [line for path in tmp_path.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert sum(line.count('"wafer.alert.rule"') for line in lines) == 2
    assert json.loads(lines[0])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("waferfiles://?nothing=1", "no setting 'nothing'"),
        ("waferfiles://?format=odf", "format"),
        ("wafernowhere://", "no address"),
    ],
)
def test_a_wrong_address_is_refused_with_what_there_is(url, says):
    with pytest.raises(AlertingRejected, match=says):
        send(a_letter(url, an_alert()))


def test_a_backend_that_is_away_is_tried_again_later():
    with pytest.raises(AlertingUnavailable, match="does not answer"):
        send(a_letter("waferwebhook://?url=http://127.0.0.1:9/", an_alert()))


@pytest.mark.parametrize("url", ["waferzabbix://", "waferzabbix://?server=zabbix.fab.example:10051&host=fab"])
def test_an_address_without_a_secret_may_be_written_out(url):
    assert check_address(url, Engine.APPRISE) is None


@pytest.mark.parametrize("url", ["waferzabbix://?api_token=1", "waferelasticsearch://?url=https://ida:secret@es.fab.example"])
def test_an_address_with_a_secret_may_not(url):
    assert "holds secrets" in (check_address(url, Engine.APPRISE) or "")
