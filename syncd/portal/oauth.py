"""The authorisation server: exchanging a code, refreshing a pair (bitrix24-rest.md 8).

Everything secret travels in a form's body, never in a URL. The server's host is taken from the last answer
(`server_endpoint`); `domain` in its answers is its own host, not the portal's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode, urlsplit

from pydantic import SecretBytes, SecretStr

from syncd.core.backoff import pause
from syncd.core.ports import Clock
from syncd.errors import AuthError, UnavailableError
from syncd.obs.redact import remember
from syncd.portal.address import is_loopback, origin_of
from syncd.portal.codes import Fault
from syncd.portal.envelope import fault_of, number
from syncd.portal.transport import NotExecuted, PerhapsExecuted, Reply, Wire

DEFAULT_SERVER: Final = "https://oauth.bitrix.info"
LIFETIME: Final = 3600.0
"""Seconds an access token lives when the answer does not say."""
REFRESH_LIFETIME: Final = 180 * 86400.0
"""Seconds in which a pair can be renewed (bitrix24-rest.md 8); no answer says."""
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
    """The code or refresh token is wrong, used or over; another process may hold its successor."""


@dataclass(frozen=True, slots=True)
class Token:
    """A pair of tokens with where they are good.

    Args:
        access_token: The access token.
        refresh_token: The refresh token; each refresh replaces it.
        expires_at: When the access token ends, seconds since the epoch.
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
        remember(token.access_token)
        remember(token.refresh_token)
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
        wire: Connections.
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
        wire: Wire,
        clock: Clock,
        link: str,
    ) -> None:
        remember(client_secret.get_secret_value())
        self._portal = portal
        self._client_id = client_id
        self._client_secret = client_secret
        self._wire = wire
        self._clock = clock
        self._link = link
        # A portal on this machine is a sandbox, which plays the authorisation server too.
        self._server = portal if server == DEFAULT_SERVER and is_loopback(portal) else server

    def authorise_url(self, state: str) -> str:
        """Given an unguessable state, return the page on which a person authorises the application."""
        query = urlencode({"client_id": self._client_id, "response_type": "code", "state": state})
        return f"{self._portal}/oauth/authorize/?{query}"

    async def exchange(self, code: str, server: str = "") -> Token:
        """Given the code (good for 30 s) and the `server_domain` that came with it, return the first pair.

        Raises:
            AuthError: The server refuses the code or the application.
            UnavailableError: The server cannot be reached.
        """
        scheme = urlsplit(self._portal).scheme if is_loopback(self._portal) else "https"
        host = server if "://" in server else f"{scheme}://{server}" if server else self._server
        grant: _Form = {"grant_type": "authorization_code", "code": SecretStr(code)}
        try:
            return await self._ask(host, grant, client_endpoint=f"{self._portal}/rest/", tries=1)
        except InvalidGrant:
            refusal = AuthError(
                "The authorisation server refuses the code: it is good once, for 30 seconds.",
                hint=f"Run `syncd auth {self._link}` again, and be quick with the code.",
            )
        raise refusal

    async def refresh(self, token: Token) -> Token:
        """Given a pair, return its successor. The given refresh token is spent by this.

        Raises:
            InvalidGrant: It was spent before.
            AuthError: The server refuses the application.
            UnavailableError: The server cannot be reached.
        """
        grant: _Form = {"grant_type": "refresh_token", "refresh_token": SecretStr(token.refresh_token)}
        server = token.server_endpoint or self._server
        fresh = await self._ask(server, grant, client_endpoint=token.client_endpoint, tries=_TRIES)
        if token.member_id and fresh.member_id and fresh.member_id != token.member_id:
            raise AuthError(
                "The authorisation server answered with tokens of another portal.",
                hint=f"Run `syncd auth {self._link}`, and see that it names the right portal.",
            )
        return fresh

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
                reply = await self._wire.post(url, form, "application/x-www-form-urlencoded", seconds=_SECONDS)
            except (NotExecuted, PerhapsExecuted) as error:
                words = str(error)
                continue
            answer = _decoded(reply)
            if isinstance(answer, Fault):
                words = self._refused(answer)
            else:
                return self._token(answer, client_endpoint, server)
        raise UnavailableError(
            f"The authorisation server {parts.hostname} gives no new tokens: {words}.",
            hint="It is asked again in the next run; see that this host can reach it.",
        )

    def _refused(self, fault: Fault) -> str:
        """Given an error, return the words of a passing one, or raise a terminal one."""
        if fault.code.upper() == "INVALID_GRANT":
            raise InvalidGrant
        if fault.code.upper() in _TERMINAL:
            raise AuthError(
                f"The authorisation server refuses the application: {fault}.",
                hint=_TERMINAL[fault.code.upper()].format(link=self._link),
            )
        return str(fault)

    def _token(self, body: dict[str, Any], client_endpoint: str, server: str) -> Token:
        now = self._clock.now()
        lifetime, expires = number(body.get("expires_in")), number(body.get("expires"))
        # Relative first: it holds whatever this host's clock says.
        expires_at = now + lifetime if lifetime else expires or now + LIFETIME
        return Token.load(
            {
                "access_token": body["access_token"],
                "refresh_token": body["refresh_token"],
                "expires_at": expires_at,
                "client_endpoint": _endpoint(body.get("client_endpoint"), client_endpoint),
                "server_endpoint": _endpoint(body.get("server_endpoint"), server),
                "member_id": str(body.get("member_id") or ""),
            }
        )


def _decoded(reply: Reply) -> dict[str, Any] | Fault:
    """Given an answer, return the pair in it, or the error; errors come with HTTP 200 too (bitrix24-rest.md 8.3)."""
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and "error" in body:
        return fault_of(body, reply.status)
    if isinstance(body, dict) and all(isinstance(body.get(name), str) for name in ("access_token", "refresh_token")):
        return body
    return Fault("", "an answer without tokens", reply.status)


def _encoded(form: _Form) -> SecretBytes:
    plain = [
        (name, value.get_secret_value() if isinstance(value, SecretStr) else value) for name, value in form.items()
    ]
    return SecretBytes(urlencode(plain).encode())


def _endpoint(given: Any, kept: str) -> str:
    """Given an endpoint from an answer, return it if it is fit to be sent tokens, else the one known before."""
    if not isinstance(given, str):
        return kept
    try:
        origin_of(given)
    except ValueError:
        return kept
    if is_loopback(given) and not is_loopback(kept):
        return kept
    return given if given.endswith("/") else given + "/"
