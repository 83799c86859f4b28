"""OpenSearch: a document for each span, log record and metric point, in the same shape as Elasticsearch has them.

In: OTLP requests. Out: documents in the data streams {traces,logs,metrics}-generic.otel-default; their shape stands in
`elastic_documents`. Idempotent by the document's id. Called by: `receiver.bridge`, jobs in mode direct.

OpenSearch 3, tested with 3.8. `opensearch-template.json` is put before the first write where the server has no index template
for these data streams. The account may write to them and see index templates; without the latter whoever made it has made them.
The Collector's own opensearch exporter writes another shape (ss4o), which nothing of ours reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, SSLError, TransportError

from wafermonitor.instrumentation.environment import EnvironmentConfig
from wafermonitor.storage.writers.elastic_bulk import Answer, Bulk, Settings, Silent
from wafermonitor.storage.writers.protocol import SIGNALS, Outcome, Signal

NAME = "OpenSearch"
_OK = 200


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Where OpenSearch is, and who writes."""

    component: ClassVar[str] = "opensearch"


class Writer:
    """Bulk requests over kept connections; with several addresses, the next when one does not answer."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14507

    def __init__(self, config: Config) -> None:
        self._client = OpenSearch(
            hosts=config.urls,
            http_auth=(config.user, config.password) if config.user else None,
            ca_certs=config.trusted,
            timeout=config.timeout_s,
            max_retries=len(config.urls) - 1,
            retry_on_status=(),
            http_compress=True,
        )
        self._bulk = Bulk(NAME, config, "opensearch-template.json", self._ask)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """All requests in as few bulk requests as their size allows."""
        return self._bulk.write(signal, requests)

    def check(self) -> None:
        """Whether it answers to this login; puts the index templates where they are missing."""
        self._bulk.check()

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        kind = "application/x-ndjson" if path == "/_bulk" else "application/json"
        headers = {"content-type": kind} if body is not None else {}
        try:
            said = self._client.transport.perform_request(method, path, body=body, headers=headers)
        except SSLError:
            raise Silent(
                f"{NAME}'s certificate is not trusted, or it speaks no TLS there: see WAFER_OPENSEARCH_CA_FILE"
            ) from None
        except TransportError as error:
            if not isinstance(error.status_code, int):
                raise Silent(f"{NAME} does not answer ({type(error).__name__})") from None
            return Answer(error.status_code, _said(error.info))
        except OpenSearchException as error:
            raise Silent(f"what answers there is not {NAME} ({type(error).__name__})") from None
        return Answer(_OK, _said(said))


def _said(found: Any) -> Any:
    """The JSON, which the client leaves as text when the server called it otherwise."""
    if not isinstance(found, str):
        return found
    try:
        return json.loads(found)
    except ValueError:
        return None
