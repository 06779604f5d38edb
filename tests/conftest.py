"""Fixtures every suite shares."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.databases"]


@pytest.fixture
def anyio_backend() -> str:
    """syncd runs on asyncio."""
    return "asyncio"
