"""`/v1/stream`: changes of runs and alerts as server-sent events.

In: filters and Last-Event-ID. Out: `text/event-stream` (`wafermonitor.query.stream` describes the events).  Called by: app.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from wafermonitor.query.filters import StreamFilters
from wafermonitor.query.problems import responses
from wafermonitor.query.routes.context import Route
from wafermonitor.query.stream import Selection, Stream

router = APIRouter(prefix="/v1", route_class=Route)
MEDIA_TYPE = "text/event-stream"
STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `hello` (Hello), `run` (RunModel), `alert` (AlertModel) without end; ids are for Last-Event-ID",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    **responses(400, 422, 500, 503),
}


class EventStream(StreamingResponse):
    """Leaves the hub however the response ends, also when it never begins."""

    def __init__(self, opened: Stream) -> None:
        super().__init__(opened.events, media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client or the service goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._opened.close()


@router.get("/stream", responses=STREAM_RESPONSES, response_class=StreamingResponse)
async def stream(
    request: Request,
    filters: Annotated[StreamFilters, Query()],
    last_event_id: Annotated[str | None, Header(max_length=8000)] = None,
) -> Response:
    """Every change of a run or an alert, at least once; resumable."""
    selection = Selection(
        frozenset(filters.site), frozenset(filters.job), frozenset(bytes.fromhex(trace) for trace in filters.trace)
    )
    return EventStream(await request.app.state.hub.open(last_event_id or None, selection))
