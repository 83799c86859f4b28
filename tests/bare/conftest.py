"""The wheel, and a fresh environment that holds the base install of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SHIPPED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist")


class Host(NamedTuple):
    """A machine's Python with nothing but the base install."""

    folder: Path

    @property
    def packages(self) -> Path:
        """Where the distributions are."""
        (found,) = self.folder.glob("lib/python3*/site-packages")
        return found

    def run(self, *command: str, spool: Path, mode: str = "file") -> subprocess.CompletedProcess[str]:
        """Run a command of this environment in an empty folder, without the settings of whoever runs the tests."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "WAFER_", "TRACE", "PYTHON", "VIRTUAL_ENV"))
        }
        settings = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "WAFER_MODE": mode, "WAFER_SPOOL_DIR": str(spool)}
        return subprocess.run(
            command, cwd=spool.parent, env=clean | settings, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout by the build backend that is installed: no network."""
    source = tmp_path_factory.mktemp("checkout") / "wafermonitor"
    shutil.copytree(ROOT, source, ignore=NOT_SHIPPED)
    out = source.parent / "out"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=source, check=True, timeout=60
    )
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def host(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """`pip install` of the wheel, by pip's own settings; skipped where pip reaches no registry."""
    folder = tmp_path_factory.mktemp("host") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--retries", "1", str(wheel)], capture_output=True, text=True, timeout=110, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no word from pip"
        if "No matching distribution found for" in last or "onnection" in done.stderr:
            pytest.skip(f"pip reaches no package registry: {last}")
        pytest.fail(done.stderr)
    return Host(folder)
