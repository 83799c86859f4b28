"""OTLP bodies → records. One contract (`protocol`), one set of rules (`policies`), a lane for each encoding.

Called by: `pipeline`.
"""

from __future__ import annotations

__all__ = ["Encoding", "Lane", "Request", "Signal", "Transcoded"]

from wafermonitor.receiver.transcode.protocol import Encoding, Lane, Request, Signal, Transcoded
