"""One option of a component, as `wafer config show` and the docs table print it.

In: nothing. Out: the record. Called by: `config` (base install) and `settings` (services).
"""

from __future__ import annotations

from typing import Final, NamedTuple

MASK: Final = "********"
"""What a secret's value is shown as."""


class Option(NamedTuple):
    """One option with its value and where that came from. A secret's value is masked."""

    component: str
    name: str
    environment: str
    aliases: tuple[str, ...]
    type: str
    default: str
    doc: str
    value: str
    source: str
