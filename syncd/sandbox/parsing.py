"""From an HTTP request to a method name, credentials and parameters (bitrix24-rest.md 1)."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from syncd.sandbox.answers import SandboxRequest
from syncd.sandbox.php import PhpArray, parse_query
from syncd.sandbox.phpjson import decode_array

_ROUTE = re.compile(r"/rest/(?:(?P<user>[^/]+)/(?P<code>[^/]+)/)?(?P<method>[^/]+?)(?P<format>\.json)?/?")
_ANY_REST = re.compile(r"/rest(?:/.*)?")
RESERVED = ("state", "token", "auth", "access_token", "aplogin", "ap", "method", "auth_connector", "sessid")
"""Top-level parameters that methods never see (1.2)."""


class Route(NamedTuple):
    """Where a request goes: webhook credentials (None: OAuth form) and the method as spelt."""

    user: str | None
    code: str | None
    method: str


def route_of(path: str) -> Route | None:
    """Given a URL path, return its route; None is nothing of REST's. A path REST cannot parse names no known method."""
    if not _ANY_REST.fullmatch(path):
        return None
    match = _ROUTE.fullmatch(path)
    if match is None:
        return Route(None, None, unquote(path))
    return Route(match["user"], match["code"], unquote(match["method"]))


def parameters(request: SandboxRequest, max_input_vars: int) -> PhpArray:
    """Given a request, return its parameters: the query, overlaid by the body of a POST.

    A JSON body that cannot be decoded is an empty one; a body of any other type is read as a query string.
    """
    params = parse_query(_text(request.query.encode()), max_input_vars) if request.query else {}
    if request.method != "POST" or not request.body:
        return params
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return params | decode_array(request.body)
    return params | parse_query(_text(request.body), max_input_vars)


def bearer_of(request: SandboxRequest, params: PhpArray) -> str | None:
    """Given a request, return its OAuth token: the header wins over `auth`, that over `access_token` (1.2)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for name in ("auth", "access_token"):
        value = params.get(name)
        if isinstance(value, str | int) and value:
            return str(value)
    return None


def without_reserved(params: PhpArray) -> PhpArray:
    """Given parameters, return those a method sees."""
    if any(name in params for name in RESERVED):
        return {name: value for name, value in params.items() if name not in RESERVED}
    return params


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
