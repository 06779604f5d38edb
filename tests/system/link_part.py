"""One of several links over one portal and one state database: its name, the orders that are its own, and its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from syncd.core.model import Scope
from syncd.sandbox import SandboxPortal
from tests.system.shop import DEAL, Ran, Shop

UNKNOWN = 10**6
"""So many numbers after its first order, a link's orders do not exist in the portal until somebody makes them."""
EXISTING = 20_000
"""How many orders of a link exist in the portal."""
SETTINGS = {"first_sync": '"auto"'}
PORTAL = {"plan": '"box"', "max_request_seconds": "2"}
TABLE = 'where = "channel = \'web\'"\nextra = { channel = "web" }'


@dataclass(frozen=True)
class LinkPart:
    """See the module.

    Args:
        shop: The portal, the configuration and the state database of all links.
        name: The link's name, and its table's file.
        first: The number of its first order; the next link's first one is 2,000,000 on.
    """

    shop: Shop
    name: str
    first: int = 1

    @property
    def orders(self) -> range:
        return range(self.first, self.first + 2 * UNKNOWN)

    @property
    def scope(self) -> Scope:
        return Scope(frozenset({DEAL}), self.orders[0], self.orders[-1])

    @property
    def portal(self) -> SandboxPortal:
        return self.shop.portal

    @property
    def directory(self) -> Path:
        return self.shop.directory

    @property
    def file(self) -> Path:
        return self.directory / f"{self.name}.db"

    @property
    def configure(self) -> Callable[[], Path]:
        return self.shop.configure

    @property
    def call(self) -> Callable[..., Ran]:
        return self.shop.call

    def crm(self) -> dict[int, int]:
        """Return what the portal says of the link's orders; 0 is an owner that cannot be read."""
        return {order: deal for order, deal in self.shop.crm().items() if order in self.orders}

    def settings(self) -> dict[str, str]:
        return SETTINGS | {"orders": f"[{self.orders[0]}, {self.orders[-1]}]"}

    def section(self) -> str:
        """Return the link's part of the configuration, beside that of the shop's own link."""
        shop = self.shop
        return "\n".join(
            [
                f"[links.{self.name}]",
                *(f"{key} = {value}" for key, value in self.settings().items()),
                f'[links.{self.name}.portal]\nwebhook = "{shop.server.webhook_url}"',
                *(f"{key} = {value}" for key, value in PORTAL.items()),
                f'[links.{self.name}.table]\nurl = "sqlite:///{self.file}"\nname = "{shop.table_name}"',
                f"columns = {shop.columns}\n{TABLE}",
            ]
        )
