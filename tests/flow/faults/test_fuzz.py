"""R12: bytes that nobody would send, led by coverage: rows or a refusal, never anything else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(2400)
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this machine")
def test_r12_bytes_of_any_kind_are_rows_or_a_refusal(tmp_path, soak):
    length_s = 1800 if soak else 60
    limits = [f"-max_total_time={length_s}", "-rss_limit_mb=1500", "-timeout=20", "-max_len=65536"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.flow.faults.fuzz_otlp",
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
