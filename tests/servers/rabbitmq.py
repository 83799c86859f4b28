"""A real RabbitMQ for tests: one node on free loopback ports; it ends with the process that started it.

    server = rabbitmq.start()                    # about 8 s; skip the test when `rabbitmq.missing()` says why it cannot
    server.broker                                # "127.0.0.1:PORT"; USER and PASSWORD may do everything
    server.drained("otlp_spans")                 # the messages of a queue: (properties, body), which then is empty
    server.kill(); server.restart()              # kill -9, and again on the same ports and data
    server.stop()

RabbitMQ and Erlang are Debian's packages, unpacked once into the user's cache folder (10 s, 60 MB). Calls block.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pika

from tests.servers import debs
from wafermonitor.instrumentation.tether import tethered

USER, PASSWORD = "wafer", "a secret of the tests"
DEADLINE_S = 90.0
START_ERLANG = """#!/bin/sh
export ROOTDIR={root} BINDIR={erts}/bin EMU=beam PROGNAME=erl
exec {erts}/bin/erlexec "$@"
"""
"""Erlang's own start script says where the package would be installed."""


def missing() -> str | None:
    """Why no node can be started here; None when one can."""
    return debs.missing()


def prepare() -> Path:
    """The folder with the programs, fetched when it is not there yet."""
    return debs.unpacked("rabbitmq", "rabbitmq-server")


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
    """One node, and the name server of Erlang that it asks for."""

    def __init__(self, programs: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-rabbitmq-"))
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._names: subprocess.Popen[bytes] | None = None
        self.port, self._between, self._names_port = _free_ports(3)
        self.broker = f"127.0.0.1:{self.port}"
        (self.home / "enabled_plugins").write_text("[].\n")
        self._erts = next((programs / "usr/lib/erlang").glob("erts-*"))
        script = self.home / "bin" / "erl"
        script.parent.mkdir()
        script.write_text(START_ERLANG.format(root=self._erts.parent, erts=self._erts))
        script.chmod(0o755)
        self._configure(self.home / "rabbitmq.conf")

    def _configure(self, file: Path) -> None:
        lines = [
            f"listeners.tcp.1 = {self.broker}",
            f"default_user = {USER}",
            f"default_pass = {PASSWORD}",
            "disk_free_limit.absolute = 10MB",
            "log.file.level = warning",
        ]
        file.write_text("\n".join(lines) + "\n")

    @property
    def _environment(self) -> dict[str, str]:
        home = str(self.home)
        return debs.environment(self._programs) | {
            "PATH": f"{home}/bin:{self._erts.parent}/bin:{os.environ['PATH']}",
            "HOME": home,
            "LC_ALL": "C.UTF-8",
            "RABBITMQ_NODENAME": "wafer@localhost",
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_DIST_PORT": str(self._between),
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names_port),
            # The script becomes the node only there; else it would outlive us.
            "RUNNING_UNDER_SYSTEMD": "1",
        }

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when it answers."""
        if self._names is None:
            self._names = self._popen(str(self._erts / "bin/epmd"))
        script = next((self._programs / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")) / "sbin/rabbitmq-server"
        self._process = self._popen(str(script))
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.connected().close()
            except (pika.exceptions.AMQPError, OSError):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"RabbitMQ does not start: {(self.home / 'out').read_text()[-3000:]}") from None
                time.sleep(0.1)
            else:
                return

    def _popen(self, program: str) -> subprocess.Popen[bytes]:
        with (self.home / "out").open("ab") as out:
            return subprocess.Popen(
                tethered([program], signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.home,
                env=self._environment,
            )

    def connected(self) -> Any:
        """A connection of the client library."""
        login = pika.PlainCredentials(USER, PASSWORD)
        return pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", self.port, credentials=login, socket_timeout=5, stack_timeout=10)
        )

    def drained(self, queue: str) -> list[tuple[Any, bytes]]:
        """Every message of `queue`, as properties and body. They are gone from it afterwards."""
        connection = self.connected()
        try:
            channel, found = connection.channel(), []
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return found
                found.append((properties, body))
        finally:
            connection.close()

    def kill(self) -> None:
        """kill -9; what it had confirmed is in its files."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it and remove every file."""
        if self._process is not None:
            self.kill()
        if self._names is not None:
            self._names.kill()
            self._names.wait()
        shutil.rmtree(self.home, ignore_errors=True)
