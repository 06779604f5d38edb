"""The fingerprint of a link identifies the ends and the scope of its agreed state (sync-rules.md, "Writing").

It consists of parts of eight hex digits each. So an old fingerprint shows which parts of a link have changed since,
without storing any address. The user, the driver, and the choice of webhook or OAuth are not part of it.
"""

from __future__ import annotations

import hashlib

from syncd.config.model import LinkSettings

_DIGITS = 8


def fingerprint_parts(link: LinkSettings) -> dict[str, str]:
    """Given a link, return the parts of its fingerprint by name, readable and without secrets."""
    first, last = link.orders or ("", "")
    return {
        "portal": link.portal.address,
        "database": link.table.database_identity,
        "table": link.table.name,
        "columns": _columns(link),
        "where": _selection(link),
        "deleted": _deleted(link),
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


def _columns(link: LinkSettings) -> str:
    # The width of a code changes how it is written, not which order it means.
    codes = {key: one["column"] for key, one in link.table.columns.items() if isinstance(one, dict)}
    return ", ".join(f"{key}={column!r}" for key, column in sorted((link.table.columns | codes).items()))


def _selection(link: LinkSettings) -> str:
    """Return the partition of `rows` and `where`. Without `rows` it is `where` alone, as in older fingerprints."""
    partition = [f"{name} = {value!r}" for name, value in sorted(link.table.rows.items())]
    where = (link.table.where or "").strip()
    return " and ".join([*partition, *([where] if where else [])])


def _deleted(link: LinkSettings) -> str:
    mark = link.table.deletion
    if mark is None:
        return ""
    return mark.column if mark.unset is None else f"{mark.column}: set={mark.set!r}, unset={mark.unset!r}"
