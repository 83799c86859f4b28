"""Every error as RFC 9457 problem details, without driver text.

In: exceptions from routes, validation and the framework. Out: `application/problem+json`.  Called by: app, guard.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from wafermonitor.query.errors import ParameterRejected, QueryError, QueryUnavailable
from wafermonitor.query.models import ParameterProblem, Problem
from wafermonitor.runs.errors import RunsRejected
from wafermonitor.storage.errors import CursorRejected, SchemaTooOld, StorageRejected, StorageUnavailable

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"

DESCRIPTIONS: dict[int, str] = {
    400: "The question can never be answered as it stands",
    403: "A change is not taken from there: `WAFER_QUERY_CHANGES`, or a page of another origin",
    404: "Nothing has this id, name or path",
    405: "This method is not offered here",
    406: "None of the accepted media types is offered here",
    409: "A file decides this, or it has been decided",
    413: "The body of a change is too long",
    415: "A change is application/json",
    422: "A parameter is wrong; `errors` names it and the fix",
    500: "A fault of the API; the detail has the number under which it was logged",
    501: "This store keeps no alerts; the detail names the setting",
    503: "The store does not answer now; try again after Retry-After seconds",
}


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses=`: which problems it may answer."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {code: {"description": DESCRIPTIONS[code], "content": {MEDIA_TYPE: {"schema": schema}}} for code in codes}


def problem(
    request: Request,
    status: int,
    detail: str,
    *,
    errors: Sequence[ParameterProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem as a response."""
    body = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, instance=request.url.path, errors=list(errors)
    )
    return Response(body.model_dump_json(), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def install(app: FastAPI) -> None:
    """Answer every foreseen exception of `app` with a problem; `guard` sees to the rest."""
    app.add_exception_handler(QueryError, _query_error)
    app.add_exception_handler(StorageUnavailable, _store_unavailable)
    app.add_exception_handler(StorageRejected, _store_rejected)
    app.add_exception_handler(RunsRejected, _runs_rejected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)


def _retry(seconds: int = QueryUnavailable.retry_after_s) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


async def _query_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, QueryError)
    errors = [ParameterProblem(parameter=error.parameter, message=error.fix)] if isinstance(error, ParameterRejected) else []
    headers = _retry(error.retry_after_s) if isinstance(error, QueryUnavailable) else {}
    return problem(request, error.status, error.detail, errors=errors, headers=headers)


async def _store_unavailable(request: Request, error: Exception) -> Response:
    log.warning("the store does not answer: %s", error)
    detail = "the store does not answer now; try again"
    if request.method == "POST":
        detail = "the store takes no change now; try again. If that stays so, see this API's log: its account may only read"
    return problem(request, 503, detail, headers=_retry())


async def _store_rejected(request: Request, error: Exception) -> Response:
    if isinstance(error, CursorRejected):
        fix = "not a cursor of this list: start again without one"
        return problem(request, 400, f"cursor: {fix}", errors=[ParameterProblem(parameter="cursor", message=fix)])
    if isinstance(error, SchemaTooOld):
        log.error("%s", error)
        return problem(
            request, 503, "the store's schema is too old: its operator must run `wafer storage migrate`", headers=_retry(60)
        )
    log.warning("the store refuses a question: %s", error)
    return problem(request, 400, "the store cannot answer this question: narrow or correct the filters")


async def _runs_rejected(request: Request, error: Exception) -> Response:
    return problem(request, 422, str(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [_explain(request, item) for item in error.errors()]
    detail = "; ".join(f"{item.parameter}: {item.message}" for item in errors)
    return problem(request, 422, detail, errors=errors)


def _explain(request: Request, item: Mapping[str, Any]) -> ParameterProblem:
    place = [str(part) for part in item["loc"][1:] if not isinstance(part, int)] or [str(item["loc"][0])]
    parameter = place[0].removesuffix("_")
    if item["type"] == "extra_forbidden":
        known = _fields(request) if item["loc"][0] == "body" else _known(request)
        return ParameterProblem(parameter=parameter, message=f"no such parameter; known here: {', '.join(known)}")
    if parameter == "run" and item["type"] == "string_pattern_mismatch":
        return ParameterProblem(parameter=parameter, message="expected <trace id, 32 hex>-<span id, 16 hex>")
    return ParameterProblem(parameter=parameter, message=str(item["msg"]).removeprefix("Value error, "))


def _known(request: Request) -> list[str]:
    """The query parameters of the route that was asked, as its OpenAPI entry lists them."""
    return sorted(entry["name"] for entry in _operation(request).get("parameters", ()) if entry["in"] == "query")


def _fields(request: Request) -> list[str]:
    """The fields of the body that the route takes."""
    reference = _operation(request)["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return sorted(request.app.openapi()["components"]["schemas"][reference.rpartition("/")[2]]["properties"])


def _operation(request: Request) -> dict[str, Any]:
    """The OpenAPI entry of what was asked."""
    operations: dict[str, dict[str, Any]] = request.app.openapi()["paths"][request.scope["route"].path]
    return operations[request.method.lower()]


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed(request, error)
    detail = {
        404: f"there is nothing at {request.url.path[:200]!r}: see /openapi.json",
        405: f"{request.method[:20]} is not offered here: use {headers.get('Allow')}",
    }.get(error.status_code, HTTPStatus(error.status_code).description or str(error.detail))
    return problem(request, error.status_code, detail, headers=headers)


def _allowed(request: Request, error: HTTPException) -> str:
    """Every method that is offered at this path; the framework names those of the first route alone."""
    path = getattr(request.scope.get("route"), "path", "")
    known = request.app.openapi()["paths"].get(path, {})
    return ", ".join(sorted(method.upper() for method in known)) or (error.headers or {}).get("Allow", "GET")


def fault(request: Request, error: Exception) -> Response:
    """An error nobody foresaw: the caller gets a number, the log the rest."""
    number = uuid.uuid4().hex[:12]
    log.error("fault %s in %s", number, request.url.path, exc_info=error)
    return problem(request, 500, f"a fault of the API, logged as {number}")
