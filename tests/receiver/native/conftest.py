"""The native lane, for the tests that compare it."""

from __future__ import annotations

import pytest

from wafermonitor.receiver.transcode import native


@pytest.fixture(scope="session")
def decode() -> native.Decode:
    """The native lane's `decode`; without the wheel there is nothing to compare."""
    loaded = native.load()
    if loaded is None:
        pytest.skip("receiver/native is not built here (no cargo)")
    return loaded
