"""A real Kafka for tests: one broker (KRaft) on free loopback ports; it ends with the process that started it.

    server = kafka.start()                       # about 8 s; skip the test when `kafka.missing()` says why it cannot
    server.brokers                               # "127.0.0.1:PORT", without TLS and password
    server.secure                                # another port of the same broker: TLS and SASL (PLAIN, SCRAM-SHA-256, -512)
    await server.create("spans", partitions=4)
    server.kill(); server.restart()              # kill -9, and again on the same ports and data
    server.stop()

The jars come from Maven Central by `mvn`, once, into the user's cache folder. Calls block, but for `create`.
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

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.servers import maven
from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.instrumentation.tether import tethered

VERSION = "4.4.0"
OLDEST_JAVA = 17
DEADLINE_S = 90.0
USER, PASSWORD = "wafer", "a secret of the tests"
STORE_PASSWORD = "changeit"
HERE = Path(__file__).parent
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"
_SMALL = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


def missing() -> str | None:
    """Why no broker can be started here; None when one can."""
    for program in ("java", "keytool", *(() if _jars().is_dir() else ("mvn",))):
        if shutil.which(program) is None:
            return f"{program} is not on PATH: install a JDK of {OLDEST_JAVA} or newer, and Maven"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        return f"java is not {OLDEST_JAVA} or newer: {said.splitlines()[0] if said else 'it says nothing'}"
    return None


def _jars() -> Path:
    return cache_home() / "test-servers" / f"kafka-{VERSION}"


def prepare() -> Path:
    """The folder of the jars, fetched when it is not there yet."""
    folder = _jars()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                fetched = Path(building, "jars")
                maven.jars(HERE / "kafka-pom.xml", fetched, "kafka.version", VERSION)
                fetched.rename(folder)
    return folder


def start() -> Server:
    """A broker that answers."""
    server = Server(prepare())
    try:
        server.format()
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
    """One broker."""

    def __init__(self, jars: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-kafka-"))
        self._jars = jars
        self._process: subprocess.Popen[bytes] | None = None
        plain, secure, controller = _free_ports(3)
        self.brokers = f"127.0.0.1:{plain}"
        self.secure = f"127.0.0.1:{secure}"
        self.ca_file = self.home / "ca.pem"
        self._properties = self.home / "server.properties"
        words = {
            "plain": plain, "secure": secure, "controller": controller,
            "data": self.home / "data", "keys": self.home / "keys.p12",
            "user": USER, "password": PASSWORD, "store_password": STORE_PASSWORD,
        }  # fmt: skip
        self._properties.write_text(Template((HERE / "kafka-server.properties").read_text()).substitute(words))

    def format(self) -> None:
        """Make keys, the data folder, and the account of the SCRAM mechanisms."""
        keys = ["-keystore", str(self.home / "keys.p12"), "-storepass", STORE_PASSWORD, "-alias", "broker"]
        new = [
            "-genkeypair",
            "-keyalg",
            "EC",
            "-dname",
            "CN=127.0.0.1",
            "-ext",
            "san=ip:127.0.0.1,dns:localhost",
            "-ext",
            "bc=ca:true",
        ]
        self._run("keytool", *new, "-validity", "2", *keys)
        self._run("keytool", "-exportcert", "-rfc", "-file", str(self.ca_file), *keys)
        accounts = [
            word for kind in ("256", "512") for word in ("--add-scram", f"SCRAM-SHA-{kind}=[name={USER},password={PASSWORD}]")
        ]
        self._run(*self._java("kafka.tools.StorageTool"), "format", "-t", _CLUSTER, "-c", str(self._properties), *accounts)

    def _java(self, main: str) -> list[str]:
        java = shutil.which("java")
        assert java is not None
        return [java, *_SMALL, "-cp", f"{self._jars}/*", main]

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: {done.stdout} {done.stderr}")

    @property
    def pid(self) -> int:
        """The broker's pid."""
        assert self._process is not None
        return self._process.pid

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when it answers."""
        command = tethered([*self._java("kafka.Kafka"), str(self._properties)], signal.SIGKILL)
        log = self.home / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.home)
        pause, end = 0.05, time.monotonic() + DEADLINE_S
        host, port = self.brokers.split(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"Kafka does not start: {log.read_text()[-3000:]}") from None
                time.sleep(pause)
            else:
                return

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

    async def create(self, *topics: str, partitions: int = 1) -> None:
        """New topics."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.brokers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topic, partitions, 1) for topic in topics])
        finally:
            await admin.close()
