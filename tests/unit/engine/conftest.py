"""Fixtures of the engine's tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _quiet(quiet: None) -> None:
    """No test of the engine reads log lines, unless it captures them."""
