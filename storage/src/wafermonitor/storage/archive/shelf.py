"""Where files stand: a folder, or a bucket of an S3-compatible store. Nothing half-written ever has a file's name.

In: paths below the archive's root. Out: files to write and to read. Called by: `archiver`, `reader`, in threads: all
calls block.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.errors import ArchiveDamaged, StorageRejected, StorageUnavailable

_CHUNK_BYTES = 8 * 1024 * 1024
_TIMEOUT_S = 30.0


class Shelf(Protocol):
    """A place for files that are written once. StorageUnavailable: it does not answer; ArchiveDamaged: no such file."""

    def create(self, path: str) -> Any:
        """A context manager of a sink; the file is there, durably, when it ends without an error."""

    def open(self, path: str) -> Any:
        """Arrow's random access file."""

    def remove(self, path: str) -> None:
        """Delete it, if it is there and may be deleted."""

    def names(self, folder: str) -> list[str]:
        """The paths of the files in a folder; "" is the root."""

    def all(self) -> list[str]:
        """The paths of all files."""


class Folder:
    """Files below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """Written beside, synced, and only then given its name. What fails leaves nothing: the disk may be full."""
        final = self._root / path
        part = final.with_name(f".{final.name}.part")
        with _border("write to the archive"):
            fresh = [folder for folder in final.parents if not folder.exists()]
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as sink:
                    yield sink
                    sink.flush()
                    os.fsync(sink.fileno())
                part.replace(final)
            except BaseException:
                with suppress(OSError):
                    part.unlink()
                raise
            for folder in (final.parent, *(made.parent for made in fresh)):
                _sync(folder)

    def open(self, path: str) -> Any:
        """As the protocol says."""
        with reading():
            return pa.OSFile(str(self._root / path))

    def remove(self, path: str) -> None:
        """As the protocol says."""
        with _border("delete from the archive"):
            (self._root / path).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """With those that a killed archiver left half-written."""
        place = self._root / folder
        with _border("list the archive"):
            return (
                sorted(f"{folder}/{found.name}".lstrip("/") for found in place.iterdir() if found.is_file())
                if place.is_dir()
                else []
            )

    def all(self) -> list[str]:
        """As the protocol says."""
        with _border("list the archive"):
            return sorted(path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file())


class Bucket:
    """Objects below `root` = bucket, or bucket/prefix. What a writer that failed leaves has a name, but no manifest row."""

    def __init__(self, root: str, system: Any) -> None:
        self._root = root.strip("/")
        self._system = system

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """The upload ends with the context."""
        with _border("write to the archive"), self._system.open_output_stream(f"{self._root}/{path}") as sink:
            yield sink

    def open(self, path: str) -> Any:
        """As the protocol says."""
        with reading():
            return self._system.open_input_file(f"{self._root}/{path}")

    def remove(self, path: str) -> None:
        """As the protocol says; what an object lock holds stays."""
        with _border("delete from the archive"), suppress(FileNotFoundError):
            self._system.delete_file(f"{self._root}/{path}")

    def names(self, folder: str) -> list[str]:
        """As the protocol says."""
        with _border("list the archive"):
            place = f"{self._root}/{folder}".rstrip("/")
            found = self._system.get_file_info(fs.FileSelector(place, allow_not_found=True))
            return sorted(f"{folder}/{info.base_name}".lstrip("/") for info in found if info.type == fs.FileType.File)

    def all(self) -> list[str]:
        """As the protocol says."""
        with _border("list the archive"):
            found = self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True, recursive=True))
            return sorted(info.path.removeprefix(f"{self._root}/") for info in found if info.type == fs.FileType.File)


def open_shelf(config: Config) -> Shelf:
    """The bucket that `config` names, else its folder. StorageRejected when the endpoint is no address."""
    if not config.bucket:
        return Folder(config.folder)
    address = urlsplit(config.endpoint or "")
    if config.endpoint and (address.scheme not in {"http", "https"} or not address.netloc):
        raise StorageRejected(f"archive.endpoint = {config.endpoint!r} is no address: expected http(s)://host:port")
    options: dict[str, Any] = {"region": config.region or ("us-east-1" if config.endpoint else None)}
    if config.endpoint:
        options |= {"endpoint_override": address.netloc, "scheme": address.scheme}
    if config.access_key is not None:
        options |= {"access_key": config.access_key.get_secret_value(), "secret_key": config.secret}
    system = fs.S3FileSystem(request_timeout=_TIMEOUT_S, connect_timeout=_TIMEOUT_S, background_writes=False, **options)
    return Bucket(config.bucket, system)


class Hashed:
    """A sink that knows the SHA-256 of what went through it, so that not even a statistic can change on the way unnoticed."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._digest = hashlib.sha256()
        self.closed = False

    @property
    def sha256(self) -> bytes:
        """So far."""
        return self._digest.digest()

    def write(self, data: Any) -> int:
        """On to the sink."""
        self._digest.update(data)
        self._sink.write(data)
        return len(data)

    def flush(self) -> None:
        """The sink is flushed by whoever opened it."""

    def close(self) -> None:
        """As `flush`."""
        self.closed = True


def digest(source: Any) -> tuple[bytes, int]:
    """SHA-256 and size of an opened file, read from its beginning."""
    found, size = hashlib.sha256(), 0
    with reading():
        source.seek(0)
        while chunk := source.read(_CHUNK_BYTES):
            found.update(chunk)
            size += len(chunk)
    return found.digest(), size


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def reading() -> Iterator[None]:
    """Around whatever reads a file: ArchiveDamaged when it is missing or no Parquet, StorageUnavailable when nobody answers."""
    try:
        yield
    except FileNotFoundError:
        raise ArchiveDamaged("a file of the archive is missing") from None
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and (error.errno is not None or "AWS Error" in str(error)):
            raise StorageUnavailable(f"cannot read the archive now: {_reason(error)}") from None
        raise ArchiveDamaged("a file of the archive does not read as Parquet") from None


@contextmanager
def _border(doing: str) -> Iterator[None]:
    """No path and no key leaves."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"cannot {doing} now: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "a file or the bucket is not there"
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in str(error) or "403" in str(error):
        return "access is denied"
    return (error.strerror or "the store of the archive does not answer").lower()
