"""The tables of a database that could be the mapping table, with the settings that would fit them: for `syncd init`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from syncd.db.backend import Backend
from syncd.table.database import TableDatabase, translated_errors
from syncd.table.marks import encoding_for

_DEAL = 2
_INVOICE = 31
_ORDER = {
    "order_id": "order_id", "orderid": "order_id", "order_number": "order_number", "ordernumber": "order_number",
    "order_no": "order_id", "order": "order_id", "account_number": "order_number", "number": "order_number",
    "order_xml_id": "order_xml_id", "xml_id": "order_xml_id", "order_1c_id": "order_1c_id", "id_1c": "order_1c_id",
    "id": "order_id",
}  # fmt: skip
"""Likely names of the column of the order, with the setting that names it; the likeliest first."""
_NUMBER_IF_TEXT = frozenset({"order_no", "order"})
"""Names of columns that hold order ids where they hold numbers, and the shop's own numbers where they hold texts."""
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
        columns: As `links.X.table.columns` takes it; empty where the names suggest nothing.
        order_settings: The setting that fits a column as that of the order, where its name suggests one.
        deleted: A column that looks like a soft delete mark.
        touched: A column that looks like the time of the last change.
        found: All column names.
    """

    name: str
    columns: dict[str, str | int]
    order_settings: dict[str, str]
    deleted: str | None
    touched: str | None
    found: tuple[str, ...]


def propose_columns(url: str) -> list[Proposal]:
    """Given a database URL, return its tables, the likeliest mapping table first. Reads names and types, no rows.

    Raises:
        ConfigError: The URL cannot be used, or the driver is not installed.
        UnavailableError, AuthError: The database cannot be read.
    """
    home = TableDatabase(url, "url")
    shown = sa.make_url(url).set(username=None, password=None, query={}).render_as_string()
    try:
        with translated_errors(shown, home.dbapi, "table"), home.reading() as connection:
            inspector = sa.inspect(connection)
            names: list[tuple[str | None, str]] = [(None, name) for name in inspector.get_table_names()]
            names += [
                (schema, name)
                for schema in home.backend.other_schemas(inspector)
                for name in inspector.get_table_names(schema)
            ]
            proposals = [
                _proposal(
                    name if schema is None else f"{schema}.{name}", inspector.get_columns(name, schema), home.backend
                )
                for schema, name in names
            ]
    finally:
        home.engine.dispose()
    return sorted(proposals, key=_unlikeliness)


def _proposal(name: str, columns: list[ReflectedColumn], backend: Backend) -> Proposal:
    by_name = {column["name"].lower(): column["name"] for column in columns}
    types = {column["name"]: column["type"] for column in columns}
    orders = {by_name[likely]: _order_setting(likely, types[by_name[likely]]) for likely in _ORDER if likely in by_name}
    order, setting = next(iter(orders.items()), ("", ""))
    owner, kind = next(((by_name[likely], kind) for likely, kind in _OWNER if likely in by_name), (None, _DEAL))
    owner_type = next((by_name[likely] for likely in _OWNER_TYPE if likely in by_name), kind)
    settings = {setting: order, "owner_type_id": owner_type, "owner_id": owner} if order and owner else {}

    def mark(likely: tuple[str, ...]) -> str | None:
        fitting = (by_name[one] for one in likely if one in by_name)
        return next((one for one in fitting if encoding_for(sa.column(one), types[one], backend)), None)

    return Proposal(name, settings, orders, mark(_DELETED), mark(_TOUCHED), tuple(types))


def _order_setting(likely: str, kind: sa.types.TypeEngine[Any]) -> str:
    return "order_number" if likely in _NUMBER_IF_TEXT and isinstance(kind, sa.String) else _ORDER[likely]


def _unlikeliness(proposal: Proposal) -> tuple[bool, bool, int, str]:
    plain = proposal.name.lower()
    named = not any(likely in plain for likely in _LIKELY_NAMES)
    return not proposal.columns, named, len(proposal.found), proposal.name
