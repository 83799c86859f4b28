"""A stand-in for AWS (moto: SQS, CloudWatch, X-Ray and others, in memory) on a free loopback port; it ends with this process.

    server = moto.start()                        # some seconds; skip the test when `moto.missing()` says why it cannot
    server.endpoint                              # "http://127.0.0.1:PORT", for any key and secret
    server.client("sqs")                         # AWS's own client of it
    server.kill(); server.restart()              # as if its network were cut, and mended: what it holds in memory stays
    server.stop()

moto comes from the Python package index, once, into the user's cache folder (`moto.txt`). Calls block.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3

from tests.servers import tcp_proxy
from tests.servers.collector import free_ports
from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.instrumentation.tether import tethered

HERE = Path(__file__).parent
NAMES = HERE / "moto.txt"
ACCESS, SECRET, REGION = "wafer-tests", "a secret of the tests", "us-east-1"
DEADLINE_S = 60.0


def missing() -> str | None:
    """Python is here, so it always can."""
    return None


def _folder() -> Path:
    wanted = NAMES.read_bytes() + sys.version.encode()
    return cache_home() / "test-servers" / f"moto-{hashlib.sha256(wanted).hexdigest()[:12]}"


def prepare() -> Path:
    """The folder of its packages, fetched when it is not there yet."""
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as building:
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
                target = Path(building, "packages")
                subprocess.run(
                    [*pip, "--require-hashes", "--no-deps", "--target", str(target), "-r", str(NAMES)],
                    check=True, stdin=subprocess.DEVNULL,
                )  # fmt: skip
                target.rename(folder)
    return folder


def start() -> Server:
    """A server that answers."""
    server = Server(prepare())
    try:
        server.wait()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One stand-in, reached through a link that can be cut."""

    def __init__(self, packages: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-moto-"))
        (self._port,) = free_ports(1)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        with (self.home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(packages)},
            )
        self._link = tcp_proxy.start("127.0.0.1", self._port)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._link.port}"

    def client(self, service: str) -> Any:
        """boto3's client."""
        return boto3.client(
            service, endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET
        )

    def wait(self) -> None:
        """Until it answers."""
        end = time.monotonic() + DEADLINE_S
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.request("GET", "/moto-api/data.json")
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException):
                status = 0
            finally:
                connection.close()
            if status == http.HTTPStatus.OK:
                return
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"moto does not start: {(self.home / 'log').read_text()[-1000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Every connection is reset, new ones are refused."""
        self._link.cut()

    def restart(self) -> None:
        """It can be reached again."""
        self._link.heal()

    def stop(self) -> None:
        """End it and remove every file."""
        self._link.stop()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
