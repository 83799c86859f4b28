"""A build is done once, whole or not at all; failures say what the builder said.

The Go here is a script that plays the tool's part in a moment; `test_go_builds_the_minimal_collector` asks the real one.
"""

import os
import stat
import subprocess
import sys
import threading

import pytest

from wafermonitor.collector import binary, build, fragments
from wafermonitor.collector.errors import BinaryRejected, BuildRejected

MANIFEST = fragments.MANIFESTS["minimal"]
GOOD = """#!/bin/sh
echo run >> "$LOG"
echo "$@" >> "$LOG"
echo "go: downloading something"
mkdir _build
printf '#!/bin/sh\\n' > _build/otelcol-wafer
chmod +x _build/otelcol-wafer
"""
BAD = """#!/bin/sh
mkdir _build
printf 'half' > _build/otelcol-wafer
echo "cannot find module nothing"
exit 3
"""


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Put a script in the place of Go, and the cache into the test's folder. Returns a function that gives its text."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))

    def say(text):
        path = folder / "go"
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return tmp_path / "log"

    return say


def quiet(_elapsed_s, _line):
    """No progress wanted."""


@pytest.mark.slow
def test_a_collector_is_built_once_and_found_again(go):
    log = go(GOOD)
    path = build.install(MANIFEST, quiet)
    assert path == build.target(MANIFEST)
    assert os.access(path, os.X_OK)
    assert build.install(MANIFEST, quiet) == path
    assert log.read_text().count("run\n") == 1
    assert f"run {build.BUILDER}@v0.159.0 --config {MANIFEST}" in log.read_text()
    build.install(MANIFEST, quiet, again=True)
    assert log.read_text().count("run\n") == 2
    assert [entry.name for entry in path.parent.iterdir()] == [build.PROGRAM]


@pytest.mark.slow
def test_two_builds_at_once_are_one(go):
    log = go(GOOD)
    threads = [threading.Thread(target=build.install, args=(MANIFEST, quiet)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.read_text().count("run\n") == 1


@pytest.mark.slow
def test_a_failed_build_leaves_nothing_and_says_why(go):
    go(BAD)
    with pytest.raises(BuildRejected, match=r"code 3; its last lines:\ncannot find module nothing"):
        build.install(MANIFEST, quiet)
    assert list(build.target(MANIFEST).parent.iterdir()) == []


@pytest.mark.slow
def test_without_go_the_message_names_both_ways_out(go, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BinaryRejected, match=r"install Go 1\.26 or newer, or install otelcol-contrib"):
        build.install(MANIFEST, quiet)


def test_another_manifest_has_another_place(tmp_path):
    other = tmp_path / "builder.yaml"
    other.write_text(MANIFEST.read_text() + "# changed\n")
    assert build.target(other) != build.target(MANIFEST)


@pytest.mark.slow
def test_progress_is_told_while_the_tool_is_silent(go):
    go(GOOD.replace("mkdir _build\n", "sleep 1.2\nmkdir _build\n"))
    seen = []
    build.install(MANIFEST, lambda elapsed_s, line: seen.append((elapsed_s, line)))
    assert seen
    assert seen[0][1] == "go: downloading something"


@pytest.mark.slow
def test_what_a_killed_build_left_behind_is_removed(go):
    go(GOOD)
    left = build.target(MANIFEST).parent / "build-killed"
    left.mkdir(parents=True)
    (left / "half").touch()
    build.install(MANIFEST, quiet)
    assert not left.exists()


def test_a_cache_that_cannot_be_written_is_named_with_the_fix(go, tmp_path, monkeypatch):
    go(GOOD)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BuildRejected, match="Not a directory; set XDG_CACHE_HOME"):
        build.install(MANIFEST, quiet)


@pytest.mark.slow
def test_a_build_that_is_interrupted_ends_its_tools(go, tmp_path):
    """Ctrl-C reaches the waiting process; the tool, in a session of its own, is ended by it."""
    go("#!/bin/sh\necho $$ > $LOG\nexec sleep 60\n")
    program = "from wafermonitor.collector import build, fragments\n"
    program += "def stop(elapsed_s, line): raise KeyboardInterrupt\n"
    program += "build.install(fragments.MANIFESTS['minimal'], stop)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert "KeyboardInterrupt" in done.stderr
    pid = int((tmp_path / "log").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.servers
@pytest.mark.timeout(1800)
@pytest.mark.skipif(build.go() is None, reason="Go is not on PATH")
def test_go_builds_the_minimal_collector(tmp_path, monkeypatch):
    # Go's own cache follows XDG_CACHE_HOME, too; a build from nothing would take minutes.
    monkeypatch.setenv("GOCACHE", subprocess.check_output(["go", "env", "GOCACHE"], text=True).strip())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = build.install(MANIFEST, quiet)
    assert binary.version_of(path) == (0, 159, 0)
    assert "file_storage" in binary.components(path)["extensions"]
