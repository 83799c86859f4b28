"""A stand-in for MongoDB on a free loopback port (mongo-java-server, no code of MongoDB's); it ends with who started it.

    server = mongo.start()                       # about 2 s; skip the test when `mongo.missing()` says why it cannot
    server.uri                                   # "mongodb://127.0.0.1:PORT"
    server.end(); server.restart()               # in order, and again on the same port and data
    server.stop()

It speaks the protocol of MongoDB 5.0, so that pymongo before 4.11 takes it. There is no kill -9: other than MongoDB it writes
to its file some time after it has answered. The jars come from Maven Central by `mvn`, once, into the user's cache folder.
Calls block.
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

import pymongo
import pymongo.errors

from tests.servers import maven
from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.instrumentation.tether import tethered

VERSION = "1.47.0"
DEADLINE_S = 60.0
HERE = Path(__file__).parent
_SMALL = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_MAIN = "MongoStandIn"


def missing() -> str | None:
    """Why no stand-in can be started here; None when one can."""
    for program in ("java", *(() if _jars().is_dir() else ("mvn",))):
        if shutil.which(program) is None:
            return f"{program} is not on PATH: install Java 17 or newer, and Maven"
    return None


def _jars() -> Path:
    return cache_home() / "test-servers" / f"mongo-java-server-{VERSION}"


def prepare() -> Path:
    """The folder of the jars and the compiled program, fetched when it is not there yet."""
    folder = _jars()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                made = Path(building, "jars")
                maven.jars(HERE / "mongo-pom.xml", made, "mongo.version", VERSION)
                jars = ":".join(map(str, made.glob("*.jar")))
                compiler = ["java", "-cp", jars, "org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-classpath", jars]
                subprocess.run([*compiler, "-d", str(made), str(HERE / f"{_MAIN}.java")], check=True, stdin=subprocess.DEVNULL)
                made.rename(folder)
    return folder


def start() -> Server:
    """A stand-in that answers."""
    server = Server(prepare())
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One stand-in."""

    def __init__(self, jars: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-mongo-"))
        self._jars = jars
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def uri(self) -> str:
        """Its address."""
        return f"mongodb://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Start after `end()`, or for the first time; returns when it answers."""
        java = shutil.which("java")
        assert java is not None
        program = [java, *_SMALL, "-cp", f"{self._jars}/*:{self._jars}", _MAIN, str(self.port), str(self.home / "data.mv")]
        log = self.home / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered(program, signal.SIGKILL), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                with pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=1000) as client:
                    client.admin.command("ping")
            except pymongo.errors.PyMongoError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the stand-in for MongoDB does not start: {log.read_text()[-3000:]}") from None
                time.sleep(0.05)
            else:
                return

    def end(self) -> None:
        """Stop in order. Its file stays, for `restart()`."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it and remove every file."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
