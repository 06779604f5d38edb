"""Makes texts safe to show: masks secrets, and escapes the control characters that a terminal would obey.

Secrets are found in two ways, since each misses some: patterns know where secrets occur (a webhook's path, a token's
argument, a database URL), and registered values are masked wherever they occur.
"""

from __future__ import annotations

import re

MASK = "***"
SHORTEST = 6
"""Shorter secrets are left to the patterns: masking "1" everywhere would make texts unreadable."""

SECRET_NAMES = (
    "auth", "access_token", "refresh_token", "client_secret", "application_token", "password", "passwd", "secret",
    "webhook", "sessid",
)  # fmt: skip
"""Names of arguments, of keys in JSON and of values in log events whose values are secret."""
_NAMES = "|".join(SECRET_NAMES)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # /rest/USER/CODE/…, also percent-encoded as inside another URL's argument. Just these words are the form of an
    # address, which hints show.
    (
        re.compile(r"((?i:rest)(?:/|%2[Ff])(?!USER/CODE\b)[^/%\s\"'<>]+(?:/|%2[Ff]))([^/%?#\s\"'<>\\,;)]+)"),
        rf"\1{MASK}",
    ),
    # name=value in queries, forms and libpq strings; an OAuth code only as a query's argument, where it is one.
    (re.compile(rf"\b((?:{_NAMES})=)[^&\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"([?&]code=)[^&\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
    # "name": "value" in JSON and in Python's repr.
    (re.compile(rf"""((["'])(?:{_NAMES})\2\s*:\s*(["']))[^"']+(?=\3)""", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b(bearer\s+)[^\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
    # A database URL up to the last @: a raw @, : or / may be part of the password.
    (re.compile(r"((?<!http)(?<!https)://[^:/?#\s@\"'<>]*)[:/?#@][^\s\"'<>]*@"), rf"\1:{MASK}@"),
    # scheme://user:password@host; what looks like a port is not a password.
    (re.compile(r"(://[^:/?#\s@\"']*:)(?!\d+(?:[/?#\s]|$))[^\s\"'<>]+@"), rf"\1{MASK}@"),
)
_registered: set[str] = set()


def register_secret(secret: str) -> None:
    """Mask this value from now on wherever it occurs. Values shorter than `SHORTEST` are ignored."""
    if len(secret) >= SHORTEST:
        _registered.add(secret)


def redact(text: str) -> str:
    """Return a text with every secret in it replaced by `***`."""
    # The longest first: a secret may contain another one.
    for secret in sorted(_registered, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


_ABOVE_ASCII = r"\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""The C1 controls (0x9b starts a command like ESC [), line separators, and marks that change the text's direction."""
_ANY = re.compile(rf"[\x00-\x08\x0b-\x1f{_ABOVE_ASCII}]")
_LEFT_BY_JSON = re.compile(f"[{_ABOVE_ASCII}]")


def escape_controls(text: str) -> str:
    """Given a line, return it with its control characters, except tabs, escaped."""
    return _ANY.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escape_in_json(document: str) -> str:
    """Given JSON, return the same document with the control characters escaped that JSON allows."""
    return _LEFT_BY_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", document)
