"""ClickHouse for tests: chDB, which is its engine as a Python package, behind HTTP in a process of its own.

    @pytest.fixture(scope="session")
    def clickhouse() -> Iterator[clickhouse.Server]:
        server = clickhouse.start()        # about 1 s; skip the test when `clickhouse.missing()` says why it cannot
        yield server
        server.stop()

    async def test_something(clickhouse):
        dsn = clickhouse.database()        # the address of a database that is not there yet

chDB is 530 MB, so it stands in a folder of its own beside the environment (`make test-servers` puts it there), or where
WAFER_TEST_CHDB says. `kill()` is kill -9; `restart()` starts again on the same data and port. All calls block.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.postgres import room

FOLDER = Path(os.environ.get("WAFER_TEST_CHDB") or Path(sys.prefix) / "chdb")
"""Where the package is."""
_PROGRAM = Path(__file__).with_name("clickhouse_http.py")


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    return None if (FOLDER / "chdb").is_dir() else f"chDB is not in {FOLDER}: make test-servers puts it there"


def environment() -> dict[str, str]:
    """For a Python that can import chDB."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])}


def start() -> Server:
    """A running server with data of its own."""
    return Server(Path(tempfile.mkdtemp(prefix="wafer-clickhouse-", dir=room())))


class Server:
    """One engine and its data."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = 0
        self._numbers = itertools.count(1)
        self.restart()

    def restart(self) -> None:
        """Start on what is there."""
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), str(self.home / "data"), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline() or b"0")
        assert self.port, "chDB did not start"

    @property
    def pid(self) -> int:
        """Of the process that runs the engine."""
        return self._process.pid

    def database(self) -> str:
        """The address of a new database."""
        return self.dsn(f"test_{next(self._numbers)}")

    def dsn(self, database: str) -> str:
        """The address of a database by its name."""
        return f"clickhouse://127.0.0.1:{self.port}/{database}"

    def kill(self) -> None:
        """Let it end without a word."""
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """An orderly end; the data goes with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._end()
        shutil.rmtree(self.home, ignore_errors=True)

    def _end(self) -> None:
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
