"""A spec that somebody sends, checked and written as it is stored.

In: JSON text of a spec. Out: the same wish in its one spelling, or ValueError with what is wrong and what is expected.
Called by: the read API, which finds it by the entry point `wafermonitor.specs` and knows nothing of alerting.
"""

from __future__ import annotations

from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.expecting import dumps, loads


def canonical(text: str) -> str:
    """The spec as `Expectation.spec` keeps it."""
    try:
        return dumps(loads(text))
    except AlertingRejected as error:
        raise ValueError(str(error)) from None
    except (AttributeError, OverflowError, RecursionError):
        raise ValueError("a spec that cannot be read: a field of it is not of the expected kind") from None
