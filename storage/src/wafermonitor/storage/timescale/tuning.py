"""PostgreSQL's settings for a server that keeps a store, sized from memory, processors and disk, each with its reason.

In: what the host has. Out: `Setting` rows, and their text for postgresql.conf or psql. Called by: `wafer storage tune`, `ddl`.

The embedded server takes a smaller share of its machine (`sizing`): these are for a server that has its host to itself. Figures
behind the reasons: docs/performance.md.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from wafermonitor.storage.timescale import sizing

_GIB = 1024**3
_MIB = 1024**2


class Host(NamedTuple):
    """What a server may use."""

    memory_bytes: int
    processors: int
    disk_bytes: int


class Setting(NamedTuple):
    """One line of postgresql.conf. `restart`: it takes effect when the server is started again, else at a reload."""

    name: str
    value: str
    reason: str
    restart: bool = False


def host(data: Path) -> Host:
    """This machine, or what the container may use of it; the disk is the one of `data` or of its nearest parent that exists."""
    place = next(path for path in (data.absolute(), *data.absolute().parents) if path.exists())
    return Host(sizing.memory_bytes(), os.cpu_count() or 1, shutil.disk_usage(place).total)


def settings(of: Host, *, timescaledb: bool = False) -> list[Setting]:
    """All lines, in the order in which they are explained."""
    return [*_memory(of), *_log(of), *_work(of), *_safety(), *(_timescaledb() if timescaledb else [])]


def _memory(of: Host) -> list[Setting]:
    buffers = _within(of.memory_bytes // 4, 128 * _MIB, 16 * _GIB)
    return [
        Setting(
            "shared_buffers",
            _size(buffers),
            "a quarter of the memory: the unique index over random ids of the open day must stay in it, "
            "or each row reads and writes pages",
            restart=True,
        ),
        Setting("effective_cache_size", _size(max(buffers, of.memory_bytes * 3 // 4)), "what the planner may take as cached"),
        Setting(
            "work_mem",
            _size(_within(of.memory_bytes // 256, 8 * _MIB, 128 * _MIB)),
            "sorts of reports; the store's own questions follow indexes",
        ),
        Setting(
            "maintenance_work_mem",
            _size(_within(of.memory_bytes // 16, 64 * _MIB, 2 * _GIB)),
            "vacuum and new indexes of a day",
        ),
        Setting("huge_pages", "try", "cheaper page tables for shared_buffers where the host has them", restart=True),
    ]


def _log(of: Host) -> list[Setting]:
    return [
        Setting(
            "max_wal_size",
            _size(_within(of.disk_bytes // 16, 1 * _GIB, 64 * _GIB)),
            "checkpoints far apart: after each one the first row on a page writes the whole page to the log",
        ),
        Setting(
            "min_wal_size", _size(_within(of.disk_bytes // 128, 256 * _MIB, 4 * _GIB)), "log files used again, not made anew"
        ),
        Setting(
            "checkpoint_timeout", "15min", "as above; the price is a longer recovery, about as long as the log takes to read"
        ),
        Setting("checkpoint_completion_target", "0.9", "writes spread over the whole time between two checkpoints"),
        Setting("wal_compression", "on", "whole pages in the log are compressed"),
    ]


def _work(of: Host) -> list[Setting]:
    return [
        Setting("max_worker_processes", str(of.processors + 16), "one per processor, and the extension's own", restart=True),
        Setting("max_parallel_workers", str(of.processors), "of one report, at most all processors"),
        Setting("max_parallel_workers_per_gather", str(max(1, of.processors // 2)), "half of them for one part of it"),
        Setting(
            "max_locks_per_transaction",
            "256",
            "a question over three months touches some hundred partitions or chunks and their indexes",
            restart=True,
        ),
        Setting("random_page_cost", "1.1", "solid state disks; leave it out on rotating ones"),
        Setting("jit", "off", "the store's questions are short: compiling them takes longer than answering"),
        Setting("autovacuum_naptime", "15s", "open runs are rewritten with each sign of life: dead rows go at once"),
        Setting(
            "autovacuum_vacuum_cost_limit", "2000", "vacuum that keeps up with ingest on a disk that can do more than 1990's"
        ),
        Setting(
            "log_min_messages",
            "log",
            "a redelivered batch is an error that the writer expects; a storm of them must not fill the disk",
        ),
        Setting("timezone", "'UTC'", "days of partitions are UTC; calendar buckets have their own setting"),
    ]


def _safety() -> list[Setting]:
    return [
        Setting("fsync", "on", "what was acknowledged is on disk"),
        Setting("full_page_writes", "on", "a page that was half written at a power cut is repaired"),
        Setting("synchronous_commit", "on", "an acknowledgement means committed; the writer asks for it in any case"),
        Setting("wal_level", "replica", "base backups (pg_basebackup) and standbys", restart=True),
        Setting("tcp_keepalives_idle", "60", "locks of a client whose host is gone are let go of within minutes, not hours"),
    ]


def _timescaledb() -> list[Setting]:
    return [
        Setting(
            "shared_preload_libraries", "'timescaledb'", "add it to what is there: it cannot be loaded later", restart=True
        ),
        Setting(
            "timescaledb.max_background_workers", "8", "the store calls what it needs itself; few jobs remain", restart=True
        ),
        Setting("timescaledb.telemetry_level", "off", "no host of a fab calls out"),
    ]


def conf(lines: list[Setting]) -> str:
    """For postgresql.conf, or a file in conf.d."""
    return "".join(f"# {line.reason}{' (restart)' if line.restart else ''}\n{line.name} = {line.value}\n" for line in lines)


def statements(lines: list[Setting]) -> str:
    """For psql, as a superuser. What other libraries are loaded is kept: that line stays a comment.

    A setting of an extension is given where it is known, that is in a database that has the extension.
    """
    made = []
    for line in lines:
        quiet = "-- " if line.name == "shared_preload_libraries" else ""
        value = line.value if line.value.startswith("'") else f"'{line.value}'"
        text = f"{quiet}ALTER SYSTEM SET {line.name} = {value}"
        if "." in line.name:
            known = f"SELECT FROM pg_settings WHERE name = '{line.name}'"
            text = f"SELECT $set${text}$set$ WHERE EXISTS ({known})\n\\gexec\n"
        else:
            text += ";\n"
        made.append(f"-- {line.reason}{' (restart)' if line.restart else ''}\n{text}")
    return "".join(made) + "SELECT pg_reload_conf();\n"


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(most, value))


def _size(count: int) -> str:
    """In MB, which is MiB to PostgreSQL."""
    return f"{count // _MIB}MB"
