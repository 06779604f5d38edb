"""The authorisation server: exchanging a code, refreshing a pair of tokens (portal.md 8).

Secrets travel in a form's body, never in a URL. The last answer names the server's host (`server_endpoint`); `domain`
in its answers is its own host, not the portal's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode, urlsplit

from pydantic import SecretBytes, SecretStr

from syncd.config.urls import is_loopback, origin_of, web_host
from syncd.core.pacing import pause
from syncd.core.ports import Clock
from syncd.errors import AuthError, UnavailableError, UsageError
from syncd.obs.redact import register_secret
from syncd.portal.hosts import VENDOR_SERVERS
from syncd.portal.responses import ApiError, error_of, number
from syncd.portal.transport import HttpClient, NotExecuted, PerhapsExecuted, Reply

DEFAULT_SERVER: Final = "https://oauth.bitrix.info"
LIFETIME: Final = 3600.0
"""Seconds for which an access token is valid when the answer does not say."""
REFRESH_LIFETIME: Final = 180 * 86400.0
"""Seconds in which a pair can be renewed (portal.md 8); no answer says."""
_TRIES: Final = 3
_SECONDS: Final = 30.0

_TERMINAL: Final = {
    "INVALID_CLIENT": "Check client_id and client_secret, and that the application is installed on the portal.",
    "WRONG_CLIENT": "The authorisation server does not know this client_id: check it.",
    "NOT_INSTALLED": "Install the application on the portal, then run `syncd auth {link}`.",
    "PAYMENT_REQUIRED": "The application or the portal's REST subscription has to be paid for.",
    "INVALID_SCOPE": "Give the application the scope crm, then run `syncd auth {link}`.",
    "INSUFFICIENT_SCOPE": "Give the application the scope crm, then run `syncd auth {link}`.",
    "INVALID_REQUEST": "Run `syncd auth {link}` to authorise the application again.",
}

_Form: TypeAlias = dict[str, str | SecretStr]


class InvalidGrant(Exception):
    """The code or refresh token is wrong, used or expired; another process may hold its successor."""


@dataclass(frozen=True, slots=True)
class Token:
    """A pair of tokens, with the addresses where they are used.

    Args:
        access_token: The access token.
        refresh_token: The refresh token; each refresh replaces it.
        expires_at: When the access token expires, in seconds since the epoch.
        client_endpoint: The portal's REST base, ending in a slash.
        server_endpoint: The authorisation server, any of its URLs.
        member_id: The portal's lasting id.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float
    client_endpoint: str
    server_endpoint: str
    member_id: str = ""

    @classmethod
    def load(cls, kept: dict[str, Any]) -> Token:
        """Given a pair as `dump` gave it, return it."""
        token = cls(**{name: kept[name] for name in cls.__slots__ if name in kept})
        register_secret(token.access_token)
        register_secret(token.refresh_token)
        return token

    def dump(self) -> dict[str, Any]:
        """Return the pair as the state database keeps it; `refresh_token` is what `swap_token` compares."""
        return {name: getattr(self, name) for name in self.__slots__}


