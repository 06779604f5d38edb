"""Decoding answers in every shape they come in (portal.md 2, 6.4, 7.1), and what their error codes mean (7.2).

Empty PHP arrays arrive as `[]` where an object is meant, maps with keys 0..n-1 as lists, numbers as strings, error
codes as numbers (0 among them); and bodies may be HTML, cut off or nonsense.

Errors are told apart by the code, with the status as fallback. Documentation, source and SDKs disagree about statuses
(401 or 403, 400 or 403, 401 or 503), but hardly ever about codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from syncd.errors import AuthError, PortalBlocked, SyncdError, UnavailableError
from syncd.obs.redact import redact
from syncd.portal.transport import Reply

# --------------------------------------------------------------- error codes

DUPLICATE = "201650000001"
NO_SUCH_BINDING = "201640400004"
NO_SUCH_ORDER = "200540400001"
OWNER_ID_EMPTY = "201640400001"
ORDER_ID_EMPTY = "201640400003"
READ_DENIED = "200040300010"
WRITE_DENIED = "200040300020"


class ApiError(NamedTuple):
    """An error in the portal's own words, without secrets; the status is 0 inside a batch."""

    code: str
    text: str
    status: int = 0

    def __str__(self) -> str:
        # Without the portal's full stop: the sentence that quotes this has its own.
        words = ": ".join(part for part in (self.code, self.text.rstrip(". ")) if part)
        return words or f"HTTP {self.status}"


class ApiErrorKind(Enum):
    """What is to be done about an error."""

    RATE = auto()
    """Over the request limit, as the portal itself says: not executed, send again a little later."""
    OPERATING = auto()
    """Over the method's operating budget: not executed, wait for the reset."""
    BLOCKED = auto()
    """Blocked by the vendor: only their support can lift it."""
    EXPIRED = auto()
    """The access token has expired: not executed, refresh and send again."""
    AUTH = auto()
    """Wrong credentials or a missing right: not executed, and sending again does not help."""
    CLOSED = auto()
    """The portal is gone or closed: not executed, and sending again does not help."""
    PASSING = auto()
    """Not executed, for a reason that passes."""
    BROKEN = auto()
    """Something broke on the portal's side or in front of it, perhaps after the effect."""
    REFUSED = auto()
    """The method refused these parameters: not executed."""


_BY_CODE = {
    "QUERY_LIMIT_EXCEEDED": ApiErrorKind.RATE,
    "OPERATION_TIME_LIMIT": ApiErrorKind.OPERATING,
    "ERROR_BATCH_LENGTH_EXCEEDED": ApiErrorKind.PASSING,
    "OVERLOAD_LIMIT": ApiErrorKind.BLOCKED,
    "EXPIRED_TOKEN": ApiErrorKind.EXPIRED,
    "INVALID_TOKEN": ApiErrorKind.EXPIRED,
    "NO_AUTH_FOUND": ApiErrorKind.EXPIRED,
    "INVALID_CREDENTIALS": ApiErrorKind.AUTH,
    "INSUFFICIENT_SCOPE": ApiErrorKind.AUTH,
    "AUTHORIZATION_ERROR": ApiErrorKind.AUTH,
    "USER_ACCESS_ERROR": ApiErrorKind.AUTH,
    "APPLICATION_NOT_FOUND": ApiErrorKind.AUTH,
    "ERROR_OAUTH": ApiErrorKind.AUTH,
    "ACCESS_DENIED": ApiErrorKind.AUTH,
    "WRONG_AUTH_TYPE": ApiErrorKind.AUTH,
    "WRONG_LICENSE": ApiErrorKind.AUTH,
    "INVALID_REQUEST": ApiErrorKind.AUTH,
    "ERROR_METHOD_NOT_FOUND": ApiErrorKind.AUTH,
    READ_DENIED: ApiErrorKind.AUTH,
    WRITE_DENIED: ApiErrorKind.AUTH,
    "PORTAL_DELETED": ApiErrorKind.CLOSED,
    "CONNECTION_ERROR": ApiErrorKind.PASSING,
    "ERROR_CORE": ApiErrorKind.BROKEN,
    "INTERNAL_SERVER_ERROR": ApiErrorKind.BROKEN,
    "WRONG_ENCODING": ApiErrorKind.BROKEN,
}
ENDS_THE_RUN = frozenset({ApiErrorKind.BLOCKED, ApiErrorKind.AUTH, ApiErrorKind.CLOSED, ApiErrorKind.EXPIRED})
"""Kinds of errors that end the run, since another try does not help; `to_exception` puts them into words."""

