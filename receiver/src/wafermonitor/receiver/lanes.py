"""Which lane decodes what: protobuf by the native lane where there is one, everything else in Python.

In: the requests of a group. Out: members of the group, or the error to answer. Called by: `pipeline`, in a worker thread;
`server` chooses.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wafermonitor.receiver.errors import LaneRejected, ReceiverError, ReceiverUnavailable, RequestRejected
from wafermonitor.receiver.fair_queue import Waiting
from wafermonitor.receiver.group import Member, Place, member
from wafermonitor.receiver.transcode import native
from wafermonitor.receiver.transcode.native import Decode
from wafermonitor.receiver.transcode.protocol import Encoding, Lane
from wafermonitor.storage.protocol import RowFormat

LOG = logging.getLogger(__name__)
MOST_BYTES = 8 * 1024 * 1024
"""Of bodies that Python decodes for one group: their records are thirty times as large when somebody wants them to be."""
FAULT_RETRY_S = 30.0
"""A fault of the receiver's own is mended by a newer receiver, not by the next second."""


class Decoded(NamedTuple):
    """Members in the order in which they are to be written, refusals, and requests that are too many for this group."""

    members: list[Member]
    refused: list[tuple[Waiting, ReceiverError]]
    rest: list[Waiting]


class Lanes:
    """The lanes of one receiver; thread-safe, keeps nothing between groups."""

    def __init__(self, python: Mapping[Encoding, Lane], compiled: Decode | None = None) -> None:
        self._python = python
        self._compiled = compiled

    @property
    def name(self) -> str:
        """Which lane decodes protobuf."""
        return "native" if self._compiled else "python"

    def decode(self, group: Sequence[Waiting], limit_items: int) -> Decoded:
        """All protobuf of `group` at once where the native lane is; of the others until they have `limit_items` themselves.

        However much protobuf there is, the others go on: put back each time, they would wait for as long as it comes.
        """
        decoded = Decoded([], [], [])
        others = group
        if self._compiled is not None:
            protobuf = [waiting for waiting in group if waiting.request.encoding is Encoding.PROTOBUF]
            if protobuf and _decode_natively(self._compiled, protobuf, decoded):
                others = [waiting for waiting in group if waiting.request.encoding is not Encoding.PROTOBUF]
        items = size = 0
        for index, waiting in enumerate(others):
            if items >= limit_items or size >= MOST_BYTES:
                decoded.rest.extend(others[index:])
                break
            size += waiting.size
            try:
                decoded.members.append(self.decode_one(waiting))
            except ReceiverError as error:
                decoded.refused.append((waiting, error.without_frames()))
            else:
                items += decoded.members[-1].items
        return decoded

    def decode_one(self, waiting: Waiting) -> Member:
        """In Python. RequestRejected for what is no request, ReceiverUnavailable for a fault of ours."""
        request = waiting.request
        try:
            return member(waiting, self._python[request.encoding].transcode(request))
        except ReceiverError:
            raise
        except Exception:
            LOG.exception("a request could not be decoded for a reason of our own")
            raise ReceiverUnavailable("the receiver could not read the request; try again", FAULT_RETRY_S) from None


def _decode_natively(compiled: Decode, group: Sequence[Waiting], decoded: Decoded) -> bool:
    """False after a fault of the native lane itself: the Python lane shall read these requests."""
    try:
        block = compiled([waiting.request for waiting in group])
    except RuntimeError:
        LOG.exception("the native lane failed on a group of %d requests; they are decoded in Python", len(group))
        return False
    outcomes = block.outcomes
    timeless: dict[int, list[bytes]] = {}
    for number, digest in block.timeless:
        timeless.setdefault(number, []).append(digest)
    decoded.rest.extend(group[len(outcomes) :])
    for number, (waiting, outcome) in enumerate(zip(group, outcomes, strict=False)):
        items, rows, rejected, message, repaired, error = outcome
        if error is None:
            place = Place(block, number)
            decoded.members.append(Member(waiting, place, items, rows, rejected, message, repaired, timeless.get(number, ())))
        else:
            decoded.refused.append((waiting, RequestRejected(error)))
    return True


def choose(choice: str, python: Mapping[Encoding, Lane], row_format: RowFormat | None) -> Lanes:
    """The lanes as `config.lane` says, for a store that takes rows of this format.

    LaneRejected when the native one is demanded and cannot be had.
    """
    if choice == "python":
        return Lanes(python)
    compiled = None
    if row_format is None:
        LOG.info("this store takes no ready rows; the Python lane decodes")
    else:
        compiled = native.load(row_format)
    if compiled is None and choice == "native":
        why = "this store takes no ready rows" if row_format is None else "the wheel wafermonitor-native is not installed"
        raise LaneRejected(f"lane = native: {why}; set WAFER_RECEIVER_LANE=auto")
    return Lanes(python, compiled)
