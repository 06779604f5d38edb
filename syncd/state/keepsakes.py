"""What is kept of a portal over a restart: its OAuth pair and its operating budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from syncd.state.schema import budget, token


def load_token(connection: Connection, portal: str) -> dict[str, Any] | None:
    """Return the stored OAuth pair of a portal."""
    body = connection.scalar(select(token.c.body).where(token.c.portal == portal))
    return None if body is None else dict(json.loads(body))


def swap_token(connection: Connection, portal: str, expected_refresh: str | None, pair: Mapping[str, Any]) -> bool:
    """Store a new pair if the stored refresh token is the expected one (None: whatever it is)."""
    stored = connection.scalar(select(token.c.body).where(token.c.portal == portal).with_for_update())
    if expected_refresh is not None and (stored is None or json.loads(stored).get("refresh_token") != expected_refresh):
        return False
    body = json.dumps(dict(pair))
    if stored is None:
        connection.execute(insert(token).values(portal=portal, body=body))
    else:
        connection.execute(update(token).where(token.c.portal == portal).values(body=body))
    return True


def load_budget(connection: Connection, portal: str) -> dict[str, tuple[float, float, float]]:
    """Return the operating budget of a portal by method."""
    query = select(budget.c.method, budget.c.used, budget.c.reset_at, budget.c.read_at)
    rows = connection.execute(query.where(budget.c.portal == portal).order_by(budget.c.method))
    return {method: (used, reset_at, read_at) for method, used, reset_at, read_at in rows}


def store_budget(connection: Connection, portal: str, told: Mapping[str, tuple[float, float, float]]) -> None:
    """Keep what a portal told of these methods."""
    if not told:
        return
    connection.execute(delete(budget).where(budget.c.portal == portal, budget.c.method.in_(list(told))))
    rows = [
        {"portal": portal, "method": method, "used": used, "reset_at": reset_at, "read_at": read_at}
        for method, (used, reset_at, read_at) in sorted(told.items())
    ]
    connection.execute(insert(budget), rows)
