"""A real Zabbix for tests: server, PostgreSQL and web API on free loopback ports; they end with the process that started them.

    server = zabbix.start()              # about 3 s; skip the test when `zabbix.missing()` says why it cannot
    server.trapper                       # "127.0.0.1:PORT", where values are sent
    server.url, server.token             # the API, and a token of its administrator
    server.api("item.get", {...})        # what one call of the API answers
    server.kill(); server.restart()      # kill -9 of all of it, and again on the same ports and data
    server.stop()

It is Debian's, unpacked with all it needs into a folder of the user's cache, once (about a minute and 700 MB), from the sources
that this machine's apt is configured with. It runs in that folder by chroot, so root is needed; the host is not changed.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.servers import chrooted, timescaledb
from wafermonitor.instrumentation.folders import cache_home

SUITE, VERSION = "trixie", "7.0"
DEADLINE_S = 90.0
HERE = Path(__file__).parent
_USER = "zabbix"
_LOGIN = {"username": "Admin", "password": "zabbix"}
_POSTGRES = "/usr/lib/postgresql/17/bin"
_PACKAGES = ("zabbix-server-pgsql", "zabbix-frontend-php", "php-cli", "php-pgsql", "postgresql-17")
_SCHEMA = ("schema", "images", "data")
_SETTINGS = """
listen_addresses = ''
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
min_wal_size = 16MB
max_wal_size = 64MB
autovacuum = off
shared_buffers = 32MB
dynamic_shared_memory_type = mmap
"""


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    if os.geteuid() != 0:
        return "only root can start Zabbix in a folder of its own"
    if not _root().is_dir():
        if platform.freedesktop_os_release().get("ID") != "debian":
            return "Zabbix comes from Debian packages, and this is no Debian"
        if shutil.which("mmdebstrap") is None:
            return "mmdebstrap is not on PATH: install it (`make packages`)"
    return None


def _root() -> Path:
    return cache_home() / "test-servers" / f"zabbix-{SUITE}-{VERSION}"


def prepare() -> Path:
    """The folder with the whole system and a filled database, made when it is not there yet."""
    folder = _root()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                made = Path(building, "root")
                subprocess.run(timescaledb.bootstrap(made, SUITE, _PACKAGES), check=True, stdin=subprocess.DEVNULL)
                shutil.copy(HERE / "zabbix.conf.php", made / "etc/zabbix")
                _seed(made)
                made.rename(folder)
    return folder


def _seed(root: Path) -> None:
    """A database cluster with Zabbix's schema and first data, from which every server starts."""
    server = Server(root, seeding=True)
    try:
        server.initialize()
        server.home.rename(root / "srv/seed")
    finally:
        server.stop()


