"""The read API as an ASGI application.

In: an opened Storage and a Config. Out: a FastAPI app.  Called by: server, tests.

There is no `/docs` page yet: FastAPI's own loads its scripts from a CDN, and nothing here may load anything from outside the
host. `/openapi.json` (3.1) says the same.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from wafermonitor.query import problems
from wafermonitor.query.config import Config
from wafermonitor.query.ends import Ends
from wafermonitor.query.guard import Guard
from wafermonitor.query.models import Hello, Problem
from wafermonitor.query.routes import alerts, expectations, lists, run, service, stream, usual
from wafermonitor.query.stream import Hub
from wafermonitor.query.telemetry import Meters
from wafermonitor.storage.protocol import Storage


def create_app(storage: Storage, config: Config, *, clock: Callable[[], int] = time.time_ns) -> FastAPI:
    """Serve `storage`'s reader, and what alerting keeps. The caller closes the storage. `clock` gives now in ns."""
    meters = Meters()
    watch = storage.watch
    hub = Hub(storage.reader, config, meters, clock, watch)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await hub.close()

    app = FastAPI(
        title="WaferMonitor read API",
        version=version("wafermonitor"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.reader = storage.reader
    app.state.watch = watch
    app.state.ends = Ends(storage.reader)
    app.state.config = config
    app.state.clock = clock
    app.state.meters = meters
    app.state.hub = hub
    for module in (lists, run, alerts, expectations, stream, service, usual):
        app.include_router(module.router)
    problems.install(app)
    app.add_middleware(Guard, meters=meters)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's schema, said more exactly: computed once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            routes=app.routes,
            description="Runs of batch jobs while they run and after. Every error is RFC 9457 problem details.",
        )
        schemas = schema["components"]["schemas"]
        for model in (Problem, Hello):
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= described.pop("$defs", {}) | {model.__name__: described}
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)  # FastAPI's own error body is never sent
        for item in schema["paths"].values():
            for operation in item.values():
                for parameter in operation.get("parameters", ()):
                    _drop_null(parameter["schema"])
        app.openapi_schema = schema
    return app.openapi_schema


def _drop_null(schema: dict[str, Any]) -> None:
    """A parameter is given or left out; FastAPI also lists null, which a query string cannot hold."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1:
        del schema["anyOf"]
        schema |= choices[0]
    elif choices:
        schema["anyOf"] = choices
