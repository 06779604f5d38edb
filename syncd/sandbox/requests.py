"""What comes in and what goes out: HTTP requests with their calls (portal.md 1), and answers and refusals (3, 7).

A parameter of a batch's command may refer to an earlier result, `$result[key][path]` (6.3). A path that does not exist
is not an error: resolution stops at the first missing step and takes the value reached so far. Inside a longer text
only a number or a string is inserted; any other value leaves the text as it is. Conditional writes depend on this
(6.6), so there is a switch for portals on which they do not work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote

from syncd.sandbox.php import JsonValue, PhpArray, array_key, decode_array, parse_query, to_php, to_text

_ROUTE = re.compile(r"/rest/(?:(?P<user>[^/]+)/(?P<code>[^/]+)/)?(?P<method>[^/]+?)(?P<format>\.json)?/?")
_ANY_REST = re.compile(r"/rest(?:/.*)?")
RESERVED = ("state", "token", "auth", "access_token", "aplogin", "ap", "method", "auth_connector", "sessid")
"""Top-level parameters that are not passed to methods (1.2)."""


@dataclass(slots=True)
class SandboxResponse:
    """One HTTP response.

    Args:
        status: HTTP status.
        headers: Header lines in order; the server adds Content-Length.
        body: The whole body, also if only a part of it is sent.
        dropped: The connection closes without any answer.
        cut_at: The connection closes after this many bytes of the body; None sends all.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    dropped: bool = False
    cut_at: int | None = None


@dataclass(slots=True)
class SandboxRequest:
    """One HTTP request as the portal sees it. Header names are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    client: str = "127.0.0.1"
    secure: bool = False


class Route(NamedTuple):
    """The webhook credentials of a request (None: OAuth form) and its method as spelt."""

    user: str | None
    code: str | None
    method: str


def route_of(path: str) -> Route | None:
    """Return the route of a URL path; None outside /rest. A path that REST cannot parse names an unknown method."""
    if not _ANY_REST.fullmatch(path):
        return None
    match = _ROUTE.fullmatch(path)
    if match is None:
        return Route(None, None, unquote(path))
    return Route(match["user"], match["code"], unquote(match["method"]))


def parameters(request: SandboxRequest, max_input_vars: int) -> PhpArray:
    """Return the parameters of a request: the query, and over it the body of a POST.

    A JSON body that cannot be decoded counts as empty; a body of any other type is parsed as a query string.
    """
    params = parse_query(_text(request.query.encode()), max_input_vars) if request.query else {}
    if request.method != "POST" or not request.body:
        return params
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return params | decode_array(request.body)
    return params | parse_query(_text(request.body), max_input_vars)


def bearer_of(request: SandboxRequest, params: PhpArray) -> str | None:
    """Return the OAuth token of a request: from the header, else from `auth`, else from `access_token` (1.2)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for name in ("auth", "access_token"):
        value = params.get(name)
        if isinstance(value, str | int) and value:
            return str(value)
    return None


def without_reserved(params: PhpArray) -> PhpArray:
    """Return the parameters that are passed to a method."""
    if any(name in params for name in RESERVED):
        return {name: value for name, value in params.items() if name not in RESERVED}
    return params


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


# -------------------------------------------------------- answers and refusals


class Version(StrEnum):
    """The simulated release: today's cloud, mid-2024 to September 2025, or an older box (portal.md 0.3)."""

    NEW = "new"
    MID = "mid"
    OLD = "old"


GENERIC = 0
ARGUMENT = 100
NO_ACTION = 22002
READ_DENIED = 200040300010
WRITE_DENIED = 200040300020
ORDER_MISSING = 200540400001
OWNER_ID_EMPTY = 201640400001
OWNER_TYPE_EMPTY = 201640400002
ORDER_ID_EMPTY = 201640400003
TRIPLE_MISSING = 201640400004
DUPLICATE = 201650000001


@dataclass(slots=True)
class Answer:
    """A successful call.

    `counted`: whether the database ran a COUNT for `total`. `walked`: how many rows it read without returning them.
    Both take time.
    """

    result: Any
    total: int | None = None
    next: int | None = None
    counted: bool = False
    walked: int = 0


class Refusal(Exception):  # an answer of the portal, not an error of ours
    """A call the portal refuses.

    Args:
        code: Numeric codes of controllers are ints (sent as strings or numbers by version), others are strings.
        text: `error_description`.
        status: HTTP status when the call is not part of a batch.
        extra: Further keys of the body.
    """

    def __init__(self, code: int | str, text: str = "", status: int = 400, **extra: Any) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status
        self.extra = extra

    def body(self, version: Version) -> dict[int | str, Any]:
        """Return the error object: numeric codes are strings on a NEW portal and numbers on older ones."""
        code = str(self.code) if version is Version.NEW else self.code
        body: dict[int | str, Any] = {"error": code, "error_description": self.text}
        body.update(self.extra)
        return body


# -------------------------------------------- references in batch commands

_STEP = re.compile(r"\[([^\]]+)\]")
_EXPONENT = re.compile(r"^([0-9.]+)[eE]")


class References(StrEnum):
    """Where references are resolved. Real portals do it everywhere; the other values simulate portals that differ."""

    EVERYWHERE = "everywhere"
    WHOLE_VALUES = "whole-values"
    """Not inside a longer text."""
    NO_EXPONENTS = "no-exponents"
    """Everywhere, but without the exponents of numbers, as in PHP before 7.1."""


def resolve(params: PhpArray, parts: Mapping[str, PhpArray], where: References = References.EVERYWHERE) -> PhpArray:
    """Return a command's parameters with references replaced by results of the batch so far."""
    pattern = re.compile(r"\$(" + "|".join(re.escape(name) for name in parts) + r")(\S*)", re.IGNORECASE)
    return {_key(key, pattern): _value(value, pattern, parts, where) for key, value in params.items()}


def _key(key: int | str, pattern: re.Pattern[str]) -> int | str:
    # The portal does not resolve references in keys: the whole key becomes empty.
    return "" if isinstance(key, str) and pattern.fullmatch(key) else key


def _value(value: Any, pattern: re.Pattern[str], parts: Mapping[str, PhpArray], where: References) -> Any:
    if isinstance(value, dict):
        return {_key(key, pattern): _value(item, pattern, parts, where) for key, item in value.items()}
    if not isinstance(value, str) or "$" not in value:
        return value
    for match in pattern.finditer(value):
        found = _walk(parts.get(match[1]), _STEP.findall(match[2]))
        if match[0] == value:
            return to_php(found)
        if where is not References.WHOLE_VALUES and _is_scalar(found):
            value = value.replace(match[0], to_text(found))
    return _EXPONENT.sub(r"\1 ", value) if where is References.NO_EXPONENTS else value


def _is_scalar(found: Any) -> bool:
    return isinstance(found, str | int | float) and not isinstance(found, bool)


def _walk(reached: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(reached, JsonValue):
            reached = reached.value()
        following = _child(reached, array_key(step))
        if following is None:
            break
        reached = following
    return reached


def _child(parent: Any, key: int | str) -> Any:
    if isinstance(parent, dict):
        return parent.get(key)
    if isinstance(parent, list) and isinstance(key, int) and 0 <= key < len(parent):
        return parent[key]
    return None
