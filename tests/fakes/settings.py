"""The settings of one link, `shop`, as a configuration file has them."""

from __future__ import annotations

from typing import Any

from syncd.config.model import Settings

LINK: dict[str, Any] = {
    "schedule": "5m",
    "portal": {"webhook": "https://example.bitrix24.com/rest/1/topsecretcode/"},
    "table": {
        "url": "sqlite:////tmp/shop.db",
        "name": "bindings",
        "columns": {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"},
    },
}


def settings(**link: Any) -> Settings:
    """Return the settings of a file that has only this link; `link` replaces entries of it."""
    return Settings.model_validate({"links": {"shop": LINK | link}})
