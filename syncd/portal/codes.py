"""What the portal's error codes mean for the caller: one table, dispatched on the code, with the status as fallback.

Source: bitrix24-rest.md 7.2. Documentation, source and SDKs disagree about statuses (401 or 403, 400 or 403, 401 or
503), hardly ever about codes.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from syncd.errors import AuthError, PortalBlocked, SyncdError, UnavailableError

DUPLICATE = "201650000001"
NO_SUCH_BINDING = "201640400004"
NO_SUCH_ORDER = "200540400001"
OWNER_ID_EMPTY = "201640400001"
READ_DENIED = "200040300010"
WRITE_DENIED = "200040300020"


class Fault(NamedTuple):
    """An error as the portal gave it: code and text in its own words without secrets, status 0 inside a batch."""

    code: str
    text: str
    status: int = 0

    def __str__(self) -> str:
        # Without the portal's own full stop: what quotes this is a sentence with one of its own.
        words = ": ".join(part for part in (self.code, self.text.rstrip(". ")) if part)
        return words or f"HTTP {self.status}"


class Verdict(Enum):
    """What is to be done about a fault."""

    RATE = auto()
    """Over the request limit: not executed, send again a little later."""
    OPERATING = auto()
    """Over the method's operating budget: not executed, wait for the reset."""
    BLOCKED = auto()
    """Blocked by the vendor: nothing heals it but their support."""
    EXPIRED = auto()
    """The access token is over: not executed, refresh and send again."""
    AUTH = auto()
    """Credentials or a right: not executed, and sending again cannot heal it."""
    CLOSED = auto()
    """The portal is gone or closed: not executed, and sending again cannot heal it."""
    PASSING = auto()
    """Not executed, for a reason that passes."""
    BROKEN = auto()
    """Something broke on the portal's side, perhaps after the effect."""
    REFUSED = auto()
    """The method refused these parameters: not executed."""


_BY_CODE = {
    "QUERY_LIMIT_EXCEEDED": Verdict.RATE,
    "OPERATION_TIME_LIMIT": Verdict.OPERATING,
    "ERROR_BATCH_LENGTH_EXCEEDED": Verdict.PASSING,
    "OVERLOAD_LIMIT": Verdict.BLOCKED,
    "EXPIRED_TOKEN": Verdict.EXPIRED,
    "INVALID_TOKEN": Verdict.EXPIRED,
    "NO_AUTH_FOUND": Verdict.EXPIRED,
    "INVALID_CREDENTIALS": Verdict.AUTH,
    "INSUFFICIENT_SCOPE": Verdict.AUTH,
    "AUTHORIZATION_ERROR": Verdict.AUTH,
    "USER_ACCESS_ERROR": Verdict.AUTH,
    "APPLICATION_NOT_FOUND": Verdict.AUTH,
    "ERROR_OAUTH": Verdict.AUTH,
    "ACCESS_DENIED": Verdict.AUTH,
    "WRONG_AUTH_TYPE": Verdict.AUTH,
    "WRONG_LICENSE": Verdict.AUTH,
    "INVALID_REQUEST": Verdict.AUTH,
    "ERROR_METHOD_NOT_FOUND": Verdict.AUTH,
    READ_DENIED: Verdict.AUTH,
    WRITE_DENIED: Verdict.AUTH,
    "PORTAL_DELETED": Verdict.CLOSED,
    "CONNECTION_ERROR": Verdict.PASSING,
    "ERROR_CORE": Verdict.BROKEN,
    "INTERNAL_SERVER_ERROR": Verdict.BROKEN,
    "WRONG_ENCODING": Verdict.BROKEN,
}
_BY_STATUS = {429: Verdict.RATE, 503: Verdict.RATE, 410: Verdict.CLOSED}

_HINTS = {
    "INVALID_CREDENTIALS": "The webhook was deleted, or its code is wrong: make an inbound webhook with the scope crm.",
    "NO_AUTH_FOUND": "The portal found no credentials: check the webhook's URL, or run `syncd auth {link}`.",
    "INVALID_TOKEN": "Run `syncd auth {link}` to authorise the application again.",
    "EXPIRED_TOKEN": "Run `syncd auth {link}` to authorise the application again.",
    "INSUFFICIENT_SCOPE": "Give the webhook or the application the scope crm.",
    "AUTHORIZATION_ERROR": "The user it acts for was dismissed: make a webhook (or authorise) as an active user.",
    "USER_ACCESS_ERROR": "The application is not open to the user who authorised it: grant the user access to it.",
    "APPLICATION_NOT_FOUND": "The application is not installed on the portal: do that, then run `syncd auth {link}`.",
    "ERROR_OAUTH": "The application is not installed on the portal: do that, then run `syncd auth {link}`.",
    "ACCESS_DENIED": "REST needs a paid plan or an administrator's right on this portal.",
    "WRONG_AUTH_TYPE": "This method wants another kind of credentials than a webhook.",
    "WRONG_LICENSE": "The portal's plan lacks this feature.",
    "INVALID_REQUEST": "Webhooks are taken over https only: write https:// in the webhook's URL.",
    "ERROR_METHOD_NOT_FOUND": "Is the webhook's URL complete? It reads https://HOST/rest/USER/CODE/.",
    READ_DENIED: "Give the webhook's user any right on orders (the sale module).",
    WRITE_DENIED: "Writing needs full access to orders: make the user an administrator or a member of CRM_SHOP_ADMIN.",
}
_SUPPORT = "Only the vendor lifts it: write to Bitrix24 support, and give the link a longer schedule."


def verdict(fault: Fault) -> Verdict:
    """Given a fault of a whole request (status set) or of a batch's command (status 0), return what it means."""
    known = _BY_CODE.get(fault.code.upper())
    if known is not None:
        return known
    if fault.status in _BY_STATUS:
        return _BY_STATUS[fault.status]
    if fault.status >= 500 or (fault.status and not fault.code):
        return Verdict.BROKEN
    return Verdict.AUTH if fault.status in {401, 403} else Verdict.REFUSED


def terminal(fault: Fault, *, host: str, link: str) -> SyncdError:
    """Given a fault that ends the run, return the error to raise: what happened, and what the operator can do.

    Args:
        fault: One whose verdict is BLOCKED, CLOSED, AUTH or EXPIRED (past healing).
        host: The portal's host.
        link: The link's name, for the command in the hint.
    """
    said = str(fault)
    match verdict(fault):
        case Verdict.BLOCKED:
            return PortalBlocked(f"The portal {host} has blocked these credentials: {said}.", hint=_SUPPORT)
        case Verdict.CLOSED:
            return UnavailableError(
                f"The portal {host} is closed or deleted: {said}.",
                hint="Open it in a browser; has its address changed?",
            )
        case _:
            hint = _HINTS.get(fault.code.upper(), "Check the credentials and the rights of the user they act for.")
            return AuthError(f"The portal {host} refuses these credentials: {said}.", hint=hint.format(link=link))
