"""What a route needs of its application, and the deadline that every answer has.

In: a request. Out: `Context`; `Route` ends a handler that takes longer than `deadline_s`.  Called by: the other routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from wafermonitor.query.answers import instant
from wafermonitor.query.config import Config
from wafermonitor.query.ends import Ends
from wafermonitor.query.errors import NotKept, QueryUnavailable
from wafermonitor.storage.protocol import Reader
from wafermonitor.storage.watch import Watch


class Context(NamedTuple):
    """Reader, settings, now (ns) as one reading for the whole answer, what alerting keeps, when runs will end."""

    reader: Reader
    config: Config
    now_ns: int
    kept: Watch | None
    ends: Ends

    @property
    def watch(self) -> Watch:
        """What alerting keeps; NotKept where this store has no place for it."""
        if self.kept is None:
            raise NotKept(
                "this store keeps no alerts: give `wafer query` and `wafer alerting` a PostgreSQL for them, WAFER_ALERTING_DSN"
            )
        return self.kept

    @property
    def server_time(self) -> str:
        """Now, as answers carry it."""
        return instant(self.now_ns)


async def context(request: Request) -> Context:
    """The application's parts."""
    state = request.app.state
    return Context(state.reader, state.config, state.clock(), state.watch, state.ends)


Ctx = Annotated[Context, Depends(context)]


class Route(APIRoute):
    """A route whose handler has `deadline_s` to come up with its answer, or with its first page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler within the deadline."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            deadline_s = request.app.state.config.deadline_s
            try:
                async with asyncio.timeout(deadline_s):
                    return await handler(request)
            except TimeoutError:
                raise QueryUnavailable(f"no answer within {deadline_s:g} s: narrow the filters or try again") from None

        return answer
