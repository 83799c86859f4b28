"""A copy of the embedded server's data that is whole and proven to be, and a data home made of it.

In: a data home, a folder that does not exist yet. Out: that folder. Called by: `wafer storage backup`, `wafer storage restore`.

    <backup>/postgres/          a base backup with the log that makes it whole, and a manifest with the SHA-256 of every file
    <backup>/postgres.password  the superuser's password, 0600
    <backup>/backup.json        when, by which release, of which PostgreSQL, how large

The server runs on meanwhile. The folder that was asked for is there when it is complete and was read back, never before.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.timescale import account, binaries, migrate
from wafermonitor.storage.timescale.binaries import Binaries
from wafermonitor.storage.timescale.folder import HOST, USER, Folder

_PROGRAMS = ("pg_basebackup", "pg_verifybackup")
_LABEL = "wafer storage backup"
_LAST_WORDS = 500


class Backup(NamedTuple):
    """What a backup is. `size_bytes` on disk."""

    path: Path
    taken: datetime
    release: str
    major: int
    size_bytes: int


async def take(home: Path, port: int, target: Path, pg_bin: Path | None, report: Callable[[str], None]) -> Backup:
    """Copy the server of `home`, which answers on `port`, to `target`. StorageRejected when `target` exists."""
    found = _find(pg_bin)
    target = _new(target)
    folder = Folder(home, None)
    with _part_of(target) as part:
        words = [str(found.bin / "pg_basebackup"), "-D", str(part / "postgres"), "-h", HOST, "-p", str(port), "-U", USER]
        words += ["-l", _LABEL, "-X", "stream", "-c", "fast", "--manifest-checksums=SHA256", "--progress", "--no-password"]
        await _run(words, report, PGPASSWORD=folder.password())
        report("reading the copy back")
        await verify(part / "postgres", found)
        _write_secret(part / "postgres.password", folder.password())
        made = Backup(target, datetime.now(UTC), migrate.release(), found.major, _size(part))
        facts = made._asdict() | {"path": str(target), "taken": made.taken.isoformat()}
        (part / "backup.json").write_text(json.dumps(facts, indent=2) + "\n")
        # pg_basebackup has done so for what it wrote.
        for path in (part / "postgres.password", part / "backup.json", part):
            _sync(path)
        part.rename(target)
        _sync(target.parent)
    return made


async def restore(backup: Path, home: Path, pg_bin: Path | None, report: Callable[[str], None]) -> Backup:
    """Make `home` a data home with the data of `backup`. StorageRejected where one is already, or the backup is not whole."""
    found = _find(pg_bin)
    known = read(backup)
    if known.major != found.major:
        raise StorageRejected(
            f"{backup} was taken of PostgreSQL {known.major}, but {found.postgres} is {found.major}: "
            f"set WAFER_STORAGE_PG_BIN to the bin folder of a PostgreSQL {known.major}"
        )
    folder = Folder(home, account.choose())
    folder.open()
    lock = folder.lock()
    if lock is None:
        raise StorageRejected(f"a server runs in {folder.home}: stop it, or restore to another folder with --data-dir")
    try:
        if folder.data.exists():
            raise StorageRejected(
                f"{folder.data} is there already and stays as it is: restore to another folder with --data-dir"
            )
        report("reading the backup")
        await verify(backup / "postgres", found)
        report("copying it")
        await asyncio.to_thread(_copy, backup, folder)
    finally:
        os.close(lock)
    return known


def read(backup: Path) -> Backup:
    """What `backup` says of itself. StorageRejected when it is none, or was not finished."""
    try:
        facts = json.loads((backup / "backup.json").read_text())
        taken = datetime.fromisoformat(facts["taken"])
        return Backup(backup, taken, str(facts["release"]), int(facts["major"]), int(facts["size_bytes"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise StorageRejected(f"{backup} is no backup that `wafer storage backup` finished") from None


async def verify(data: Path, found: Binaries) -> None:
    """Read every file again and compare it with the manifest. StorageRejected names the first that differs."""
    process = await asyncio.create_subprocess_exec(
        str(found.bin / "pg_verifybackup"),
        "--quiet",
        "--exit-on-error",
        str(data),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise StorageRejected(f"{data} is not whole: {said.decode(errors='replace').strip()[:_LAST_WORDS]}")


def _find(pg_bin: Path | None) -> Binaries:
    found = binaries.find(pg_bin)
    missing = [name for name in _PROGRAMS if not (found.bin / name).is_file()]
    if missing:
        raise StorageRejected(f"{found.bin} lacks {', '.join(missing)}: set WAFER_STORAGE_PG_BIN to a whole PostgreSQL")
    return found


def _new(target: Path) -> Path:
    target = target.expanduser().absolute()
    if target.exists():
        raise StorageRejected(f"{target} is there already and stays as it is: name a folder that does not exist")
    return target


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, 0700, removed when it was not renamed to it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
    except OSError as error:
        raise StorageRejected(f"cannot write to {target.parent}: {error.strerror}") from None
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


async def _run(words: list[str], report: Callable[[str], None], **environment: str) -> None:
    """Run a program that says how far it is, on one line that it writes again and again."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"LC_ALL": "C.UTF-8", "PATH": os.defpath} | environment,
    )
    assert process.stderr is not None
    last = ""
    try:
        while said := await process.stderr.read(4096):
            lines = [line.strip() for line in said.decode(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
            last = lines[-1] if lines else last
            report(last)
        code = await process.wait()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if code != 0:
        raise StorageUnavailable(f"{Path(words[0]).name} did not finish: {last[:_LAST_WORDS]}")


def _copy(backup: Path, folder: Folder) -> None:
    """The data folder appears when it is complete, with the password that opens it."""
    owner = (os.geteuid(), os.getegid()) if folder.account is None else (folder.account.uid, folder.account.gid)
    with _part_of(folder.data) as part:
        shutil.copytree(backup / "postgres", part, dirs_exist_ok=True, symlinks=True)
        with (part / "postgresql.auto.conf").open("a") as file:
            # Numbers of transactions are given out again: tokens of changes from before must be told apart (snapshot.sql).
            file.write(f"wafer.restored_unix_ns = '{time.time_ns()}'\n")
        if folder.account is not None:
            for place, folders, files in os.walk(part):
                for name in (*folders, *files):
                    os.chown(Path(place, name), *owner, follow_symlinks=False)
            os.chown(part, *owner)
        part.chmod(0o700)
        folder.write_password((backup / "postgres.password").read_text())
        for place, _, files in os.walk(part):
            for path in (*(Path(place, name) for name in files), Path(place)):
                if not path.is_symlink():
                    _sync(path)
        _sync(folder.home / "postgres.password")
        part.rename(folder.data)
        _sync(folder.home)


def _sync(path: Path) -> None:
    """A file, or the names in a folder, to the disk: a power cut must not leave a folder with its name but without files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))
