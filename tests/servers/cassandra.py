"""A real Cassandra for tests: one node on free loopback ports; it ends with the process that started it.

    server = cassandra.start()                   # about 15 s; skip the test when `cassandra.missing()` says why it cannot
    server.node                                  # "127.0.0.1:PORT"; USER and PASSWORD are its superuser
    server.ask("SELECT * FROM wafermonitor.otel_spans")      # rows as dicts, by the client library
    server.kill(); server.restart()              # kill -9, and again on the same ports and data
    server.stop()

The jars come from Maven Central by `mvn`, once, into the user's cache folder (13 s, 68 MB). Calls block.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from string import Template
from typing import Any

from cassandra import DriverException, InvalidRequest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import WhiteListRoundRobinPolicy
from cassandra.query import dict_factory

from tests.servers import maven
from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.instrumentation.tether import tethered

VERSION = "5.0.9"
JAVAS = (11, 17)
"""It refuses to start on others."""
USER, PASSWORD = "cassandra", "cassandra"
DEADLINE_S = 120.0
HERE = Path(__file__).parent
_SMALL = ("-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_QUICK = {
    "cassandra-foreground": "yes",
    "cassandra.skip_wait_for_gossip_to_settle": "0",
    "cassandra.ring_delay_ms": "100",
    "cassandra.superuser_setup_delay_ms": "0",
    "jdk.attach.allowAttachSelf": "true",
}
_EXPORTS = (
    *("java.base/jdk.internal.misc", "java.base/java.lang.ref", "java.base/java.lang.reflect", "java.sql/java.sql"),
    *("java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server"),
    "jdk.unsupported/sun.misc",
)
_OPENS = (
    *(f"java.base/java.{name}" for name in ("io", "lang", "lang.module", "lang.reflect", "math", "net", "nio", "util")),
    *(f"java.base/java.util.{name}" for name in ("concurrent", "concurrent.atomic")),
    *(f"java.base/jdk.internal.{name}" for name in ("loader", "ref", "reflect", "math", "module", "util.jar")),
    *("java.base/sun.nio.ch", "jdk.management/com.sun.management.internal"),
)


def missing() -> str | None:
    """Why no node can be started here; None when one can."""
    for program in ("java", *(() if _jars().is_dir() else ("mvn",))):
        if shutil.which(program) is None:
            return f"{program} is not on PATH: install a JDK of {' or '.join(map(str, JAVAS))}, and Maven"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) not in JAVAS:
        return f"Cassandra needs Java {' or '.join(map(str, JAVAS))}, java is: {said.splitlines()[0] if said else 'silent'}"
    return None


def _jars() -> Path:
    return cache_home() / "test-servers" / f"cassandra-{VERSION}"


def prepare() -> Path:
    """The folder of the jars, fetched when it is not there yet."""
    folder = _jars()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                fetched = Path(building, "jars")
                maven.jars(HERE / "cassandra-pom.xml", fetched, "cassandra.version", VERSION)
                fetched.rename(folder)
    return folder


def start() -> Server:
    """A node that answers."""
    server = Server(prepare())
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Server:
    """One node."""

    def __init__(self, jars: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-cassandra-"))
        self._jars = jars
        self._process: subprocess.Popen[bytes] | None = None
        self._cluster: Any = None
        self._session: Any = None
        self.port, between, self._jmx = _free_ports(3)
        self.node = f"127.0.0.1:{self.port}"
        (self.home / "conf").mkdir()
        words = {
            "home": self.home, "port": self.port, "between": between,
            "authenticator": "PasswordAuthenticator", "authorizer": "CassandraAuthorizer",
        }  # fmt: skip
        settings = Template((HERE / "cassandra.yaml").read_text()).substitute(words)
        (self.home / "conf" / "cassandra.yaml").write_text(settings)
        shutil.copy(HERE / "cassandra-logback.xml", self.home / "conf" / "logback.xml")

    def _command(self) -> list[str]:
        java = shutil.which("java")
        assert java is not None
        own = {
            "cassandra.config": f"file://{self.home}/conf/cassandra.yaml",
            "cassandra.storagedir": str(self.home),
            "cassandra.jmx.local.port": str(self._jmx),
        }
        modules = [word for one in _EXPORTS for word in ("--add-exports", f"{one}=ALL-UNNAMED")]
        modules += [word for one in _OPENS for word in ("--add-opens", f"{one}=ALL-UNNAMED")]
        agent = next(self._jars.glob("jamm-*.jar"))
        settings = [f"-D{name}={value}" for name, value in (_QUICK | own).items()]
        path = f"{self.home}/conf:{self._jars}/*"
        return [
            java,
            *_SMALL,
            f"-javaagent:{agent}",
            *modules,
            *settings,
            "-cp",
            path,
            "org.apache.cassandra.service.CassandraDaemon",
        ]

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when it lets its superuser in."""
        log = self.home / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered(self._command(), signal.SIGKILL), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.home
            )
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                self.ask("SELECT release_version FROM system.local")
            except (OSError, NoHostAvailable, DriverException):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"Cassandra does not start: {log.read_text()[-3000:]}") from None
                time.sleep(0.2)
            else:
                return

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The rows of an answer. OSError for a table that is not there."""
        if self._cluster is None:
            profile = ExecutionProfile(WhiteListRoundRobinPolicy(["127.0.0.1"]), row_factory=dict_factory, request_timeout=20)
            self._cluster = Cluster(
                ["127.0.0.1"],
                self.port,
                auth_provider=PlainTextAuthProvider(USER, PASSWORD),
                execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            )
        try:
            self._session = self._session or self._cluster.connect()
            return list(self._session.execute(query))
        except InvalidRequest as error:
            raise OSError(str(error)) from None
        except NoHostAvailable:
            self._forget()
            raise

    def _forget(self) -> None:
        cluster, self._cluster, self._session = self._cluster, None, None
        if cluster is not None:
            cluster.shutdown()

    def kill(self) -> None:
        """kill -9; what it had acknowledged is in its files."""
        assert self._process is not None
        self._forget()
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it and remove every file."""
        self._forget()
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)
