"""How soon is a trace seen? Sends one of ten spans and asks the read API until it shows all ten.

In: addresses of receiver and API. Out: seconds from before the send to the first whole answer. Called by: `p06_lag`.
"""

from __future__ import annotations

import http.client
import json
import time

import numpy as np

from benchmarks import corpus

POLL_S = 0.005
WITHIN_S = 20.0


class Probe:
    """Two keep-alive connections and a stream of traces of its own."""

    def __init__(self, receiver: str, api: str, stream: int) -> None:
        self._receiver = http.client.HTTPConnection(receiver, timeout=30)
        self._api = http.client.HTTPConnection(api, timeout=30)
        self._sheet = corpus.sheet("M", corpus.TRACE_SPANS, "1 in 10")
        self._next = corpus.stream_start(stream)
        self.lags_s: list[float] = []
        self.acks_s: list[float] = []
        self.asked = 0

    def once(self) -> None:
        """One trace; TimeoutError when the API does not show it."""
        filled = self._sheet.fill(self._next, time.time_ns() - corpus.SECOND_NS)
        start, end = self._sheet.bounds[0]
        root = np.array([self._next], dtype=np.uint64)
        run = f"{corpus.trace_ids(root).tobytes().hex()}-{corpus.span_ids(root).tobytes().hex()}"
        self._next += self._sheet.spans
        began_s = time.monotonic()
        self._receiver.request("POST", "/v1/traces", filled[start:end], {"content-type": "application/x-protobuf"})
        answer = self._receiver.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"a probe was answered with {answer.status}")
        acked_s = time.monotonic()
        while self._spans(run) < corpus.TRACE_SPANS:
            if time.monotonic() - began_s > WITHIN_S:
                raise TimeoutError(f"the read API did not show {run} within {WITHIN_S:g} s")
            time.sleep(POLL_S)
        self.lags_s.append(time.monotonic() - began_s)
        self.acks_s.append(acked_s - began_s)

    def _spans(self, run: str) -> int:
        self.asked += 1
        self._api.request("GET", f"/v1/jobs/{run}/spans")
        answer = self._api.getresponse()
        body = answer.read()
        return len(json.loads(body)["items"]) if answer.status == 200 else 0
