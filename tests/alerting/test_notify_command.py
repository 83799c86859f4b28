"""`wafer alerting list`, `ack`, `silence`, `unsilence`, `notify-test`: against a real store and real sinks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.servers import http_sink, smtp
from tests.servers import postgres as server
from wafermonitor.alerting.command import alerting
from wafermonitor.alerting.config import Config
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.runs.alerts import Alert, Delivery, Finding, Kind, Severity, Subject, alert_id
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.watch import Outcome

SECOND = 1_000_000_000
NOON = 1_780_488_000 * SECOND
# Apprise imports a module that Python 3.13 has no more, where it is still there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for config in (Config, StorageConfig):
        for field in config.model_fields:
            monkeypatch.delenv(f"WAFER_{config.component.upper()}_{field.upper()}", raising=False)
    for name in ("WAFER_CONFIG", "DATABASE_URL", "WAFER_ALERTING_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*words: str, code: int = 0):
    done = CliRunner().invoke(alerting, [*words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert (done.return_value or 0) == code, done.output
    return json.loads(done.stdout) if "--json" in words else done.stdout


def alert(job: str, severity=Severity.WARNING) -> Alert:
    found = Finding("missed", severity, Subject("F1", job), NOON, f"{job} did not come\x1b[2J")
    key, times = found.fingerprint, (NOON, NOON, NOON)
    return Alert(alert_id(key, NOON), key, found.rule, severity, found.subject, *times, found.summary, '{"late_s": 60}')


def store(*alerts: Alert, deliveries: Sequence[Delivery] = ()) -> None:
    async def put() -> None:
        opened = await connect(StorageConfig.load(), watch=True)
        try:
            assert opened.watch is not None
            async with opened.watch.lead() as lead:
                assert lead is not None
                await lead.store(Outcome(alerts=alerts, deliveries=deliveries))
        finally:
            await opened.close()

    asyncio.run(put())


@pytest.fixture
def stored(postgres: server.Server, monkeypatch: pytest.MonkeyPatch) -> list[Alert]:
    """Two alerts that fire, in a store of their own."""
    monkeypatch.setenv("WAFER_STORAGE_DSN", postgres.migrated())
    found = [alert("etl"), alert("load", Severity.CRITICAL)]
    store(*found)
    return found


@pytest.mark.postgres
def test_what_fires_is_listed_and_says_whether_anybody_looks(stored):
    etl, load = stored
    text = run("list", code=1)
    assert f"{etl.id[:8]}  warning   2026-06-03T12:00:00Z  F1 etl: etl did not come[2J [missed]\n" in text
    assert "\x1b" not in text
    found = run("list", "--job", "load", "--json", code=1)
    assert [(one["id"], one["severity"], one["site"], one["since"]) for one in found["alerts"]] == [
        (load.id, "critical", "F1", "2026-06-03T12:00:00Z")
    ]
    assert run("list", "--site", "G1") == "nothing fires\n"


@pytest.mark.postgres
def test_an_alert_is_acknowledged_by_the_first_digits_of_its_id(stored):
    etl, load = stored
    done = run("ack", etl.id[:8], "--by", "ida", "--note", "restarted", "--json")
    assert (done["acknowledged_by"], done["note"]) == ("ida", "restarted")
    assert "(looked after by ida)" in run("list", "--job", "etl")
    run("ack", load.id, "--by", "ida")
    run("list")
    for text, says in (("ab", "too short"), ("f" * 8, "no open alert"), ("f" * 32, "no open alert")):
        with pytest.raises(AlertingRejected, match=says):
            run("ack", text, "--by", "ida")


@pytest.mark.postgres
def test_one_alert_is_shown_with_who_was_told_and_why_nobody_is(stored, tmp_path):
    etl, load = stored
    rules = tmp_path / "alerts.yaml"
    rules.write_text("channels: {mail: {url: '${env:MAIL}'}}\nroutes: [{channels: mail, where: {job: etl}}]")
    message = Delivery("d" * 32, "mail", Kind.FIRING, '["route-1",{},0]', (etl.id,), NOON, NOON)
    store(deliveries=[message])
    run("ack", etl.id, "--by", "ida", "--note", "restarted")
    lines = run("show", etl.id[:8], "--rules", str(rules)).splitlines()
    assert lines[0] == etl.id
    assert lines[1] == "warning: etl did not come[2J"
    assert lines[-2].startswith("looked after by ida since ")
    assert lines[-2].endswith(": restarted")
    assert lines[-1] == "2026-06-03T12:00:00Z  mail: firing waiting, attempts 0: "
    found = run("show", load.id[:8], "--rules", str(rules), "--json")
    assert (found["id"], found["deliveries"], found["held"]) == (load.id, [], "no route takes it")
    run("silence", "--for", "2h", "--job", "load", "--why", "works", "--by", "ida")
    assert "not told now: silenced by ida until" in run("show", load.id[:8], "--rules", str(rules))


@pytest.mark.postgres
def test_a_silence_is_made_seen_and_ended(stored):
    made = run("silence", "--for", "2h", "--job", "etl", "--why", "new recipe", "--by", "ida", "--json")
    listed = run("list", code=1)
    assert f"silence {made['id'][:8]}: job etl until {made['until']} by ida: new recipe" in listed
    assert listed.count("(silenced until") == 1
    assert run("unsilence", made["id"][:8]).startswith("ended: silence")
    assert "silence" not in run("list", code=1)
    with pytest.raises(AlertingRejected, match="no silence in force"):
        run("unsilence", made["id"])


@pytest.mark.parametrize("words", [("--for", "2h"), ("--for", "2 moons", "--job", "etl"), ("--for", "400d", "--job", "etl")])
def test_a_silence_of_everything_or_for_ever_is_refused(words):
    from click import UsageError

    with pytest.raises(UsageError):
        run("silence", "--why", "x", *words)


def test_a_test_message_reaches_every_channel(tmp_path, monkeypatch):
    with http_sink.start() as hook, smtp.start() as mail:
        monkeypatch.setenv("HOOK", f"{hook.url}/{'s3cret' * 3}")
        monkeypatch.setenv("WAFER_ALERTING_RULES", str(tmp_path / "alerts.yaml"))
        (tmp_path / "alerts.yaml").write_text(f"""
channels:
  mail: {{url: "mailto://127.0.0.1:{mail.port}?from=wafer@fab.example&to=it@fab.example"}}
  hook: {{url: "${{env:HOOK}}", engine: webhook}}
  gone: {{url: "${{env:GONE}}"}}
""")
        assert run("notify-test", "mail", "hook", "--json") == {
            "channels": [
                {"channel": "mail", "ok": True, "answer": "sent"},
                {"channel": "hook", "ok": True, "answer": "HTTP 200"},
            ]
        }
        assert mail.letters[0]["subject"] == "[over: info] this is a test: nothing is wrong"
        assert hook.requests[0].json["alerts"][0]["labels"]["alertname"] == "notify-test"
        hook.status = 403
        text = run("notify-test", code=1)
        assert "hook: FAILED: HTTP 403 Forbidden\n" in text
        assert "gone: FAILED: ${env:GONE}: the environment of this process has no GONE\n" in text
        assert "s3cret" not in text


def test_without_channels_there_is_nothing_to_test(tmp_path, monkeypatch):
    from click import BadParameter

    with pytest.raises(AlertingRejected, match="no channels"):
        run("notify-test")
    with pytest.raises(BadParameter, match="no channel mail"):
        run("notify-test", "mail")
