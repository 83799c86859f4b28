"""From a decoded request to its rows: resource by resource, scope by scope, item by item.

In: the `resource_spans`, `resource_logs` or `resource_metrics` of either lane and their `Wire`. Out: `Transcoded`.
Called by: `python.Lane`, `json.Lane`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from wafermonitor.receiver.errors import ItemRejected, RequestRejected
from wafermonitor.receiver.transcode.assembly import Assembly, Sender
from wafermonitor.receiver.transcode.logs import add_log
from wafermonitor.receiver.transcode.points import add_metric, number_of_points
from wafermonitor.receiver.transcode.policies import MAX_ENTRIES
from wafermonitor.receiver.transcode.protocol import Request, Signal, Transcoded
from wafermonitor.receiver.transcode.spans import add_span
from wafermonitor.receiver.transcode.wire import Wire
from wafermonitor.runs.records import UNSET_SITE


class _Path(NamedTuple):
    scoped: str
    items: str
    add: Callable[..., None]


_PATHS = {
    Signal.TRACES: _Path("scope_spans", "spans", add_span),
    Signal.LOGS: _Path("scope_logs", "log_records", add_log),
    Signal.METRICS: _Path("scope_metrics", "metrics", add_metric),
}


def transcode(request: Request, groups: Iterable[Any] | None, wire: Wire) -> Transcoded:
    """The request's rows. A resource or scope that cannot be read condemns the items under it, and only those.

    RequestRejected for more than MAX_ENTRIES.
    """
    path = _PATHS[request.signal]
    groups = list(groups or ())
    assembly = Assembly(request, groups, wire)
    if len(request.body) > 2 * MAX_ENTRIES and _entries(path, groups, wire) > MAX_ENTRIES:
        raise RequestRejected(f"the request has more than {MAX_ENTRIES} entries; send smaller ones")
    for number, group in enumerate(groups):
        scoped_groups = getattr(group, path.scoped) or ()
        try:
            sender = assembly.sender(group.resource)
        except ItemRejected as error:
            for place, scoped in enumerate(scoped_groups):
                assembly.enter(number, place)
                _reject_all(assembly, path, UNSET_SITE, f"resource: {error}", scoped)
            continue
        for place, scoped in enumerate(scoped_groups):
            assembly.enter(number, place)
            _scoped(assembly, path, sender, scoped)
    return assembly.transcoded()


def _entries(path: _Path, groups: Iterable[Any], wire: Wire) -> int:
    """Resources, scopes, items and data points; none of these has less than two bytes."""
    number = 0
    for group in groups:
        number += 1
        for scoped in getattr(group, path.scoped) or ():
            items = getattr(scoped, path.items) or ()
            number += 1 + len(items)
            if path.add is add_metric:
                number += sum(number_of_points(wire, raw) for raw in items)
    return number


def _scoped(assembly: Assembly, path: _Path, sender: Sender, scoped: Any) -> None:
    site = sender.origin.site
    try:
        scope = assembly.scope(scoped.scope)
    except ItemRejected as error:
        _reject_all(assembly, path, site, f"scope: {error}", scoped)
        return
    for raw in getattr(scoped, path.items) or ():
        assembly.isolate(path.add, site, raw, sender, scope)


def _reject_all(assembly: Assembly, path: _Path, site: str, reason: str, scoped: Any) -> None:
    for raw in getattr(scoped, path.items) or ():
        assembly.reject(site, reason, raw)
