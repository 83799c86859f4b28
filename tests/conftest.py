"""What every test may use: where the repository is, and the shared inputs that may be absent."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real inputs that are not ours to ship; a test that needs them is skipped where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder beside the repository is absent")
    return SHARED_DATA
