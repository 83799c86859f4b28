"""OTLP/gRPC: the `Export` methods of the three services, as raw bytes.

Generated deserializers are not used: they decode in the event loop, and answer a body they cannot read with UNKNOWN, and a
Collector then drops the data.

In: gRPC calls. Out: response bytes, or a status with `google.rpc.Status` in `grpc-status-details-bin`.
Called by: `server`. Calls: `admission`, `pipeline`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from wafermonitor.receiver import answers
from wafermonitor.receiver.admission import Budget, authorize
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import AddressRejected, ReceiverError, ReceiverUnavailable
from wafermonitor.receiver.pipeline import Pipeline
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal

LOG = logging.getLogger(__name__)
DETAILS_KEY = "grpc-status-details-bin"
SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": Signal.TRACES,
    "opentelemetry.proto.collector.logs.v1.LogsService": Signal.LOGS,
    "opentelemetry.proto.collector.metrics.v1.MetricsService": Signal.METRICS,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Export = Callable[[bytes, Any], Awaitable[bytes]]


class Service:
    """The three services on one pipeline."""

    def __init__(self, config: Config, budget: Budget, pipeline: Pipeline, telemetry: Telemetry) -> None:
        self._token = config.token.get_secret_value() if config.token else None
        self._budget = budget
        self._pipeline = pipeline
        self._telemetry = telemetry

    def handlers(self) -> list[grpc.GenericRpcHandler[Any, Any]]:
        """One generic handler for each service."""
        return [
            grpc.method_handlers_generic_handler(name, {"Export": grpc.unary_unary_rpc_method_handler(self._method(signal))})
            for name, signal in SERVICES.items()
        ]

    def _method(self, signal: Signal) -> Export:
        async def export(body: bytes, context: Any) -> bytes:
            try:
                answer = await self._export(signal, body, context)
            except ReceiverError as error:
                refusal = error
            except Exception:
                LOG.exception("a gRPC call failed in the receiver itself")
                refusal = ReceiverUnavailable("the receiver could not do it; try again")
            else:
                self._telemetry.answered("grpc", signal.value, None)
                return answers.response(signal, answer)
            self._telemetry.answered("grpc", signal.value, refusal)
            details = answers.status(refusal).SerializeToString()
            await context.abort(_CODES[refusal.code], str(refusal), ((DETAILS_KEY, details),))
            raise refusal  # abort never returns

        return export

    async def _export(self, signal: Signal, body: bytes, context: Any) -> answers.Answer:
        if self._token is not None:
            headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            authorize(self._token, headers.get("authorization"))
        with self._budget.hold() as share:
            share.add(len(body))
            return await self._pipeline.submit(Request(signal, Encoding.PROTOBUF, body, time.time_ns()))


async def listen(config: Config, service: Service) -> tuple[grpc.aio.Server, int]:
    """A started server and its port. AddressRejected when the address cannot be had."""
    server = grpc.aio.server(
        options=(
            # gRPC's own default is 4 MiB; over the limit it answers RESOURCE_EXHAUSTED without RetryInfo, as OTLP wants it.
            ("grpc.max_receive_message_length", config.max_request_bytes),
            # Two receivers on one port would share its connections without a word.
            ("grpc.so_reuseport", 0),
        )
    )
    server.add_generic_rpc_handlers(service.handlers())
    try:
        port = server.add_insecure_port(config.grpc_address)
    except RuntimeError:
        port = 0
    if not port:
        raise AddressRejected(
            f"grpc_address = {config.grpc_address!r} cannot be listened on: is it taken? Set WAFER_RECEIVER_GRPC_ADDRESS"
        )
    await server.start()
    return server, port
