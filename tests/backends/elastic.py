"""What Elasticsearch and OpenSearch have of the corpus, by their own clients' searches, and faults that both can be given.

In: a search of one data stream. Out: `proof.Kept`. Called by: `test_elasticsearch`, `test_opensearch`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.backends import corpus, proof
from wafermonitor.storage.writers import elastic_documents
from wafermonitor.storage.writers.items import Event, Link, items
from wafermonitor.storage.writers.protocol import Fate, Signal

KEY = f"attributes.{corpus.KEY}"
SIZE = 5000
NS_PER_MS = 1_000_000
Search = Callable[[str, Mapping[str, Any]], Iterable[Mapping[str, Any]]]
"""(data stream, query) → hits."""


def kept(signal: Signal, search: Search, dataset: str = "generic") -> Iterable[proof.Kept]:
    """Every item of the corpus in the data stream of this signal."""
    hits = search(f"{signal}-{dataset}.otel-default", {"exists": {"field": KEY}})
    found = [one["_source"] for one in hits]
    events = _events(search, dataset) if signal == "traces" else {}
    for document in found:
        fields = {"traces": _span, "logs": _log, "metrics": _point}[signal](document)
        if signal == "traces":
            fields["events"] = events.get(document["span_id"], [])
        origin = document["resource"]["attributes"]
        origins = {"site": origin["wafer.site.id"], "service": origin["service.name"]}
        yield proof.Kept(document["attributes"][corpus.KEY], fields | origins)


def _events(search: Search, dataset: str) -> dict[str, list[Event]]:
    """Events by their span's id: documents that nobody observed."""
    found: dict[str, list[Event]] = defaultdict(list)
    for one in search(f"logs-{dataset}.otel-default", {"bool": {"must_not": {"exists": {"field": "observed_timestamp"}}}}):
        document = one["_source"]
        attributes = {name: value for name, value in document["attributes"].items() if name != "event.name"}
        found[document["span_id"]].append(Event(_ns(document["@timestamp"]), document["event_name"], attributes))
    return found


def _ns(timestamp: str) -> int:
    whole, fraction = timestamp.split(".")
    return int(whole) * NS_PER_MS + int(fraction)


def _span(document: Mapping[str, Any]) -> dict[str, Any]:
    start_ns = _ns(document["@timestamp"])
    return {
        **{name: document[name] for name in ("trace_id", "span_id", "name", "attributes")},
        "parent_span_id": document.get("parent_span_id", ""),
        "kind": document["kind"].upper(),
        "start_ns": start_ns,
        "end_ns": start_ns + document["duration"],
        "status": document["status"].get("code", "Unset").upper(),
        "status_message": document["status"].get("message", ""),
        "links": [Link(one["trace_id"], one["span_id"], one["attributes"]) for one in document.get("links", [])],
    }


def _log(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: document[name] for name in ("trace_id", "span_id", "severity_text", "attributes")},
        "time_ns": _ns(document["@timestamp"]),
        "observed_ns": _ns(document["observed_timestamp"]),
        "severity": document["severity_number"],
        "event_name": document.get("event_name", ""),
        "body": document["body"]["text"],
    }


def _point(document: Mapping[str, Any]) -> dict[str, Any]:
    ((name, value),) = document["metrics"].items()
    fields = {"name": name, "unit": document["unit"], "attributes": document["attributes"]}
    if not isinstance(value, dict):
        fields["value"] = value
    if "type" not in document:  # the Collector's exporter, which keeps milliseconds and no more of the type than this
        return fields
    return fields | {
        "time_ns": _ns(document["@timestamp"]),
        "start_ns": _ns(document["start_timestamp"]) if "start_timestamp" in document else 0,
        "type": document["type"],
        "temporality": document.get("temporality", "unspecified"),
        "monotonic": document.get("monotonic", False),
        "summary": document.get("summary", {}),
    }


