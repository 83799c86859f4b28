"""A real PostgreSQL for tests, on a free loopback port, without fsync; it ends with the process that started it.

One server serves a whole test session; a test takes a database of its own:

    @pytest.fixture(scope="session")
    def postgres() -> Iterator[postgres.Server]:
        server = postgres.start()          # about 1 s; skip the test when `postgres.missing()` says why it cannot
        yield server
        server.stop()

    async def test_something(postgres):
        dsn = postgres.migrated()          # a new database with the whole schema (about 50 ms): postgresql://wafer:…@127.0.0.1:PORT/test_2
        empty = postgres.database()        # a new database without
        copy = postgres.database(template=dsn)   # a copy of one that nobody is connected to

`kill()` is kill -9 of the postmaster, `end()` an orderly stop; `restart()` starts it again on the same port and data; `dsn` is
the server's own database `postgres`. All calls block, and may be made inside a running loop.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.servers.databases import DEADLINE_S, Databases
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.timescale import account, binaries
from wafermonitor.storage.timescale.folder import Folder

FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "64MB", "autovacuum": "off"}
_SHARED_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 1024**3


def room() -> Path | None:
    """The folder for a server's files: in memory where there is plenty, because a disk is shared; None: any temporary one."""
    if not os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        return None
    # As root the programs themselves are copied there and must be allowed to run.
    runs = not os.statvfs(_SHARED_MEMORY).f_flag & os.ST_NOEXEC
    return _SHARED_MEMORY if runs and shutil.disk_usage(_SHARED_MEMORY).free >= _ROOM_BYTES else None


def missing(pg_bin: Path | None = None) -> str | None:
    """Why no server can be started here; None when one can."""
    try:
        binaries.find(pg_bin)
    except StorageRejected as error:
        return str(error)
    return None


def start(pg_bin: Path | None = None, settings: dict[str, str] | None = None) -> Server:
    """A running server. `pg_bin` is another PostgreSQL's bin folder; `settings` are added to (and win over) the fast ones."""
    home = Path(tempfile.mkdtemp(prefix="wafer-postgres-", dir=room()))
    home.chmod(0o711)  # our own folder; the account that runs the server when root tests must pass through
    folder = Folder(home, account.choose())
    folder.open()
    given = pg_bin or (Path(os.environ["WAFER_STORAGE_PG_BIN"]) if os.environ.get("WAFER_STORAGE_PG_BIN") else None)
    found = binaries.find(given)
    if folder.account is not None:
        found = binaries.copy(found, home)
    folder.prepare(found)
    server = Server(folder, found, FAST | (settings or {}))
    server.restart()
    return server


class Server(Databases):
    """One running PostgreSQL."""

    def __init__(self, folder: Folder, found: binaries.Binaries, settings: dict[str, str]) -> None:
        super().__init__()
        self._psql = found.bin / "psql"
        self.folder = folder
        self.port = folder.port()
        self._binaries = found
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def dsn_of(self, name: str) -> str:
        """The address of the database `name`, as superuser."""
        return self.folder.dsn(self.port, name)

    @property
    def pid(self) -> int:
        """The postmaster's pid."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9 of the postmaster: what was committed is safe, everything else is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None
        end = time.monotonic() + DEADLINE_S
        while self.folder.processes():  # backends notice within moments that their postmaster is gone
            if time.monotonic() > end:
                raise RuntimeError("backends outlive their postmaster")

    def end(self) -> None:
        """Stop in order, as an operator does: sessions are told that it shuts down. The files stay, for `restart()`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(DEADLINE_S)
        self._process = None

    def restart(self) -> None:
        """Start again after `kill()` or `end()`, or for the first time; returns when it answers."""
        self.folder.clear()
        end = time.monotonic() + DEADLINE_S
        while not self._start_once(end):
            if time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL does not start: {self.folder.tail()}")

    def _start_once(self, end: float) -> bool:
        """False when it ended before it answered: backends of a killed postmaster take a moment to leave the shared memory."""
        command = self.folder.serve(self._binaries, self.port, self._settings)
        with self.folder.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=self.folder.environment
            )
        while time.monotonic() < end and self._process.poll() is None:
            try:
                self.psql("SELECT 1")
            except RuntimeError:
                continue
            return True
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        return False

    def stop(self) -> None:
        """Stop without the checkpoint of an orderly stop, and remove every file."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        shutil.rmtree(self.folder.home)
