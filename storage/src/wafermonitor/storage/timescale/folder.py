"""The files of one embedded server: its data folder, password, lock, state and log, and the command that starts it.

In: the data home. Out: a folder that `postgres` will accept, or DataFolderRejected with the way out. Called by: `embedded`.

    <home>/postgres/            the data folder, of the account that runs the server, 0700
    <home>/postgres.password    0600
    <home>/postgres.json        0600: port and pid of the running server, read by those who attach
    <home>/postgres.dsn         0600: the address, written by `wafer storage serve` for the processes it is given to
    <home>/postgres.lock        flock held by the supervisor
    <home>/postgres.log         what the server says
    <home>/binaries/            only when root starts it
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from wafermonitor.instrumentation.tether import tethered
from wafermonitor.storage.errors import DataFolderRejected, StorageUnavailable
from wafermonitor.storage.timescale import sizing
from wafermonitor.storage.timescale.account import Account, closed_folder
from wafermonitor.storage.timescale.binaries import Binaries

USER = "wafer"
"""The superuser of the embedded server."""
HOST = "127.0.0.1"
INITDB = ("-U", USER, "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums")
"""Said in full, because defaults differ between versions and pg_upgrade wants both folders made alike."""
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": os.defpath}
_INCLUDE = "wafer.conf"
_INCLUDE_LINE = f"include_if_exists = '{_INCLUDE}'"
_LOG_LIMIT_BYTES = 16 * 1024 * 1024


class State(NamedTuple):
    """Where the running server is: its port and the postmaster's pid."""

    port: int
    pid: int


