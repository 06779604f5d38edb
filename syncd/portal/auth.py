"""Credentials: what a request carries, and what can be done when the portal says that they have expired."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import replace
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from syncd.config.urls import InboundWebhook
from syncd.core.ports import Clock
from syncd.core.store import Store
from syncd.errors import AuthError, UnavailableError
from syncd.portal.hosts import Host
from syncd.portal.limiter import LockedFile
from syncd.portal.oauth import InvalidGrant, OAuthApp, Token

EARLY: Final = 60.0
"""Seconds: an access token with less time left is refreshed when it is used. Refreshing on a timer may get an
application blocked."""
_LOCK_TRIES: Final = 3000
_LOOK_AGAIN: Final = 5


class Auth(NamedTuple):
    """What a request carries: the REST base (it may hold a secret) and an access token, empty with a webhook."""

    base: SecretStr
    token: SecretStr

    @property
    def origin(self) -> str:
        """Where the portal is, without any secret."""
        parts = urlsplit(self.base.get_secret_value())
        return f"{parts.scheme}://{parts.netloc}"

    def url(self, method: str) -> SecretStr:
        """Given a method, return the URL that calls it."""
        return SecretStr(self.base.get_secret_value() + method)

    def at(self, origin: str) -> Auth:
        """Return the same credentials for another address of the portal, `https://host[:port]`."""
        path = urlsplit(self.base.get_secret_value()).path
        return self._replace(base=SecretStr(origin + path))


class Credentials(Protocol):
    """One kind of credentials, with the address that the portal answers at."""

    key: str

    async def current(self) -> Auth:
        """Return what the next request carries."""
        ...

    async def renew(self, expired: Auth) -> bool:
        """Given credentials that the portal calls expired, return whether there are newer ones to try."""
        ...

    async def member_id(self) -> str:
        """Return the portal's lasting id if these credentials came with it; else an empty text."""
        ...

    def is_proved(self, auth: Auth) -> bool:
        """Return whether the portal is known to answer at this address, rather than tried there."""
        ...

    async def confirm(self, auth: Auth) -> bool:
        """Note that the portal answered at this address; return whether it is a new one, which is used from now on."""
        ...

    def fall_back(self, auth: Auth) -> bool:
        """Given an address that cannot be reached, return whether there is another one to try."""
        ...


def webhook_key(webhook: InboundWebhook) -> str:
    """Given a webhook, return what its operating budget is kept under: the portal counts it by webhook."""
    code = hashlib.sha256(webhook.code.encode()).hexdigest()[:12]
    return f"{webhook.host}/{webhook.user}/{code}"


class WebhookCredentials:
    """An inbound webhook: its secret is in the path."""

    def __init__(self, webhook: InboundWebhook, host: Host) -> None:
        self.key = webhook_key(webhook)
        self._webhook = webhook
        self._host = host

    async def current(self) -> Auth:
        """Return the webhook at the address that the portal answers at."""
        return self._at(self._host.origin)

    async def renew(self, expired: Auth) -> bool:
        """Return False: a webhook cannot be renewed."""
        del expired
        return False

    async def member_id(self) -> str:
        """Return an empty text: a webhook does not know it."""
        return ""

    def is_proved(self, auth: Auth) -> bool:
        """See `Credentials`: the configured address always counts as proved."""
        return auth in {self._at(self._host.origin), self._at(self._webhook.origin)}

    async def confirm(self, auth: Auth) -> bool:
        """Keep the address for all links of the host, until the process ends."""
        return self._host.move(auth.base)

    def fall_back(self, auth: Auth) -> bool:
        """See `Credentials`: only the configured address is left."""
        return auth != self._at(self._webhook.origin) and self._host.move(self._at(self._webhook.origin).base)

    def _at(self, origin: str) -> Auth:
        return Auth(SecretStr(origin + self._webhook.path), SecretStr(""))


