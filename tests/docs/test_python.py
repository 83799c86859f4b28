"""Python on a page is Python: every block compiles, and what can stand alone runs, with its telemetry in a file or off."""

from __future__ import annotations

import builtins
import os
import subprocess
import symtable
import sys
from pathlib import Path

import pytest

from tests.docs.pages import Code, blocks, pages

PYTHON = [code for page in pages() for code in blocks(page) if code.language == "python"]
READERS_OWN = """
import pathlib, subprocess, sys
files = [pathlib.Path("lot-01.stdf"), pathlib.Path("lot-02.stdf")]
wafers = ["GAL-LOT-01", "GAL-LOT-02"]
command = cmd = [sys.executable, "-c", "import os; assert os.environ['TRACEPARENT']"]
analyse = measure = work = lambda *a, **k: 1569
"""
"""What stands for the reader's own files and functions. Names beyond these make a block one that is compiled only."""

NAMES = {
    symbol.get_name() for symbol in symtable.symtable(READERS_OWN, "readers", "exec").get_symbols() if symbol.is_assigned()
}
NAMES |= {"pathlib", "subprocess", "sys", *dir(builtins), "__name__", "__file__"}


def free_names(code: Code) -> set[str]:
    """Names that the block uses and neither it, nor Python, nor the reader's own prelude defines."""
    top = symtable.symtable(code.text, str(code), "exec")
    known = NAMES | {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    tables, used = [top], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced() and symbol.is_global()}
    used |= {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    return used - known


def needs_a_service(code: Code) -> bool:
    return "Client(" in code.text


@pytest.mark.parametrize("code", PYTHON, ids=str)
def test_python_compiles(code):
    compile(code.text, str(code), "exec")


ALONE = [code for code in PYTHON if not free_names(code) and not needs_a_service(code)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["file", "off"])
@pytest.mark.parametrize("code", ALONE, ids=str)
def test_python_that_stands_alone_runs(code, mode, tmp_path):
    spool = tmp_path / "spool"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WAFER_", "TRACE"))}
    (tmp_path / "program.py").write_text(READERS_OWN + code.text)
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        env=clean | {"WAFER_MODE": mode, "WAFER_SPOOL_DIR": str(spool)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    if "wafer.job(" in code.text:
        assert bool(lines_below(spool)) == (mode == "file")


def lines_below(spool: Path) -> list[str]:
    return [line for path in spool.rglob("*.jsonl") for line in path.read_text().splitlines()]


def test_the_readme_has_a_program_that_runs():
    assert any(code.page.name == "README.md" and code.page.parent.name != "otel-semconv" for code in ALONE)