HOSTILE: tuple[Any, ...] = (
    {"x": 1, "x.y": "a number and more below it", "list": [1, "two", None], "maps": [{"a": 1}, {"a": "b"}]},
    {"x": "no number", "x.y": {"z": 1.5}, "list": "no list", "maps": 7},
    {"x": {"y": {"z": "deep"}}, "whole": [1, 2.5], "none": float("nan"), "much": float("inf"), "raw": b"\x00\xff"},
    {f"key {number}": number for number in range(1500)},
    {"long": "y" * 40_000},
)
"""Attributes that contradict one another, or are too much."""


def takes_what_contradicts(writer: Any, search: Search, dataset: str) -> None:
    """Each of `HOSTILE` is there, with its values in the document, though not every one can be searched for."""
    request = logs([{"n": place} | one for place, one in enumerate(HOSTILE)])
    (outcome,) = writer.write("logs", [request])
    assert outcome.fate is Fate.ACCEPTED, outcome.reason
    assert not outcome.rejected
    hits = search(f"logs-{dataset}.otel-default", {"match_all": {}})
    found = {one["_source"]["attributes"]["n"]: one["_source"]["attributes"] for one in hits}
    assert sorted(found) == list(range(len(HOSTILE)))
    for item in items("logs", request):
        assert found[item.attributes["n"]] == elastic_documents.value(item.attributes)


def keeps_what_it_can(writer: Any, search: Search, dataset: str) -> None:
    """A document that is refused for good does not stand in the others' way, and comes back alone."""
    good = logs([{"n": 1}, {"n": 2}])
    mixed = logs([{"n": 3}, {"n": 4, "": "a field without a name"}, {"n": 5}])
    outcomes = writer.write("logs", [good, mixed, b"\xff\xff"])
    assert [one.fate for one in outcomes] == [Fate.ACCEPTED, Fate.ACCEPTED, Fate.REJECTED]
    assert outcomes[1].rejected == 1
    assert "parsing_exception" in outcomes[1].reason
    assert [one.attributes["n"] for one in items("logs", outcomes[1].remains)] == [4]
    hits = search(f"logs-{dataset}.otel-default", {"range": {"attributes.n": {"gte": 2}}})
    assert sorted(one["_source"]["attributes"]["n"] for one in hits) == [2, 3, 5]


def waits_for_the_operator(writer: Any, server: Any, search: Search, dataset: str) -> None:
    """An index that nobody may write to is an operator's business: nothing is refused for good, and all comes later."""
    assert writer.write("logs", [logs([{"n": 1}])])[0].fate is Fate.ACCEPTED
    stream = f"logs-{dataset}.otel-default"
    try:
        assert server.ask("PUT", f"/{stream}/_settings", {"index.blocks.write": True})[0] == 200
        (outcome,) = writer.write("logs", [logs([{"n": 2}])])
        assert outcome.fate is Fate.RETRY
        assert "403" in outcome.reason
    finally:
        assert server.ask("PUT", f"/{stream}/_settings", {"index.blocks.write": False})[0] == 200
    assert writer.write("logs", [logs([{"n": 2}])])[0].fate is Fate.ACCEPTED
    assert len(list(search(stream, {"match_all": {}}))) == 2


def logs(attributes: Iterable[Mapping[str, Any]]) -> bytes:
    """A request of log records with these attributes."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for place, found in enumerate(attributes):
        record = records.add(time_unix_nano=1_700_000_000_000_000_000 + place, observed_time_unix_nano=1)
        for name, value in found.items():
            _set(record.attributes.add(key=name).value, value)
    return request.SerializeToString()


def _set(target: Any, value: Any) -> None:
    if isinstance(value, dict):
        target.kvlist_value.SetInParent()
        for name, one in value.items():
            _set(target.kvlist_value.values.add(key=name).value, one)
    elif isinstance(value, list):
        target.array_value.SetInParent()
        for one in value:
            _set(target.array_value.values.add(), one)
    elif value is not None:
        field = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value", bytes: "bytes_value"}
        setattr(target, field[type(value)], value)
