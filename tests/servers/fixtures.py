"""A server of this folder for the length of a fixture.

    @pytest.fixture(scope="session")
    def postgres() -> Iterator[postgres.Server]:
        yield from running(postgres)

The tests are skipped, with the reason, where it cannot be started.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest


def running(server: ModuleType, **options: Any) -> Iterator[Any]:
    """`server.start(**options)`, stopped when the fixture ends; `server` is a module of this folder."""
    why = server.missing()
    if why is not None:
        pytest.skip(why)
    started = server.start(**options)
    yield started
    started.stop()
