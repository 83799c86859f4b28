"""What a change must pass before it is read: where it comes from, that no page in a browser was tricked into it, its size.

In: a POST. Out: the same request with its body read; WriteRejected says what is not taken.  Called by: the routes
that change something (an acknowledgement, a silence, an answer to a proposal).

The API knows no users, so a change names who makes it (`by`), and is taken from this host alone unless the operator says
otherwise (`WAFER_QUERY_CHANGES`). A page of another site that a browser on this host shows must not change anything either:
- only `application/json` is taken, which a page cannot send to another origin without asking first, and nobody answers that;
- a request of a page (it carries Origin) must come from this very address, and the address must be this host's by number or
  `localhost`: else a name that was made to point here after the page was loaded would do (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.types import Message

from wafermonitor.query.config import Config
from wafermonitor.query.errors import WriteRejected
from wafermonitor.query.routes.context import Route

MEDIA_TYPE = "application/json"
MAX_BODY_BYTES = 64 * 1024
_WRONG_TYPE = 415
_TOO_LONG = 413


class ChangeRoute(Route):
    """A route whose requests have passed `admit`; GETs pass untouched."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind `admit`."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            if request.method == "POST":
                admit(request, request.app.state.config)
                request = await _bounded(request)
            return await handler(request)

        return answer


def admit(request: Request, config: Config) -> None:
    """Raise WriteRejected unless a change may come from there in this form."""
    if config.changes == "off":
        raise WriteRejected("this API takes no changes: WAFER_QUERY_CHANGES is off")
    if config.changes == "loopback" and not _is_loopback(request.client.host if request.client else ""):
        raise WriteRejected("changes are taken from this API's own host only: send it there, or set WAFER_QUERY_CHANGES=any")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        raise WriteRejected(f"a change is {MEDIA_TYPE}: say so in Content-Type", status=_WRONG_TYPE)
    origin = request.headers.get("origin")
    if origin is not None and not _is_own(origin, request.headers.get("host", "")):
        raise WriteRejected("this change was sent by a page of another origin: none of those is taken")


def _is_own(origin: str, host: str) -> bool:
    try:
        page = urlsplit(origin)
        return page.netloc.lower() == host.lower() and _is_loopback(page.hostname or "")
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


async def _bounded(request: Request) -> Request:
    """The same request with its body read, so that nobody reads more of it than this."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise WriteRejected(f"the body of a change has at most {MAX_BODY_BYTES} bytes", status=_TOO_LONG)

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return Request(request.scope, receive)
