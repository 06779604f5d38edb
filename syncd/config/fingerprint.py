"""The fingerprint of a link: what its agreed state belongs to (design.md section 5).

It is made of parts, eight hex digits each, so that a fingerprint stored long ago still tells which parts of a link have
changed since, without keeping any address. Who logs in, with which driver, by webhook or OAuth, is no part of it.
"""

from __future__ import annotations

import hashlib

from syncd.config.model import LinkSettings

_DIGITS = 8


def fingerprint_parts(link: LinkSettings) -> dict[str, str]:
    """Given a link, return what its fingerprint is made of, by name, readable and free of secrets."""
    first, last = link.orders or ("", "")
    return {
        "portal": link.portal.address,
        "database": link.table.database,
        "table": link.table.name,
        "columns": ", ".join(f"{key}={column!r}" for key, column in sorted(link.table.columns.items())),
        "where": (link.table.where or "").strip(),
        "deleted": link.table.deleted or "",
        "owner_types": ", ".join(map(str, sorted(set(link.owner_types)))),
        "orders": f"{first}-{last}",
    }


def fingerprint(link: LinkSettings) -> str:
    """Given a link, return its fingerprint: 64 hex digits, the same for the same ends and scope."""
    return "".join(hashlib.sha256(part.encode()).hexdigest()[:_DIGITS] for part in fingerprint_parts(link).values())


def changed_parts(stored: str, link: LinkSettings) -> tuple[str, ...]:
    """Given a fingerprint stored earlier and a link, return the names of the parts that differ now."""
    current = fingerprint(link)
    return tuple(
        name
        for number, name in enumerate(fingerprint_parts(link))
        if stored[number * _DIGITS : (number + 1) * _DIGITS] != current[number * _DIGITS : (number + 1) * _DIGITS]
    )
