"""What becomes of requests when the server says this or that. The servers themselves: tests/backends."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.backends import corpus, elastic
from tests.servers import http_sink, smtp
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import elasticsearch, opensearch
from wafermonitor.storage.writers.elastic_bulk import Answer, Bulk, Silent
from wafermonitor.storage.writers.items import items
from wafermonitor.storage.writers.protocol import Fate

CREATED = {"status": 201}
OTEL = {"mappings": {"properties": {"attributes": {}}}}
BOTH = pytest.mark.parametrize("kind", [elasticsearch, opensearch])


class Server:
    """Answers to bulk requests as `result` says of each document, and about templates as `there` and `would_be` say."""

    def __init__(
        self, result: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] = lambda _place, _body: CREATED
    ) -> None:
        self.result = result
        self.there = Answer(404, {"error": {"type": "index_not_found_exception"}})
        self.would_be = Answer(200, {})
        self.whole: Callable[[int], Answer | None] = lambda _count: None
        self.put: list[str] = []
        self.sizes: list[int] = []
        self.places: list[dict[str, Any]] = []

    def ask(self, method: str, path: str, body: bytes | None) -> Answer:
        if method == "PUT":
            self.put.append(path)
            return Answer(200, {"acknowledged": True})
        if path != "/_bulk":
            return self.would_be if "_simulate_index" in path else self.there
        assert body is not None
        lines = [json.loads(line) for line in body.splitlines()]
        self.sizes.append(len(lines) // 2)
        self.places = [line["create"] for line in lines[::2]]
        whole = self.whole(len(lines) // 2)
        if whole is not None:
            return whole
        results = [self.result(place, document) for place, document in zip(self.places, lines[1::2], strict=True)]
        return Answer(200, {"errors": True, "items": [{"create": one} for one in results]})


def bulk(server: Server, **settings: Any) -> Bulk:
    return Bulk("Elasticsearch", elasticsearch.Config(**settings), "elasticsearch-template.json", server.ask)


def error(status: int, kind: str, reason: str = "") -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


def numbered(*numbers: int) -> bytes:
    return elastic.logs([{"n": number} for number in numbers])


def one_fails(failure: dict[str, Any], number: int = 2) -> Server:
    return Server(lambda _place, body: failure if body["attributes"]["n"] == number else CREATED)


def test_what_is_there_already_is_accepted():
    server = Server(lambda _place, _body: error(409, "version_conflict_engine_exception"))
    assert bulk(server).write("logs", [numbered(1, 2)])[0].fate is Fate.ACCEPTED


def test_all_requests_go_in_one_bulk():
    server = Server()
    assert [one.fate for one in bulk(server).write("logs", [numbered(1, 2), numbered(3)])] == [Fate.ACCEPTED] * 2
    assert server.sizes == [3]


@pytest.mark.parametrize(
    "failure",
    [
        error(429, "es_rejected_execution_exception"),
        error(503, "unavailable_shards_exception"),
        error(403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)]"),
        error(403, "security_exception"),
        error(404, "index_not_found_exception"),
        error(400, "validation_exception", "this action would add [2] shards, but this cluster has [1000]/[1000] open"),
        error(400, "index_closed_exception"),
        error(400, "illegal_argument_exception", "pipeline with id [x] does not exist"),
    ],
)
def test_what_passes_or_an_operator_can_put_right_is_tried_again(failure):
    outcomes = bulk(one_fails(failure)).write("logs", [numbered(1), numbered(2, 3)])
    assert [one.fate for one in outcomes] == [Fate.ACCEPTED, Fate.RETRY]
    assert failure["error"]["type"] in outcomes[1].reason


def test_what_a_mapping_refuses_comes_back_alone_without_what_it_said():
    reason = "failed to parse field [attributes.n] of type [long] in document with id 'x'. Preview of field's value: 'secret'"
    outcomes = bulk(one_fails(error(400, "document_parsing_exception", reason))).write("logs", [numbered(1, 2, 3), numbered(4)])
    assert [one.fate for one in outcomes] == [Fate.ACCEPTED] * 2
    assert outcomes[0].rejected == 1
    assert outcomes[0].reason == "Elasticsearch: document_parsing_exception at attributes.n"
    assert [one.attributes for one in items("logs", outcomes[0].remains)] == [{"n": 2}]


def test_an_index_that_may_have_no_more_fields_is_told_with_the_setting():
    reason = "Limit of total fields [2000] has been exceeded while adding new fields [1]"
    (outcome,) = bulk(one_fails(error(400, "illegal_argument_exception", reason))).write("logs", [numbered(1, 2)])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 1)
    assert "index.mapping.total_fields.limit" in outcome.reason


def test_a_request_of_which_everything_is_refused_is_rejected():
    server = Server(lambda _place, _body: error(400, "mapper_parsing_exception"))
    (outcome,) = bulk(server).write("logs", [numbered(1, 2)])
    assert outcome.fate is Fate.REJECTED
    assert outcome.rejected == 2


def test_a_span_whose_event_is_refused_comes_back_whole():
    server = Server(
        lambda place, _body: CREATED if place["_index"].startswith("traces") else error(400, "mapper_parsing_exception")
    )
    part = corpus.part("t", 0)
    (outcome,) = bulk(server).write("traces", [part.requests["traces"]])
    refused = items("traces", outcome.remains)
    assert outcome.rejected == len(refused) > 0
    assert all(one.events for one in refused)


def test_a_bulk_that_is_too_large_is_halved_down_to_the_document_that_is():
    server = Server()
    server.whole = lambda count: Answer(413, None) if count > 1 or server.places[0]["_id"] == largest else None
    request = numbered(1, 2, 3, 4, 5)
    largest = items("logs", request)[3].id
    (outcome,) = bulk(server).write("logs", [request])
    assert [one.attributes for one in items("logs", outcome.remains)] == [{"n": 4}]
    assert outcome.reason == "Elasticsearch: 413"


def test_a_bulk_is_no_larger_than_it_may_be():
    server = Server()
    bulk(server, bulk_bytes=700).write("logs", [numbered(*range(10))])
    assert len(server.sizes) > 3
    assert sum(server.sizes) == 10


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, "<html>"),
        Answer(400, {"error": {"type": "validation_exception"}}),
        Answer(401, {}),
        Answer(403, {"error": {"type": "security_exception"}}),
        Answer(502, None),
        Answer(200, "<html>"),
        Answer(200, {"items": []}),
    ],
)
def test_no_other_answer_to_a_bulk_settles_anything(answer):
    server = Server()
    server.whole = lambda _count: answer
    (outcome,) = bulk(server).write("logs", [numbered(1, 2)])
    assert outcome.fate is Fate.RETRY
    assert outcome.reason


def test_after_silence_the_rest_waits_and_the_server_is_looked_at_anew():
    server = Server()
    writer = bulk(server, bulk_bytes=1)
    assert writer.write("logs", [numbered(1)])[0].fate is Fate.ACCEPTED
    assert len(server.put) == 1
    seen = len(server.sizes)

    def silent(_count: int) -> Answer:
        raise Silent("it does not answer")

    server.whole = silent
    outcomes = writer.write("logs", [numbered(1), numbered(2), b"\xff\xff"])
    assert [one.fate for one in outcomes] == [Fate.RETRY, Fate.RETRY, Fate.REJECTED]
    assert len(server.sizes) == seen + 1
    server.whole = lambda _count: None
    assert writer.write("logs", [numbered(1)])[0].fate is Fate.ACCEPTED
    assert len(server.put) == 2


@pytest.mark.parametrize(
    ("templates", "found", "put"),
    [
        ("auto", {}, True),
        ("auto", {"template": {"mappings": {"properties": {"message": {}}}}}, True),
        ("auto", {"template": OTEL}, False),
        ("always", {"template": OTEL}, True),
        ("never", {}, False),
    ],
)
def test_our_template_is_put_where_none_is_made_for_these_documents(templates, found, put):
    server = Server()
    server.would_be = Answer(200, found)
    bulk(server, templates=templates).write("logs", [numbered(1)])
    assert server.put == (["/_index_template/wafermonitor-logs-generic.otel-default"] if put else [])


def test_an_account_that_may_not_see_templates_writes_all_the_same():
    server = Server()
    server.there = Answer(403, {"error": {"type": "security_exception"}})
    assert bulk(server).write("logs", [numbered(1)])[0].fate is Fate.ACCEPTED
    assert server.put == []


def test_where_metrics_are_time_series_documents_are_not_named_and_fields_are():
    server = Server()
    dynamic = [{"gauge_double": {}}, {"counter_long": {}}]
    server.there = Answer(
        200,
        {
            ".ds-metrics-000001": {},
            ".ds-metrics-000002": {"settings": {"index": {"mode": "time_series"}}, "mappings": {"dynamic_templates": dynamic}},
        },
    )
    part = corpus.part("t", 0)
    assert bulk(server).write("metrics", [part.requests["metrics"]])[0].fate is Fate.ACCEPTED
    assert not any("_id" in place for place in server.places)
    named = [place["dynamic_templates"] for place in server.places if "dynamic_templates" in place]
    assert {"metrics.wafers.done": "counter_long"} in named
    assert not any("metrics.wafer.time" in one for one in named)


def test_an_account_that_cannot_see_time_series_learns_of_them():
    refusal = error(400, "document_parsing_exception", "failed to parse: _id must be unset or set to [x] but was [y] because …")
    server = Server(lambda place, _body: refusal if "_id" in place else CREATED)
    server.there = Answer(403, {})
    writer, part = bulk(server), corpus.part("t", 0)
    assert writer.write("metrics", [part.requests["metrics"]])[0].fate is Fate.RETRY
    assert writer.write("metrics", [part.requests["metrics"]])[0].fate is Fate.ACCEPTED


@BOTH
def test_who_is_not_there_is_tried_again_and_not_named(kind, unused_tcp_port):
    writer = kind.Writer(kind.Config(url=f"http://127.0.0.1:{unused_tcp_port}", user="someone", password="hidden"))
    kept, broken = writer.write("logs", [numbered(1), b"\xff\xff"])
    assert kept.fate is Fate.RETRY
    assert not any(word in kept.reason for word in ("127.0.0.1", "someone", "hidden"))
    assert broken.fate is Fate.REJECTED
    with pytest.raises(StorageUnavailable, match="does not answer"):
        writer.check()
    writer.close()
    writer.close()


@BOTH
@pytest.mark.parametrize("status", [200, 302, 400, 404, 500, 503])
def test_what_is_no_search_server_never_accepts(kind, status):
    with http_sink.start() as sink:
        sink.status = status
        sink.headers = {"content-type": "text/html"}
        writer = kind.Writer(kind.Config(url=sink.url))
        (outcome,) = writer.write("logs", [numbered(1)])
        assert outcome.fate is Fate.RETRY
        writer.close()


@BOTH
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://someone:hidden@127.0.0.1:9200", "_USER"),
        ("127.0.0.1:9200", "https://host:9200"),
        ("http://host", "https://host:9200"),
        ("http://host:99999", "https://host:9200"),
        (" , ", "names no address"),
    ],
)
def test_an_address_that_is_none_is_refused_without_saying_it(kind, url, says):
    with pytest.raises(StorageRejected, match=says) as raised:
        kind.Writer(kind.Config(url=url))
    assert "hidden" not in str(raised.value)


@BOTH
def test_a_server_is_trusted_by_the_file_that_is_named(kind, tmp_path):
    certificate, key = smtp.certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http_sink.start(context=context) as sink:
        url = sink.url.replace("http:", "https:")
        for known, says in (("", "certificate is not trusted"), (str(certificate), "what answers there is not")):
            writer = kind.Writer(kind.Config(url=url, ca_file=known))
            (outcome,) = writer.write("logs", [numbered(1)])
            assert outcome.fate is Fate.RETRY
            assert says in outcome.reason
            writer.close()


@BOTH
@pytest.mark.parametrize("content", [None, "no certificate"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_file_without_certificates_is_named_by_its_option(kind, content, scheme, tmp_path):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StorageRejected, match=f"WAFER_{kind.Config.component.upper()}_CA_FILE"):
        kind.Writer(kind.Config(url=f"{scheme}://127.0.0.1:9200", ca_file=str(path)))


def test_certificates_are_of_no_matter_without_tls(tmp_path):
    certificate, _ = smtp.certificate(tmp_path)
    for kind in (elasticsearch, opensearch):
        kind.Writer(kind.Config(url="http://127.0.0.1:9200", ca_file=str(certificate))).close()


def test_two_logins_contradict_one_another():
    with pytest.raises(StorageRejected, match="API_KEY"):
        elasticsearch.Writer(elasticsearch.Config(user="someone", api_key="x"))


@pytest.mark.parametrize("name", ["Generic", "a-b", "", "a b", "_x"])
def test_names_of_data_streams_are_checked(name):
    if not name:
        assert elasticsearch.Config.load({"WAFER_ELASTICSEARCH_DATASET": name}).dataset == "generic"
        return
    with pytest.raises(ConfigRejected, match="small letters"):
        elasticsearch.Config.load({"WAFER_ELASTICSEARCH_DATASET": name})
