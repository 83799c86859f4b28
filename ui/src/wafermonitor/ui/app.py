"""The screens on a socket: Panel's own server in its own process.

In: a `Config`. Out: a `RunningUi` with its URL. Called by: command, tests.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode
from weakref import WeakSet

import httpx
import panel as pn
from panel.io.resources import LOCAL_DIST
from tornado.web import OutputTransform, RequestHandler

from wafermonitor.query.client import AsyncClient
from wafermonitor.ui.address import PATHS
from wafermonitor.ui.config import Config
from wafermonitor.ui.downloads import Download
from wafermonitor.ui.errors import UiUnavailable
from wafermonitor.ui.live import Live
from wafermonitor.ui.screen import THEME
from wafermonitor.ui.session import Session
from wafermonitor.ui.source import Source

UNUSED_MS = 30_000
CHECK_MS = 5_000
_ANY = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound to
_HEADERS = {
    # Bokeh compiles its models' code in the page and loads ES modules from blobs; everything else is this host or nothing.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline' blob:; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class _Headers(OutputTransform):
    """Security headers on every answer; only files of the theme and of Panel may be kept by a browser."""

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self._kept = request.path.startswith(("/static/", "/assets/"))

    def transform_first_chunk(self, status_code: int, headers: Any, chunk: bytes, finishing: bool) -> tuple[int, Any, bytes]:
        """Add them before the first byte leaves."""
        del finishing
        for name, value in _HEADERS.items():
            headers[name] = value
        if not self._kept:
            headers["Cache-Control"] = "no-store"
        return status_code, headers, chunk


class _Alive(RequestHandler):
    """200 while the process answers; it says nothing about the API, which the pages themselves do."""

    def get(self) -> None:
        """One word."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write("ok")


class RunningUi(NamedTuple):
    """Screens that answer at `url` until `stop()`."""

    url: str
    server: Any
    live: Live
    source: Source
    downloads: httpx.AsyncClient
    opened: WeakSet[Session]

    @property
    def sessions(self) -> int:
        """How many pages are open."""
        return sum(len(self.server.get_sessions(path)) for path in PATHS)

    async def stop(self) -> None:
        """Close every page and every connection to the API."""
        for session in tuple(self.opened):
            session.close()
        for connection in tuple(self.server._tornado._clients):  # noqa: SLF001 - as below; stop() alone leaves sockets open
            connection._socket.close()  # noqa: SLF001 - as above
        self.server.stop()
        await self.live.close()
        await self.source.close()
        await self.downloads.aclose()


async def start(config: Config, *, unused_ms: int = UNUSED_MS, check_ms: int = CHECK_MS) -> RunningUi:
    """Listen, and return when pages are answered. UiUnavailable when the address is taken."""
    _check_free(config)
    source = Source(AsyncClient(config.api_url, timeout_s=config.api_timeout_s))
    live = Live(source)
    opened: WeakSet[Session] = WeakSet()

    def page(path: str) -> Callable[[], Any]:
        def view() -> Any:  # Panel calls plain functions only, no partials
            session = Session(source, live, config)
            opened.add(session)
            return session.open(_address(path))

        return view

    downloads = httpx.AsyncClient(
        base_url=config.api_url, timeout=httpx.Timeout(config.api_timeout_s, read=60.0), trust_env=False
    )
    server = pn.io.server.get_server(
        {path: page(path) for path in PATHS},
        address=config.host,
        port=config.port,
        start=False,
        show=False,
        title="WaferMonitor",
        location=False,
        index=None,
        static_dirs={"assets": str(THEME)},
        extra_patterns=[
            (r"/_stcore/health", _Alive),
            (r"/healthz", _Alive),
            (r"/runs\.csv", Download, {"http": downloads}),
            (r"/run\.csv", Download, {"http": downloads}),
        ],
        # The page carries a token with what is named here, readable by anyone who sees the page: nothing but the host.
        include_headers=["Host"],
        include_cookies=[],
        unused_session_lifetime_milliseconds=unused_ms,
        check_unused_sessions_milliseconds=check_ms,
        websocket_compression_level=3,
    )
    server._tornado.add_transform(_Headers)  # noqa: SLF001 - Bokeh has no public way to its Tornado application
    server._tornado.websocket_origins.update(_origins(config, server.port or 0))  # noqa: SLF001 - the port is known only now
    live.start()
    server.start()
    host = "127.0.0.1" if config.host in _ANY else config.host
    return RunningUi(f"http://{_in_url(host)}:{server.port}", server, live, source, downloads, opened)


def _check_free(config: Config) -> None:
    """Bokeh leaves a socket open when it cannot bind, so we look first."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise UiUnavailable(
                f"cannot listen on {config.address}: {error.strerror}; choose another with --address or WAFER_UI_ADDRESS"
            ) from None


def _address(path: str) -> str:
    """The address that the request of this page load asked for."""
    # A socket that comes back after its session has ended gets a new one without a page load; without this its style sheets
    # would be asked from a CDN.
    document = pn.state.curdoc
    assert document is not None
    document.template_variables["dist_url"] = LOCAL_DIST
    context: Any = document.session_context
    arguments = context.request.arguments
    query = urlencode(
        {name: [value.decode("utf-8", "replace") for value in values] for name, values in arguments.items()}, doseq=True
    )
    return f"{path}?{query}" if query else path


def _in_url(host: str) -> str:
    """An IPv6 address stands in brackets."""
    return f"[{host}]" if ":" in host else host


def _origins(config: Config, port: int) -> set[str]:
    """The hosts from which a page may open its socket: this one by its names, and those the operator named."""
    names = {"localhost", "127.0.0.1", socket.gethostname(), *({config.host} - _ANY)}
    given = {name.strip() for name in config.public_hosts.split(",") if name.strip()}
    return {f"{_in_url(name)}:{port}" for name in names} | {name if ":" in name else f"{name}:80" for name in given}


async def serve(config: Config, stop: asyncio.Event, ready: Callable[[RunningUi], None]) -> None:
    """Serve until `stop` is set; `ready` is told where."""
    running = await start(config)
    try:
        ready(running)
        await stop.wait()
    finally:
        await running.stop()
