"""A real PostgreSQL with TimescaleDB for tests, with the same calls as `postgres`.

    server = timescaledb.start()          # Apache edition; skip when `timescaledb.missing()` says why it cannot
    dsn = server.migrated()               # a new database with the extension and the whole schema
    server.kill(); server.restart()       # kill -9 of the postmaster, and again on the same port and data
    server.stop()

    server = timescaledb.given()          # the server of WAFER_TEST_TSL_DSN, Community edition: nobody starts or stops it

The Apache edition is Debian's, unpacked with PostgreSQL and all it needs into a folder of the user's cache, once (about a
minute, 460 MB), from the sources that this machine's apt is configured with. It runs in that folder by chroot, so root is
needed; the host is not changed. Debian leaves the folder `tsl` out: no columnstore, no continuous aggregates, no policies.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.servers import chrooted, debs
from tests.servers.databases import DEADLINE_S, Databases
from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.timescale import binaries

SUITE, MAJOR = "trixie", 17
GIVEN = "WAFER_TEST_TSL_DSN"
USER = "postgres"
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
timezone = 'UTC'
log_timezone = 'UTC'
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
fsync = off
full_page_writes = off
synchronous_commit = off
autovacuum = off
shared_buffers = 64MB
max_wal_size = 4GB
max_locks_per_transaction = 256
"""
_PACKAGES = (f"postgresql-{MAJOR}", f"postgresql-{MAJOR}-timescaledb")
_THIN = ("doc", "man", "locale", "info")
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": "/tmp"}


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    if os.geteuid() != 0:
        return "TimescaleDB from Debian packages runs in a folder of its own, which only root can do"
    if not _root().is_dir():
        if platform.freedesktop_os_release().get("ID") != "debian":
            return "TimescaleDB comes from Debian packages, and this is no Debian"
        if shutil.which("mmdebstrap") is None:
            return "mmdebstrap is not on PATH: install it (`make packages`)"
    return _without_psql()


def missing_given() -> str | None:
    """Why there is no server of the Community edition; None when there is one."""
    return _without_psql() if os.environ.get(GIVEN) else f"{GIVEN} names no server with TimescaleDB's Community edition"


def _without_psql() -> str | None:
    try:
        binaries.find(None)
    except StorageRejected as error:
        return str(error)
    return None


def _root() -> Path:
    return cache_home() / "test-servers" / f"timescaledb-{SUITE}-{MAJOR}"


def prepare() -> Path:
    """The folder with the whole system, made when it is not there yet."""
    folder = _root()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                made = Path(building, "root")
                subprocess.run(bootstrap(made, SUITE, _PACKAGES), check=True, stdin=subprocess.DEVNULL)
                made.rename(folder)
    return folder


def bootstrap(folder: Path, suite: str, packages: Sequence[str]) -> list[str]:
    """The command that fills `folder` with a Debian and `packages`. No cluster is made, and no recommended ones come along."""
    return [
        *("mmdebstrap", "--quiet", "--variant=minbase"),
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _THIN),
        '--essential-hook=mkdir -p "$1/etc/postgresql-common"',
        '--essential-hook=echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"',
        f"--include={','.join(packages)}",
        *(suite, str(folder), f"deb {debs.mirror()} {suite} main"),
    ]


def start() -> Server:
    """A running server of the Apache edition."""
    server = Server(prepare())
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


def given() -> Given:
    """The server of the Community edition that the environment names."""
    return Given(os.environ[GIVEN])


class Server(Databases):
    """One running PostgreSQL with TimescaleDB."""

    extension = True

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._psql = binaries.find(None).bin / "psql"
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        entry = next(line.split(":") for line in (root / "etc/passwd").read_text().splitlines() if line.startswith(f"{USER}:"))
        self._account = (int(entry[2]), int(entry[3]))
        parent = root / "srv"
        _remove_left(parent)
        self._data = Path(tempfile.mkdtemp(prefix=f"data-{os.getpid()}-", dir=parent))
        os.chown(self._data, *self._account)
        self._inside = Path("/", self._data.relative_to(root))
        self._log = parent / f"{self._data.name}.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def dsn_of(self, name: str) -> str:
        """The address of the database `name`, as superuser."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}?sslmode=disable"

    @property
    def pid(self) -> int:
        """The postmaster's pid."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9 of the postmaster: what was committed is safe, everything else is gone."""
        self._end(signal.SIGKILL)
        end = time.monotonic() + DEADLINE_S
        while _works_in(self._data):  # backends notice within moments that their postmaster is gone
            if time.monotonic() > end:
                raise RuntimeError("backends outlive their postmaster")

    def end(self) -> None:
        """Stop in order. The files stay, for `restart()`."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Start again after `kill()` or `end()`, or for the first time; returns when it answers."""
        if not (self._data / "PG_VERSION").is_file():
            self._initdb()
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._process = self._popen(f"/usr/lib/postgresql/{MAJOR}/bin/postgres", "-D", str(self._inside), "-p", str(self.port))
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.psql("SELECT 1")
            except RuntimeError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"PostgreSQL does not start: {self._log.read_text()[-2000:]}") from None
            else:
                return

    def stop(self) -> None:
        """Stop without the checkpoint of an orderly stop, and remove its data."""
        if self._process is not None:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self._data)
        self._log.unlink(missing_ok=True)

    def _initdb(self) -> None:
        words = ("-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        made = self._popen(f"/usr/lib/postgresql/{MAJOR}/bin/initdb", "-D", str(self._inside), *words)
        if made.wait(DEADLINE_S) != 0:
            raise RuntimeError(f"initdb failed: {self._log.read_text()[-2000:]}")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)

    def _popen(self, *program: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, chrooted.__file__, str(self._root), str(os.getpid()), str(int(signal.SIGINT))]
        words += [str(number) for number in self._account]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*words, *program], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=_ENVIRONMENT
            )

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(DEADLINE_S)
        self._process = None


class Given(Databases):
    """A server that somebody else runs; its databases are ours to make and to drop, as the superuser who was given."""

    extension = True

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._psql = binaries.find(None).bin / "psql"
        self._dsn = dsn
        self._made: list[str] = []

    def dsn_of(self, name: str) -> str:
        """The address of the database `name`, with the account that was given."""
        return urlunsplit(urlsplit(self._dsn)._replace(path=f"/{name}"))

    @property
    def dsn(self) -> str:
        """The address that was given."""
        return self._dsn

    def database(self, template: str | None = None) -> str:
        """A new database, which `stop` drops."""
        dsn = super().database(template)
        self._made.append(dsn)
        return dsn

    def drop(self, dsn: str) -> None:
        """Drop it now."""
        super().drop(dsn)
        self._made.remove(dsn)

    def stop(self) -> None:
        """Drop every database that was made."""
        for dsn in tuple(self._made):
            self.drop(dsn)


def _works_in(data: Path) -> bool:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == data and (entry / "comm").read_text() == "postgres\n":
                return True
        except OSError:
            continue
    return False


def _remove_left(parent: Path) -> None:
    """Data folders of test runs that were killed: their names begin with the process id of a run that is gone."""
    for left in parent.glob("data-*"):
        owner = left.name.split("-")[1]
        if not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
