"""A receiver that refuses a share of what it is asked, before the real one: OTLP/gRPC in, OTLP/gRPC on, byte by byte.

    relay = otlp_relay.start(target="127.0.0.1:14317", seed=1)
    relay.refuse(0.7)          # from now on 70 % of the calls are answered UNAVAILABLE and go nowhere
    relay.refuse(0.0)
    relay.stop()

A refusal says nothing of when to come back, which is the least that OTLP asks of a server. Calls block.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

METHODS = {
    f"opentelemetry.proto.collector.{name}.v1.{service}Service"
    for name, service in (("trace", "Trace"), ("logs", "Logs"), ("metrics", "Metrics"))
}
THREADS = 16
DEADLINE_S = 30.0


def start(target: str, seed: int) -> Server:
    """A relay on a free loopback port that passes everything on."""
    return Server(target, seed)


class Server:
    """One relay. `refused` and `passed` count the calls."""

    def __init__(self, target: str, seed: int) -> None:
        self._dice = random.Random(seed)
        self._share = 0.0
        self._lock = threading.Lock()
        self.refused = 0
        self.passed = 0
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(target, options=unlimited)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=unlimited)
        for service in METHODS:
            handler = grpc.unary_unary_rpc_method_handler(self._relay(f"/{service}/Export"))
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": handler})])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def refuse(self, share: float) -> None:
        """Refuse this share (0…1) of the calls that come from now on."""
        with self._lock:
            self._share = share

    def stop(self) -> None:
        """Answer what is under way and end."""
        self._server.stop(DEADLINE_S).wait(DEADLINE_S)
        self._channel.close()

    def _refuses(self) -> bool:
        with self._lock:
            refuses = self._dice.random() < self._share
            self.refused += refuses
            self.passed += not refuses
            return refuses

    def _relay(self, method: str):
        onward = self._channel.unary_unary(method)

        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            if self._refuses():
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            try:
                return onward(body, timeout=DEADLINE_S)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")
                raise

        return export
