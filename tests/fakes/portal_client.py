"""The real portal client over a sandbox in process, or over answers written down, in virtual time."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from syncd.config.model import OAuthSettings, PortalSettings
from syncd.core.model import Row, Scope
from syncd.portal.client import BitrixPortal
from syncd.portal.hosts import Hosts
from syncd.portal.opening import PortalStore, open_portal
from syncd.sandbox import SandboxPortal
from tests.fakes.clock import FakeClock
from tests.fakes.sandbox_transport import SandboxTransport

CODE = "sandboxsecret"
WEBHOOK = f"https://portal.example/rest/1/{CODE}/"
EVERYTHING = Scope(frozenset({2}))
OAUTH = OAuthSettings(
    portal="https://portal.example", client_id="local.sandbox", client_secret=SecretStr("sandboxclientsecret")
)

Answering = Callable[[httpx.Request], httpx.Response]


@dataclass
class MemoryPortalStore:
    """`syncd.portal.opening.PortalStore` in memory. `before_swap` is called before a pair is stored."""

    tokens: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    budgets: dict[str, dict[str, tuple[float, float, float]]] = field(default_factory=dict)
    before_swap: Callable[[], None] = lambda: None

    async def token(self, portal: str) -> dict[str, Any] | None:
        return self.tokens.get(portal)

    async def swap_token(self, portal: str, expected_refresh: str | None, token: Mapping[str, Any]) -> bool:
        self.before_swap()
        kept = self.tokens.get(portal, {}).get("refresh_token")
        if expected_refresh is not None and kept != expected_refresh:
            return False
        self.tokens[portal] = dict(token)
        return True

    async def budget(self, portal: str) -> dict[str, tuple[float, float, float]]:
        return dict(self.budgets.get(portal, {}))

    async def set_budget(self, portal: str, budget: Mapping[str, tuple[float, float, float]]) -> None:
        self.budgets[portal] = dict(budget)


@asynccontextmanager
async def client(
    behind: SandboxPortal | Answering | httpx.AsyncBaseTransport,
    clock: FakeClock,
    *,
    hosts: Hosts | None = None,
    store: PortalStore | None = None,
    verify_owners: bool = True,
    **settings: Any,
) -> AsyncIterator[BitrixPortal]:
    """Open a client.

    Args:
        behind: Who answers.
        clock: Virtual time.
        hosts: Shared with another client.
        store: The state database's part.
        verify_owners: See `open_portal`.
        settings: Of `[links.X.portal]`.
    """
    if isinstance(behind, SandboxPortal):
        behind = SandboxTransport(behind)
    elif not isinstance(behind, httpx.AsyncBaseTransport):
        behind = httpx.MockTransport(behind)
    with tempfile.TemporaryDirectory() as directory:
        hosts = hosts or Hosts(clock, runtime_dir=Path(directory), transport=behind)
        options = {"webhook": SecretStr(WEBHOOK)} | settings
        if "oauth" in settings:
            del options["webhook"]
        portal = open_portal(
            PortalSettings(**options), link="shop", hosts=hosts, store=store, verify_owners=verify_owners
        )
        try:
            yield portal
        finally:
            await portal.aclose()


async def listed(portal: BitrixPortal, boundaries: tuple[int, ...] = (), scope: Scope = EVERYTHING) -> list[Row]:
    """List to the end."""
    return [row async for rows in portal.listing(boundaries, scope, lambda *_: None) for row in rows]


def batch_answer(results: Mapping[str, Any], errors: Mapping[str, Any] | None = None, **parts: Any) -> httpx.Response:
    """The answer to a batch."""
    inner = {"result": results, "result_error": errors or [], "result_total": [], "result_next": [], "result_time": []}
    return httpx.Response(200, json={"result": inner | parts, "time": {"finish": 1.0}})
