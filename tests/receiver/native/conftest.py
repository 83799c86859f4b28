"""The native lane, for the tests that compare it."""

from __future__ import annotations

import os
import shutil

import pytest

from wafermonitor.receiver.transcode import native


@pytest.fixture(scope="session")
def decode() -> native.Decode:
    """The native lane's `decode`; without the wheel there is nothing to compare."""
    loaded = native.load()
    if loaded is None:
        if os.environ.get("CI") and shutil.which("cargo"):
            pytest.fail("receiver/native is not built although cargo is here: run `make setup`")
        pytest.skip("receiver/native is not built here (no cargo)")
    return loaded
