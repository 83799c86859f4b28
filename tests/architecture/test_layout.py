"""The house rules that no linter knows: the files of a component, sizes, names, READMEs."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOW = "semconv → instrumentation → collector → receiver → runs → storage → alerting → query → ui → deploy"
FOLDERS = {
    "otel-semconv": "semconv",
    "python-instrumentation": "instrumentation",
    "collector-config": "collector",
    "receiver": "receiver",
    "runs": "runs",
    "storage": "storage",
    "alerting": "alerting",
    "query": "query",
    "ui": "ui",
    "deploy": "deploy",
}
PURE = {"semconv", "runs"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
COMPONENTS = sorted(FOLDERS.items())


def package(folder: str) -> Path:
    return ROOT / folder / "src" / "wafermonitor" / FOLDERS[folder]


def modules() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in package(folder).rglob("*.py"))


@pytest.mark.parametrize(("folder", "component"), COMPONENTS)
def test_each_component_has_the_same_four_files(folder, component):
    wanted = {"__init__.py", "errors.py", "py.typed"} | (set() if component in PURE else {"config.py", "command.py"})
    present = {path.name for path in package(folder).iterdir()}
    assert wanted <= present, f"{folder} lacks {sorted(wanted - present)}"


def test_wafermonitor_is_a_namespace_and_has_no_init_file():
    assert not list(ROOT.glob("*/src/wafermonitor/__init__.py"))


def test_every_component_folder_is_known_to_the_build():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hatch = settings["tool"]["hatch"]["build"]
    assert {f"{folder}/src/wafermonitor" for folder in FOLDERS} == set(hatch["targets"]["wheel"]["packages"])
    assert {f"{folder}/src" for folder in FOLDERS} == set(hatch["dev-mode-dirs"])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_is_short_named_for_its_domain_and_says_what_it_is(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 600, f"{path} is longer than 600 lines"
    assert path.stem not in FORBIDDEN_NAMES
    assert ast.get_docstring(ast.parse(text)), f"{path} does not open with a docstring"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_stay_within_60_lines(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{path}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize(("folder", "component"), COMPONENTS)
def test_the_front_door_is_short_and_lists_its_names_in_order(folder, component):
    text = (package(folder) / "__init__.py").read_text()
    assert len(text.splitlines()) <= 60
    for node in ast.parse(text).body:
        targets = getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            names = [element.value for element in node.value.elts]
            assert names == sorted(names), f"{component}.__all__ is not sorted"
            return
    pytest.fail(f"{component}/__init__.py has no __all__")


@pytest.mark.parametrize(("folder", "component"), COMPONENTS)
def test_the_folders_readme_opens_with_its_place_in_the_flow(folder, component):
    readme = (ROOT / folder / "README.md").read_text().splitlines()
    assert readme[0] == FLOW.replace(component, f"**{component}**", 1), f"{folder}/README.md, line 1"
    assert len(readme) <= 80
    headings = [line for line in readme if line.startswith("## ")]
    assert [line for line in headings if line in {"## In", "## Out", "## Next", "## Files"}] == [
        "## In",
        "## Out",
        "## Next",
        "## Files",
    ]


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_sql_and_yaml_stand_in_files_of_their_own():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count("\n") > 3:
                assert not re.match(r"\s*(SELECT|INSERT|CREATE|UPDATE|DELETE|WITH)\b", node.value), f"{path}:{node.lineno}"


def test_the_lock_names_versions_and_hashes_but_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        assert "==" in entry, entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_each_dependency_says_why_it_is_there():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [settings["project"]["dependencies"], *settings["project"]["optional-dependencies"].values()]
    groups.append(settings["dependency-groups"]["dev"])
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    for requirement in {requirement for group in groups for requirement in group}:
        name = re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0]
        if name != "wafermonitor":
            assert f"| `{name}` |" in reasons, f"docs/dependencies.md has no line for {name}"


def test_the_version_heads_the_changelog():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    heading = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert heading.startswith(f"## {version}")
