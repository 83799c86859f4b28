"""The Collector as a service of systemd: of the machine when root asks, else of the user.

In: a Collector that fits, an account. Out: a unit file, a settings file that only its owner reads, the folders that both name.
Called by: `wafer collector install --service`. Nothing is started: what to type next is said.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

from wafermonitor.collector.binary import Binary
from wafermonitor.collector.errors import ConfigRejected
from wafermonitor.instrumentation.folders import data_home, spool_home

NAME: Final = "wafer-collector.service"
HERE: Final = Path(__file__).parent
_PRIVILEGES: Final = "User={account}\nCapabilityBoundingSet="
_NEEDS_QUOTES: Final = frozenset(" \t\"'\\%$")


class Places(NamedTuple):
    """Where everything goes. `library` is None where the Collector stays where it is."""

    unit: Path
    settings: Path
    queue: Path
    spool: Path
    library: Path | None


class Service(NamedTuple):
    """What was written, and what to type next."""

    unit: Path
    settings: Path
    binary: Path
    account: str
    next: str


def places(*, system: bool, root: Path = Path("/")) -> Places:
    """Of the machine's service, or of the user's. `root` is another machine's, for images."""
    if system:
        return Places(
            root / "etc/systemd/system" / NAME,
            root / "etc/wafermonitor/collector.env",
            root / "var/lib/wafermonitor/queue",
            root / "var/spool/wafermonitor",
            root / "usr/local/lib/wafermonitor/otelcol",
        )
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Places(
        settings / "systemd/user" / NAME, settings / "wafermonitor/collector.env", data_home() / "queue", spool_home(), None
    )


def install(found: Binary, where: Places, *, account: str | None, root: Path = Path("/")) -> Service:
    """Write unit, settings and folders. ConfigRejected names an account that there is not, or what cannot be written."""
    system = where.library is not None
    owner = _owner(account, system=system)
    if system and owner.pw_uid != 0:  # root's spool is for root's jobs, and its files are closed to this account
        where = where._replace(spool=where.queue.with_name("spool"))
    try:
        binary = found.path.absolute()
        if where.library is not None:  # a cache of root's is closed to other accounts, and may be emptied
            where.library.parent.mkdir(parents=True, exist_ok=True)
            binary = _replaced(where.library, found.path)
        for folder in (where.queue, where.spool):
            _folder(folder, owner if system else None)
        _settings(where.settings, owner if system else None)
        where.unit.parent.mkdir(parents=True, exist_ok=True)
        where.unit.write_text(text(where, binary, owner.pw_name if system else None, root), encoding="utf-8")
    except OSError as error:
        raise ConfigRejected(f"{error.filename or where.unit}: {error.strerror}") from None
    control = "systemctl" if system else "systemctl --user"
    after = "" if system else f"; loginctl enable-linger {owner.pw_name} (to run without a login)"
    return Service(
        where.unit, where.settings, binary, owner.pw_name, f"{control} daemon-reload && {control} enable --now {NAME}{after}"
    )


def text(where: Places, binary: Path, account: str | None, root: Path = Path("/")) -> str:
    """The unit file. `account` None: a user's own."""
    words = {
        "PRIVILEGES": _PRIVILEGES.format(account=account) if account is not None else "# As the user whose service it is.",
        "BINARY": _seen(binary, root),
        "QUEUE": _seen(where.queue, root),
        "SPOOL": _seen(where.spool, root),
        "SETTINGS": _seen(where.settings, root),
        "WAFER": f"{sys.executable} -m wafermonitor.instrumentation.cli",
        "TARGET": "multi-user.target" if account is not None else "default.target",
    }
    found = (HERE / NAME).read_text(encoding="utf-8")
    for word, value in words.items():
        if word != "PRIVILEGES" and _NEEDS_QUOTES & set(value.replace(" -m ", "")):
            raise ConfigRejected(f"{value}: a unit file takes no path with spaces, quotes, % or $")
        found = found.replace(f"@{word}@", value)
    return found


def _seen(path: Path, root: Path) -> str:
    """As the machine whose root it is sees the path."""
    return str(Path("/") / path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _owner(account: str | None, *, system: bool) -> pwd.struct_passwd:
    """The account that is named; else of the machine `wafer` where there is one, and whoever asks."""
    if not system:
        if account is not None:
            raise ConfigRejected("--account is for the machine's service: run this as root")
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam(account or "wafer")
    except KeyError:
        if account is not None:
            raise ConfigRejected(f"there is no account {account!r}: useradd --system {account}") from None
        return pwd.getpwuid(os.geteuid())


def _replaced(target: Path, source: Path) -> Path:
    """A copy of `source`; one that runs at this moment stays what it is until it ends."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, part)
    part.chmod(0o755)
    part.replace(target)
    return target


def _folder(folder: Path, owner: pwd.struct_passwd | None) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner is not None and os.geteuid() == 0:
        os.chown(folder, owner.pw_uid, owner.pw_gid)


def _settings(path: Path, owner: pwd.struct_passwd | None) -> None:
    """Written once; what the site has set stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write((HERE / "collector.env").read_text(encoding="utf-8"))
    if owner is not None and os.geteuid() == 0:
        os.chown(path, owner.pw_uid, owner.pw_gid)
