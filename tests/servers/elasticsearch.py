"""A real Elasticsearch for tests: one node on a free loopback port, with a login; it ends with the process that started it.

    server = elasticsearch.start()               # about 12 s; skip the test when `elasticsearch.missing()` says why it cannot
    server.url                                   # "http://127.0.0.1:PORT", with elasticsearch.USER and elasticsearch.PASSWORD
    server.ask("GET", "/_cat/indices")           # a request with that login: status and what the JSON says
    server.kill(); server.restart()              # kill -9, and again on the same port and data
    server.stop()

The program is Elastic's own zip for integration tests, from Maven Central by `mvn`, once, into the user's cache folder. It is
the server's core: mappings, bulk, data streams, search and the login are the real ones; ILM, ES|QL, painless, ingest, the
built-in templates and the answer to `GET /` are left out. It refuses root, so root starts it as `nobody`, from hard links,
because that account cannot read root's cache. Calls block.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import psutil

from tests.servers import maven
from tests.servers.rest import Rest, free_port
from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.instrumentation.tether import tethered

VERSION = "8.19.21"
ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
OLDEST_JAVA = 17
USER, PASSWORD = "elastic", "a secret of the tests"
FEEDER = "feeder"
"""An account with the same password that may write to *.otel-* and do nothing else."""
DEADLINE_S = 150.0
_SMALL = "-Xms384m -Xmx384m -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
_SETTINGS = """
cluster.name: wafer-tests
node.name: one
discovery.type: single-node
network.host: 127.0.0.1
http.port: {http}
transport.port: {transport}
path.data: {home}/data
path.logs: {home}/logs
xpack.security.enabled: true
xpack.security.autoconfiguration.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""
_ROLES = """
feeding:
  indices:
    - names: ["*.otel-*"]
      privileges: [create_doc, auto_configure]
"""
_LOGGING = """
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1.} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    for program in ("java", *(() if _folder().is_dir() else ("mvn",))):
        if shutil.which(program) is None:
            return f"{program} is not on PATH: install a Java of {OLDEST_JAVA} or newer, and Maven"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        return f"java is not {OLDEST_JAVA} or newer: {said.splitlines()[0] if said else 'it says nothing'}"
    return None


def _folder() -> Path:
    return cache_home() / "test-servers" / f"elasticsearch-{VERSION}"


def prepare() -> Path:
    """The folder of the program with its keystore, made when it is not there yet."""
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                maven.artifact(ARTIFACT, Path(building))
                with zipfile.ZipFile(next(Path(building).glob("*.zip"))) as archive:
                    archive.extractall(building)
                made = Path(building, f"elasticsearch-{VERSION}")
                _complete(made)
                made.rename(folder)
    return folder


def _complete(home: Path) -> None:
    """Programs that can be run, and a keystore with the login's password."""
    for program in home.joinpath("bin").iterdir():
        program.chmod(0o755)
    keystore = [str(home / "bin" / "elasticsearch-keystore")]
    subprocess.run([*keystore, "create"], check=True, env=_environment(home), stdout=subprocess.DEVNULL)
    subprocess.run(
        [*keystore, "add", "-x", "bootstrap.password"], input=PASSWORD, text=True, check=True, env=_environment(home)
    )


def _environment(home: Path, settings: Path | None = None) -> dict[str, str]:
    java = shutil.which("java")
    assert java is not None
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ES_JAVA_HOME": str(Path(java).resolve().parent.parent),
        "ES_JAVA_OPTS": _SMALL,
        "CLI_JAVA_OPTS": "-Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData",
        **({"ES_PATH_CONF": str(settings)} if settings else {}),
    }


def start() -> Server:
    """A server that answers."""
    server = Server(prepare())
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


class Server(Rest):
    """One node."""

    def __init__(self, program: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-elasticsearch-"))
        self.port = free_port()
        super().__init__(self.port, USER, PASSWORD)
        self._process: subprocess.Popen[bytes] | None = None
        self._children: list[psutil.Process] = []
        self._program = self.home / "program"
        shutil.copytree(program, self._program, copy_function=_link)
        settings = self.home / "settings"
        shutil.copytree(program / "config", settings)
        (settings / "elasticsearch.yml").write_text(_SETTINGS.format(http=self.port, transport=free_port(), home=self.home))
        (settings / "log4j2.properties").write_text(_LOGGING)
        (settings / "users").write_text(f"{FEEDER}:{PASSWORD}\n")
        (settings / "users_roles").write_text(f"feeding:{FEEDER}\n")
        (settings / "roles.yml").write_text(_ROLES)
        self._account: tuple[int, int] | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._account = (nobody.pw_uid, nobody.pw_gid)
            for path in (self.home, settings, *settings.rglob("*")):
                os.chown(path, *self._account)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when every shard it has can be read."""
        command = tethered([str(self._program / "bin" / "elasticsearch")], signal.SIGKILL, account=self._account)
        log = self.home / "log"
        environment = _environment(self.home, self.home / "settings")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.home, env=environment
            )
        end = time.monotonic() + DEADLINE_S
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Elasticsearch does not start: {log.read_text()[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9 of the server and of the launcher that keeps it."""
        assert self._process is not None
        both = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for one in both:
            one.kill()
        self._process.wait()
        psutil.wait_procs(both, timeout=DEADLINE_S)

    def stop(self) -> None:
        """End it and remove every file."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def _link(source: str, target: str) -> Any:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
