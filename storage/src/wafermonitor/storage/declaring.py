"""What a new declaration changes among the expectations that are stored, and which can be stored: for every engine alike.

In: the expectations that are stored, those that the file declares, now in ns. Out: what to put, what to drop.
Called by: `memory_watch`, `timescale.watch`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from wafermonitor.runs.alerts import Expectation, ExpectedRun, Origin
from wafermonitor.runs.records import MAX_LABEL_BYTES, label
from wafermonitor.storage.errors import StorageRejected


class Declared(NamedTuple):
    """`put`: expectations to store. `begun`: names of those that begin now; what they wait for from now on is of an older wish.

    `dropped`: names that are declared no more.
    """

    put: list[Expectation]
    begun: list[str]
    dropped: list[str]


def declared(stored: Iterable[Expectation], wanted: Iterable[Expectation], now_ns: int) -> Declared:
    """Make `wanted`, and only these, the declared ones. A file decides over what was saved by another way under its names.

    StorageRejected as `storable`.
    """
    known = {one.name: one for one in stored}
    wanted = [storable(one) for one in wanted]
    last = {one.name: one for one in wanted}
    put, begun = [], []
    for name, one in last.items():
        before = known.get(name)
        if before is None or before.origin is Origin.PROPOSED or not same_wish(before, one):
            begun.append(name)
            put.append(one._replace(origin=Origin.DECLARED, since_ns=now_ns, watched_ns=now_ns, changed_ns=now_ns))
        elif before.origin is not Origin.DECLARED:
            put.append(before._replace(origin=Origin.DECLARED, changed_ns=now_ns))
    dropped = [name for name, one in known.items() if one.origin is Origin.DECLARED and name not in last]
    return Declared(put, begun, dropped)


def same_wish(one: Expectation, other: Expectation) -> bool:
    """Whether both want the same, whoever wants it and since when."""
    return (one.site, one.job, one.spec) == (other.site, other.job, other.spec)


def storable(one: Expectation) -> Expectation:
    """`one`; StorageRejected when a name is longer than an index holds."""
    for name in (one.name, one.site or "", one.job):
        if label(name) != name:
            raise StorageRejected(f"the expectation {one.name[:40]!r}… has a name of more than {MAX_LABEL_BYTES} bytes")
    return one


def indexed(run: ExpectedRun) -> ExpectedRun:
    """`run` with a subject that an index holds: a lot may be called anything, and must not stop a whole tick."""
    return run if len(run.subject) * 4 <= MAX_LABEL_BYTES else run._replace(subject=label(run.subject))
