"""Who reads the spec of an expectation: alerting, which this component does not know and finds by an entry point.

In: a spec as JSON. Out: the text that is stored; ParameterRejected says what is wrong in it.  Called by: routes.expectations.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from wafermonitor.query.errors import NotKept, ParameterRejected

GROUP = "wafermonitor.specs"
NAME = "expectation"


def canonical(spec: dict[str, Any]) -> str:
    """`spec` in its one spelling; NotKept where nobody is installed who reads it."""
    try:
        return _reader()(json.dumps(spec))
    except ValueError as error:
        raise ParameterRejected("spec", str(error)) from None


@cache
def _reader() -> Callable[[str], str]:
    try:
        read: Callable[[str], str] = next(iter(entry_points(group=GROUP, name=NAME))).load()
    except (StopIteration, ModuleNotFoundError):
        raise NotKept('nobody is installed here who reads schedules: pip install "wafermonitor[alerting]"') from None
    return read