class Folder:
    """The data home of one embedded server. `account` is who runs it, None for ourselves."""

    def __init__(self, home: Path, account: Account | None) -> None:
        # Absolute, because the server is started in another folder than ours.
        self.home = home = home.expanduser().absolute()
        self.account = account
        self.data = home / "postgres"
        self.log = home / "postgres.log"
        self._password = home / "postgres.password"
        self._state = home / "postgres.json"
        self._lock = home / "postgres.lock"

    def open(self) -> None:
        """Make the data home if it is missing. Permissions of folders that exist are never changed."""
        if not self.home.is_dir():
            try:
                # Another account must pass through when root starts the server; the files inside are closed to it.
                self.home.mkdir(mode=0o700 if self.account is None else 0o711, parents=True, exist_ok=True)
            except OSError as error:
                raise DataFolderRejected(f"cannot make the data home {self.home}: {error.strerror}") from None
        if not os.access(self.home, os.R_OK | os.W_OK | os.X_OK):
            raise DataFolderRejected(
                f"the data home {self.home} is not ours to write: set WAFER_STORAGE_DATA_DIR to another folder"
            )
        if self.account is not None and (closed := closed_folder(self.data, self.account)) is not None:
            raise DataFolderRejected(
                f"the account {self.account.name}, which runs the server, may not enter {closed}: "
                "set WAFER_STORAGE_DATA_DIR to a folder it can reach (its permissions are left as they are)"
            )

    def lock(self) -> int | None:
        """The descriptor of the lock if nobody else supervises this folder, else None. Closing it, or dying, lets go."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def prepare(self, binaries: Binaries) -> None:
        """A data folder of this version with our settings in it; made by initdb if there is none. Needs the lock."""
        version = self.data / "PG_VERSION"
        if version.is_file():
            self._check(version.read_text().strip(), binaries)
        else:
            self._create(binaries)
        settings = resources.files("wafermonitor.storage.timescale").joinpath("postgresql.conf").read_text()
        self._write(self.data / _INCLUDE, settings + sizing.settings(self.data), owned=True)
        if self.log.is_file() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _check(self, version: str, binaries: Binaries) -> None:
        if version != str(binaries.major):
            raise DataFolderRejected(
                f"{self.data} was made by PostgreSQL {version}, but {binaries.postgres} is {binaries.major}. "
                f"Set WAFER_STORAGE_PG_BIN to the bin folder of a PostgreSQL {version}, or upgrade: make a folder NEW with "
                f"{binaries.initdb} -D NEW {' '.join(INITDB)}, fill it with PGPASSWORD=$(cat {self._password}) "
                f"{binaries.bin / 'pg_upgrade'} -U {USER} -b <bin folder of {version}> -B {binaries.bin} "
                f"-d {self.data} -D NEW, copy pg_hba.conf from the old folder, end postgresql.conf with the line "
                f"{_INCLUDE_LINE!r}, and put NEW in the place of {self.data}"
            )
        owner = os.geteuid() if self.account is None else self.account.uid
        if self.data.stat().st_uid != owner:
            raise DataFolderRejected(
                f"{self.data} belongs to user id {self.data.stat().st_uid}, but the server would run as {owner}: "
                "start it as the same user as before, or set WAFER_STORAGE_DATA_DIR to another folder"
            )

    def _create(self, binaries: Binaries) -> None:
        if self.data.exists() and any(self.data.iterdir()):
            raise DataFolderRejected(
                f"{self.data} holds files but is no PostgreSQL data folder: empty it or set WAFER_STORAGE_DATA_DIR"
            )
        for left in self.home.glob("postgres.part-*"):  # an initdb that was killed half way
            shutil.rmtree(left)
        part = Path(tempfile.mkdtemp(prefix="postgres.part-", dir=self.home))  # 0700
        words = self.home / "postgres.initdb-password"
        self._write(self._password, secrets.token_urlsafe(24))
        self._write(words, self.password(), owned=True)
        if self.account is not None:
            os.chown(part, self.account.uid, self.account.gid)
        command = [str(binaries.initdb), "-D", str(part), "-A", "scram-sha-256", "--pwfile", str(words), *INITDB]
        done = subprocess.run(self.command(command), env=_ENVIRONMENT, cwd="/", capture_output=True, text=True, check=False)
        words.unlink()
        if done.returncode != 0:
            shutil.rmtree(part, ignore_errors=True)
            raise StorageUnavailable(f"initdb failed in {self.home}: {_last_line(done.stderr)}")
        with (part / "postgresql.conf").open("a") as file:
            file.write(f"\n{_INCLUDE_LINE}\n")
        part.replace(self.data)

    def password(self) -> str:
        """The superuser's password. StorageUnavailable while the folder is being made, or when it is not ours to read."""
        try:
            return self._password.read_text()
        except OSError as error:
            raise StorageUnavailable(f"cannot read {self._password}: {error.strerror}") from None

    def write_password(self, password: str) -> None:
        """The password of data that comes from elsewhere."""
        self._write(self._password, password)

    def dsn(self, port: int, database: str) -> str:
        """The address of one database, password included: never print it."""
        return f"postgresql://{USER}:{self.password()}@{HOST}:{port}/{database}?sslmode=disable"

    def write_dsn(self, dsn: str) -> Path:
        """Hand the address to another process by a 0600 file; its path."""
        path = self.home / "postgres.dsn"
        self._write(path, dsn)
        return path

    def state(self) -> State | None:
        """Where the server was last seen running; None when it never was."""
        try:
            stored = json.loads(self._state.read_text())
            return State(port=int(stored["port"]), pid=int(stored["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, state: State) -> None:
        """Tell those who attach where the server is."""
        self._write(self._state, json.dumps(state._asdict()))

    def port(self) -> int:
        """The port of last time if it is still free, else any free one."""
        known = self.state()
        if known is not None and _free(known.port):
            return known.port
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            return int(probe.getsockname()[1])

    def processes(self) -> list[int]:
        """Pids of the processes of an earlier server that still work in the data folder.

        A pid in a file alone proves nothing: it may be a zombie that nobody reaps, or another program that got the number. So
        where /proc tells, a process counts when it is a PostgreSQL that works in this folder.
        """
        if not Path("/proc/self/cwd").exists():
            pid = self._postmaster_pid()
            return [pid] if pid is not None and _exists(pid) else []
        data = self.data.resolve()
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _works_in(entry, data)]

    def postmaster(self) -> int | None:
        """The pid of a live postmaster of this data folder."""
        pid = self._postmaster_pid()
        return pid if pid in self.processes() else None

    def clear(self) -> None:
        """Remove what a server that is gone left behind and that would keep the next one from starting.

        Only when `processes()` is empty: the pid file also guards the shared memory of backends that outlive their postmaster.
        """
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for left in self.data.glob(".s.PGSQL.*"):
            left.unlink()

    def serve(self, binaries: Binaries, port: int, settings: Mapping[str, str]) -> list[str]:
        """The command that runs the server in the foreground as a child of this process."""
        words = [str(binaries.postgres), "-D", str(self.data), "-p", str(port)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return self.command(words)

    def command(self, words: list[str]) -> list[str]:
        """`words` as the server's account, ended when this process ends."""
        account = None if self.account is None else (self.account.uid, self.account.gid)
        return tethered(words, signal.SIGINT, account=account)  # PostgreSQL's fast and orderly shutdown

    @property
    def environment(self) -> dict[str, str]:
        """What the server sees: none of our own variables, none of libpq's."""
        return dict(_ENVIRONMENT)

    def open_log(self) -> int:
        """A descriptor that appends to the server's log, which is closed to others."""
        return os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def tail(self) -> str:
        """The last error line of the server's log, for our own log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-20:]
        except OSError:
            return ""
        return next((line for line in reversed(lines) if re.search(r"FATAL|PANIC|ERROR", line)), lines[-1] if lines else "")

    def _postmaster_pid(self) -> int | None:
        try:
            return abs(int((self.data / "postmaster.pid").read_text().split(maxsplit=1)[0]))
        except (OSError, ValueError, IndexError):
            return None

    def _write(self, path: Path, text: str, *, owned: bool = False) -> None:
        """Replace `path` by a 0600 file at once; `owned` gives it to the server's account."""
        descriptor, part = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                if owned and self.account is not None:
                    os.fchown(file.fileno(), self.account.uid, self.account.gid)
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink()
            raise


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does, so that connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _works_in(entry: Path, data: Path) -> bool:
    """Whether a PostgreSQL of this data folder is behind an entry of /proc. A zombie works nowhere."""
    try:
        return (entry / "cwd").readlink() == data and (entry / "comm").read_text() == "postgres\n"
    except OSError:
        return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
