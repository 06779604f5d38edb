"""Credentials: what a request carries, and what can be done when the portal says they are over."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

from pydantic import SecretStr

from syncd.core.ports import Clock
from syncd.errors import AuthError, UnavailableError
from syncd.portal.address import Webhook
from syncd.portal.hosts import Host
from syncd.portal.oauth import InvalidGrant, OAuthApp, Token
from syncd.portal.ratefile import LockedFile

EARLY: Final = 60.0
"""Seconds before its known end that an access token is refreshed; refreshing on a timer may get an app blocked."""
_TURN_PATIENCE: Final = 3000
_LOOK_AGAIN: Final = 5


class Pass(NamedTuple):
    """What the next request carries: the REST base (it may hold a secret) and an access token, empty with a webhook."""

    base: SecretStr
    token: SecretStr


class TokenStore(Protocol):
    """The part of the state database that keeps token pairs."""

    async def token(self, portal: str) -> dict[str, Any] | None:
        """Return the stored pair, as stored."""
        ...

    async def swap_token(self, portal: str, expected_refresh: str | None, token: Mapping[str, Any]) -> bool:
        """Store a pair if the stored `refresh_token` is still the expected one (None: whatever it is)."""
        ...


class Credentials(Protocol):
    """One way to be let in."""

    key: str

    async def present(self) -> Pass:
        """Return what the next request carries."""
        ...

    async def renew(self, stale: Pass) -> bool:
        """The portal says that these are over. Return whether there are newer ones to try."""
        ...

    async def moved(self, origin: str) -> None:
        """The portal answers at another address from now on."""
        ...


def webhook_key(webhook: Webhook) -> str:
    """Given a webhook, return what its operating budget is kept under: the portal counts it by webhook."""
    code = hashlib.sha256(webhook.code.encode()).hexdigest()[:12]
    return f"{webhook.host}/{webhook.user}/{code}"


class WebhookCredentials:
    """An inbound webhook: its secret is in the path."""

    def __init__(self, webhook: Webhook, host: Host) -> None:
        self.key = webhook_key(webhook)
        self._webhook = webhook
        self._host = host

    async def present(self) -> Pass:
        """Return the webhook at the portal's current address."""
        return Pass(SecretStr(self._host.current(self._webhook.origin) + self._webhook.path), SecretStr(""))

    async def renew(self, stale: Pass) -> bool:
        """A webhook cannot be renewed."""
        del stale
        return False

    async def moved(self, origin: str) -> None:
        """The host keeps its own address."""


class OAuthCredentials:
    """An application's token pair, kept in the state database so that all processes use the same one.

    Args:
        key: The pair's key in the state database.
        app: The application.
        store: The state database.
        turn: The file whose lock says whose turn a refresh is, on this host. Over hosts, `swap_token` decides.
        clock: Time.
        link: The link's name, for hints.
    """

    def __init__(
        self, key: str, app: OAuthApp, store: TokenStore, *, turn: LockedFile, clock: Clock, link: str
    ) -> None:
        self.key = key
        self._app = app
        self._store = store
        self._turn = turn
        self._clock = clock
        self._link = link
        self._token: Token | None = None
        self._unsaved: tuple[str, Token] | None = None
        self._lock = asyncio.Lock()

    async def present(self) -> Pass:
        """Return the access token, refreshed if it is about to end.

        Raises:
            AuthError: There is no pair, or it is over for good.
            UnavailableError: The authorisation server or the state database is out of reach.
        """
        token = self._token
        if token is None or token.expires_at - self._clock.now() < EARLY:
            token = await self._renewed(SecretStr("" if token is None else token.access_token))
        return _pass(token)

    async def renew(self, stale: Pass) -> bool:
        """Refresh, unless another coroutine or process did since; calls at the same time share one refresh."""
        await self._renewed(stale.token)
        return True

    async def moved(self, origin: str) -> None:
        """Keep the portal's new address with the pair, so that it outlives this process."""
        assert self._token is not None  # whoever was redirected had presented it
        self._token = replace(self._token, client_endpoint=f"{origin}/rest/")
        await self._store.swap_token(self.key, self._token.refresh_token, self._token.dump())

    async def _renewed(self, stale: SecretStr) -> Token:
        """Given the access token that is over ("" for none), return a pair with another one."""
        async with self._lock:
            if self._token is not None and self._token.access_token != stale.get_secret_value():
                return self._token
            locked = await self._turn.lock(self._clock, patience=_TURN_PATIENCE)
            try:
                stored = await self._stored()
                over = stored.access_token == stale.get_secret_value() or stored.expires_at - self._clock.now() < EARLY
                self._token = await self._refreshed(stored) if over else stored
                return self._token
            finally:
                if locked:
                    self._turn.unlock()

    async def _stored(self) -> Token:
        if self._unsaved is not None:
            await self._save(*self._unsaved)
        kept = await self._store.token(self.key)
        if kept is None:
            raise AuthError(
                "The application was never authorised on this portal.", hint=f"Run `syncd auth {self._link}`."
            )
        return Token.load(kept)

    async def _refreshed(self, stored: Token) -> Token:
        try:
            fresh = await self._app.refresh(stored)
        except InvalidGrant:
            pass
        else:
            # The old pair is spent: the new one must be safe before anything relies on it.
            return fresh if await self._save(stored.refresh_token, fresh) else await self._stored()
        for _ in range(_LOOK_AGAIN):
            # Another host may have refreshed this very moment, and not stored the pair yet.
            again = await self._stored()
            if again.refresh_token != stored.refresh_token:
                return again
            await self._clock.sleep(1.0)
        raise AuthError(
            "The refresh token is no longer good: it was used elsewhere, or the authorisation was withdrawn.",
            hint=f"Run `syncd auth {self._link}` to authorise the application again.",
        )

    async def _save(self, expected: str, fresh: Token) -> bool:
        # Kept here until the state database has it: the old pair is spent, losing this one means to authorise anew.
        self._unsaved = (expected, fresh)
        for _ in range(_LOOK_AGAIN - 1):
            with contextlib.suppress(UnavailableError):
                return await self._swap(expected, fresh)
            await self._clock.sleep(1.0)
        return await self._swap(expected, fresh)

    async def _swap(self, expected: str, fresh: Token) -> bool:
        saved = await self._store.swap_token(self.key, expected, fresh.dump())
        self._unsaved = None
        return saved


def _pass(token: Token) -> Pass:
    return Pass(SecretStr(token.client_endpoint), SecretStr(token.access_token))
