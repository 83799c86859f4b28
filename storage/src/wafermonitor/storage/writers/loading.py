"""Find a writer by its name and make one.

In: a name of the entry-point group `wafermonitor.writers`, settings from the environment or from a configuration file.
Out: a `Writer`. Called by: `receiver.bridge`, `alerting`, the docs table.
"""

from __future__ import annotations

from importlib import metadata

from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers.protocol import Writer

GROUP = "wafermonitor.writers"


def names() -> list[str]:
    """Every writer that is installed, ours and others'."""
    return sorted({entry.name for entry in metadata.entry_points(group=GROUP)})


def find(name: str) -> type[Writer]:
    """The class of this name. StorageRejected says which there are, or which extra it needs."""
    found = [entry for entry in metadata.entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise StorageRejected(f"there is no writer {name!r}: known are {', '.join(names())}")
    try:
        loaded: type[Writer] = found[0].load()
    except ModuleNotFoundError as error:
        extras = ", ".join(found[0].extras) or name
        raise StorageRejected(
            f'the writer {name!r} needs {error.name}, which the extra "{extras}" brings: pip install "wafermonitor[{extras}]"'
        ) from None
    return loaded


def make(name: str) -> Writer:
    """A writer with the settings of the environment; ConfigRejected names what is wrong with them."""
    kind = find(name)
    return kind(kind.config_type.load())
