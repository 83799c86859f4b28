"""The wheel holds what the checkout has: every module, and every file that is read at run time."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("*/src"))
EXAMPLE = "wafermonitor/deploy/examples/stdf_yield"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def shipped(folder: Path) -> set[str]:
    """Files below a source folder, as the wheel names them."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)) for path in files}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.parent.name)
def test_every_file_of_a_component_is_in_it(names, source):
    wanted = shipped(source)
    assert wanted <= names
    assert any(name.endswith("/py.typed") for name in wanted)


def test_sql_yaml_and_templates_are_in_it(names):
    for suffix in (".sql", ".yaml", ".conf", ".html", ".css", ".js", ".svg"):
        assert any(name.endswith(suffix) for name in names), suffix


def test_nothing_else_is_in_it(names):
    examples = {f"{EXAMPLE}/{path}" for path in shipped(ROOT / "examples" / "stdf_yield")}
    assert names == examples.union(*map(shipped, SOURCES))


def test_it_stays_a_namespace(names):
    assert "wafermonitor/__init__.py" not in names


def test_the_demo_finds_its_job_in_an_installation(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        "import wafermonitor; wafermonitor.__path__ = [p for p in wafermonitor.__path__ if p.startswith(sys.argv[1])]\n"
        "from wafermonitor.deploy.jobs import examples_folder\n"
        "folder = examples_folder(); print(folder); sys.path.insert(0, str(folder)); import stdf_yield"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "site" / "wafermonitor" / "deploy" / "examples"
