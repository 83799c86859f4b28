"""`wafer ui` as a process: says where it is, answers, stops in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import httpx
import pytest

START = "import sys; from wafermonitor.ui.command import ui; ui(sys.argv[1:])"


@pytest.mark.slow
def test_it_prints_its_real_address_answers_and_stops_on_sigterm():
    command = [sys.executable, "-c", START, "--address", "127.0.0.1:0", "--api-url", "http://127.0.0.1:9", "--ready-json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] == "ui"
        assert ready["pid"] == process.pid
        assert httpx.get(f"{ready['url']}/healthz").text == "ok"
        page = httpx.get(ready["url"], timeout=30)
        assert "WaferMonitor" in page.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stderr.read()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--address", "nowhere"], "WAFER_UI_ADDRESS"), (["--refresh-s", "soon"], "WAFER_UI_REFRESH_S")],
)
def test_a_wrong_setting_stops_the_start_with_its_name(flags, words):
    done = subprocess.run([sys.executable, "-c", START, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr
