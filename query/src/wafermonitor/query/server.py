"""The read API on a socket.

In: an opened Storage and a Config. Out: a `RunningQuery` with its URL.  Called by: command, tests of every layer above.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import uvicorn

from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config, split_address
from wafermonitor.query.errors import QueryUnavailable
from wafermonitor.query.stream import Hub
from wafermonitor.storage.protocol import Storage

_KEEP_ALIVE_S = 15
_BACKLOG = 512


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever starts it says when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RunningQuery(NamedTuple):
    """A read API that answers at `url` until `stop()`."""

    url: str
    server: uvicorn.Server
    task: asyncio.Task[None]
    hub: Hub

    async def stop(self) -> None:
        """End the streams, finish what was asked, at most `stop_s`. The storage stays open."""
        await self.hub.close()
        self.server.should_exit = True
        await self.task


async def start(storage: Storage, config: Config, *, clock: Callable[[], int] = time.time_ns) -> RunningQuery:
    """Listen, and return when requests are answered; QueryUnavailable when the address is taken."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    host, port = split_address(config.address)
    listener = _listen(host, port)
    app = create_app(storage, config, clock=clock)
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(config.stop_s)),
        backlog=_BACKLOG,
    )
    server = _Server(settings)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="wafer query server")
    while not server.started:
        if task.done():
            await task
            raise QueryUnavailable("the server ended before it began; see its log")
        await asyncio.sleep(0.005)
    bound_host, bound_port = listener.getsockname()[:2]
    url = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
    return RunningQuery(url, server, task, app.state.hub)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by what is accepted. Head and body of an answer are written apart; without this the body waits 40 ms for the
    # client's delayed acknowledgement of the head, and asyncio sets it only where the socket was made with its protocol named.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise QueryUnavailable(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --address or WAFER_QUERY_ADDRESS"
        ) from None
    listener.setblocking(False)  # noqa: FBT003 - the socket module takes it by position only
    return listener
