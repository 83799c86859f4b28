"""One answer in the format the caller wants: JSON a page at a time, CSV and NDJSON as a stream of rows.

In: the request's Accept header or `format=`, and a function that fetches one page. Out: a Response.  Called by: routes.

CSV cells that a spreadsheet would run as a formula get a leading apostrophe (OWASP, CSV injection). Nested records become
dotted columns, lists and mappings JSON text. A stream that fails midway is cut off: a short file cannot pass for
a whole one.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, TypeVar, get_args
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from wafermonitor.query.errors import FormatRejected
from wafermonitor.query.filters import Filters, PageFilters
from wafermonitor.query.models import PageModel
from wafermonitor.storage.protocol import MAX_PAGE

T = TypeVar("T", bound=BaseModel)
Fetch = Callable[[str | None, int], Awaitable[PageModel[T]]]
DEFAULT_LIMIT = 100
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class Format(StrEnum):
    """The formats of a list."""

    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.NDJSON: "application/x-ndjson",
}


def negotiate(accept: str | None, wanted: str | None) -> Format:
    """`format=` wins, else the Accept header's best match, JSON where all are equal; FormatRejected names what there is."""
    if wanted is not None:
        return Format(wanted)
    ranked = sorted(
        ((_quality(accept or "*/*", media_type), -rank, name) for rank, (name, media_type) in enumerate(MEDIA_TYPES.items())),
        reverse=True,
    )
    quality, _, best = ranked[0]
    if quality <= 0:
        raise FormatRejected(f"nothing here is {accept!r}: accept one of {', '.join(MEDIA_TYPES.values())}")
    return best


async def listing(request: Request, model: type[T], filters: PageFilters, fetch: Fetch[T]) -> Response:
    """One page as JSON, or every row as CSV or NDJSON (at most `limit`, at most the service's `max_rows`)."""
    chosen = negotiate(request.headers.get("accept"), filters.format)
    if chosen is Format.JSON:
        page = await fetch(filters.cursor, min(filters.limit or DEFAULT_LIMIT, MAX_PAGE))
        return Response(page.model_dump_json(), media_type=MEDIA_TYPES[chosen], headers=_links(request, page.cursor))
    limit = min(filters.limit or request.app.state.config.max_rows, request.app.state.config.max_rows)
    first = await fetch(filters.cursor, min(limit, MAX_PAGE))  # before the headers: an error here is still a proper answer
    headers = {"Wafer-Row-Limit": str(limit)}
    if limit <= MAX_PAGE:
        headers |= _links(request, first.cursor)
    if chosen is Format.CSV:
        headers["Content-Disposition"] = f'attachment; filename="{request.url.path.rsplit("/", 1)[-1]}.csv"'
    pages = _pages(first, fetch, limit, request.app.state.config.deadline_s)
    return StreamingResponse(_encode(chosen, model, pages), media_type=MEDIA_TYPES[chosen], headers=headers)


def rows(
    request: Request, model: type[T], filters: Filters, items: Sequence[T], server_time: str, *, truncated: bool = False
) -> Response:
    """A list that comes without pages, in the format the caller wants."""
    chosen = negotiate(request.headers.get("accept"), filters.format)
    if chosen is Format.JSON:
        page = PageModel[model](items=list(items), truncated=truncated, server_time=server_time)  # type: ignore[valid-type]  # a run-time type
        return Response(page.model_dump_json(), media_type=MEDIA_TYPES[chosen])
    text = csv_text(model, items, header=True) if chosen is Format.CSV else ndjson_text(items)
    headers = {"Wafer-Truncated": "true"} if truncated else {}
    return Response(text, media_type=MEDIA_TYPES[chosen], headers=headers)


def document(request: Request, model: BaseModel, *, ended: bool) -> Response:
    """One JSON document. What has ended hardly changes again, so it carries an ETag; late data changes the tag."""
    if negotiate(request.headers.get("accept"), None) is not Format.JSON:
        raise FormatRejected("one run is application/json only; its lists also come as text/csv and application/x-ndjson")
    body = model.model_dump_json()
    if not ended:
        return Response(body, media_type=MEDIA_TYPES[Format.JSON])
    tag = f'"{hashlib.sha256(model.model_dump_json(exclude={"server_time"}).encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=MEDIA_TYPES[Format.JSON], headers=headers)


def csv_text(model: type[BaseModel], items: Iterable[BaseModel], *, header: bool) -> str:
    """Rows as CSV (RFC 4180, so lines end with CR LF)."""
    columns = column_names(model)
    sink = io.StringIO()
    writer = csv.writer(sink)
    if header:
        writer.writerow(columns)
    for item in items:
        flat = dict(_flatten(item.model_dump(mode="json"), model))
        writer.writerow([_cell(flat.get(column)) for column in columns])
    return sink.getvalue()


def ndjson_text(items: Iterable[BaseModel]) -> str:
    """One JSON object a line."""
    return "".join(f"{item.model_dump_json()}\n" for item in items)


def column_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The columns of a model; a nested record's are `record.field`."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        nested = _nested(field.annotation)
        names += [f"{prefix}{name}"] if nested is None else column_names(nested, f"{prefix}{name}.")
    return names


def _flatten(values: dict[str, Any], model: type[BaseModel], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        nested = _nested(field.annotation)
        if nested is None:
            yield f"{prefix}{name}", values[name]
        elif values[name] is not None:
            yield from _flatten(values[name], nested, f"{prefix}{name}.")


def _nested(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *(get_args(annotation) if type(None) in get_args(annotation) else ()))
    return next((part for part in candidates if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return repr(value)


async def _pages(first: PageModel[T], fetch: Fetch[T], limit: int, deadline_s: float) -> AsyncIterator[list[T]]:
    page = first
    left = limit
    while True:
        yield page.items[:left]
        left -= len(page.items)
        if page.cursor is None or left <= 0:
            return
        async with asyncio.timeout(deadline_s):
            page = await fetch(page.cursor, min(left, MAX_PAGE))


async def _encode(chosen: Format, model: type[T], pages: AsyncIterator[list[T]]) -> AsyncIterator[str]:
    header = True
    async for items in pages:
        yield csv_text(model, items, header=header) if chosen is Format.CSV else ndjson_text(items)
        header = False


def _links(request: Request, cursor: str | None) -> dict[str, str]:
    if cursor is None:
        return {}
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return {"Link": f'<{request.url.path}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'}


def _quality(accept: str, media_type: str) -> float:
    """The q of the most specific range that covers `media_type` (RFC 9110 §12.5.1), 0 where none does."""
    best = (-1, 0.0)
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        specificity = {media_type: 2, f"{media_type.partition('/')[0]}/*": 1, "*/*": 0}.get(name)
        if specificity is not None:
            best = max(best, (specificity, _weight(parameters)))
    return best[1]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
