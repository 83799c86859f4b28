"""The demo's folder goes when the demo goes, however it ends, and not before the last service has ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from wafermonitor.deploy.command import demo
from wafermonitor.deploy.demo import wait_for_job, work_folder
from wafermonitor.deploy.errors import DeployUnavailable

pytestmark = pytest.mark.slow

KILLED = """
import os, signal, subprocess, sys
from wafermonitor.deploy.demo import work_folder
with work_folder() as (work, held):
    (work / "data").write_text("x")
    service = subprocess.Popen(["sh", "-c", "read line"], pass_fds=(held,))
    print(work, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def gone(folder: Path, within_s: float = 20) -> bool:
    until_s = time.monotonic() + within_s
    while folder.exists() and time.monotonic() < until_s:
        time.sleep(0.02)
    return not folder.exists()


def test_the_folder_is_there_for_others_to_pass_and_gone_afterwards():
    with work_folder() as (work, _):
        (work / "inner").mkdir()
        (work / "inner" / "file").write_text("x")
        assert work.stat().st_mode & 0o777 == 0o711
    assert not work.exists()


def test_a_killed_demo_leaves_no_folder_but_only_after_its_services():
    reading, writing = os.pipe()
    with subprocess.Popen([sys.executable, "-c", KILLED], stdin=reading, stdout=subprocess.PIPE, text=True) as process:
        os.close(reading)
        assert process.stdout is not None
        work = Path(process.stdout.readline().strip())
        process.wait(timeout=20)
    assert (work / "data").is_file(), "a service still runs in it"
    os.close(writing)
    assert gone(work)


def test_json_without_once_is_wrong_usage():
    done = CliRunner().invoke(demo, ["--json"])
    assert done.exit_code == 2
    assert "--once" in done.output


async def test_a_job_without_end_is_said():
    process = await asyncio.create_subprocess_exec("sleep", "60")
    with pytest.raises(DeployUnavailable, match="has not ended"):
        await wait_for_job(process, within_s=0.05)
    process.kill()
    await process.wait()
