"""schemathesis asks the API everything its schema allows, and much that it does not (goal A1, shortened)."""

from __future__ import annotations

import asyncio
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from tests.query import watched, world
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config
from wafermonitor.query.filters import RUN_PATTERN
from wafermonitor.storage import memory

pytestmark = pytest.mark.slow
EXAMPLES = 25
ALERTS = [watched.OPEN, watched.TAKEN, watched.OVER, watched.FEED]
EXPECTATIONS = ["hourly", "nightly", "weekly"]
KNOWN = [world.id_of(*ids) for ids in ((1, 1), (1, 3), (2, 1), (3, 2), (4, 1))]


def filled_app():
    clock = world.Clock()
    storage = memory.Storage(clock=clock)

    async def fill():
        await world.fill(storage.writer)
        await watched.fill(storage.watch)

    asyncio.run(fill())
    return create_app(storage, Config(changes="any"), clock=clock)  # the test's client says that it comes from nowhere


CONFIG = SchemathesisConfig.from_dict({"generation": {"database": "none", "deterministic": True}})
schema = schemathesis.openapi.from_asgi("/openapi.json", filled_app(), config=CONFIG)


# A stream has no end; its own tests read it.
@schema.exclude(path="/v1/stream").parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a01_answers_keep_to_the_schema(case):
    aim(case)
    case.call_and_validate()


def aim(case):
    """Let most questions reach data: runs that exist, no site that hides them, and no cursor that this API did not give out
    (400, which no schema can foresee)."""
    run = case.path_parameters.get("run")
    if isinstance(run, str) and re.fullmatch(RUN_PATTERN, run) and (choice := sum(run.encode())) % 4:
        case.path_parameters["run"] = KNOWN[choice % len(KNOWN)]
    for name, known in (("alert", ALERTS), ("silence", [watched.SILENCE]), ("expectation", EXPECTATIONS)):
        value = case.path_parameters.get(name)
        if isinstance(value, str) and (choice := sum(value.encode(errors="replace"))) % 4 and is_id(name, value):
            case.path_parameters[name] = known[choice % len(known)]
    if isinstance(case.body, dict) and isinstance(until := case.body.get("until"), str) and len(until) <= 40:
        # No schema can foresee which times are to come, and that one of three may be left out, but not all.
        case.body["until"] = "+2h"
        if not any(case.body.get(name) for name in ("site", "job", "rule")):
            case.body["rule"] = "late"
    if isinstance(case.body, dict) and isinstance(case.body.get("spec"), dict) and len(case.body["spec"]) <= 20:
        case.body["spec"] = {"every_s": 3600}  # what stands in a spec is alerting's to say
    for name in ("cursor", "site") if run else ("cursor",):
        value = case.query.get(name)
        if isinstance(value, str) and re.fullmatch(r"[!-~]{1,2000}", value):
            del case.query[name]


def is_id(name, value):
    """A name that the schema allows: what it does not allow stays as it is, to be refused."""
    return name == "expectation" or re.fullmatch(r"[0-9a-f]{32}", value) is not None
