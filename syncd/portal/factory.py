"""Makes a portal from its settings; called by the wiring."""

from __future__ import annotations

import secrets
from typing import Any

from syncd.config.model import OAuthSettings, PortalSettings
from syncd.config.urls import InboundWebhook, parse_webhook
from syncd.core.ports import Clock, Progress
from syncd.core.store import Store
from syncd.errors import ConfigError
from syncd.obs.clock import NULL_METER, Meter
from syncd.obs.redact import register_secret
from syncd.portal.auth import Credentials, OAuthCredentials, WebhookCredentials, webhook_key
from syncd.portal.budget import BATCH_SECONDS, BatchSizer
from syncd.portal.client import BitrixPortal
from syncd.portal.hosts import Host, Hosts
from syncd.portal.limiter import LockedFile, limits_of
from syncd.portal.oauth import LIFETIME, REFRESH_LIFETIME, OAuthApp, Token
from syncd.portal.session import Session

PATIENCE = 15.0
"""Seconds to wait for an answer beyond the portal's own time limit for a request."""


def open_portal(
    settings: PortalSettings,
    *,
    link: str,
    hosts: Hosts,
    store: Store | None = None,
    verify_owners: bool = True,
    meter: Meter = NULL_METER,
    progress: Progress | None = None,
) -> BitrixPortal:
    """Given a link's portal settings, return its portal. Connects to nothing yet.

    Args:
        settings: `[links.X.portal]`.
        link: The link's name, for hints and logs.
        hosts: What all links of the process share; brings the clock.
        store: Keeps budgets and token pairs; None is enough for a short use of a webhook.
        verify_owners: Whether owners are asked for before orders are bound to them.
        meter: Receives the duration of every request.
        progress: Shows long waits.

    Raises:
        ConfigError: The settings name no portal, or not in a form that can be used.
    """
    origin = _origin(settings)
    if settings.oauth is not None and store is None:
        raise ConfigError("OAuth needs the state database to keep its tokens in.")
    host = hosts.open(origin, limits_of(settings.plan, settings.rate_share))
    credentials: Credentials
    turn: LockedFile | None = None
    if settings.oauth is None or store is None:
        credentials = WebhookCredentials(_webhook(settings), host)
    else:
        key = token_key(settings)
        turn = LockedFile(hosts.runtime_dir, key, ".turn")
        app = _app(settings.oauth, host, hosts.clock, link)
        credentials = OAuthCredentials(key, app, store, turn=turn, clock=hosts.clock, link=link)
    session = Session(
        host,
        credentials,
        hosts.clock,
        link=link,
        seconds=settings.max_request_seconds + PATIENCE,
        sizer=BatchSizer(min(BATCH_SECONDS, settings.max_request_seconds / 3)),
        meter=meter,
        progress=progress,
    )

    async def closing() -> None:
        if turn is not None:
            turn.close()
        await hosts.release(host)

    return BitrixPortal(session, key=credentials.key, store=store, verify_owners=verify_owners, closing=closing)


def token_key(settings: PortalSettings) -> str:
    """Given OAuth settings, return what the token pair is kept under in the state database."""
    return f"{settings.address}/{_oauth(settings).client_id}"


def token_end(settings: PortalSettings, kept: dict[str, Any] | None) -> float | None:
    """Given portal settings and the token pair kept for them, return until when the pair can be renewed.

    Returns:
        Seconds since the epoch; None for a webhook, and before `syncd auth`.
    """
    if settings.oauth is None or kept is None:
        return None
    return float(kept["expires_at"]) - LIFETIME + REFRESH_LIFETIME


def budget_key(settings: PortalSettings) -> str:
    """Given portal settings, return what the operating budget of these credentials is kept under."""
    return webhook_key(_webhook(settings)) if settings.oauth is None else token_key(settings)


class Authorisation:
    """`syncd auth LINK`: a person authorises the application in a browser, and the first pair is stored.

    Args:
        settings: `[links.X.portal]` with OAuth.
        link: The link's name.
        hosts: The process's portal hosts.
        store: The state database.
        member_id: The id of the portal that the link's agreed state belongs to, if it is known.
    """

    def __init__(self, settings: PortalSettings, *, link: str, hosts: Hosts, store: Store, member_id: str = "") -> None:
        self._hosts = hosts
        self._host = hosts.open(_origin(settings), limits_of(settings.plan, settings.rate_share))
        self._app = _app(_oauth(settings), self._host, hosts.clock, link)
        self._key = token_key(settings)
        self._store = store
        self._member_id = member_id
        self.state = secrets.token_urlsafe(16)
        """What the redirect must bring back."""

    @property
    def url(self) -> str:
        """The page on which a person authorises the application."""
        return self._app.authorise_url(self.state)

    async def complete(self, code: str, server_domain: str = "") -> Token:
        """Given the redirect's `code` and `server_domain`, fetch the pair and store it.

        Raises:
            UsageError: The server is neither the configured one nor the vendor's.
            AuthError: The code or the application is refused, or the pair is of another portal.
            UnavailableError: The authorisation server cannot be reached.
        """
        token = await self._app.exchange(code, server_domain, member_id=self._member_id)
        await self._store.swap_token(self._key, None, token.dump())
        return token

    async def aclose(self) -> None:
        """Close connections."""
        await self._hosts.release(self._host)


def _origin(settings: PortalSettings) -> str:
    return _webhook(settings).origin if settings.oauth is None else settings.oauth.portal


def _webhook(settings: PortalSettings) -> InboundWebhook:
    if settings.webhook is None:
        raise ConfigError("The portal's settings hold no webhook: its file was not read, or it uses oauth.")
    webhook = parse_webhook(settings.webhook.get_secret_value())
    register_secret(webhook.code)
    return webhook


def _oauth(settings: PortalSettings) -> OAuthSettings:
    if settings.oauth is None:
        raise ConfigError(
            "The portal is reached by a webhook, which needs no authorisation.",
            hint="Write [links.X.portal.oauth] instead of the webhook to use an application.",
        )
    return settings.oauth


def _app(oauth: OAuthSettings, host: Host, clock: Clock, link: str) -> OAuthApp:
    if oauth.client_secret is None:
        raise ConfigError("The settings hold no client_secret: its file was not read.")
    return OAuthApp(
        oauth.portal,
        oauth.client_id,
        oauth.client_secret,
        server=oauth.server,
        client=host.client,
        clock=clock,
        link=link,
    )
