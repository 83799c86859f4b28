"""Which site a request is of, seen in its first bytes, before anybody decodes it.

In: an admitted body. Out: the `wafer.site.id` of its first resource, or `unset`. Called by: `pipeline`, for fair turns and
quotas only: what is stored comes from the lanes, and a request with several sites counts for its first.
"""

from __future__ import annotations

import re

from wafermonitor.receiver.transcode.protocol import Encoding, Request
from wafermonitor.runs.records import UNSET_SITE
from wafermonitor.semconv import attributes as names

MAX_PEEK_BYTES = 4096
"""Resource attributes stand in front; whoever hides the site further back shares the turns of `unset`."""
MAX_SITE_BYTES = 255

_KEY = names.WAFER_SITE_ID.encode()
# KeyValue{key = 1: the name, value = 2: AnyValue{string_value = 1: one-byte length, the site}}
_PROTOBUF = re.compile(
    rb"\x0a" + bytes([len(_KEY)]) + re.escape(_KEY) + rb"\x12[\x02-\x7f]\x0a(?P<length>[\x01-\x7d])", re.DOTALL
)
_JSON = re.compile(
    rb'"key"\s*:\s*"' + re.escape(_KEY) + rb'"\s*,\s*"value"\s*:\s*\{\s*"stringValue"\s*:\s*"(?P<site>[^"\\]{1,255})"'
)
_OLDER = re.compile(rb'"site_id"\s*:\s*"(?P<site>[^"\\]{1,255})"')


def peek(request: Request) -> str:
    """The site, or UNSET_SITE when it does not stand where every exporter writes it."""
    start = request.body[:MAX_PEEK_BYTES]
    if request.encoding is not Encoding.PROTOBUF:
        found = (_OLDER if request.encoding is Encoding.EVENTS else _JSON).search(start)
        return found["site"].decode("utf-8", "replace") if found else UNSET_SITE
    if _KEY not in start:
        return UNSET_SITE
    found = _PROTOBUF.search(start)
    if found is None:
        return UNSET_SITE
    site = start[found.end() : found.end() + found["length"][0]]
    return site.decode("utf-8", "replace")
