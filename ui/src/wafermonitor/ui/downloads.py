"""Tables as CSV files, passed on from the read API so that a browser needs to reach only this host.

In: GET `/runs.csv` with the filters of the page, `/run.csv?run=…`. Out: the API's CSV, streamed. Called by: app.
"""

from __future__ import annotations

from typing import Any, cast

import httpx
from tornado.web import RequestHandler

from wafermonitor.ui.address import Run, Runs, parse
from wafermonitor.ui.pages.runs import question, span_question

_PLACES = {"jobs": "/v1/jobs", "subjobs": "/v1/subjobs", "all": "/v1/jobs"}


class Download(RequestHandler):
    """One table as CSV."""

    def initialize(self, http: httpx.AsyncClient) -> None:
        """`http` speaks to the read API."""
        self._api = http

    async def get(self) -> None:
        """Stream the API's answer; 502 with words when it gives none."""
        path, parameters = _question(self.request.path.removesuffix(".csv"), self.request.query)
        sent = False
        try:
            async with self._api.stream("GET", path, params=parameters | {"format": ["csv"]}) as answer:
                if answer.is_error:
                    self._say(answer.status_code, "The read API does not accept these filters.\n")
                    return
                self.set_header("Content-Type", "text/csv; charset=utf-8")
                self.set_header("Content-Disposition", f'attachment; filename="{path.rsplit("/", 1)[-1]}.csv"')
                async for piece in answer.aiter_bytes():
                    self.write(piece)
                    sent = True
                    await self.flush()
        except httpx.TransportError:
            if sent:
                cast("Any", self.request.connection).stream.close()  # ended properly, the file would look complete
                raise
            self._say(502, "The read API does not answer. Try again when it does.\n")

    def _say(self, status: int, words: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write(words)


def _question(path: str, query: str) -> tuple[str, dict[str, Any]]:
    address = parse(path, query)
    if isinstance(address, Run):
        least = {} if address.severity == "debug" else {"severity": [address.severity]}
        return f"/v1/jobs/{address.run}/logs", least
    assert isinstance(address, Runs)
    if address.tab == "traces":
        return "/v1/spans", span_question(address)
    return _PLACES[address.level], question(address) | ({"subjobs": ["any"]} if address.level == "all" else {})
