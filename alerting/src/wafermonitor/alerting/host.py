"""What this machine says of itself: free space of disks, end of certificates.

In: paths. Out: a `Host`. Called by: running, for each tick.
"""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from wafermonitor.alerting.snapshot import Host
from wafermonitor.runs.state import SECOND_NS

_VERSION = 0xA0
_UTC_TIME = 0x17
_LONG = 0x80
_VALIDITY = 3
"""Place among the fields of a certificate without a version: serial, algorithm, issuer, validity (RFC 5280, 4.1)."""


def look(disks: Sequence[Path], certificates: Sequence[Path]) -> Host:
    """What can be read; and what cannot, with why."""
    free, ends, unread = [], [], []
    for path in disks:
        try:
            usage = shutil.disk_usage(path)
        except OSError as error:
            unread.append((str(path), f"its disk cannot be looked at: {_reason(error)}"))
            continue
        free.append((str(path), usage.free / usage.total if usage.total else 0.0))
    for path in certificates:
        end_ns = ends_ns(path)
        if end_ns is None:
            unread.append((str(path), "no certificate can be read from it (PEM is expected)"))
        else:
            ends.append((str(path), end_ns))
    return Host(tuple(free), tuple(ends), tuple(unread))


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def ends_ns(path: Path) -> int | None:
    """When the first certificate of a PEM file ends, ns; None where there is none."""
    try:
        text = path.read_text("ascii", "replace")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        end = text.index("-----END CERTIFICATE-----", begin)
        der = ssl.PEM_cert_to_DER_cert(text[begin:end] + "-----END CERTIFICATE-----\n")
        return _not_after_ns(der)
    except (OSError, ValueError, IndexError):
        return None


def _not_after_ns(der: bytes) -> int:
    fields = _items(_items(_items(der)[0][1])[0][1])
    if fields[0][0] == _VERSION:
        del fields[0]
    tag, content = _items(fields[_VALIDITY][1])[1]
    text = content.decode("ascii")
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return round(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()) * SECOND_NS


def _items(der: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of each item of DER."""
    items = []
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & _LONG:
            size = length & ~_LONG
            length, at = int.from_bytes(der[at : at + size]), at + size
        items.append((tag, der[at : at + length]))
        at += length
    return items
