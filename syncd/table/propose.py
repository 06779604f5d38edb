"""Looking through a database for a table that could be the mapping table: `syncd init` offers what it finds."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from syncd.table.dialects import dialect_for
from syncd.table.faults import explained
from syncd.table.marks import mark_for

_DEAL = 2
_INVOICE = 31
_ORDER = ("order_id", "orderid", "order", "order_no", "order_number", "id")
_OWNER_TYPE = ("owner_type_id", "ownertypeid", "owner_type", "entity_type_id", "entitytypeid")
_OWNER = (
    ("owner_id", _DEAL), ("ownerid", _DEAL), ("deal_id", _DEAL), ("dealid", _DEAL), ("deal", _DEAL),
    ("smart_invoice_id", _INVOICE), ("invoice_id", _INVOICE), ("invoiceid", _INVOICE), ("entity_id", _DEAL),
    ("crm_id", _DEAL),
)  # fmt: skip
_DELETED = ("deleted_at", "is_deleted", "deleted", "removed_at")
_TOUCHED = ("updated_at", "modified_at", "changed_at", "updated", "modified")
_LIKELY_NAMES = ("bind", "map", "link", "order", "deal")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A table that could be the mapping table, with the settings that would fit it.

    Args:
        name: As `links.X.table.name` takes it.
        columns: As `links.X.table.columns` takes it; empty where the names tell nothing.
        deleted: A column that looks like a soft delete mark.
        touched: A column that looks like the time of the last change.
        found: All column names.
    """

    name: str
    columns: dict[str, str | int]
    deleted: str | None
    touched: str | None
    found: tuple[str, ...]


def propose_columns(url: str) -> list[Proposal]:
    """Given a database URL, return its tables, the likeliest mapping table first. Reads names and types, no rows.

    Raises:
        ConfigError: The URL cannot be used, or the driver is not installed.
        UnavailableError, AuthError: The database cannot be looked at.
    """
    dialect = dialect_for(url, "url")
    shown = sa.make_url(url).set(username=None, password=None, query={}).render_as_string()
    try:
        with explained(shown, dialect.dbapi), dialect.reading() as connection:
            inspector = sa.inspect(connection)
            names: list[tuple[str | None, str]] = [(None, name) for name in inspector.get_table_names()]
            names += [(schema, name) for schema in _schemas(inspector) for name in inspector.get_table_names(schema)]
            proposals = [
                _proposal(name if schema is None else f"{schema}.{name}", inspector.get_columns(name, schema))
                for schema, name in names
            ]
    finally:
        dialect.engine.dispose()
    return sorted(proposals, key=_unlikeliness)


def _schemas(inspector: sa.Inspector) -> list[str]:
    """The other schemas of this PostgreSQL database; elsewhere they are databases of their own."""
    if inspector.dialect.name != "postgresql":
        return []
    own = {inspector.default_schema_name, "information_schema"}
    return [name for name in inspector.get_schema_names() if name not in own and not name.startswith("pg_")]


def _proposal(name: str, columns: list[ReflectedColumn]) -> Proposal:
    by_name = {column["name"].lower(): column["name"] for column in columns}
    types = {column["name"]: column["type"] for column in columns}
    order = next((by_name[likely] for likely in _ORDER if likely in by_name), None)
    owner, kind = next(((by_name[likely], kind) for likely, kind in _OWNER if likely in by_name), (None, _DEAL))
    owner_type = next((by_name[likely] for likely in _OWNER_TYPE if likely in by_name), kind)
    settings = {"order_id": order, "owner_type_id": owner_type, "owner_id": owner} if order and owner else {}

    def mark(likely: tuple[str, ...]) -> str | None:
        fitting = (by_name[one] for one in likely if one in by_name)
        return next((one for one in fitting if mark_for(sa.column(one), types[one], sqlite=False)), None)

    return Proposal(name, settings, mark(_DELETED), mark(_TOUCHED), tuple(types))


def _unlikeliness(proposal: Proposal) -> tuple[bool, bool, int, str]:
    plain = proposal.name.lower()
    named = not any(likely in plain for likely in _LIKELY_NAMES)
    return not proposal.columns, named, len(proposal.found), proposal.name
