"""The database without an administrator: a PostgreSQL of our own, started, watched, restarted and stopped by this process.

In: a data home. Out: a `Server` with an address that stays the same while it runs. Called by: `storage.connect`,
`wafer storage serve`.

The first process on a data home supervises the server as its child. Any other attaches to it, and takes over when the first is
gone. The lock decides who is who; a connection decides whether a server lives. The server ends with its supervisor, also when
that is killed (see `instrumentation.tether`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.timescale import account, binaries
from wafermonitor.storage.timescale.folder import Folder, State
from wafermonitor.storage.timescale.session import open_session

DATABASE = "wafer"
_POLL_S = 0.05
_FOLLOW_S = 1.0
_LONGEST_BACKOFF_S = 5.0
_LONGEST_PAUSE_S = 60.0
_FAST_STOP_S = 30.0
_ATTEMPTS = 5
_log = logging.getLogger(__name__)


async def start(
    home: Path,
    *,
    pg_bin: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    timeout_s: float = 300.0,
) -> Server:
    """Start the server of `home`, or attach to the one that runs.

    `settings` win over postgresql.conf. Raises DataFolderRejected (wrong version, owner or path), StorageRejected (no usable
    binaries), StorageUnavailable (it did not answer within `timeout_s`).
    """
    folder = Folder(home, account.choose())
    folder.open()
    server = Server(folder, pg_bin, settings, timeout_s)
    end = asyncio.get_running_loop().time() + timeout_s
    try:
        while asyncio.get_running_loop().time() < end:
            if await server.supervise() or await server.attach():
                return server
            await asyncio.sleep(_POLL_S)
    except OSError as error:
        _log.error("cannot start PostgreSQL in %s: %s", folder.home, error)
        raise StorageUnavailable(f"cannot start PostgreSQL in {folder.home}: {error.strerror or 'a file failed'}") from None
    raise StorageUnavailable(f"another process supervises {folder.home}, but its server does not answer")


class Server:
    """A running server, ours or another process's. Made by `start`.

    The thread that starts it must live as long: Linux stops the server when that thread ends, not only when the process does.
    """

    def __init__(self, folder: Folder, pg_bin: Path | None, settings: Mapping[str, str], timeout_s: float) -> None:
        self.folder = folder
        self._pg_bin = pg_bin
        self._settings = settings
        self._timeout_s = timeout_s
        self._port: int | None = None
        self._lock: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._binaries: binaries.Binaries | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        assert self._port is not None
        return self._port

    @property
    def dsn(self) -> str:
        """The store's address, password included: never print it."""
        return self.folder.dsn(self.port, DATABASE)

    @property
    def supervised(self) -> bool:
        """True where this process started the server, False where it only attached."""
        return self._lock is not None

    @property
    def pid(self) -> int | None:
        """The postmaster's pid, of our own server only."""
        return self._process.pid if self._process is not None else None

    async def attach(self) -> bool:
        """Use the server that another process supervises; False when there is none that answers."""
        state = self.folder.state()
        if state is None:
            return False
        try:
            await _ask(self.folder.dsn(state.port, DATABASE))
        except StorageUnavailable:
            return False
        self._port = state.port
        _log.info("attached to the PostgreSQL that runs on port %s", state.port)
        self._watch = asyncio.create_task(self._follow(), name="wafer-postgres-follow")
        return True

    async def supervise(self) -> bool:
        """Become the supervisor and start the server; False when another process is."""
        lock = self.folder.lock()
        if lock is None:
            return False
        try:
            await self._begin()
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        self._watch = asyncio.create_task(self._keep(), name="wafer-postgres-keep")
        return True

    async def stop(self) -> None:
        """Stop watching; stop the server in order if it is ours. Safe to call twice."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        await self._end()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _begin(self) -> None:
        """Everything from nothing, or from what a killed process left, to a server that answers."""
        runner = self.folder.account
        found = await asyncio.to_thread(binaries.find, self._pg_bin)
        if runner is not None:
            found = await asyncio.to_thread(binaries.copy, found, self.folder.home)
            _log.info("started by root: PostgreSQL runs as %s", runner.name)
        self._binaries = found
        await asyncio.to_thread(self.folder.prepare, found)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout_s
        for attempt in range(1, _ATTEMPTS + 1):
            if self._watch is None:  # nobody uses the port yet
                self._port = self.folder.port()
            try:
                await self._launch(end)
            except StorageUnavailable:
                if attempt == _ATTEMPTS or loop.time() > end:
                    raise
            else:
                break
        try:
            await _make_database(self.folder.dsn(self.port, "postgres"))
        except BaseException:
            await self._end()
            raise
        _log.info("PostgreSQL %s answers on port %s", found.major, self.port)

    async def _launch(self, end: float) -> None:
        """One start on our port; StorageUnavailable when it ends, or does not answer until the loop's time is `end`."""
        assert self._binaries is not None
        await self._settle()
        command = self.folder.serve(self._binaries, self.port, self._settings)
        with os.fdopen(self.folder.open_log(), "ab") as log:
            # A session of its own: Ctrl-C on a terminal must reach us, not the server below our last commits.
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self.folder.environment,
                start_new_session=True,
            )
        try:
            await self._answer(self._process, end)
        except BaseException:
            await self._end()
            raise
        self.folder.save(State(port=self.port, pid=self._process.pid))

    async def _answer(self, process: asyncio.subprocess.Process, end: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end and process.returncode is None:
            with suppress(StorageUnavailable):
                return await _ask(self.folder.dsn(self.port, "postgres"))
            await asyncio.sleep(_POLL_S)
        _log.error("PostgreSQL did not start; %s ends with: %s", self.folder.log, self.folder.tail())
        raise StorageUnavailable(f"the embedded PostgreSQL did not start: see {self.folder.log}")

    async def _settle(self) -> None:
        """Wait until no process of an earlier server works in the data folder, then remove what it left.

        Never the other way round: the pid file also guards the shared memory of backends that outlive their postmaster.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _FAST_STOP_S
        postmaster = self.folder.postmaster()
        if postmaster is not None:
            _log.warning("a PostgreSQL without supervisor runs in %s: stopping it", self.folder.data)
            _signal(postmaster, signal.SIGINT)
        while left := self.folder.processes():
            # Backends end by themselves when they notice that their postmaster is gone.
            if loop.time() > end:
                for pid in left:
                    _signal(pid, signal.SIGKILL)
            await asyncio.sleep(_POLL_S)
        self.folder.clear()

    async def _keep(self) -> None:
        """Start the server again whenever it ends, on the same port, with growing pauses."""
        while True:
            assert self._process is not None
            code = await self._process.wait()
            _log.error("PostgreSQL ended with %s; starting it again on port %s", code, self.port)
            await self._launch_again()

    async def _launch_again(self) -> None:
        pause_s = 0.1
        while True:
            try:
                await self._launch(math.inf)
            except Exception as error:  # noqa: BLE001 - a watchman who dies of a surprise leaves the store without a server
                _log.error("PostgreSQL is still down: %r", error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_BACKOFF_S)
            else:
                _log.warning("PostgreSQL answers again on port %s", self.port)
                return

    async def _follow(self) -> None:
        """Take over, on the same port, when the supervisor is gone."""
        pause_s = _FOLLOW_S
        while True:
            await asyncio.sleep(pause_s)
            lock = self.folder.lock()
            if lock is None:
                continue
            try:
                await self._begin()
            except BaseException as error:
                os.close(lock)
                if not isinstance(error, Exception):
                    raise
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                _log.error("nobody supervises PostgreSQL, and it does not start here: %r", error)
            else:
                self._lock = lock
                _log.warning("took over PostgreSQL on port %s", self.port)
                return await self._keep()

    async def _end(self) -> None:
        """SIGINT is the fast and orderly stop; SIGQUIT and SIGKILL follow where it hangs."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _FAST_STOP_S)
                return


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


async def _ask(dsn: str) -> None:
    """The only proof of life: a query that is answered."""
    async with open_session(dsn, timeout_s=2.0) as connection:
        await connection.execute("SELECT 1", timeout=2.0)


async def _make_database(dsn: str) -> None:
    async with open_session(dsn) as connection:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
