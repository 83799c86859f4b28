"""One read API over the store: `create_app` serves it, `wafermonitor.query.client` asks it.

Nothing is imported here before it is asked for: the UI loads `query.client` and `query.models` without FastAPI or the store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wafermonitor.query.app import create_app
    from wafermonitor.query.client import AsyncClient, Client
    from wafermonitor.query.config import Config
    from wafermonitor.query.errors import QueryError, QueryRejected, QueryUnavailable
    from wafermonitor.query.server import RunningQuery, start

__all__ = [
    "AsyncClient",
    "Client",
    "Config",
    "QueryError",
    "QueryRejected",
    "QueryUnavailable",
    "RunningQuery",
    "create_app",
    "start",
]

_MODULES = {
    "AsyncClient": "client",
    "Client": "client",
    "Config": "config",
    "QueryError": "errors",
    "QueryRejected": "errors",
    "QueryUnavailable": "errors",
    "RunningQuery": "server",
    "create_app": "app",
    "start": "server",
}


def __getattr__(name: str) -> Any:
    """Import on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
