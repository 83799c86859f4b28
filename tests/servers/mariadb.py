"""A real MariaDB for tests on a free loopback port; it ends with the process that started it.

    server = mariadb.start()                     # under a second; skip the test when `mariadb.missing()` says why it cannot
    server.address                               # "127.0.0.1:PORT"; the account mariadb.USER may do all in mariadb.DATABASE
    server.ask("SELECT count(*) FROM otel_logs") # rows, asked as the superuser
    server.kill(); server.restart()              # kill -9, and again on the same port and data
    server.stop()

The program is this machine's own, or Debian's, unpacked once into the user's cache folder. Calls block.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pymysql

from tests.servers import debs
from tests.servers.postgres import room
from wafermonitor.instrumentation.tether import tethered

DATABASE, USER, PASSWORD = "telemetry", "wafer", "a secret of the tests"
DEADLINE_S = 60.0
_SMALL = ("--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--innodb-flush-method=fsync", "--skip-log-bin")
_FIRST = ("CREATE DATABASE mysql;", "USE mysql;", "SET @auth_root_socket=NULL;", "SET @skip_auth_anonymous=1;")
_LAST = (f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;",)


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    return debs.missing()


def prepare() -> Path:
    """The folder with `usr/sbin/mariadbd`, made when it is not there yet."""
    return debs.unpacked("mariadb", "mariadb-server-core")


def start() -> Server:
    """A server that answers, with the database and the account."""
    server = Server(prepare())
    try:
        server.format()
        server.restart()
        server.ask(f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'")
        server.ask(f"GRANT ALL ON {DATABASE}.* TO '{USER}'@'%'")
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One MariaDB."""

    def __init__(self, root: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-mariadb-", dir=room()))
        self._root = root
        self._shared = root / "usr/share/mysql"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def format(self) -> None:
        """Make the data folder with the system's tables."""
        (self.home / "data").mkdir()
        tables = [(self._shared / name).read_text() for name in ("mysql_system_tables.sql", "mysql_system_tables_data.sql")]
        statements = "\n".join([*_FIRST, *tables, *_LAST, ""])
        done = subprocess.run(
            [*self._command(), "--bootstrap"], input=statements, capture_output=True, text=True, check=False,
            env=debs.environment(self._root), timeout=DEADLINE_S,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"MariaDB's tables cannot be made: {done.stderr[-3000:]}")

    def _command(self) -> list[str]:
        program = [str(self._root / "usr/sbin/mariadbd"), "--no-defaults", *_SMALL, f"--datadir={self.home / 'data'}"]
        program += [f"--lc-messages-dir={self._shared}", f"--character-sets-dir={self._shared / 'charsets'}"]
        return [*program, "--user=root"] if os.geteuid() == 0 else program

    @property
    def pid(self) -> int:
        """The server's pid."""
        assert self._process is not None
        return self._process.pid

    def restart(self, *more: str) -> None:
        """Start after `kill()`, or for the first time; returns when it answers. `more` are options of mariadbd."""
        listen = ["--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.home / 'socket'}"]
        command = tethered([*self._command(), *listen, f"--pid-file={self.home / 'pid'}", *more], signal.SIGKILL)
        log = self.home / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.home, env=debs.environment(self._root)
            )
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.ask("SELECT 1")
            except pymysql.err.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"MariaDB does not start: {log.read_text()[-3000:]}") from None
                time.sleep(0.05)
            else:
                return

    def ask(self, statement: str, database: str = DATABASE) -> list[dict[str, Any]]:
        """One statement by the superuser."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database=database, charset="utf8mb4", autocommit=True,
            cursorclass=pymysql.cursors.DictCursor, connect_timeout=5, read_timeout=DEADLINE_S,
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def kill(self) -> None:
        """kill -9; what was committed is in its files."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it and remove every file."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)