def start() -> Server:
    """A running server."""
    server = Server(prepare())
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One Zabbix."""

    def __init__(self, root: Path, *, seeding: bool = False) -> None:
        self._root = root
        self._processes: list[subprocess.Popen[bytes]] = []
        self._calls = itertools.count(1)
        self.token = ""
        entry = next(line.split(":") for line in (root / "etc/passwd").read_text().splitlines() if line.startswith(f"{_USER}:"))
        self._account = (int(entry[2]), int(entry[3]))
        parent = root / "srv"
        _remove_left(parent)
        self.home = Path(tempfile.mkdtemp(prefix=f"data-{os.getpid()}-", dir=parent))
        self._inside = Path("/", self.home.relative_to(root))
        if seeding:
            os.chown(self.home, *self._account)
        else:
            subprocess.run(["cp", "-a", "--reflink=auto", "-T", parent / "seed", self.home], check=True)
        self._log = parent / f"{self.home.name}.log"
        self._trapper, self._web = free_port(), free_port()
        self.trapper = f"127.0.0.1:{self._trapper}"
        self.url = f"http://127.0.0.1:{self._web}/"

    def initialize(self) -> None:
        """Make the cluster and fill it; stopped afterwards."""
        words = ("-U", _USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=4", "--no-sync")
        self._run(f"{_POSTGRES}/initdb", "-D", str(self._inside / "pg"), *words)
        with (self.home / "pg/postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
        self._postgres()
        self._psql("-d", "postgres", "-c", f"CREATE DATABASE {_USER}")
        for name in _SCHEMA:
            script = f"/usr/share/zabbix-server-pgsql/{name}.sql.gz"
            self._run("/bin/sh", "-c", f"zcat {script} >{self._inside}/{name}.sql")
            self._psql("-d", _USER, "-1", "-f", f"{self._inside}/{name}.sql")
            (self.home / f"{name}.sql").unlink()
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when it takes values and the API answers."""
        for left in ("pg/postmaster.pid", ".s.PGSQL.5432.lock", "server.pid"):
            (self.home / left).unlink(missing_ok=True)
        self._postgres()
        home = self._inside
        settings = [
            *("ListenIP=127.0.0.1", f"ListenPort={self._trapper}", f"DBHost={home}", f"DBName={_USER}", f"DBUser={_USER}"),
            *("LogType=console", f"PidFile={home}/server.pid", f"SocketDir={home}", "FpingLocation=/bin/true"),
            *(f"AlertScriptsPath={home}", f"ExternalScripts={home}", "CacheUpdateFrequency=1", "StartTrappers=4"),
            *("StartPollers=1", "StartPreprocessors=1", "StartLLDProcessors=1", "StartDBSyncers=2", "StartHTTPPollers=0"),
            *("StartPingers=0", "StartDiscoverers=1", "StartReportWriters=0", "HousekeepingFrequency=0"),
        ]
        (self.home / "server.conf").write_text("\n".join(settings) + "\n")
        self._start("/usr/sbin/zabbix_server", "--foreground", "-c", f"{home}/server.conf", ending=signal.SIGTERM)
        limits = ("-d", "max_execution_time=300", "-d", "max_input_time=300", "-d", "post_max_size=16M")
        self._start("/usr/bin/php", *limits, "-S", f"127.0.0.1:{self._web}", "-t", "/usr/share/zabbix", ending=signal.SIGTERM)
        self._await(self._answers)

    def kill(self) -> None:
        """kill -9 of server, API and database; what the database has committed is in its files."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it and remove every file."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)
        self._log.unlink(missing_ok=True)

    def api(self, method: str, params: Any) -> Any:
        """The result of one call as the administrator; RuntimeError says what the API says."""
        body = {"jsonrpc": "2.0", "method": method, "params": params, "id": next(self._calls)}
        headers = {"Content-Type": "application/json-rpc"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        request = urllib.request.Request(f"{self.url}api_jsonrpc.php", json.dumps(body).encode(), headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            said = json.load(answer)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']['message']} {said['error']['data']}")
        return said["result"]

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._trapper), timeout=1).close()
            if not self.token:
                self.token = self.api("user.login", _LOGIN)
                made = self.api("token.create", {"name": "tests", "status": "0"})["tokenids"]
                self.token = self.api("token.generate", made)[0]["token"]
            self.api("host.get", {"limit": 1})
        except (OSError, urllib.error.URLError, ValueError):
            return False
        return True

    def _postgres(self) -> None:
        options = ("-D", str(self._inside / "pg"), "-k", str(self._inside))
        self._start(f"{_POSTGRES}/postgres", *options, ending=signal.SIGINT)
        self._await(lambda: self._try(f"{_POSTGRES}/pg_isready", "-q", "-h", str(self._inside)))

    def _psql(self, *words: str) -> None:
        self._run(f"{_POSTGRES}/psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", str(self._inside), "-U", _USER, *words)

    def _await(self, ready: Any) -> None:
        pause, end = 0.05, time.monotonic() + DEADLINE_S
        while not ready():
            if time.monotonic() > end or any(one.poll() is not None for one in self._processes):
                raise RuntimeError(f"Zabbix does not start: {self._log.read_text()[-3000:]}")
            time.sleep(pause)

    def _run(self, *program: str) -> None:
        if not self._try(*program):
            raise RuntimeError(f"{program[0]}: {self._log.read_text()[-3000:]}")

    def _try(self, *program: str) -> bool:
        return self._popen(program, signal.SIGKILL).wait(DEADLINE_S) == 0

    def _start(self, *program: str, ending: signal.Signals) -> None:
        self._processes.append(self._popen(program, ending))

    def _popen(self, program: tuple[str, ...], ending: signal.Signals) -> subprocess.Popen[bytes]:
        words = [sys.executable, chrooted.__file__, str(self._root), str(os.getpid()), str(int(ending))]
        words += [str(number) for number in self._account]
        environment = {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(self._inside)}
        environment |= {"WAFER_TEST_DATABASE": str(self._inside), "WAFER_TEST_TRAPPER": str(self._trapper)}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*words, *program],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True,
            )  # fmt: skip

    def _end(self, number: signal.Signals) -> None:
        for process in reversed(self._processes):
            # The whole group when killed: its children would go on.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number) if number is signal.SIGKILL else process.send_signal(number)
            process.wait(DEADLINE_S)
        self._processes.clear()


def free_port() -> int:
    """Zabbix takes none above 32767, where a system's own choice begins."""
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no free port")


def _remove_left(parent: Path) -> None:
    """Data folders of test runs that were killed: their names begin with the process id of a run that is gone."""
    for left in parent.glob("data-*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
