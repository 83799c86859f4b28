"""What every request passes: security headers, a count and a clock, a span, and a proper answer to a fault.

In: ASGI messages. Out: the same with headers added.  Called by: app, as its one middleware.

Headers: CSP same-origin, frame-ancestors, nosniff, no-store on data (design/5, goal S6).
"""

from __future__ import annotations

import time

from fastapi import Request
from opentelemetry import trace
from opentelemetry.semconv.attributes import http_attributes
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wafermonitor.query import problems
from wafermonitor.query.telemetry import Meters

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SERVER_ERROR = 500


class Guard:
    """Pure ASGI, so that streams pass through untouched."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app = app
        self._meters = meters
        self._tracer = trace.get_tracer("wafermonitor.query")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin_s = time.perf_counter()
        status = 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _harden(MutableHeaders(scope=message))
                route = _route(scope)
                self._meters.requests.labels(route, status).inc()
                self._meters.seconds.labels(route).observe(time.perf_counter() - begin_s)
            await send(message)

        with self._tracer.start_as_current_span(f"{scope['method']}", kind=trace.SpanKind.SERVER) as span:
            try:
                await self._app(scope, receive, send_guarded)
            except Exception as error:
                if status:
                    raise  # too late for a proper answer: the server cuts the connection
                await problems.fault(Request(scope), error)(scope, receive, send_guarded)
            _describe(span, scope, status)


def _harden(headers: MutableHeaders) -> None:
    for name, value in HEADERS.items():
        headers[name] = value
    headers.setdefault("Cache-Control", "no-store")


def _route(scope: Scope) -> str:
    """The route's template; the path itself would make a new series for every guess."""
    return str(getattr(scope.get("route"), "path", "none"))


def _describe(span: trace.Span, scope: Scope, status: int) -> None:
    span.update_name(f"{scope['method']} {_route(scope)}")
    span.set_attributes(
        {
            http_attributes.HTTP_REQUEST_METHOD: scope["method"],
            http_attributes.HTTP_ROUTE: _route(scope),
            http_attributes.HTTP_RESPONSE_STATUS_CODE: status,
        }
    )
    if status >= _SERVER_ERROR:
        span.set_status(trace.StatusCode.ERROR)
