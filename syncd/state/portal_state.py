"""What is kept of a portal over a restart: its OAuth tokens, its operating budget, and the names of its owners.

Tokens are encrypted where the configuration names a Fernet key (AES-128-CBC with HMAC-SHA256), so that a stolen dump of
the state database opens no portal. Without a key they are stored as they are. Tokens that were stored before there was
a key are read as they are, and encrypted at the next refresh.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, delete, insert, select, tuple_, update

from syncd.core.model import Owner
from syncd.errors import ConfigError
from syncd.state.rows import PARAMETERS, chunks
from syncd.state.schema import budget as budgets
from syncd.state.schema import portal_name
from syncd.state.schema import token as tokens

SEALED = "fernet:"
"""What an encrypted token pair begins with. A plain one is JSON, so it begins with a brace."""

# --------------------------------------------------------------------- tokens


class TokenCipher:
    """Encrypts and decrypts stored token pairs.

    Args:
        key: A valid Fernet key; None stores tokens as they are.

    Raises:
        ConfigError: The package that encrypts is missing.
    """

    def __init__(self, key: SecretStr | None = None) -> None:
        self._fernet = None if key is None else _fernet(key)

    def seal(self, body: str) -> str:
        """Given a token pair as text, return what is stored."""
        if self._fernet is None:
            return body
        return SEALED + str(self._fernet.encrypt(body.encode()).decode())

    def open(self, stored: str) -> str:
        """Given what is stored, return the token pair as text.

        Raises:
            ConfigError: It was encrypted with another key than the configured one.
        """
        if not stored.startswith(SEALED):
            return stored
        if self._fernet is None:
            raise ConfigError(
                "The stored OAuth tokens are encrypted, and the configuration names no key; nothing was sent.",
                hint="Set key_file in [state] to the key they were encrypted with, or run `syncd auth` again.",
            )
        opened = _decrypted(self._fernet, stored.removeprefix(SEALED))
        if opened is None:
            raise ConfigError(
                "The stored OAuth tokens were encrypted with another key than the one in [state]; nothing was sent.",
                hint="Put the old key back, or run `syncd auth` again.",
            )
        return opened


def _fernet(key: SecretStr) -> Any:
    try:
        from cryptography.fernet import Fernet  # noqa: PLC0415 - an optional package
    except ImportError:
        raise ConfigError(
            "Encrypting tokens needs the package cryptography, which is not installed.",
            hint="Install it with: pip install cryptography; or leave key_file out of [state].",
        ) from None
    return Fernet(key.get_secret_value())


def _decrypted(fernet: Any, text: str) -> str | None:
    from cryptography.fernet import InvalidToken  # noqa: PLC0415 - an optional package

    try:
        return str(fernet.decrypt(text.encode()).decode())
    except InvalidToken:
        return None


def load_token(connection: Connection, cipher: TokenCipher, portal: str) -> dict[str, Any] | None:
    """Return the OAuth pair of a portal, decrypted."""
    body = connection.scalar(select(tokens.c.body).where(tokens.c.portal == portal))
    return None if body is None else dict(json.loads(cipher.open(body)))


def swap_token(
    connection: Connection, cipher: TokenCipher, portal: str, expected_refresh: str | None, token: Mapping[str, Any]
) -> bool:
    """Encrypt and store a new pair if the stored refresh token is the expected one (None: whatever it is)."""
    stored = connection.scalar(select(tokens.c.body).where(tokens.c.portal == portal).with_for_update())
    if expected_refresh is not None:
        kept = {} if stored is None else json.loads(cipher.open(stored))
        if kept.get("refresh_token") != expected_refresh:
            return False
    body = cipher.seal(json.dumps(dict(token)))
    if stored is None:
        connection.execute(insert(tokens).values(portal=portal, body=body))
    else:
        connection.execute(update(tokens).where(tokens.c.portal == portal).values(body=body))
    return True


# --------------------------------------------------------------------- budget


def budget(connection: Connection, portal: str) -> dict[str, tuple[float, float, float]]:
    query = select(budgets.c.method, budgets.c.used, budgets.c.reset_at, budgets.c.read_at)
    rows = connection.execute(query.where(budgets.c.portal == portal).order_by(budgets.c.method))
    return {method: (used, reset_at, read_at) for method, used, reset_at, read_at in rows}


def set_budget(connection: Connection, portal: str, budget: Mapping[str, tuple[float, float, float]]) -> None:
    if not budget:
        return
    connection.execute(delete(budgets).where(budgets.c.portal == portal, budgets.c.method.in_(list(budget))))
    rows = [
        {"portal": portal, "method": method, "used": used, "reset_at": reset_at, "read_at": read_at}
        for method, (used, reset_at, read_at) in sorted(budget.items())
    ]
    connection.execute(insert(budgets), rows)


# ---------------------------------------------------------------------- names

_NAMED = tuple_(portal_name.c.owner_type_id, portal_name.c.owner_id)


def names(connection: Connection, link_id: int, owners: Sequence[Owner], since: float) -> dict[Owner, str]:
    """Return what the portal of a link calls these owners, of names read since then.

    An owner id of 0 stands for the type itself. The name of an owner that the portal does not show is empty.
    """
    found: dict[Owner, str] = {}
    for some in chunks(owners, PARAMETERS // 2):
        query = select(portal_name.c.owner_type_id, portal_name.c.owner_id, portal_name.c.name).where(
            portal_name.c.link_id == link_id,
            portal_name.c.read_at >= since,
            _NAMED.in_([tuple(owner) for owner in some]),
        )
        found |= {Owner(kind, number): name for kind, number, name in connection.execute(query)}
    return found


def all_names(connection: Connection, link_id: int, since: float) -> dict[Owner, str]:
    """Return all names of a link (see `names`) that were read since then."""
    query = select(portal_name.c.owner_type_id, portal_name.c.owner_id, portal_name.c.name).where(
        portal_name.c.link_id == link_id, portal_name.c.read_at >= since
    )
    return {Owner(kind, number): name for kind, number, name in connection.execute(query)}


def keep_names(connection: Connection, link_id: int, names: Mapping[Owner, str], now: float, expired: float) -> None:
    """Keep names of owners (see `names`), and delete all names of the link that were read before `expired`."""
    of_link = delete(portal_name).where(portal_name.c.link_id == link_id)
    connection.execute(of_link.where(portal_name.c.read_at < expired))
    for some in chunks(sorted(names), PARAMETERS // 2):
        connection.execute(of_link.where(_NAMED.in_([tuple(owner) for owner in some])))
        rows = [
            {
                "link_id": link_id,
                "owner_type_id": owner.owner_type_id,
                "owner_id": owner.owner_id,
                "name": names[owner],
                "read_at": now,
            }
            for owner in some
        ]
        connection.execute(insert(portal_name), rows)
