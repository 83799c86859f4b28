"""One OTLP request as several that a backend's limit of bytes lets through.

In: a request, the most bytes that a message may have. Out: requests of at most so many bytes with all its items in their order,
and a request of those items that are larger by themselves. Called by: writers to queues.
"""

from __future__ import annotations

from typing import NamedTuple

from wafermonitor.storage.writers.items import count, part
from wafermonitor.storage.writers.protocol import Signal


class Pieces(NamedTuple):
    """`fitting` together with `remains` is the request; `too_large` says how many items remain."""

    fitting: list[bytes]
    remains: bytes = b""
    too_large: int = 0


def pieces(signal: Signal, request: bytes, most: int) -> Pieces:
    """Cut `request`, which has been found to be one of this signal. The same request is cut the same way each time."""
    if len(request) <= most:
        return Pieces([request])
    fitting: list[bytes] = []
    too_large: list[int] = []
    waiting = [range(count(signal, request))]
    while waiting:
        positions = waiting.pop()
        piece = part(signal, request, positions.__contains__)
        if len(piece) <= most:
            fitting.extend([piece] if piece else [])
        elif len(positions) == 1:
            too_large.extend(positions)
        else:
            # As many as should fit, so that a request just above the limit is not cut in halves.
            wanted = -(-len(piece) // most)
            each = max(-(-len(positions) // wanted), 1) if wanted < len(positions) else 1
            waiting.extend(reversed([positions[at : at + each] for at in range(0, len(positions), each)]))
    return Pieces(fitting, part(signal, request, set(too_large).__contains__) if too_large else b"", len(too_large))
