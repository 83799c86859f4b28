"""R12: bytes that nobody would send, led by coverage: rows or a refusal, never anything else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from wafermonitor.receiver.transcode import native

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(2400)
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this machine")
@pytest.mark.parametrize("fuzzer", ["tests.flow.faults.fuzz_otlp", "tests.receiver.native.fuzz"])
def test_r12_bytes_of_any_kind_are_rows_or_a_refusal(tmp_path, soak, fuzzer):
    """The second one holds what the native lane makes of them to what the Python lane makes."""
    if "native" in fuzzer and native.load() is None:
        pytest.skip("receiver/native is not built here (no cargo)")
    length_s = 1800 if soak else 40
    limits = [f"-max_total_time={length_s}", "-rss_limit_mb=1500", "-timeout=20", "-max_len=65536"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            fuzzer,
            str(tmp_path / "corpus"),
            *limits,
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=length_s + 300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (runs,) = re.findall(r"Done (\d+) runs", done.stderr)
    assert int(runs) > 1000