_HINTS = {
    "INVALID_CREDENTIALS": "The webhook's code is wrong, or no longer good: the webhook was deleted, it expired, an "
    "administrator edited it (which makes a new code), or the vendor blocked it because its code was found in public. "
    "Look at it in the portal, or make a new inbound webhook with the scope crm.",
    "NO_AUTH_FOUND": "The portal found no credentials: check the webhook's URL, or run `syncd auth {link}`.",
    "INVALID_TOKEN": "Run `syncd auth {link}` to authorise the application again.",
    "EXPIRED_TOKEN": "Run `syncd auth {link}` to authorise the application again.",
    "INSUFFICIENT_SCOPE": "Give the webhook or the application the scope crm.",
    "AUTHORIZATION_ERROR": "The user it acts for was dismissed: make a webhook (or authorise) as an active user.",
    "USER_ACCESS_ERROR": "The application is not open to the user who authorised it: grant the user access to it.",
    "APPLICATION_NOT_FOUND": "The application is not installed on the portal: do that, then run `syncd auth {link}`.",
    "ERROR_OAUTH": "The application is not installed on the portal: do that, then run `syncd auth {link}`.",
    "ACCESS_DENIED": "REST needs a paid plan and the Market subscription (or its trial) on the portal. Where it has "
    "both, the user lacks the right: make an administrator the webhook's user.",
    "WRONG_AUTH_TYPE": "A webhook's credentials do not suffice for this method: use an application.",
    "WRONG_LICENSE": "The portal's plan lacks this feature.",
    "INVALID_REQUEST": "Webhooks work over https only: write https:// in the webhook's URL.",
    "ERROR_METHOD_NOT_FOUND": "Is the webhook's URL complete? It reads https://HOST/rest/USER/CODE/.",
    READ_DENIED: "Give the webhook's user any right on orders (the sale module).",
    WRITE_DENIED: "Writing needs full access to orders: make the user an administrator or a member of CRM_SHOP_ADMIN.",
}
_SUPPORT = "Only the vendor can lift the block: write to Bitrix24 support, and give the link a longer schedule."


_LOCKED = re.compile(r"deadlock found|lock wait timeout|query error\W*\((1205|1213)\)", re.IGNORECASE)
"""What MySQL says, in a portal's error, where two transactions wait for each other's locks."""


def is_lock_error(text: str) -> bool:
    """Given an error's text, return whether the portal's database ended the call because of a lock (portal.md 7.2)."""
    return _LOCKED.search(text) is not None


def kind_of(error: ApiError) -> ApiErrorKind:
    """Given an error of a whole request (status set) or of a batch's command (status 0), return what it means."""
    known = _BY_CODE.get(error.code.upper())
    if known is not None:
        return known
    if is_lock_error(error.text):
        return ApiErrorKind.BROKEN
    if error.status == 410:
        return ApiErrorKind.CLOSED
    # Also 503 and 429: without the portal's own code they are a proxy's answer or a maintenance page, in place of an
    # answer that the portal may have given (portal.md 7.2).
    if error.status in {429, *range(500, 600)} or (error.status and not error.code):
        return ApiErrorKind.BROKEN
    return ApiErrorKind.AUTH if error.status in {401, 403} else ApiErrorKind.REFUSED


def to_exception(error: ApiError, *, host: str, link: str) -> SyncdError:
    """Given an error that ends the run, return the error to raise: what happened, and what the operator can do.

    Args:
        error: One of the kinds in `ENDS_THE_RUN`.
        host: The portal's host.
        link: The link's name, for the command in the hint.
    """
    said = str(error)
    match kind_of(error):
        case ApiErrorKind.BLOCKED:
            return PortalBlocked(f"The portal {host} has blocked these credentials: {said}.", hint=_SUPPORT)
        case ApiErrorKind.CLOSED:
            return UnavailableError(
                f"The portal {host} is closed or deleted: {said}.",
                hint="Open it in a browser; has its address changed?",
            )
        case _:
            hint = _HINTS.get(error.code.upper(), "Check the credentials and the rights of the user they act for.")
            return AuthError(f"The portal {host} refuses these credentials: {said}.", hint=hint.format(link=link))


