"""A real S3 server for tests (versitygw, objects as files of a folder) on a free loopback port; it ends with this process.

    server = s3.start()                          # under a second; skip the test when `s3.missing()` says why it cannot
    server.endpoint                              # "http://127.0.0.1:PORT", with s3.ACCESS and s3.SECRET
    server.bucket("archive")                     # made, if it is not there; `locked=True` with object lock
    server.ask("PUT", "archive", "object-lock", body)        # a signed request: status and body
    server.kill(); server.restart()              # kill -9, and again on the same port and data
    server.stop()

The program is `WAFER_TEST_VERSITYGW`, or built once by Go into the user's cache folder (about four minutes). Calls block.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.instrumentation.tether import tethered

VERSION = "v1.8.0"
MODULE = "github.com/versity/versitygw/cmd/versitygw"
ACCESS, SECRET, REGION = "wafer-tests", "a secret of the tests", "us-east-1"
DEADLINE_S = 60.0


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    if _program().is_file() or shutil.which("go"):
        return None
    return "no S3 server: install Go, or name versitygw's program by WAFER_TEST_VERSITYGW"


def _program() -> Path:
    named = os.environ.get("WAFER_TEST_VERSITYGW")
    return Path(named) if named else cache_home() / "test-servers" / f"versitygw-{VERSION}"


def prepare() -> Path:
    """The program, built when it is not there yet."""
    program = _program()
    program.parent.mkdir(parents=True, exist_ok=True)
    with program.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            with tempfile.TemporaryDirectory(dir=program.parent) as building:
                environment = os.environ | {"GOBIN": building, "CGO_ENABLED": "0"}
                subprocess.run(["go", "install", "-ldflags=-s -w", f"{MODULE}@{VERSION}"], check=True, env=environment)
                Path(building, "versitygw").rename(program)
    return program


def start() -> Server:
    """A server that answers."""
    server = Server(prepare())
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One S3 server."""

    def __init__(self, program: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-s3-"))
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("objects", "metadata", "versions"):
            (self.home / name).mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, name: str, *, locked: bool = False) -> str:
        """A bucket of this name."""
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if locked else {}
        status, body = self.ask("PUT", name, headers=headers)
        if status not in {200, 409}:
            raise RuntimeError(f"no bucket {name}: {status} {body!r}")
        return name

    def ask(
        self, method: str, path: str, query: str = "", body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request, signed as AWS's version 4 has it. `query` is a sub-resource, such as `lifecycle`, or `versionId=…`."""
        now = datetime.now(UTC)
        path = quote(path, safe="/-_.~")
        digest = hashlib.sha256(body).hexdigest()
        sent = {
            "host": f"127.0.0.1:{self.port}",
            "x-amz-content-sha256": digest,
            "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
            **({"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()} if body else {}),
            **(headers or {}),
        }
        names = ";".join(sorted(sent))
        lines = [f"{name}:{sent[name]}" for name in sorted(sent)]
        canonical = "\n".join(
            [method, f"/{path}", query if "=" in query or not query else f"{query}=", *lines, "", names, digest]
        )
        scope = f"{now:%Y%m%d}/{REGION}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", sent["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        sent["authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={signature}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, f"/{path}" + (f"?{query}" if query else ""), body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when it answers."""
        folders = [str(self.home / name) for name in ("metadata", "versions", "objects")]
        command = [str(self._program), "--quiet", "--port", f"127.0.0.1:{self.port}", "--region", REGION]
        command += ["posix", "--sidecar", folders[0], "--versioning-dir", folders[1], folders[2]]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET},
            )
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                status, _ = self.ask("GET", "")
            except (OSError, http.client.HTTPException):
                status = 0
            if status == 200:
                return
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"the S3 server does not start: {(self.home / 'log').read_text()[-500:]}")

    def stop(self) -> None:
        """End it and remove every file."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.home)
