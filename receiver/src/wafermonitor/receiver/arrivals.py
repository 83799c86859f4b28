"""When items that say no time of their own arrived for the first time, so that a second delivery makes the same rows.

In: decoded members, some with such items. Out: members whose rows have the times of the first delivery. Called by: `pipeline`,
between decoding and writing; `dead_letters.retry`.

Whether a delivery is the first one only the store can say, since the first may have gone to another receiver. It is asked about
requests with such items alone, and these are decoded a second time only when they were not the first.
"""

from __future__ import annotations

from collections.abc import Iterable

from wafermonitor.receiver.group import Member
from wafermonitor.receiver.transcode.protocol import Lane, Request, Transcoded
from wafermonitor.storage.protocol import Writer


async def ask(writer: Writer, members: Iterable[Member]) -> list[Member]:
    """Those of `members` that are to be decoded again; their requests know the arrivals now.

    StorageUnavailable passes through.
    """
    flagged = [member for member in members if member.timeless]
    if not flagged:
        return []
    sent: dict[bytes, int] = {}
    for member in flagged:
        for digest in member.timeless:
            sent.setdefault(digest, member.waiting.request.received_ns)
    known = await writer.first_arrivals(sent)
    late = []
    for member in flagged:
        request = member.waiting.request
        arrivals = {digest: known[digest] for digest in member.timeless}
        if any(time_ns != request.arrivals.get(digest, request.received_ns) for digest, time_ns in arrivals.items()):
            # On the request, so that whoever decodes it once more finds the same times.
            member.waiting.request = request._replace(arrivals=arrivals)
            late.append(member)
    return late


async def transcode(writer: Writer, lane: Lane, request: Request) -> Transcoded:
    """One request, decoded with the first arrivals of its items. StorageUnavailable and `lane`'s errors pass through."""
    done = lane.transcode(request)
    if not done.timeless:
        return done
    known = await writer.first_arrivals(dict.fromkeys(done.timeless, request.received_ns))
    return lane.transcode(request._replace(arrivals=known))