# ------------------------------------------------------------------ decoding

TEXT_LIMIT: Final = 300
"""Characters that are kept of a code or a text."""


class UnusableAnswer(Exception):
    """The body is not what a portal answers; the request may have been executed."""


class CommandAnswer(NamedTuple):
    """What became of one command of a batch: a result, or an error."""

    result: Any = None
    error: ApiError | None = None
    total: int | None = None
    time: Mapping[str, Any] | None = None


class BatchAnswer(NamedTuple):
    """What became of a batch, by key.

    A key that is in neither `result` nor `result_error`, or in both, is left out: what became of it is unknown.
    """

    commands: dict[str, CommandAnswer]
    time: Mapping[str, Any]


def open_envelope(reply: Reply) -> dict[str, Any] | ApiError:
    """Given an HTTP answer, return the decoded body of a success, or the error.

    The body decides, whatever its content type: one with `result` or `error` is a portal's answer.

    Raises:
        UnusableAnswer: Status 200 without a portal's answer.
    """
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        if "error" in body:
            return error_of(body, reply.status)
        if "result" in body and reply.status < 400:
            return body
    is_page = reply.body.lstrip()[:1] == b"<"
    if reply.status >= 400:
        # No code of the portal's own: a proxy or a front server answered in its place.
        return ApiError(
            "", f"a web page with HTTP {reply.status} instead of an answer" if is_page else "", reply.status
        )
    if is_page:
        raise UnusableAnswer("a web page instead of JSON")
    raise UnusableAnswer("a body that is not a portal's answer" if body is not None else "a body that is not JSON")


def open_batch(body: Mapping[str, Any], keys: Iterable[str]) -> BatchAnswer:
    """Given the body of a success and the keys sent, return what became of each command.

    Raises:
        UnusableAnswer: The body is not a batch's answer.
    """
    inner = body["result"]
    if not isinstance(inner, dict) or "result" not in inner:
        raise UnusableAnswer("an answer that is not a batch's")
    results, errors = as_map(inner["result"]), as_map(inner.get("result_error"))
    totals, times = as_map(inner.get("result_total")), as_map(inner.get("result_time"))
    commands: dict[str, CommandAnswer] = {}
    for key in keys:
        if (key in results) == (key in errors):
            continue
        time = times.get(key)
        commands[key] = CommandAnswer(
            result=results.get(key),
            error=error_of(errors[key]) if key in errors else None,
            total=whole(totals.get(key)),
            time=time if isinstance(time, dict) else None,
        )
    outer = body.get("time")
    return BatchAnswer(commands, outer if isinstance(outer, dict) else {})


def as_map(value: Any) -> dict[str, Any]:
    """Given a PHP array as JSON shows it, return it as a map: `[]` is empty, a list has the keys "0", "1", ….

    Raises:
        UnusableAnswer: It is neither.
    """
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return {str(index): item for index, item in enumerate(value)}
    if value is None:
        return {}
    raise UnusableAnswer("an answer that is not a batch's")


def as_list(value: Any) -> list[Any] | None:
    """Given a PHP list as JSON shows it, an object where its keys are not 0 to n-1, return its items; None: neither."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else None


def whole(value: Any) -> int | None:
    """Given a number in any JSON form (5, "5", 5.0), return it as an int; None when it is not a whole number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value) if len(value) < 20 else None
    return None


def number(value: Any) -> float | None:
    """Given a number in any JSON form, return it as a float; None when it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def error_of(error: Any, status: int = 0) -> ApiError:
    """Given an error's body, return the error, free of secrets that the portal may repeat, and not too long."""
    code, text = (error.get("error", ""), error.get("error_description")) if isinstance(error, dict) else ("", error)
    return ApiError(redact(str(code))[:TEXT_LIMIT], redact(text)[:TEXT_LIMIT] if isinstance(text, str) else "", status)
