"""Values to rows and back: how owners, facts, changes and holds are stored, and many rows at once.

Many rows go the fastest way of each database: SQLAlchemy's portable way takes four times the CPU of the driver's own,
which matters for a million orders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any, TypeAlias, TypeVar, cast

from sqlalchemy import Connection, Executable, RowMapping, Table

from syncd.core.model import (
    Action,
    Change,
    Counts,
    Facts,
    Hold,
    HoldKind,
    MaybeOwner,
    Outcome,
    Owner,
    Reason,
    Side,
    SideCounts,
    Unreadable,
)
from syncd.core.records import BindingRow, BindingUpdate, GuardHit, StoredChange, StoredHold
from syncd.db.registry import backend_at_work
from syncd.state.schema import binding

TEXT_LIMIT = 4000
"""Characters stored of a text from outside: enough for any sentence, too few for a portal's HTML page."""

NAME_LIMIT = 190
"""Characters stored of a name; the width of the columns."""

CHUNK = 10_000
"""Rows in one transaction, which takes some hundred milliseconds, so that leases are renewed in time between two."""

PARAMETERS = 5_000
"""Values in one IN list; SQLite allows 32,766 parameters, the others more."""

BINDING_COLUMNS = ("link_id", "order_id", "crm_type", "crm_id", "agreed_type", "agreed_id")

CHANGE_COLUMNS = (
    "run_id", "link_id", "order_id", "side", "action", "before_type", "before_id", "after_type", "after_id", "reason",
    "crm_type", "crm_id", "table_type", "table_id", "agreed_type", "agreed_id", "unreadable_kind", "unreadable_detail",
    "unreadable_side", "agreed_after_type", "agreed_after_id", "hold_after", "outcome", "error", "at",
    "found_type", "found_id", "found_known",
)  # fmt: skip
"""The columns of `change` in the order of `change_values`; the id is the database's."""

HOLD_COLUMNS = (
    "link_id", "order_id", "kind", "crm_type", "crm_id", "table_type", "table_id", "agreed_type", "agreed_id",
    "unreadable_kind", "unreadable_detail", "unreadable_side", "seen", "seen_crm_type", "seen_crm_id",
    "seen_table_type", "seen_table_id",
    "seen_agreed_type", "seen_agreed_id", "detail", "since", "sticky", "decision", "decided_at", "run_id",
    "released_at",
)  # fmt: skip
"""The columns of `hold` in the order of `hold_values`; the id is the database's."""

Values: TypeAlias = tuple[Any, ...]
T = TypeVar("T")

_UNBOUND = (None, None)
_READABLE = (None, None, None)


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """Given any text, return what every database can store: no NUL, no lone surrogates, at most `limit` characters."""
    return text[:limit].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def pair(owner: MaybeOwner) -> tuple[int | None, int | None]:
    """Given an owner or none, return its two columns."""
    return _UNBOUND if owner is None else owner


def owner(owner_type_id: int | None, owner_id: int | None) -> MaybeOwner:
    """Given two columns, return the owner or none."""
    return None if owner_type_id is None or owner_id is None else Owner(owner_type_id, owner_id)


def binding_values(link_id: int, update: BindingUpdate) -> Values:
    """Given new values for an order, return its row, in the order of `BINDING_COLUMNS`."""
    return (link_id, update.order_id, *pair(update.crm), *pair(update.agreed))


def _facts_values(facts: Facts) -> Values:
    unreadable = facts.unreadable
    return (
        *pair(facts.crm),
        *pair(facts.table),
        *pair(facts.agreed),
        *(
            _READABLE
            if unreadable is None
            else (unreadable.kind.value, clean(unreadable.detail), unreadable.side.value)
        ),
    )


def facts_of(row: RowMapping | Mapping[str, Any]) -> Facts:
    """Given a row of `change` or `hold`, return the facts in it."""
    kind = row["unreadable_kind"]
    return Facts(
        crm=owner(row["crm_type"], row["crm_id"]),
        table=owner(row["table_type"], row["table_id"]),
        agreed=owner(row["agreed_type"], row["agreed_id"]),
        unreadable=None
        if kind is None
        else Unreadable(HoldKind(kind), row["unreadable_detail"], Side(row["unreadable_side"] or Side.TABLE)),
    )


def change_values(run: int, link_id: int, change: Change, outcome: Outcome, at: float) -> Values:
    """Given a change that is new to the audit, return its row, in the order of `CHANGE_COLUMNS`."""
    side, hold_after = change.side, change.hold_after
    return (
        run,
        link_id,
        change.order_id,
        None if side is None else side.value,
        change.action.value,
        *pair(change.before),
        *pair(change.after),
        change.reason.value,
        *_facts_values(change.facts),
        *pair(change.agreed_after),
        None if hold_after is None else hold_after.value,
        outcome.value,
        "",
        at,
        None,
        None,
        False,
    )


