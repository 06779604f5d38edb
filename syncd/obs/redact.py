"""Masking secrets in whatever a person, a log or an error is about to see.

Two nets, since each misses what the other catches: patterns know where secrets stand (a webhook's path, a token's
argument, a database URL), and remembered values are masked wherever they turn up.
"""

from __future__ import annotations

import re

MASK = "***"
SHORTEST = 6
"""Remembered secrets shorter than this are left to the patterns: masking "1" everywhere would mask the whole text."""

_NAMES = r"auth|access_token|refresh_token|client_secret|application_token|password|passwd|secret|webhook|sessid"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # /rest/USER/CODE/…, also percent-encoded as inside another URL's argument.
    (re.compile(r"(rest(?:/|%2F)[^/%\s\"'<>]+(?:/|%2F))([^/%?#\s\"'<>\\,;)]+)", re.IGNORECASE), rf"\1{MASK}"),
    # name=value in queries, forms and libpq strings; an OAuth code only as a query's argument, where it is one.
    (re.compile(rf"\b((?:{_NAMES})=)[^&\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"([?&]code=)[^&\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
    # "name": "value" in JSON and in Python's repr.
    (re.compile(rf"""((["'])(?:{_NAMES})\2\s*:\s*(["']))[^"']+(?=\3)""", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b(bearer\s+)[^\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
    # scheme://user:password@host; what looks like a port is not a password.
    (re.compile(r"(://[^:/?#\s@\"']*:)(?!\d+(?:[/?#\s]|$))[^\s\"'<>]+@"), rf"\1{MASK}@"),
)
_remembered: set[str] = set()


def remember(secret: str) -> None:
    """Mask this value from now on wherever it turns up. Values shorter than `SHORTEST` are ignored."""
    if len(secret) >= SHORTEST:
        _remembered.add(secret)


def redact(text: str) -> str:
    """Given a text, return it with every secret in it replaced by `***`."""
    # The longest first: a secret may contain another one.
    for secret in sorted(_remembered, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
