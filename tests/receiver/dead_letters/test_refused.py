"""A row that the store refused, and takes later: sent again by its letter it is there as its sender sent it, once."""

from __future__ import annotations

import json
from uuid import UUID

import httpx

from tests.receiver.legacy.events import JOB, body, event
from tests.receiver.otlp import TRACE_ID, HttpProtobuf, spans
from wafermonitor.receiver.dead_letters.retry import retry
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.protocol import DeadLetterQuery, LogQuery, SpanQuery


def refuse(text: str):
    """A store that takes no row with this text among its attributes or in its name."""

    def fail(batches):
        rows = [row for batch in batches for row in (*batch.spans, *batch.logs)]
        return StorageRejected("no") if any(text in repr(row) for row in rows) else None

    return fail


async def send_again(storage) -> list[bool]:
    page = await storage.reader.dead_letters(DeadLetterQuery())
    return [(await retry(storage, stored)).stored for stored in page.items]


async def test_a_span_keeps_its_resource_and_all_else(start, store):
    receiver = await start()
    store.fail = refuse("span 2")
    async with HttpProtobuf("", receiver.http_address) as client:
        assert (await client.send(Signal.TRACES, client.encode(spans(3)))).rejected == 1
        store.fail = lambda _: None
        assert await send_again(store.inner) == [True]
        found = (await store.reader.spans(SpanQuery(trace_id=TRACE_ID))).items
        assert [(span.name, span.resource.service, span.scope.name) for span in found] == [
            (f"span {number}", "sorter", "tests") for number in (1, 2, 3)
        ]
        assert (await client.send(Signal.TRACES, client.encode(spans(3)))).rejected == 0
    assert (await store.reader.spans(SpanQuery(trace_id=TRACE_ID))).items == found
    assert (await store.reader.dead_letters(DeadLetterQuery())).items == []


async def test_an_older_event_is_the_same_record_when_its_sender_tries_again_too(start, store):
    receiver = await start()
    store.fail = refuse("GUILTY")
    events = [event("started"), event("progress", 1, key="GUILTY"), event("finished", 2)]
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}") as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/v1/events/batch", content=body(*events), headers=headers)
        assert [result["status"] for result in answer.json()["results"]] == ["stored", "rejected", "stored"]
        store.fail = lambda _: None
        assert set(await send_again(store.inner)) == {True}
        answer = await client.post("/v1/events/batch", content=body(*events), headers=headers)
        assert answer.json()["ok"] is True
    records = (await store.reader.logs(LogQuery(trace_id=UUID(JOB).bytes))).items
    assert [json.loads(record.attributes)[names.WAFER_JOB_RUN_ID] for record in records] == [JOB] * 3
