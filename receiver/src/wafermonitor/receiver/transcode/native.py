"""The native lane: protobuf requests → one `Block` of rows that are ready for the store, all in one call.

In: admitted `Request`s with protobuf bodies. Out: a `storage.protocol.Block`. Called by: `lanes`, in a worker thread (the GIL
is let go). The extension's source is receiver/native; where it is not installed `load` says so, and the Python lane decodes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from wafermonitor.receiver.transcode.protocol import Encoding, Request
from wafermonitor.storage.protocol import Block, RowFormat

LOG = logging.getLogger(__name__)

Decode = Callable[[Sequence[Request]], Block]
"""Decodes protobuf requests; an outcome for each of the first ones, in the same order, and for all unless these have
policies.MAX_ENTRIES rows already. Thread-safe, and no body makes it fail."""


def load(row_format: RowFormat = RowFormat.COPY_BINARY) -> Decode | None:
    """The native lane that writes rows of this format, or None where the wheel `wafermonitor-native` is not installed."""
    try:
        from wafermonitor import native
    except ImportError as error:
        LOG.info("the native lane is not installed, so the Python lane decodes (%s)", error)
        return None

    def decode(requests: Sequence[Request]) -> Block:
        if any(request.encoding is not Encoding.PROTOBUF for request in requests):
            raise ValueError("the native lane reads protobuf only")
        arrivals = {digest: time_ns for request in requests for digest, time_ns in request.arrivals.items()}
        bodies = [(request.signal.value, request.body, request.received_ns) for request in requests]
        return native.decode(bodies, arrivals, row_format.value)

    return decode
