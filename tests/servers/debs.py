"""Debian packages unpacked into the user's cache folder: programs for tests, without installing anything on the machine.

    folder = debs.unpacked("mariadb", "mariadb-server-core")                    # of this machine's release, with what they need
    folder = debs.unpacked("prometheus", "prometheus", suite="trixie")           # one of another release, alone
    environ = debs.environment(folder)                                            # so that programs find the libraries

Packages come from where this machine's apt gets its own. It takes some seconds, once; no root is needed. Skip the test when
`debs.missing(suite)` says why nothing can be unpacked here. Calls block.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from wafermonitor.instrumentation.folders import cache_home

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def missing(suite: str | None = None) -> str | None:
    """Why no package can be unpacked here; None when one can."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return "the server comes from Debian packages, and this is no Debian"
    if suite is not None and platform.freedesktop_os_release().get("ID") != "debian":
        return f"the server comes from the packages of Debian {suite}, and this is no Debian"
    return None


def _folder(name: str, suite: str | None) -> Path:
    release = suite or platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    return cache_home() / "test-servers" / f"{name}-{release}"


def unpacked(name: str, *packages: str, suite: str | None = None) -> Path:
    """The folder that holds `packages`, made when it is not there yet.

    Without a suite they come with the packages that they depend on and that this machine lacks.
    """
    folder = _folder(name, suite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                root = Path(building, "root")
                root.mkdir()
                for package in _download(Path(building), packages, suite):
                    subprocess.run(["dpkg", "-x", str(package), str(root)], check=True, stdin=subprocess.DEVNULL)
                root.rename(folder)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """What a program of `folder` is started with."""
    libraries = [str(path) for path in folder.glob("usr/lib/*-linux-gnu")]
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def _download(home: Path, packages: tuple[str, ...], suite: str | None) -> list[Path]:
    lists, archives = home / "lists", home / "archives"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True)
    options = {
        "Dir::State::Lists": lists, "Dir::Cache": home, "Dir::Cache::archives": archives, "Debug::NoLocking": 1,
        "Acquire::Languages": "none", "APT::Install-Recommends": "false",
    }  # fmt: skip
    if os.geteuid() == 0:
        options["APT::Sandbox::User"] = "root"
    if suite is not None:
        sources = home / "sources.list"
        sources.write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
        options |= {"Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "/dev/null"}
    command = ["apt-get", "-qq", "-y", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run([*command, "update"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wanted = ["install", "--download-only", *packages] if suite is None else ["download", *packages]
    subprocess.run([*command, *wanted], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=archives)
    return sorted(archives.glob("*.deb"))


def mirror() -> str:
    """Where this machine's apt gets Debian from."""
    words = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    return next(uri for name, uri in (line.split() for line in said.splitlines()) if name == release)
