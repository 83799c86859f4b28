"""What test servers are made of, from Maven Central by `mvn`.

    maven.jars(pom, folder, "kafka.version", "4.4.0")    # the dependencies of a pom, copied into a folder
    maven.artifact("group:name:1.0:zip", folder)         # one file

One `mvn` at a time: several that fill the user's repository at once may leave broken files there. Skip the test when
`maven.missing()` says why nothing can be fetched. Calls block; a failed download is tried once more.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from wafermonitor.instrumentation.folders import cache_home

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
TIMEOUT_S = 600.0
TRIES = 2


def missing() -> str | None:
    """Why nothing can be fetched here; None when something can."""
    return None if shutil.which("mvn") else "mvn is not on PATH: install Maven"


def jars(pom: Path, folder: Path, version: str, number: str) -> None:
    """Everything that `pom` needs to run, with `number` for its property `version`."""
    _run("-f", str(pom), f"-D{version}={number}", f"{PLUGIN}:copy-dependencies", f"-DoutputDirectory={folder}",
         "-DincludeScope=runtime")  # fmt: skip


def artifact(name: str, folder: Path) -> None:
    """The file of `name` (group:artifact:version:type)."""
    _run(f"{PLUGIN}:copy", f"-Dartifact={name}", f"-DoutputDirectory={folder}")


def _run(*words: str) -> None:
    parent = cache_home() / "test-servers"
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / "maven.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for tried in range(1, TRIES + 1):
            done = subprocess.run(
                ["mvn", "-q", "-B", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
                check=False,
            )  # fmt: skip
            if done.returncode == 0:
                return
            if tried == TRIES:
                raise RuntimeError(f"mvn {' '.join(words)}: {(done.stdout + done.stderr)[-3000:]}")