def change_of(row: RowMapping) -> StoredChange:
    """Given a row of `change`, return the stored change."""
    side, hold_after = row["side"], row["hold_after"]
    return StoredChange(
        id=row["id"],
        run=row["run_id"],
        change=Change(
            order_id=row["order_id"],
            side=None if side is None else Side(side),
            action=Action(row["action"]),
            before=owner(row["before_type"], row["before_id"]),
            after=owner(row["after_type"], row["after_id"]),
            reason=Reason(row["reason"]),
            facts=facts_of(row),
            agreed_after=owner(row["agreed_after_type"], row["agreed_after_id"]),
            hold_after=None if hold_after is None else HoldKind(hold_after),
        ),
        outcome=Outcome(row["outcome"]),
        error=row["error"],
        at=row["at"],
        found=owner(row["found_type"], row["found_id"]),
        found_known=row["found_known"],
        batch=row["batch"],
        sends=row["sends"],
    )


def hold_values(link_id: int, run: int, stored: StoredHold, since: float) -> Values:
    """Given a hold to open, return its row, in the order of `HOLD_COLUMNS`."""
    hold = stored.hold
    return (
        link_id,
        hold.order_id,
        hold.kind.value,
        *_facts_values(hold.facts),
        *_seen_values(hold.seen),
        clean(hold.detail),
        since,
        stored.sticky,
        stored.decision,
        None,
        run,
        None,
    )


def _seen_values(seen: Facts | None) -> Values:
    # What is seen is what a write left, so it is readable.
    if seen is None:
        return (False, *_UNBOUND, *_UNBOUND, *_UNBOUND)
    return (True, *pair(seen.crm), *pair(seen.table), *pair(seen.agreed))


def _seen_of(row: RowMapping) -> Facts | None:
    if not row["seen"]:
        return None
    return Facts(
        crm=owner(row["seen_crm_type"], row["seen_crm_id"]),
        table=owner(row["seen_table_type"], row["seen_table_id"]),
        agreed=owner(row["seen_agreed_type"], row["seen_agreed_id"]),
    )


def hold_of(row: RowMapping) -> StoredHold:
    """Given a row of `hold`, return the stored hold."""
    return StoredHold(
        hold=Hold(
            order_id=row["order_id"],
            kind=HoldKind(row["kind"]),
            facts=facts_of(row),
            detail=row["detail"],
            since=row["since"],
            seen=_seen_of(row),
        ),
        sticky=row["sticky"],
        decision=row["decision"],
        run=row["run_id"],
    )


def counts_text(counts: Counts) -> str:
    """Given the numbers of a plan, return them as JSON."""
    return json.dumps(asdict(counts), separators=(",", ":"))


def counts_of(text: str) -> Counts:
    """Given the JSON of `counts_text`, return the numbers."""
    fields = json.loads(text)
    return Counts(**(fields | {"crm": SideCounts(**fields["crm"]), "table": SideCounts(**fields["table"])}))


def guards_text(guards: list[GuardHit]) -> str:
    """Given the guards that refused, return them as JSON."""
    return json.dumps(guards, separators=(",", ":"))


def guards_of(text: str) -> list[GuardHit]:
    """Given the JSON of `guards_text`, return the guards."""
    return [
        GuardHit(name, None if side is None else Side(side), limit, actual)
        for name, side, limit, actual in json.loads(text)
    ]


# ----------------------------------------------------------- many rows at once


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Given items, yield them in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def store_bindings(connection: Connection, link_id: int, updates: Iterable[BindingUpdate]) -> None:
    """Write new values of orders; a row whose values are all None is deleted. Call it once in a transaction.

    Args:
        connection: In a writing transaction.
        link_id: The link's generation.
        updates: The new values; the last of several for one order counts.
    """
    rows = {update.order_id: binding_values(link_id, update) for update in updates}
    kept = [row for row in rows.values() if row[2] is not None or row[4] is not None]
    backend = backend_at_work(connection)
    if kept:
        backend.replace_rows(connection, binding, BINDING_COLUMNS, kept)
    if len(kept) < len(rows):
        gone = [row[:2] for row in rows.values() if row[2] is None and row[4] is None]
        backend.delete_rows(connection, binding, gone)


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
    """Insert rows.

    Args:
        connection: In a writing transaction.
        table: Where to.
        columns: The names of the values, in the order of the table.
        rows: One tuple of values for each row.
    """
    if rows:
        backend_at_work(connection).insert_rows(connection, table, columns, rows)


def fetch_bindings(connection: Connection, query: Executable, values: dict[str, Any]) -> list[BindingRow]:
    """Given a query for the columns of `BindingRow`, return its rows.

    They come from the driver's cursor, without a line of Python for each: a million in less than a second.
    """
    result = connection.execute(query, values)
    rows = cast("Any", result).cursor.fetchall()
    result.close()
    make = partial(tuple.__new__, BindingRow)
    return cast("list[BindingRow]", list(map(make, rows)))
