"""A shop with three bound orders, in step or not yet. A test that needs another one has a fixture of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.shop import Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {1: 11, 2: 12, 3: 13}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12), (3, 13)])
        yield made


@pytest.fixture
def synced(shop: Shop) -> Shop:
    shop.call("reconcile").check(0)
    return shop
