"""From settings to a portal: what the wiring calls."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from syncd.config.model import OAuthSettings, PortalSettings
from syncd.core.ports import Clock
from syncd.errors import ConfigError
from syncd.portal.address import Webhook, parse_origin, parse_webhook
from syncd.portal.auth import Credentials, OAuthCredentials, TokenStore, WebhookCredentials, webhook_key
from syncd.portal.client import BitrixPortal, BudgetStore
from syncd.portal.hosts import Host, Hosts
from syncd.portal.limiter import limits_of
from syncd.portal.oauth import OAuthApp, Token
from syncd.portal.pace import AIM, Pace
from syncd.portal.ratefile import LockedFile
from syncd.portal.session import Session

PATIENCE = 15.0
"""Seconds beyond the portal's own limit for a request that an answer is waited for."""


class PortalStore(BudgetStore, TokenStore, Protocol):
    """What a portal keeps in the state database; `syncd.core.records.Store` is one."""


def open_portal(
    settings: PortalSettings,
    *,
    link: str,
    hosts: Hosts,
    store: PortalStore | None = None,
    verify_owners: bool = True,
) -> BitrixPortal:
    """Given a link's portal settings, return its portal. Connects to nothing yet.

    Args:
        settings: `[links.X.portal]`.
        link: The link's name, for hints and logs.
        hosts: What all links of the process share; brings the clock.
        store: Keeps budgets and token pairs; None is good enough for a webhook and a moment.
        verify_owners: Whether owners are asked for before orders are bound to them.

    Raises:
        ConfigError: The settings name no portal, or not in a form that can be used.
    """
    webhook = _webhook(settings)
    origin = parse_origin(_oauth(settings).portal) if webhook is None else webhook.origin
    host = hosts.open(origin, limits_of(settings.plan, settings.rate_share))
    credentials: Credentials
    turn: LockedFile | None = None
    if webhook is not None:
        credentials = WebhookCredentials(webhook, host)
    else:
        if store is None:
            raise ConfigError("OAuth needs the state database to keep its tokens in.")
        app = _app(settings, host, hosts.clock, link)
        key = token_key(settings)
        turn = LockedFile(hosts.runtime_dir, key, ".turn")
        credentials = OAuthCredentials(key, app, store, turn=turn, clock=hosts.clock, link=link)
    session = Session(
        host,
        credentials,
        hosts.clock,
        link=link,
        seconds=settings.max_request_seconds + PATIENCE,
        pace=Pace(min(AIM, settings.max_request_seconds / 3)),
    )

    async def closing() -> None:
        if turn is not None:
            turn.close()
        await hosts.release(host)

    return BitrixPortal(session, key=credentials.key, store=store, verify_owners=verify_owners, closing=closing)


def portal_name(settings: PortalSettings) -> str:
    """Given portal settings, return the portal's host: what a link's fingerprint and reports name it by."""
    webhook = _webhook(settings)
    origin = parse_origin(_oauth(settings).portal) if webhook is None else webhook.origin
    return origin.partition("://")[2]


def token_key(settings: PortalSettings) -> str:
    """Given OAuth settings, return what the token pair is kept under in the state database."""
    return f"{portal_name(settings)}/{_oauth(settings).client_id}"


def budget_key(settings: PortalSettings) -> str:
    """Given portal settings, return what the operating budget of these credentials is kept under."""
    webhook = _webhook(settings)
    return token_key(settings) if webhook is None else webhook_key(webhook)


class Authorisation:
    """`syncd auth LINK`: a person authorises the application in a browser, and the first pair is stored.

    Args:
        settings: `[links.X.portal]` with OAuth.
        link: The link's name.
        hosts: The process's portal hosts.
        store: The state database.
    """

    def __init__(self, settings: PortalSettings, *, link: str, hosts: Hosts, store: TokenStore) -> None:
        origin = parse_origin(_oauth(settings).portal)
        self._hosts = hosts
        self._host = hosts.open(origin, limits_of(settings.plan, settings.rate_share))
        self._app = _app(settings, self._host, hosts.clock, link)
        self._key = token_key(settings)
        self._store = store
        self.state = secrets.token_urlsafe(16)
        """What the redirect must bring back."""

    @property
    def url(self) -> str:
        """The page on which a person authorises the application."""
        return self._app.authorise_url(self.state)

    async def complete(self, code: str, server_domain: str = "") -> Token:
        """Given the redirect's `code` and `server_domain`, fetch the pair and store it.

        Raises:
            AuthError: The code or the application is refused.
            UnavailableError: The authorisation server cannot be reached.
        """
        token = await self._app.exchange(code, server_domain)
        await self._store.swap_token(self._key, None, token.dump())
        return token

    async def aclose(self) -> None:
        """Close connections."""
        await self._hosts.release(self._host)


def _webhook(settings: PortalSettings) -> Webhook | None:
    if settings.webhook is not None:
        return parse_webhook(settings.webhook.get_secret_value())
    if settings.webhook_file is not None:
        return parse_webhook(_content(settings.webhook_file, "webhook_file"))
    return None


def _oauth(settings: PortalSettings) -> OAuthSettings:
    if settings.oauth is None:
        raise ConfigError("The portal settings name neither webhook, webhook_file nor oauth.")
    return settings.oauth


def _app(settings: PortalSettings, host: Host, clock: Clock, link: str) -> OAuthApp:
    oauth = _oauth(settings)
    secret = oauth.client_secret
    if secret is None and oauth.client_secret_file is not None:
        secret = SecretStr(_content(oauth.client_secret_file, "client_secret_file"))
    if secret is None:
        raise ConfigError("The oauth settings name neither client_secret nor client_secret_file.")
    return OAuthApp(parse_origin(oauth.portal), oauth.client_id, secret, wire=host.wire, clock=clock, link=link)


def _content(path: str, key: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise ConfigError(f"{key} {path} cannot be read: {reason}.") from None
