"""The unit file that `wafer collector install --service` writes is one that systemd takes, and what it starts is ours."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.servers.collector import free_ports, until
from wafermonitor.collector import service
from wafermonitor.collector.binary import Binary
from wafermonitor.collector.command import install
from wafermonitor.collector.errors import ConfigRejected
from wafermonitor.collector.supervise import healthy

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def fake(tmp_path):
    """What is copied: any file that can be run."""
    path = tmp_path / "otelcol"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return Binary(path, "0.159.0", "cache")


def lines(text, key):
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_the_machines_service_has_its_own_copy_of_the_collector_and_its_own_folders(fake, tmp_path):
    root = tmp_path / "machine"
    where = service.places(system=True, root=root)
    written = service.install(fake, where, account=ME, root=root)
    text = written.unit.read_text()
    assert lines(text, "User") == [ME]
    assert '"WAFER_COLLECTOR_BIN=/usr/local/lib/wafermonitor/otelcol"' in text
    assert lines(text, "EnvironmentFile") == ["-/etc/wafermonitor/collector.env"]
    assert os.access(root / "usr/local/lib/wafermonitor/otelcol", os.X_OK)
    assert (root / "var/lib/wafermonitor/queue").is_dir()
    spool = "/var/spool/wafermonitor" if os.geteuid() == 0 else "/var/lib/wafermonitor/spool"
    assert f'"WAFER_SPOOL_DIR={spool}"' in text
    assert (root / spool.lstrip("/")).is_dir()
    assert written.next == "systemctl daemon-reload && systemctl enable --now wafer-collector.service"
    assert "@" not in "".join(line for line in text.splitlines() if not line.startswith("#"))


def test_settings_are_their_owners_alone_and_stay_as_the_site_has_them(fake, tmp_path):
    where = service.places(system=True, root=tmp_path)
    service.install(fake, where, account=ME, root=tmp_path)
    assert stat.S_IMODE(where.settings.stat().st_mode) == 0o600
    assert all(line.startswith("#") for line in where.settings.read_text().splitlines())
    where.settings.write_text("WAFER_SITE_ID=fab1\n")
    service.install(fake, where, account=ME, root=tmp_path)
    assert where.settings.read_text() == "WAFER_SITE_ID=fab1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders to another account")
def test_another_account_has_its_folders_its_settings_and_a_spool_of_its_own(fake, tmp_path):
    nobody = pwd.getpwnam("nobody")
    where = service.places(system=True, root=tmp_path)
    text = service.install(fake, where, account="nobody", root=tmp_path).unit.read_text()
    assert '"WAFER_SPOOL_DIR=/var/lib/wafermonitor/spool"' in text
    for path in (where.queue, where.queue.with_name("spool"), where.settings):
        assert path.stat().st_uid == nobody.pw_uid


def test_an_account_that_there_is_not_is_named_with_the_command_that_makes_it(fake, tmp_path):
    with pytest.raises(ConfigRejected, match="useradd --system nobody-here"):
        service.install(fake, service.places(system=True, root=tmp_path), account="nobody-here", root=tmp_path)


def test_a_users_own_service_needs_no_account_and_takes_none(fake, tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(service, "data_home", lambda: tmp_path / "data")
    monkeypatch.setattr(service, "spool_home", lambda: tmp_path / "spool")
    where = service.places(system=False)
    written = service.install(fake, where, account=None)
    text = written.unit.read_text()
    assert lines(text, "User") == []
    assert lines(text, "WantedBy") == ["default.target"]
    assert str(fake.path) in text
    assert written.next.startswith("systemctl --user daemon-reload")
    with pytest.raises(ConfigRejected, match="run this as root"):
        service.install(fake, where, account="wafer")


def test_a_path_that_a_unit_file_cannot_hold_is_refused(fake, tmp_path):
    root = tmp_path / "a machine"
    where = service.places(system=True, root=root)
    with pytest.raises(ConfigRejected, match="takes no path with spaces"):
        service.text(where, fake.path, ME)


@pytest.mark.parametrize("words", [["--account", "nobody"], ["--root", "/image"]])
def test_what_is_of_a_service_alone_is_not_ignored_without_it(words):
    result = CliRunner().invoke(install, words)
    assert isinstance(result.exception, ConfigRejected)
    assert "add --service" in str(result.exception)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_takes_the_unit(fake, tmp_path):
    root = tmp_path / "machine"
    where = service.places(system=True, root=root)
    written = service.install(fake, where, account=ME, root=root)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(written.unit)],  # other units are not ours
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if "wafer-collector" in line]
    assert (done.returncode, told) == (0, []), done.stderr


@pytest.mark.collector
@pytest.mark.slow
def test_what_the_unit_starts_takes_data_refuses_a_wrong_file_at_a_reload_and_stops_in_order(found, tmp_path, monkeypatch):
    """As systemd does it: ExecStartPre, ExecStart, ExecReload's signal, SIGTERM; in the environment of the unit alone."""
    monkeypatch.setenv("WAFER_COLLECTOR_BIN", str(found.path))
    root = tmp_path / "machine"
    where = service.places(system=True, root=root)
    written = service.install(found, where, account=ME, root=root)
    grpc, http, health, metrics = free_ports(4)
    mine = tmp_path / "mine.yaml"
    shutil.copyfile(service.HERE / "backends" / "managed.yaml", mine)
    settings = {
        "WAFER_OTLP_GRPC": f"127.0.0.1:{grpc}",
        "WAFER_OTLP_HTTP": f"127.0.0.1:{http}",
        "WAFER_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
        "WAFER_METRICS_PORT": str(metrics),
        "WAFER_COLLECTOR_BACKENDS": str(mine),
    }
    where.settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    text = written.unit.read_text()
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for pair in shlex.split(lines(text, "Environment")[0]):
        name, _, value = pair.partition("=")
        environ[name] = str(root / value.lstrip("/"))
    environ |= dict(line.split("=", 1) for line in where.settings.read_text().splitlines())
    subprocess.run(shlex.split(lines(text, "ExecStartPre")[0]), env=environ, check=True, timeout=60, capture_output=True)
    with subprocess.Popen(
        [*shlex.split(lines(text, "ExecStart")[0]), "--json"], env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            until(lambda: healthy(f"127.0.0.1:{health}"), "it is healthy")
            mine.write_text("exporters: {nonsense: {}}\n")
            wrong = subprocess.run(
                shlex.split(lines(text, "ExecStartPre")[0]), env=environ, check=False, timeout=60, capture_output=True
            )
            assert wrong.returncode != 0
            process.send_signal(signal.SIGHUP)
            assert process.stdout is not None
            events = []
            while "reload-refused" not in events:
                events.append(json.loads(process.stdout.readline())["event"])
            assert healthy(f"127.0.0.1:{health}"), "a broken file ended it"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.mark.collector
@pytest.mark.slow
def test_install_says_what_it_wrote_and_what_to_type(found, tmp_path, monkeypatch):
    monkeypatch.setenv("WAFER_COLLECTOR_BIN", str(found.path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    done = CliRunner().invoke(
        install,
        ["--service", "--account", ME, "--root", str(tmp_path), "--json"],
        standalone_mode=False,
        catch_exceptions=False,
    )
    answer = json.loads(done.output)
    assert Path(answer["service"]["unit"]) == tmp_path / "etc/systemd/system/wafer-collector.service"
    assert answer["service"]["next"].startswith("systemctl daemon-reload")
