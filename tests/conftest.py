"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images for tests, beside the checkout or where RESIDENCY_SHARED_DATA says; skips where they are absent."""
    folder = Path(os.environ.get("RESIDENCY_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test images: {folder} is not a folder; set RESIDENCY_SHARED_DATA")
    return folder
