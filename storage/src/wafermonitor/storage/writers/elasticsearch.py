"""Elasticsearch: a document for each span, log record and metric point, in the shape of the Collector's own exporter.

In: OTLP requests. Out: documents in the data streams {traces,logs,metrics}-generic.otel-default; their shape stands in
`elastic_documents`. Idempotent by the document's id, or, where the server keeps metrics as time series, by its own.
Called by: `receiver.bridge`, jobs in mode direct.

Elasticsearch 8.14 and newer, also 9. Where the server has the index templates of Elastic's OTel plug-in (8.16 and newer), these
are used; it then keeps metrics as time series and refuses points that are hours old, which go to the dead-letter file. Where it
has none, `elasticsearch-template.json` is put before the first write. An account that may only write (`create_doc`,
`auto_configure`) is enough where the templates are there.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from elastic_transport import SerializationError, TlsError, Transport, TransportError
from elastic_transport.client_utils import url_to_node_config

from wafermonitor.instrumentation.environment import EnvironmentConfig, option
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers.elastic_bulk import Answer, Bulk, Settings, Silent
from wafermonitor.storage.writers.protocol import SIGNALS, Outcome, Signal

NAME = "Elasticsearch"
_PRODUCT = "x-elastic-product"


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Where Elasticsearch is, and who writes."""

    component: ClassVar[str] = "elasticsearch"

    api_key: str = option(str, "API key in its encoded form, in place of account and password.", default="", secret=True)


class Writer:
    """Bulk requests over kept connections; with several addresses, the next when one does not answer."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14506

    def __init__(self, config: Config) -> None:
        same = {"headers": _login(config), "request_timeout": config.timeout_s, "http_compress": True}
        tls = {"ca_certs": config.trusted} if config.trusted else {}
        nodes = [url_to_node_config(url) for url in config.urls]
        self._transport = Transport(
            [node.replace(**same, **(tls if node.scheme == "https" else {})) for node in nodes],
            max_retries=len(nodes) - 1,
            retry_on_status=(),
            meta_header=False,
        )
        self._bulk = Bulk(NAME, config, "elasticsearch-template.json", self._ask)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """All requests in as few bulk requests as their size allows."""
        return self._bulk.write(signal, requests)

    def check(self) -> None:
        """Whether it answers to this login; puts the index templates where they are missing."""
        self._bulk.check()

    def close(self) -> None:
        """End the connections."""
        self._transport.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        kind = "application/x-ndjson" if path == "/_bulk" else "application/json"
        headers = {"accept": "application/json"} | ({"content-type": kind} if body is not None else {})
        try:
            answer = self._transport.perform_request(method, path, body=body, headers=headers)
        except TlsError:
            raise Silent(
                f"{NAME}'s certificate is not trusted, or it speaks no TLS there: see WAFER_ELASTICSEARCH_CA_FILE"
            ) from None
        except SerializationError:
            raise Silent(f"what answers there is not {NAME}: no JSON") from None
        except TransportError as error:
            raise Silent(f"{NAME} does not answer ({type(error).__name__})") from None
        if answer.meta.status in range(200, 300) and answer.meta.headers.get(_PRODUCT) != NAME:
            raise Silent(f"what answers there is not {NAME}; OpenSearch has a writer of its own, opensearch")
        return Answer(answer.meta.status, answer.body)


def _login(config: Config) -> dict[str, str]:
    """The header that says who we are. StorageRejected when two are named."""
    if config.api_key and config.user:
        raise StorageRejected("WAFER_ELASTICSEARCH_API_KEY and _USER contradict one another: name one of them")
    if config.api_key:
        return {"authorization": f"ApiKey {config.api_key}"}
    if config.user:
        return {"authorization": "Basic " + base64.b64encode(f"{config.user}:{config.password}".encode()).decode()}
    return {}
