"""The older routes: which paths, and what is answered for each event.

In: an admitted `Request` of the encoding `events`. Out: a `Reply`, after the commit. Called by: `otlp_http`.

An event is `stored` (committed, or already there), `rejected` (never will be: it is a dead letter) or `retry` (the store could
not commit now: the same body again). 200 when something was stored, 400 when nothing was and nothing ever will be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from wafermonitor.receiver.admission import Hold
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.errors import ReceiverError, RequestRejected
from wafermonitor.receiver.legacy import bodies
from wafermonitor.receiver.legacy.bodies import Submission
from wafermonitor.receiver.legacy.translation import translate
from wafermonitor.receiver.transcode.protocol import Request

PATHS = frozenset(
    {"/v1/ingest/managed", "/v1/event", "/v1/events/batch", "/v1/ingest/events", "/v1/ingest/events:batch", "/v1/ingest/batch"}
)
"""POST. Each takes each of the three shapes of a body."""
HEALTH_PATHS = frozenset({"/v1/health", "/v1/healthz", "/health"})
"""GET, where the older sidecar and API were asked."""
SERVICE = "wafer-receiver"
INLINE_BYTES = 32 * 1024
"""Bodies up to this size are read in the loop; a thread costs more than they do."""
HTTP_OK, HTTP_BAD = 200, 400

Submit = Callable[[Request, Hold], Awaitable[Answer]]


class Reply(NamedTuple):
    """Status and JSON body; `error` is what the request failed by, None when something was stored."""

    status: int
    body: bytes
    error: ReceiverError | None = None


class Routes:
    """Answers for the older paths. `submit` is the pipeline's."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit

    async def handle(self, request: Request, share: Hold) -> Reply:
        """Store what is good in a body, held by `share`. Whatever is wrong is in the reply; only defects are raised."""
        try:
            submission = await _apart(request, bodies.read, request.body)
        except RequestRejected as error:
            return refuse(error)
        try:
            refused = await self._store(submission, request, share)
        except ReceiverError as error:
            return await self._failed(submission, request, error)
        return _done(submission, refused)

    async def _store(self, submission: Submission, request: Request, share: Hold) -> dict[int, str]:
        """Commit; the events that are refused for good, by place, with the reason."""
        answer = await self._submit(request, share)
        if not answer.rejected:
            return {}
        refused = await _refusals(submission, request)
        if answer.rejected > len(refused):
            # The store refused rows that nobody foresaw. Sending halves again finds them; what is stored is not stored twice.
            places = [place for place in range(len(submission.items)) if place not in refused]
            for place in await self._guilty(submission, places, request, share):
                refused[place] = "the store refuses this event for good"
        return refused

    async def _guilty(self, submission: Submission, places: Sequence[int], request: Request, share: Hold) -> list[int]:
        body = submission.body([submission.items[place] for place in places])
        try:
            rejected = (await self._submit(request._replace(body=body), share)).rejected
        except RequestRejected:
            rejected = len(places)
        if not rejected:
            return []
        if len(places) == 1:
            return list(places)
        middle = len(places) // 2
        halves = places[:middle], places[middle:]
        return [place for half in halves for place in await self._guilty(submission, half, request, share)]

    async def _failed(self, submission: Submission, request: Request, error: ReceiverError) -> Reply:
        """The whole body could not be committed: which of its events are worth another try."""
        if error.retry_s is None:
            return refuse(error, [_result(place, "rejected", str(error)) for place in range(len(submission.items))])
        refused = await _refusals(submission, request)
        results = [
            _result(place, "rejected", refused[place]) if place in refused else _result(place, "retry", str(error))
            for place in range(len(submission.items))
        ]
        return refuse(error, results)


def refuse(error: ReceiverError, results: Collection[dict[str, Any]] = ()) -> Reply:
    """The reply to a request that is not stored."""
    return Reply(error.http_status, refusal_body(error, results), error)


def refusal_body(error: ReceiverError, results: Collection[dict[str, Any]] = ()) -> bytes:
    """`detail` says what is wrong and what to do; `retryable` whether the same body can succeed."""
    shown = {"ok": False, "detail": str(error), "retryable": error.retry_s is not None}
    return msgspec.json.encode(shown | ({"results": results} if results else {}))


def health(trouble: str | None, ways: Mapping[str, object] | None = None) -> bytes:
    """Whether events can be stored now, as the older services said it; beside it how further ways in do."""
    shown = {"status": "ok" if trouble is None else "degraded", "service": SERVICE}
    return msgspec.json.encode(shown | ({"reason": trouble} if trouble else {}) | dict(ways or {}))


def _done(submission: Submission, refused: dict[int, str]) -> Reply:
    total, failed = len(submission.items), len(refused)
    results = [
        _result(place, "rejected", refused[place]) if place in refused else _result(place, "stored") for place in range(total)
    ]
    shown: dict[str, Any] = {
        "ok": not failed,
        "total": total,
        "success": total - failed,
        "failed": failed,
        # What the older sidecar's clients look for; nothing waits on a disk here.
        "forwarded": total - failed,
        "spooled": 0,
    }
    if failed:
        place, reason = next(iter(sorted(refused.items())))
        more = f" (and {failed - 1} more, see results)" if failed > 1 else ""
        shown |= {"detail": f"events[{place}]: {reason}{more}", "retryable": False}
    shown["results"] = results
    lost = RequestRejected(shown["detail"]) if failed and failed == total else None
    return Reply(HTTP_BAD if lost else HTTP_OK, msgspec.json.encode(shown), lost)


def _result(place: int, status: str, error: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"index": place, "status": status, "retryable": status == "retry"}
    return found | ({"error": error} if error else {})


async def _refusals(submission: Submission, request: Request) -> dict[int, str]:
    translated = await _apart(request, translate, submission)
    return {place: refusal.reason for place, refusal in translated.refusals.items()}


async def _apart(request: Request, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that takes as long as the body is."""
    if len(request.body) <= INLINE_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
