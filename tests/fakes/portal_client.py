"""The real portal client over a sandbox in process, or over answers written down, in virtual time."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from syncd.config.model import OAuthSettings, PortalSettings
from syncd.core.model import Row, Scope
from syncd.portal.client import BitrixPortal
from syncd.portal.commands import ADD, DELETE
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts
from syncd.sandbox import SandboxPortal
from tests.fakes.clock import FakeClock, SetClock
from tests.fakes.sandbox_transport import SandboxTransport
from tests.fakes.store import MemoryStore

CODE = "sandboxsecret"
WEBHOOK = f"https://portal.example/rest/1/{CODE}/"
EVERYTHING = Scope(frozenset({2}))
OAUTH = OAuthSettings(
    portal="https://portal.example",
    client_id="local.sandbox",
    client_secret=SecretStr("sandboxclientsecret"),
    server="https://portal.example",
)

Answering = Callable[[httpx.Request], httpx.Response]


class PortalStore(MemoryStore):
    """A state database of which a test reads and sets what a portal keeps there: `tokens`, `budgets`.

    `before_swap` is called before a pair is stored.
    """

    def __init__(self, tokens: Mapping[str, dict[str, Any]] | None = None) -> None:
        super().__init__(SetClock())
        self._tokens.update(tokens or {})
        self.tokens, self.budgets = self._tokens, self._budgets
        self.before_swap: Callable[[], None] = lambda: None

    async def swap_token(self, portal: str, expected_refresh: str | None, token: Mapping[str, Any]) -> bool:
        self.before_swap()
        return await super().swap_token(portal, expected_refresh, token)


@asynccontextmanager
async def client(
    behind: SandboxPortal | Answering | httpx.AsyncBaseTransport,
    clock: FakeClock,
    *,
    hosts: Hosts | None = None,
    store: PortalStore | None = None,
    verify_owners: bool = True,
    conditional: bool | None = True,
    **settings: Any,
) -> AsyncIterator[BitrixPortal]:
    """Open a client.

    Args:
        behind: Who answers.
        clock: Virtual time.
        hosts: Shared with another client.
        store: The state database's part.
        verify_owners: See `open_portal`.
        conditional: What the client takes the portal for, with its bindings (order 1) as witnesses, so that the first
            request is the test's own, and full batches from the beginning; None leaves it to find out.
        settings: Of `[links.X.portal]`.
    """
    sandbox = behind if isinstance(behind, SandboxPortal) else None
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
        if conditional is not None:
            portal._session.usage.conditional = conditional
            portal._session.sizer._observed.update({ADD: 50, DELETE: 50})
            bound = {1: (2, 1)} if sandbox is None else sandbox.table.owners
            portal._witnesses.note([Row(order, *owner) for order, owner in sorted(bound.items())])
        try:
            yield portal
        finally:
            await portal.aclose()


async def listed(portal: BitrixPortal, boundaries: tuple[int, ...] = (), scope: Scope = EVERYTHING) -> list[Row]:
    """List to the end."""
    return [row async for chunk in portal.listing(boundaries, scope, lambda *_: None) for row in chunk.rows]


def batch_answer(results: Mapping[str, Any], errors: Mapping[str, Any] | None = None, **parts: Any) -> httpx.Response:
    """The answer to a batch."""
    inner: dict[str, Any] = {
        "result": results,
        "result_error": errors or [],
        "result_total": [],
        "result_next": [],
        "result_time": [],
    }
    return httpx.Response(200, json={"result": inner | parts, "time": {"finish": 1.0}})
