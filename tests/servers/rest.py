"""Questions to a search server on loopback: JSON over HTTP, with a login where it has one.

In: a port. Out: status and what the JSON says. Called by: `elasticsearch`, `opensearch`, which start the servers.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from typing import Any

_OK = 200


def free_port() -> int:
    """A loopback port that nothing uses at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Rest:
    """A server that speaks Elasticsearch's REST."""

    def __init__(self, port: int, user: str = "", password: str = "") -> None:
        self._port = port
        self._headers = {"Content-Type": "application/json"}
        if user:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request. OSError or HTTPException while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether it answers and has opened every shard it had."""
        try:
            status, said = self.ask(
                "GET", "/_cluster/health?wait_for_no_initializing_shards=true&wait_for_status=yellow&timeout=5s"
            )
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return False
        return status == _OK and not said["timed_out"]
