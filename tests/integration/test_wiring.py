"""What the configuration says of a link reaches the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config.model import Settings
from syncd.wiring import open_app_context

pytestmark = pytest.mark.anyio


async def test_given_portal_settings_then_the_link_works_with_them(tmp_path: Path) -> None:
    link = {
        "portal": {"webhook": "https://example.bitrix24.com/rest/1/CODE/", "writers": 7, "max_request_seconds": 33},
        "table": {
            "url": f"sqlite:///{tmp_path / 'shop.db'}",
            "name": "bindings",
            "columns": {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"},
        },
    }
    settings = Settings.model_validate(
        {"state": {"url": f"sqlite:///{tmp_path / 'state.db'}"}, "links": {"shop": link}}
    )

    async with open_app_context(settings) as place, place.link("shop") as opened:
        assert (opened.writers, opened.request_life) == (7, 33)
