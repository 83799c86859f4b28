"""Older events to send, with everything filled in, so that a test names only what it is about."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.receiver.otlp import SECOND_NS, START_NS

JOB = "6f1f8e7a-3d0e-4a43-9a55-1f3f3c5a7b11"
SUBJOB = "9b2d6d1c-7c3e-4f64-8d0b-6f0a4b8f2c22"
APP = {"app_id": "0d9f7a52-52a4-4a0f-8d54-2f4e6f0f8f01", "name": "yield-app", "version": "1.0.0"}
ROUTES = (
    "/v1/ingest/managed",
    "/v1/event",
    "/v1/events/batch",
    "/v1/ingest/events",
    "/v1/ingest/events:batch",
    "/v1/ingest/batch",
)


def at(second: float) -> str:
    """Not long ago, as RFC 3339."""
    return (datetime.fromtimestamp(START_NS // SECOND_NS, UTC) + timedelta(seconds=second)).isoformat()


def at_ns(second: int) -> int:
    return START_NS + second * SECOND_NS


def event(
    kind: str = "started", second: float = 0, *, subjob: bool = False, key: str | None = None, **said: Any
) -> dict[str, Any]:
    """One event of JOB, or of SUBJOB, `second` seconds after it began. `said` stands in its `event`."""
    entity: dict[str, Any] = {"type": "job", "id": JOB, "parent_id": None, "business_key": "daily-batch", "sub_key": None}
    if subjob:
        entity = {"type": "subjob", "id": SUBJOB, "parent_id": JOB, "business_key": None, "sub_key": "wafer-02"}
    return {
        "idempotency_key": key or f"{entity['id']}-{kind}-{second}",
        "site_id": "fab1",
        "app": dict(APP),
        "entity": entity,
        "event": {"kind": kind, "at": at(second), "metrics": {}, "status": "running", "metadata": {}} | said,
    }


def run(*, status: str = "succeeded") -> list[dict[str, Any]]:
    """A job with one subjob, from start to end."""
    usage = {"cpu_user_s": 3.0, "cpu_system_s": 0.5, "mem_max_mb": 100.0}
    return [
        event("started", 0),
        event("started", 1, subjob=True),
        event("progress", 4, metadata={"progress": 0.5, "stage": "probe"}),
        event("finished", 5, subjob=True, status="succeeded", metrics={"duration_s": 4.0}),
        event("finished", 8, status=status, metrics=usage | {"duration_s": 8.0}),
    ]


def body(*events: Any, **beside: Any) -> bytes:
    return json.dumps({"events": list(events)} | beside).encode()