class OAuthCredentials:
    """An application's token pair, kept in the state database so that all processes use the same one.

    Args:
        key: The pair's key in the state database.
        app: The application.
        store: The state database.
        turn: The file whose lock decides which process of this host refreshes. Between hosts, `swap_token` decides.
        clock: Time.
        link: The link's name, for hints.
    """

    def __init__(self, key: str, app: OAuthApp, store: Store, *, turn: LockedFile, clock: Clock, link: str) -> None:
        self.key = key
        self._app = app
        self._store = store
        self._turn = turn
        self._clock = clock
        self._link = link
        self._token: Token | None = None
        self._elsewhere = ""
        """The address to try instead of the one kept with the pair; empty for none."""
        self._unsaved: tuple[str, Token] | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> Auth:
        """Return the access token, refreshed if it is about to end.

        Raises:
            AuthError: There is no pair, or it can no longer be renewed.
            UnavailableError: The authorisation server or the state database is out of reach.
        """
        token = self._token
        if token is None or token.expires_at - self._clock.now() < EARLY:
            token = await self._renewed(SecretStr("" if token is None else token.access_token))
        return Auth(SecretStr(self._elsewhere or token.client_endpoint), SecretStr(token.access_token))

    async def renew(self, expired: Auth) -> bool:
        """Refresh, unless another coroutine or process has done so; calls at the same time share one refresh."""
        await self._renewed(expired.token)
        return True

    async def member_id(self) -> str:
        """Return the id that came with the pair; empty before `syncd auth`."""
        kept = await self._store.token(self.key)
        return "" if kept is None else Token.load(kept).member_id

    def is_proved(self, auth: Auth) -> bool:
        """See `Credentials`: that is the address kept with the pair."""
        return self._token is not None and auth.base.get_secret_value() == self._token.client_endpoint

    async def confirm(self, auth: Auth) -> bool:
        """Keep the address with the pair, so that it outlives this process."""
        base = auth.base.get_secret_value()
        token = self._token
        if token is None or base == token.client_endpoint or auth.token.get_secret_value() != token.access_token:
            return False
        self._token, self._elsewhere = replace(token, client_endpoint=base), ""
        # If the address cannot be kept, it will be found again in the same way.
        with contextlib.suppress(UnavailableError):
            await self._store.swap_token(self.key, token.refresh_token, self._token.dump())
        return True

    def fall_back(self, auth: Auth) -> bool:
        """See `Credentials`: the address kept with the pair and the configured one take turns."""
        if self._token is None or self._token.client_endpoint == self._app.endpoint:
            return False
        self._elsewhere = self._app.endpoint if self.is_proved(auth) else ""
        return True

    async def _renewed(self, expired: SecretStr) -> Token:
        """Given an expired access token ("" for none), return a pair with another one."""
        async with self._lock:
            if self._token is not None and self._token.access_token != expired.get_secret_value():
                return self._token
            locked = await self._turn.lock(self._clock, patience=_LOCK_TRIES)
            try:
                stored = await self._stored()
                is_over = stored.access_token == expired.get_secret_value()
                is_over = is_over or stored.expires_at - self._clock.now() < EARLY
                self._token = await self._refreshed(stored) if is_over else stored
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
            # The old pair is spent, so the new one must be stored before it is used.
            return fresh if await self._save(stored.refresh_token, fresh) else await self._stored()
        for _ in range(_LOOK_AGAIN):
            # Another host may have refreshed a moment ago, and not stored the pair yet.
            again = await self._stored()
            if again.refresh_token != stored.refresh_token:
                return again
            await self._clock.sleep(1.0)
        raise AuthError(
            "The refresh token is no longer valid: it was used elsewhere, or the authorisation was withdrawn.",
            hint=f"Run `syncd auth {self._link}` to authorise the application again.",
        )

    async def _save(self, expected: str, fresh: Token) -> bool:
        # Kept here until the state database has it: the old pair is spent, and without this one a person must authorise
        # the application again.
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
