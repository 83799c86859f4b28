"""The import contracts hold, and they bite: each is broken on purpose in a copy and must then fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BREACHES = {
    "a lower layer imports a higher one": ("storage", "memory.py", "import wafermonitor.query.models"),
    "siblings see each other": ("receiver", "errors.py", "import wafermonitor.query.errors"),
    "the screens reach behind the API": ("ui", "errors.py", "import wafermonitor.storage.protocol"),
    "a driver gets a second door": ("query", "errors.py", "import asyncpg"),
    "Parquet gets a second door": ("receiver", "errors.py", "import pyarrow"),
    "a broker's library gets a second door": ("query", "errors.py", "import aiokafka"),
    "the light install grows": ("python-instrumentation", "errors.py", "import httpx"),
}


def copy_sources(root: Path) -> list[Path]:
    sources = []
    for source in sorted(ROOT.glob("*/src")):
        target = root / source.parent.name / "src"
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        sources.append(target)
    return sources


def lint(root: Path, sources: list[Path]) -> subprocess.CompletedProcess[str]:
    # -S leaves out the editable install, so that only the copies are seen.
    paths = [*map(str, sources), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    program = f"import sys; sys.path[:0] = {paths!r}; from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-S", "-c", program, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("breach", [None, *BREACHES])
def test_contracts_hold_and_no_breach_passes(tmp_path, breach):
    sources = copy_sources(tmp_path)
    if breach is None:
        result = lint(tmp_path, sources)
        assert result.returncode == 0, result.stdout
        return
    folder, module, line = BREACHES[breach]
    (path,) = (tmp_path / folder / "src" / "wafermonitor").glob(f"*/{module}")
    path.write_text(path.read_text() + f"\n{line}\n")
    result = lint(tmp_path, sources)
    assert result.returncode != 0, f"{breach}: not noticed"
    assert "BROKEN" in result.stdout


@pytest.mark.slow
def test_a_component_in_no_layer_is_noticed(tmp_path):
    sources = copy_sources(tmp_path)
    stray = sources[0] / "wafermonitor" / "stray"
    stray.mkdir()
    (stray / "__init__.py").write_text('"""A component that no layer names."""\n')
    assert lint(tmp_path, sources).returncode != 0
