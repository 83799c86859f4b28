"""HTTP/1.1 for the receiver: connections with deadlines and a byte budget, on the event loop that gRPC uses.

Called by: `server`, `otlp_http`.
"""

from __future__ import annotations

__all__ = ["Call", "Handler", "Head", "Reply", "Routes"]

from wafermonitor.receiver.http1.exchange import Call, Handler, Head, Reply, Routes