class OAuthApp:
    """An application's credentials at the authorisation server.

    Args:
        portal: The portal's origin.
        client_id: The application's id.
        client_secret: Its secret.
        server: The authorisation server to begin with.
        client: Connections.
        clock: Time.
        link: The link's name, for hints.
    """

    def __init__(
        self,
        portal: str,
        client_id: str,
        client_secret: SecretStr,
        *,
        server: str = DEFAULT_SERVER,
        client: HttpClient,
        clock: Clock,
        link: str,
    ) -> None:
        register_secret(client_secret.get_secret_value())
        self.endpoint = f"{portal}/rest/"
        """The REST base at the configured address."""
        self._portal = portal
        self._client_id = client_id
        self._client_secret = client_secret
        self._client = client
        self._clock = clock
        self._link = link
        # A portal on this machine is a sandbox, which plays the authorisation server too.
        self._server = portal if server == DEFAULT_SERVER and is_loopback(portal) else server

    def authorise_url(self, state: str) -> str:
        """Given an unguessable state, return the page on which a person authorises the application."""
        query = urlencode({"client_id": self._client_id, "response_type": "code", "state": state})
        return f"{self._portal}/oauth/authorize/?{query}"

    async def exchange(self, code: str, server: str = "", *, member_id: str = "") -> Token:
        """Fetch the first pair.

        Args:
            code: The one that the redirect brought; valid for 30 s.
            server: The `server_domain` that came with it; empty for the configured server.
            member_id: The id of the portal that is meant, if it is known.

        Raises:
            UsageError: The server is neither the configured one nor the vendor's, so it does not get the secret.
            AuthError: The server refuses the code or the application, or the pair is of another portal.
            UnavailableError: The server cannot be reached.
        """
        asked = self._server
        if server:
            scheme = urlsplit(self._portal).scheme if is_loopback(self._portal) else "https"
            asked = server if "://" in server else f"{scheme}://{server}"
            if not self._is_trusted(asked):
                raise UsageError(
                    f"The address names the authorisation server {server[:100]}, which is neither the configured one "
                    "nor the vendor's; nothing was sent or stored.",
                    hint=f"If it is the right one, set links.{self._link}.portal.oauth.server to it and begin again.",
                )
        grant: _Form = {"grant_type": "authorization_code", "code": SecretStr(code)}
        try:
            fresh = await self._ask(asked, grant, client_endpoint=self.endpoint, tries=1)
        except InvalidGrant:
            refusal = AuthError(
                "The authorisation server refuses the code: it is valid once, for 30 seconds.",
                hint=f"Run `syncd auth {self._link}` again, and paste the address without delay.",
            )
        else:
            self._require_portal(fresh, endpoint=self.endpoint, member_id=member_id)
            return fresh
        raise refusal

    async def refresh(self, token: Token) -> Token:
        """Given a pair, return its successor. This spends the given refresh token.

        The server that came with the pair is asked, or the configured one if it cannot be reached.

        Raises:
            InvalidGrant: It was spent before.
            AuthError: The server refuses the application, or answers with a pair of another portal.
            UnavailableError: The server cannot be reached.
        """
        grant: _Form = {"grant_type": "refresh_token", "refresh_token": SecretStr(token.refresh_token)}
        kept = token.server_endpoint if self._is_trusted(token.server_endpoint) else self._server
        try:
            fresh = await self._ask(kept, grant, client_endpoint=token.client_endpoint, tries=_TRIES)
        except UnavailableError as error:
            if _same_host(kept, self._server):
                raise
            fresh = await self._refresh_elsewhere(grant, token, error)
        self._require_portal(fresh, endpoint=token.client_endpoint, member_id=token.member_id)
        return fresh

    async def _refresh_elsewhere(self, grant: _Form, token: Token, kept: UnavailableError) -> Token:
        """Ask the configured server instead of the kept one; its refusal says nothing about the pair."""
        try:
            return await self._ask(self._server, grant, client_endpoint=token.client_endpoint, tries=_TRIES)
        except (InvalidGrant, AuthError, UnavailableError):
            problem = UnavailableError(
                f"{kept.message.rstrip('.')}, and neither does the configured one, {web_host(self._server)}.",
                hint=kept.hint,
            )
        raise problem

    def _is_trusted(self, server: str) -> bool:
        """Given an authorisation server, return whether it may be given the application's secret."""
        try:
            host = web_host(origin_of(server))
        except ValueError:
            return False
        return host in VENDOR_SERVERS or _same_host(server, self._server)

    def _require_portal(self, fresh: Token, *, endpoint: str, member_id: str) -> None:
        """Given a new pair, refuse it unless it is of the portal that is meant (portal.md 14).

        A portal that was renamed answers at another address, under the same `member_id`.
        """
        same = fresh.member_id == member_id if fresh.member_id and member_id else None
        if same is None:
            same = _same_host(fresh.client_endpoint, endpoint)
        if not same:
            theirs, ours = web_host(fresh.client_endpoint), web_host(endpoint)
            which = f"{theirs}, not {ours}" if theirs != ours else f"at {ours}, but not the one this link was made for"
            raise AuthError(
                f"The authorisation server answered with tokens of another portal ({which}); they were not stored.",
                hint=f"Sign in to {ours} in the browser, and run `syncd auth {self._link}` again. If the portal has a "
                "new address, write it into the configuration first."
                if theirs != ours
                else f"If the portal was made anew, the link starts anew, too: `syncd rebase {self._link}`, then "
                f"`syncd auth {self._link}` again.",
            )

    async def _ask(self, server: str, grant: _Form, *, client_endpoint: str, tries: int) -> Token:
        parts = urlsplit(server)
        url = SecretStr(f"{parts.scheme}://{parts.netloc}/oauth/token/")
        client: _Form = {"client_id": self._client_id, "client_secret": self._client_secret}
        form = _encoded({**grant, **client})
        words = ""
        for attempt in range(1, tries + 1):
            if attempt > 1:
                await self._clock.sleep(pause(attempt - 1, first=1, most=5, spread=0.5, chance=self._clock.random()))
            try:
                reply = await self._client.post(url, form, "application/x-www-form-urlencoded", seconds=_SECONDS)
            except (NotExecuted, PerhapsExecuted) as error:
                words = str(error)
                continue
            answer = _decoded(reply)
            if isinstance(answer, ApiError):
                words = self._refused(answer)
            else:
                return self._token(answer, client_endpoint, server)
        raise UnavailableError(
            f"The authorisation server {parts.hostname} gives no new tokens: {words}.",
            hint="The next run asks it again; check that this host can reach it.",
        )

    def _refused(self, error: ApiError) -> str:
        """Given an error, return its text if it may pass; raise it if it does not."""
        if error.code.upper() == "INVALID_GRANT":
            raise InvalidGrant
        if error.code.upper() in _TERMINAL:
            raise AuthError(
                f"The authorisation server refuses the application: {error}.",
                hint=_TERMINAL[error.code.upper()].format(link=self._link),
            )
        return str(error)

    def _token(self, body: dict[str, Any], client_endpoint: str, server: str) -> Token:
        now = self._clock.now()
        named = _endpoint(body.get("server_endpoint"), server)
        lifetime, expires = number(body.get("expires_in")), number(body.get("expires"))
        # The lifetime comes first: it is right whatever this host's clock says.
        expires_at = now + lifetime if lifetime else expires or now + LIFETIME
        return Token.load(
            {
                "access_token": body["access_token"],
                "refresh_token": body["refresh_token"],
                "expires_at": expires_at,
                "client_endpoint": _endpoint(body.get("client_endpoint"), client_endpoint),
                "server_endpoint": named if self._is_trusted(named) else server,
                "member_id": str(body.get("member_id") or ""),
            }
        )


def _decoded(reply: Reply) -> dict[str, Any] | ApiError:
    """Given an answer, return its pair, or its error; errors come with HTTP 200, too (portal.md 8.3)."""
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and "error" in body:
        return error_of(body, reply.status)
    if isinstance(body, dict) and all(isinstance(body.get(name), str) for name in ("access_token", "refresh_token")):
        return body
    return ApiError("", "an answer without tokens", reply.status)


def _encoded(form: _Form) -> SecretBytes:
    plain = [
        (name, value.get_secret_value() if isinstance(value, SecretStr) else value) for name, value in form.items()
    ]
    return SecretBytes(urlencode(plain).encode())


def _endpoint(given: Any, kept: str) -> str:
    """Given an endpoint from an answer, return it if tokens may be sent there, else the one known before."""
    if not isinstance(given, str):
        return kept
    try:
        origin_of(given)
    except ValueError:
        return kept
    if is_loopback(given) and not is_loopback(kept):
        return kept
    return given if given.endswith("/") else given + "/"


def _same_host(url: str, other: str) -> bool:
    return web_host(url) == web_host(other)
