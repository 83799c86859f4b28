"""Every error is RFC 9457 problem details that name the thing and the fix, and says nothing of what is behind the API."""

from __future__ import annotations

import asyncio
import base64

import httpx
import pytest

from tests.query import world
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected, StorageUnavailable

pytestmark = pytest.mark.slow

LOT = f"/v1/jobs/{world.id_of(1, 1)}"
ALERT = f"/v1/alerts/{1:032x}"
DATA_PATHS = [
    "/v1/jobs",
    "/v1/subjobs",
    "/v1/spans",
    "/v1/sites",
    "/v1/apps",
    LOT,
    f"{LOT}/tree",
    f"{LOT}/spans",
    f"{LOT}/logs",
    f"{LOT}/metrics",
    f"{LOT}/explain",
    "/v1/alerts",
    ALERT,
    f"{ALERT}/explain",
    "/v1/expectations",
    "/v1/expected-runs",
    "/v1/silences",
    "/v1/stream",
    "/readyz",
]
READ_ONLY = [path for path in DATA_PATHS if path not in {"/v1/silences", "/v1/expectations"}]
DEEP = base64.urlsafe_b64encode(b"[" * 1400).decode()
"""A cursor whose JSON is nested deeper than Python follows."""
SECRET = "postgresql://wafer:hunter2@db/x relation span does not exist"


