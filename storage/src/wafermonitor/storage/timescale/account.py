"""Whom the embedded server runs as: PostgreSQL refuses root, so root hands it to an account that may do little.

In: who this process is, and the host's accounts. Out: an `Account`, or None when the server runs as ourselves.
Called by: `embedded`, `folder`, `binaries`.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from wafermonitor.storage.errors import DataFolderRejected

CANDIDATES = ("wafer", "postgres", "nobody")
"""The first of these that exists runs the server when root starts it."""


class Account(NamedTuple):
    """One account of the host."""

    name: str
    uid: int
    gid: int


def choose() -> Account | None:
    """None for an ordinary user; for root the first existing candidate. DataFolderRejected when there is none."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise DataFolderRejected(
        f"PostgreSQL does not run as root, and none of the accounts {', '.join(CANDIDATES)} exists: add one"
    )


def closed_folder(path: Path, account: Account) -> Path | None:
    """The first parent of `path` that `account` may not enter, None when it can reach it."""
    for folder in reversed(path.resolve().parents):
        status = folder.stat()
        if status.st_uid == account.uid:
            bit = stat.S_IXUSR
        elif status.st_gid == account.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not status.st_mode & bit:
            return folder
    return None
