"""Addresses of channels: secrets stand elsewhere, are found when they are needed, and never shown."""

from __future__ import annotations

import pytest

from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.notify.addresses import check_address, masked, real_address
from wafermonitor.alerting.notify.routes import Engine


@pytest.mark.parametrize(
    ("url", "engine"),
    [
        ("${env:ON_CALL}", Engine.APPRISE),
        ("${file:/etc/wafer/on-call.url}", Engine.APPRISE),
        ("slack://${env:SLACK_TOKEN}/#fab", Engine.APPRISE),
        ("mailto://relay.fab.example?to=it@fab.example&from=wafer@fab.example", Engine.APPRISE),
        ("mailtos://${env:USER}:${env:PASSWORD}@mail.fab.example?to=it@fab.example", Engine.APPRISE),
        ("http://127.0.0.1:9093", Engine.ALERTMANAGER),
        ("https://hooks.fab.example/wafer", Engine.WEBHOOK),
        ("waferzabbix://?server=zabbix.fab.example:10051", Engine.APPRISE),
        ("${env:HOOK}", Engine.WEBHOOK),
    ],
)
def test_addresses_without_a_secret_in_them_are_taken(url, engine):
    assert check_address(url, engine) is None


@pytest.mark.parametrize(
    ("url", "engine", "says"),
    [
        ("slack://T1/B2/C3/#fab", Engine.APPRISE, "holds secrets"),
        ("mailtos://ida:secret@mail.fab.example", Engine.APPRISE, "a user, a password or a token"),
        ("mailto://mail.fab.example?user=ida&pass=secret", Engine.APPRISE, "a user, a password or a token"),
        ("https://hooks.fab.example/wafer?token=1", Engine.WEBHOOK, "a user, a password or a token"),
        ("https://ida:secret@hooks.fab.example", Engine.WEBHOOK, "a user, a password or a token"),
        ("ftp://hooks.fab.example", Engine.WEBHOOK, "http://"),
        ("mailto://${env:X}", Engine.ALERTMANAGER, "http://"),
        ("${vault:on-call}", Engine.APPRISE, "a reference that is none"),
        ("mail.fab.example", Engine.APPRISE, "holds secrets"),
        ("wafernosuch://", Engine.APPRISE, "there is no writer 'nosuch': known are cassandra, "),
    ],
)
def test_an_address_with_a_secret_in_it_is_refused(url, engine, says):
    assert says in (check_address(url, engine) or "")


def test_references_are_read_when_they_are_needed(tmp_path):
    file = tmp_path / "url"
    file.write_text("slack://T1/B2/C3\n")
    environment = {"USER": "ida@fab", "PASSWORD": "a/b?c"}
    assert real_address(f"${{file:{file}}}") == "slack://T1/B2/C3"
    assert real_address("mailtos://${env:USER}:${env:PASSWORD}@mail", environment) == "mailtos://ida%40fab:a%2Fb%3Fc@mail"
    file.write_text("slack://T4/B5/C6\n")
    assert real_address(f"${{file:{file}}}") == "slack://T4/B5/C6"


def test_a_reference_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for url, says in (
        ("${env:NOWHERE}", "NOWHERE"),
        (f"${{file:{tmp_path}/none}}", "cannot be read"),
        (f"${{file:{tmp_path}/empty}}", "is empty"),
        (f"${{file:{tmp_path}/binary}}", "not UTF-8"),
        (f"${{file:{tmp_path}}}", "cannot be read"),
    ):
        with pytest.raises(AlertingRejected, match=says):
            real_address(url, {})


def test_nothing_of_an_address_but_its_host_and_its_readers_is_shown():
    url = "mailtos://ida:s3cret%2Fword@mail.fab.example?to=it@fab.example&pass=other"
    text = f"cannot log in to mail.fab.example as ida:s3cret/word (s3cret%2Fword, other) for it@fab.example: {url}"
    shown = masked(text, url)
    assert "s3cret" not in shown
    assert "other" not in shown
    assert shown.startswith("cannot log in to mail.fab.example as *** (***, ***) for it@fab.example")
    assert masked("slack T0KEN and /B2222", "slack://T0KEN/B2222") == "slack *** and /***"
    assert masked("it was secret-1", "https://h/secret-1", "https://h/${env:X}", {"X": "secret-1"}) == "it was ***"
