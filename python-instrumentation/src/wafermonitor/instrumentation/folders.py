"""Where this user's files live when no setting names a folder.

In: `$XDG_*`, the user. Out: paths; nothing is made. Called by: `spool`, `script`, and the settings of Collector and store.

Source: XDG Base Directory Specification 0.8; root has the system's own folders instead.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_NAME: Final = "wafermonitor"


def data_home() -> Path:
    """What must last: `$XDG_DATA_HOME/wafermonitor`; for root `/var/lib/wafermonitor`."""
    return Path("/var/lib", _NAME) if os.geteuid() == 0 else _below("XDG_DATA_HOME", ".local", "share")


def state_home() -> Path:
    """Small state: `$XDG_STATE_HOME/wafermonitor`."""
    return _below("XDG_STATE_HOME", ".local", "state")


def cache_home() -> Path:
    """What can be made again: `$XDG_CACHE_HOME/wafermonitor`."""
    return _below("XDG_CACHE_HOME", ".cache")


def spool_home() -> Path:
    """The file spool: `WAFER_SPOOL_DIR`, else `/var/spool/wafermonitor` for root, else `spool` below the state."""
    named = os.environ.get("WAFER_SPOOL_DIR")
    if named:
        return Path(named)
    return Path("/var/spool", _NAME) if os.geteuid() == 0 else state_home() / "spool"


def _below(variable: str, *default: str) -> Path:
    named = os.environ.get(variable)
    return Path(named or _home().joinpath(*default)) / _NAME


def _home() -> Path:
    """The user's home; `/` for a user without one, as container engines have it.

    Nothing can be written there, which is said by whoever wants to.
    """
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
