"""A real OpenSearch for tests: one node on a free loopback port; it ends with the process that started it.

    server = opensearch.start()                  # about 12 s; skip the test when `opensearch.missing()` says why it cannot
    server.url                                   # "http://127.0.0.1:PORT"; there is no login
    server.ask("GET", "/_cat/indices")           # a request: status and what the JSON says
    server.kill(); server.restart()              # kill -9, and again on the same port and data
    server.stop()

The jars come from Maven Central by `mvn`, once, into the user's cache folder. It needs Java 21, which need not be the one on
PATH (`java`). Calls block.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.servers import java, maven
from tests.servers.rest import Rest, free_port
from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.instrumentation.tether import tethered

VERSION = "3.8.0"
RUNNER = f"{VERSION}.0"
OLDEST_JAVA = 21
DEADLINE_S = 150.0
HERE = Path(__file__).parent
_PORTS = range(9201, 9300)
"""The runner takes no other."""
_SMALL = (
    "-Xms512m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "--enable-native-access=ALL-UNNAMED",
)
_SETTINGS = """
cluster.name: wafer-tests
node.name: one
discovery.type: single-node
network.host: 127.0.0.1
transport.port: {transport}
cluster.routing.allocation.disk.threshold_enabled: false
"""


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    return None if _jars().is_dir() else maven.missing()


def _jars() -> Path:
    return cache_home() / "test-servers" / f"opensearch-{VERSION}"


def prepare() -> Path:
    """The folder of the jars, and a Java, fetched when they are not there yet."""
    java.prepare(OLDEST_JAVA)
    folder = _jars()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                fetched = Path(building, "jars")
                maven.jars(HERE / "opensearch-pom.xml", fetched, "opensearch.version", RUNNER)
                fetched.rename(folder)
    return folder


def start() -> Server:
    """A server that answers."""
    server = Server(prepare())
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class Server(Rest):
    """One node."""

    def __init__(self, jars: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-opensearch-"))
        self.port = next(port for port in _PORTS if _free(port))
        super().__init__(self.port)
        self._jars = jars
        self._process: subprocess.Popen[bytes] | None = None
        settings = self.home / "node_1" / "config"
        settings.mkdir(parents=True)
        (settings / "opensearch.yml").write_text(_SETTINGS.format(transport=free_port()))

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when every shard it has can be read."""
        program = java.prepare(OLDEST_JAVA)
        # The runner counts its nodes from 1, and their ports from there.
        node = ["-basePath", str(self.home), "-numOfNode", "1", "-baseHttpPort", str(self.port - 1), "-printOnFailure"]
        main = ["-cp", f"{self._jars}/*", "org.codelibs.opensearch.runner.OpenSearchRunner", *node]
        log = self.home / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered([program, *_SMALL, *main], signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.home,
            )
        end = time.monotonic() + DEADLINE_S
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"OpenSearch does not start: {self.state()}")
            time.sleep(0.1)

    def state(self) -> str:
        """Whether it runs; else how it ended, and what it said last."""
        code = None if self._process is None else self._process.poll()
        return "it runs" if code is None else f"it ended with {code} and said: {(self.home / 'log').read_text()[-3000:]}"

    def kill(self) -> None:
        """kill -9; what it had acknowledged is in its files."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it and remove every file."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)
