"""The authorisation server (portal.md 8): codes, access tokens, refresh tokens that rotate.

The sandbox plays both the portal and the OAuth host, and asks nobody for consent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from syncd.core.ports import Clock
from syncd.sandbox.faults import html
from syncd.sandbox.php import MAX_INPUT_VARS, PhpArray, encode, to_text
from syncd.sandbox.requests import Refusal, SandboxRequest, SandboxResponse, parameters

AUTHORIZE, TOKEN = "oauth/authorize", "oauth/token"
"""The endpoints' names, for statistics and fault rules."""

CODE_LIFETIME = 30.0
ACCESS_LIFETIME = 3600
REFRESH_LIFETIME = 180 * 86400.0

_GRANT_TYPES = {"authorization_code": ("code", "code"), "refresh_token": ("refresh", "refresh_token")}
_JSON = (("Content-Type", "application/json; charset=utf-8"),)


@dataclass(slots=True)
class Application:
    """A local application of the portal.

    Args:
        client_id, client_secret: Its credentials.
        redirect_uri: Where the authorisation page sends the browser, unless the request has its own `redirect_uri`.
            Without either, a page shows the code.
        scope: The scope of its tokens.
        member_id: The portal's stable id.
        installed: Without it, the application gets no tokens, and its present ones stop working.
        server_endpoint, client_endpoint: Sent instead of the sandbox's own address.
    """

    client_id: str = "local.sandbox"
    client_secret: str = field(default="sandboxclientsecret", repr=False)
    redirect_uri: str = ""
    scope: frozenset[str] = frozenset({"crm", "sale"})
    member_id: str = "0123456789abcdef0123456789abcdef"
    installed: bool = True
    server_endpoint: str = ""
    client_endpoint: str = ""


class Caller(NamedTuple):
    """A webhook or an application's token. `key` names its operating budget and holds no secret."""

    key: str
    scope: frozenset[str]
    is_application: bool = False


class _Grant(NamedTuple):
    kind: str
    expires: float


class OAuth:
    """Issues and checks tokens of one application.

    Args:
        application: The application; may be changed while the portal runs.
        user_id: The user tokens act for.
        clock: For lifetimes, and for random tokens.
    """

    def __init__(self, application: Application, user_id: int, clock: Clock) -> None:
        self.application = application
        self._user_id = user_id
        self._clock = clock
        self._seed = str(clock.random())
        self._issued = 0
        self._grants: dict[str, _Grant] = {}

    def expire_access_tokens(self) -> None:
        """Let every access token expire now."""
        self._expire("access")

    def expire_refresh_tokens(self) -> None:
        """Let every refresh token expire now."""
        self._expire("refresh")

    def _expire(self, kind: str) -> None:
        now = self._clock.now()
        self._grants.update(
            {token: grant._replace(expires=now) for token, grant in self._grants.items() if grant.kind == kind}
        )

    def caller_of(self, token: str | None) -> Caller:
        """Given a request's token, return its caller.

        Raises:
            Refusal: There is none, or it is unknown, expired, or its application is gone.
        """
        if token is None:
            raise Refusal("NO_AUTH_FOUND", "Wrong authorization data", 401)
        grant = self._grants.get(token)
        if grant is None or grant.kind != "access":
            raise Refusal("invalid_token", "Unable to get application by token", 401)
        if not self.application.installed:
            raise Refusal("APPLICATION_NOT_FOUND", "Application not found", 401)
        if grant.expires <= self._clock.now():
            raise Refusal("expired_token", "The access token provided has expired.", 401)
        return Caller(f"app:{self.application.client_id}", self.application.scope, is_application=True)

    def respond(self, endpoint: str, request: SandboxRequest) -> SandboxResponse:
        """Answer a request to one of the endpoints."""
        params = parameters(request, MAX_INPUT_VARS)
        origin = f"{'https' if request.secure else 'http'}://{request.headers.get('host', '127.0.0.1')}"
        return self._authorize(params, origin) if endpoint == AUTHORIZE else self._token(params, origin)

    def _authorize(self, params: PhpArray, origin: str) -> SandboxResponse:
        application = self.application
        if to_text(params.get("client_id")) != application.client_id or not application.installed:
            return html(200, "Application not found")
        code = self._issue("code", CODE_LIFETIME)
        target = to_text(params.get("redirect_uri")) or application.redirect_uri
        if not target:
            return html(200, "Authorisation code", f"<p><code>{code}</code></p>")
        host = urlsplit(origin).netloc
        answer = urlencode(
            {
                "code": code,
                "state": to_text(params.get("state")),
                "domain": host,
                "member_id": application.member_id,
                "scope": ",".join(sorted(application.scope)),
                "server_domain": host,
            }
        )
        page = html(302, "Found")
        location = target + ("&" if "?" in target else "?") + answer
        return SandboxResponse(302, (*page.headers, ("Location", location)), page.body)

    def _token(self, params: PhpArray, origin: str) -> SandboxResponse:
        try:
            self._spend(params)
        except Refusal as refusal:
            body: dict[int | str, Any] = {"error": refusal.code}
            if refusal.text:
                body["error_description"] = refusal.text
            return _json(refusal.status, body)
        return _json(200, self._pair(origin, exchanged=params.get("grant_type") == "authorization_code"))

    def _spend(self, params: PhpArray) -> None:
        """Given a token request, use up its code or refresh token, or refuse it."""
        kind, name = _GRANT_TYPES.get(to_text(params.get("grant_type")), ("", ""))
        if to_text(params.get("client_id")) != self.application.client_id:
            raise Refusal("wrong_client", status=200)
        if not kind:
            raise Refusal("invalid_request", "Unsupported grant_type")
        if to_text(params.get("client_secret")) != self.application.client_secret:
            raise Refusal("invalid_client", "Client authentication failed")
        if not self.application.installed:
            raise Refusal("NOT_INSTALLED", "Application is not installed", 401)
        given = to_text(params.get(name))
        if not given:
            raise Refusal("invalid_request", f"Missing {name}")
        grant = self._grants.get(given)
        if grant is None or grant.kind != kind or grant.expires <= self._clock.now():
            raise Refusal("invalid_grant")
        del self._grants[given]

    def _pair(self, origin: str, *, exchanged: bool) -> dict[int | str, Any]:
        application = self.application
        pair: dict[int | str, Any] = {
            "access_token": self._issue("access", ACCESS_LIFETIME),
            "expires": int(self._clock.now()) + ACCESS_LIFETIME,
            "expires_in": ACCESS_LIFETIME,
            "scope": "app",
            "domain": urlsplit(application.server_endpoint or origin).netloc,
            "server_endpoint": application.server_endpoint or f"{origin}/rest/",
            "status": "L",
            "client_endpoint": application.client_endpoint or f"{origin}/rest/",
            "member_id": application.member_id,
            "user_id": self._user_id,
            "refresh_token": self._issue("refresh", REFRESH_LIFETIME),
        }
        if exchanged:
            del pair["expires"]
        return pair

    def _issue(self, kind: str, lifetime: float) -> str:
        self._issued += 1
        token = hashlib.sha256(f"{self._seed}:{kind}:{self._issued}".encode()).hexdigest()
        self._grants[token] = _Grant(kind, self._clock.now() + lifetime)
        return token


def endpoint_of(path: str) -> str | None:
    """Return the name of the endpoint at a URL path; None for other paths."""
    name = path.strip("/")
    return name if name in (AUTHORIZE, TOKEN) else None


def _json(status: int, body: dict[Any, Any]) -> SandboxResponse:
    return SandboxResponse(status, _JSON, encode(body).encode())
