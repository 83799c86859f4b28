"""The embedded server takes a share of the machine: never so little that it crawls, never so much that nothing else runs."""

from __future__ import annotations

import pytest

from wafermonitor.storage.timescale import sizing

GIB = 1024**3


@pytest.mark.parametrize(
    ("memory", "free", "buffers_mib", "log_mib"),
    [
        (GIB // 2, GIB, 128, 256),
        (4 * GIB, 20 * GIB, 512, 2560),
        (512 * GIB, 4096 * GIB, 2048, 8192),
    ],
)
def test_an_eighth_within_bounds(memory, free, buffers_mib, log_mib):
    assert sizing.lines(memory, free) == f"shared_buffers = {buffers_mib}MB\nmax_wal_size = {log_mib}MB\n"


def test_a_container_may_use_less_than_the_machine_has(tmp_path, monkeypatch):
    machine = sizing.memory_bytes()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(sizing, "_LIMITS", (limit, tmp_path / "not there"))
    limit.write_text("max\n")
    assert sizing.memory_bytes() >= machine
    limit.write_text(f"{GIB}\n")
    assert sizing.memory_bytes() == min(GIB, machine)
    assert sizing.settings(tmp_path).startswith("shared_buffers = 128MB\n")
