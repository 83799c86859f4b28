"""JSON, CSV and NDJSON: the same rows in each."""

from __future__ import annotations

import csv
import io
import json

import httpx
import pytest

from tests.query import world
from wafermonitor.query.config import Config
from wafermonitor.query.formats import Format, column_names, csv_text, negotiate
from wafermonitor.query.models import LogModel, RunModel
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import StorageUnavailable

LISTS = [
    "/v1/jobs",
    "/v1/subjobs",
    "/v1/spans",
    "/v1/sites",
    "/v1/apps",
    f"/v1/jobs/{world.id_of(1, 1)}/spans",
    f"/v1/jobs/{world.id_of(1, 1)}/logs",
    f"/v1/jobs/{world.id_of(1, 1)}/metrics",
]


def flat(item, prefix=""):
    """A JSON item as the CSV's cells are: dotted names, JSON text in cells, null is empty."""
    cells = {}
    for name, value in item.items():
        if isinstance(value, dict) and name in ("progress", "eta"):
            cells |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, dict | list):
            cells[prefix + name] = json.dumps(value, separators=(",", ":"))
        elif isinstance(value, bool):
            cells[prefix + name] = str(value).lower()
        else:
            cells[prefix + name] = "" if value is None else value if isinstance(value, str) else repr(value)
    return cells


@pytest.mark.parametrize("path", LISTS)
async def test_a03_negotiation_gives_equal_rows(api, path):
    page = await api.get(path)
    lines = await api.get(path, headers={"Accept": "application/x-ndjson"})
    table = await api.get(path, headers={"Accept": "text/csv"})
    items = page.json()["items"]
    assert items
    assert page.headers["content-type"] == "application/json"
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert table.headers["content-type"].startswith("text/csv")
    assert [json.loads(line) for line in lines.text.splitlines()] == items
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert len(rows) == len(items)
    for row, item in zip(rows, items, strict=True):
        expected = flat(item)
        assert {name: cell.removeprefix("'") for name, cell in row.items() if cell} == {k: v for k, v in expected.items() if v}


async def test_format_parameter_wins_over_the_accept_header(api):
    answer = await api.get("/v1/jobs", params={"format": "ndjson"}, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, Format.JSON),
        ("*/*", Format.JSON),
        ("text/*", Format.CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", Format.JSON),
        ("application/json;q=0.5, text/csv", Format.CSV),
        ("application/json;q=0, */*;q=0.1", Format.CSV),
        ("APPLICATION/X-NDJSON", Format.NDJSON),
        ("application/*;q=0.2, application/x-ndjson;q=0.3", Format.NDJSON),
    ],
)
def test_accept_headers_choose(accept, chosen):
    assert negotiate(accept, None) is chosen


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*;q=1", "*/*;q=nonsense"])
async def test_an_accept_header_that_nothing_meets_is_406(api, accept):
    answer = await api.get("/v1/jobs", headers={"Accept": accept})
    assert answer.status_code == 406
    assert "text/csv" in answer.json()["detail"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_cells_cannot_be_formulas(start):
    model = LogModel(time="t", severity=1, severity_text=start + "cmd", body=start + "x")
    row = next(csv.DictReader(io.StringIO(csv_text(LogModel, [model], header=True), newline="")))
    assert row["severity_text"] == f"'{start}cmd"
    assert row["body"] == f"'{start}x"


def test_csv_columns_of_nested_records_are_dotted():
    columns = column_names(RunModel)
    assert "progress.ratio" in columns
    assert "progress" not in columns
    assert len(columns) == len(set(columns))


async def test_rows_stream_over_many_pages_and_end_at_the_limit(api, storage):
    await storage.writer.write([Batch(runs=[world.run(5000 + n, 1, start_s=-n - 10_000) for n in range(1200)])])
    everything = await api.get("/v1/jobs", params={"format": "ndjson"})
    assert len(everything.text.splitlines()) == 1204
    some = await api.get("/v1/jobs", params={"format": "csv", "limit": 1100})
    assert len(some.text.splitlines()) == 1101
    assert some.headers["wafer-row-limit"] == "1100"
    few = await api.get("/v1/jobs", params={"format": "ndjson", "limit": 5})
    following = await api.get(few.links["next"]["url"])
    assert following.text.splitlines() == everything.text.splitlines()[5:10]


class TestServiceLimit:
    """The operator's `max_rows` ends a stream."""

    @pytest.fixture
    def config(self):
        return Config(max_rows=2)

    async def test_the_service_s_limit_ends_a_stream_and_is_told(self, api):
        answer = await api.get("/v1/jobs", params={"format": "ndjson"})
        assert len(answer.text.splitlines()) == 2
        assert answer.headers["wafer-row-limit"] == "2"


async def test_a_stream_reads_a_page_only_when_the_one_before_is_sent(app, storage):
    await storage.writer.write([Batch(runs=[world.run(50_000 + n, 1, start_s=-n - 10_000) for n in range(3000)])])
    read, events = storage.reader.runs, []

    async def counted(query):
        events.append("read")
        return await read(query)

    storage.reader.runs = counted

    async def send(message):
        if message.get("body"):
            events.append("sent")

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/jobs",
        "raw_path": b"/v1/jobs",
        "query_string": b"format=ndjson",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("api", 80),
        "root_path": "",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    await app(scope, receive, send)
    assert events == ["read", "sent"] * 4


async def test_a_stream_that_fails_midway_is_cut_off_not_ended(running, storage):
    await storage.writer.write([Batch(runs=[world.run(5000 + n, 1, start_s=-n - 10_000) for n in range(1500)])])
    read = storage.reader.runs

    async def failing(query):
        if query.cursor is not None:
            raise StorageUnavailable("down")
        return await read(query)

    storage.reader.runs = failing
    async with httpx.AsyncClient(base_url=running.url) as api:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await api.get("/v1/jobs", params={"format": "csv"})