def check(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize(
    ("path", "status", "parameter", "words"),
    [
        ("/v1/jobs?stat=lost", 422, "stat", "known here: app, attr"),
        ("/v1/jobs?state=broken", 422, "state", "'running', 'silent'"),
        ("/v1/jobs?result=good", 422, "result", "'success'"),
        ("/v1/jobs?from=gestern", 422, "from", "-6h"),
        ("/v1/jobs?to=2026-13-01", 422, "to", "check day"),
        ("/v1/jobs?min_duration=long", 422, "min_duration", "1.5h"),
        ("/v1/jobs?attr=x", 422, "attr", "key:value"),
        ("/v1/jobs?limit=0", 422, "limit", "greater than or equal to 1"),
        ("/v1/jobs?limit=many", 422, "limit", "integer"),
        ("/v1/jobs?order=best", 422, "order", "'newest' or 'failing'"),
        ("/v1/jobs?format=xml", 422, "format", "'csv'"),
        ("/v1/jobs?overdue=maybe", 422, "overdue", "'true'"),
        ("/v1/jobs?job=%00", 422, "job", "pattern"),
        ("/v1/jobs?cursor=zzz", 400, "cursor", "start again without one"),
        (f"{LOT}/spans?cursor=zzz", 400, "cursor", "start again without one"),
        (f"{LOT}/logs?cursor=zzz", 400, "cursor", "start again without one"),
        (f"{LOT}/spans?cursor={DEEP}", 400, "cursor", "start again without one"),
        ("/v1/subjobs?parent=7", 422, "parent", "pattern"),
        ("/v1/jobs/abc", 422, "run", "32 hex"),
        (f"{LOT}?sight=fab1", 422, "sight", "known here: site"),
        (f"{LOT}/logs?severity=loud", 422, "severity", "'warn'"),
        ("/v1/stream?trace=1", 422, "trace", "pattern"),
        ("/v1/alerts?severity=loud", 422, "severity", "'warning'"),
        ("/v1/alerts?opened=now", 422, "opened", "known here: acknowledged"),
        ("/v1/alerts?cursor=zzz", 400, "cursor", "start again without one"),
        ("/v1/alerts/7", 422, "alert", "pattern"),
        (f"{ALERT}?site=x", 422, "site", "known here"),
        ("/v1/expected-runs?state=gone", 422, "state", "'missed'"),
        ("/v1/expectations?origin=mine", 422, "origin", "'proposed'"),
        (f"{LOT}/explain?with=x", 422, "with", "known here: site"),
    ],
)
async def test_a02_a_wrong_parameter_is_named_with_its_fix(api, path, status, parameter, words):
    body = check(await api.get(path), status)
    assert [error["parameter"] for error in body["errors"]] == [parameter]
    assert words in body["errors"][0]["message"]
    assert parameter in body["detail"]


async def test_a02_several_wrong_parameters_are_all_named(api):
    body = check(await api.get("/v1/jobs?state=x&limit=-1&from=y"), 422)
    assert {error["parameter"] for error in body["errors"]} == {"state", "limit", "from"}


@pytest.mark.parametrize("path", ["/", "/nope", "/docs", "/redoc", "/v1/jobs/", "/v1/jobs//tree", f"{LOT}/nope"])
async def test_a02_an_unknown_path_is_404(api, path):
    body = check(await api.get(path), 404)
    assert "/openapi.json" in body["detail"]


@pytest.mark.parametrize("rest", ["", "/tree", "/spans", "/logs", "/metrics"])
async def test_a02_an_unknown_run_is_404_and_is_named(api, rest):
    body = check(await api.get(f"/v1/jobs/{'0' * 31}f-{'0' * 15}f{rest}"), 404)
    assert "0000f-0" in body["detail"]


@pytest.mark.parametrize("path", [*READ_ONLY, "/v1/healthz", "/metrics", "/openapi.json"])
async def test_a02_another_method_is_405_and_names_the_right_one(api, path):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await api.request(method, path)
        check(answer, 405)
        assert "GET" in answer.headers["allow"]


async def test_a02_a_path_with_two_methods_names_both(api):
    answer = await api.put("/v1/silences")
    assert "use GET, POST" in check(answer, 405)["detail"]
    assert answer.headers["allow"] == "GET, POST"
    assert (await api.get(f"{ALERT}/acknowledge")).headers["allow"] == "POST"


class FailingReader:
    """Every question ends as told."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        async def fail(*_, **__):
            if self._error is None:
                await asyncio.Event().wait()
            raise self._error

        return fail


class FailingStorage:
    """A store behind which everything fails."""

    def __init__(self, error):
        self.reader = FailingReader(error)
        self.watch = FailingReader(error)


def failing_api(error, raise_app_exceptions=True):
    app = create_app(FailingStorage(error), Config(deadline_s=0.05))
    transport = httpx.ASGITransport(app, raise_app_exceptions=raise_app_exceptions)
    return httpx.AsyncClient(transport=transport, base_url="http://api")


@pytest.mark.parametrize("path", DATA_PATHS)
async def test_a02_a_store_that_is_down_is_503_with_retry_after(path):
    async with failing_api(StorageUnavailable(SECRET)) as api:
        answer = await api.get(path)
    check(answer, 503)
    assert int(answer.headers["retry-after"]) > 0


async def test_a02_a_change_that_the_store_does_not_take_names_the_account():
    async with failing_api(StorageUnavailable(SECRET)) as api:
        answer = await api.post(f"{ALERT}/acknowledge", json={"by": "ana"})
    assert "its account may only read" in check(answer, 503)["detail"]


@pytest.mark.parametrize("path", DATA_PATHS)
async def test_a02_a_store_that_hangs_is_503_within_the_deadline(path):
    async with failing_api(None) as api:
        answer = await api.get(path)
    assert "no answer within 0.05 s" in check(answer, 503)["detail"]


async def test_a02_a_question_the_store_refuses_is_400_without_its_words():
    async with failing_api(StorageRejected(SECRET)) as api:
        check(await api.get("/v1/jobs"), 400)


async def test_a02_an_old_schema_is_503_and_names_the_command():
    async with failing_api(SchemaTooOld(SECRET)) as api:
        body = check(await api.get("/v1/jobs"), 503)
    assert "wafer storage migrate" in body["detail"]


async def test_a02_a_fault_is_500_with_a_number_that_the_log_has(caplog):
    async with failing_api(KeyError(SECRET)) as api:
        answer = await api.get("/v1/jobs")
    number = check(answer, 500)["detail"].rsplit(" ", 1)[-1]
    assert number in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [*DATA_PATHS[:-2], "/v1/healthz", "/metrics", "/openapi.json", "/nope", "/v1/jobs?x=1"])
async def test_s06_security_headers_stand_on_every_answer(api, path):
    headers = (await api.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


async def test_other_origins_may_not_read(api):
    answer = await api.get("/v1/jobs", headers={"Origin": "http://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers
