"""Everything that is wrong with a link's mapping table, found without writing: its shape, `where`, rights."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event, exc

from syncd.config.model import TableSettings
from syncd.core.model import Owner
from syncd.errors import AuthError
from syncd.table.columns import Columns, Statement
from syncd.table.dialect import Dialect
from syncd.table.faults import GRANTS, Fault, diagnose, words
from syncd.table.reflect import Reflection

_SAMPLE = 1
"""Stands for every id in statements that are only explained."""


def find_problems(settings: TableSettings, dialect: Dialect, *, key: str, writable: bool) -> list[str]:
    """Return every problem, each a sentence that begins with its configuration key.

    Args:
        settings: The link's table settings.
        dialect: How to speak to this database.
        key: The configuration key of the settings, such as `links.shop.table`.
        writable: Whether syncd may write to this table.

    Raises:
        DBAPIError: The database cannot be looked at.
        AuthError: Nothing is wrong but that rights are missing.
    """
    with dialect.reading() as connection:
        reflection = Reflection(connection, settings, dialect, key)
        columns = reflection.columns(writable=writable)
    problems = reflection.problems
    if columns is None:
        return problems
    # What cannot be read cannot be written either, and the database would only say the same again.
    refusals = _reading(dialect, columns, key) or (_writing(dialect, columns, key) if writable else [])
    if refusals and not problems and all(refusal.denied for refusal in refusals):
        raise AuthError(f"{'; '.join(refusal.text for refusal in refusals)}.", hint=GRANTS)
    return [*problems, *(refusal.text for refusal in refusals)]


class _Refusal(NamedTuple):
    """What the database refuses, as a sentence that begins with its key, and whether for want of a right."""

    text: str
    denied: bool = False


def _reading(dialect: Dialect, columns: Columns, key: str) -> list[_Refusal]:
    trials = [("name", "may not be read", sa.select(*columns.cells).limit(0))]
    if columns.where is not None:
        trials.append(
            ("where", "is not accepted by the database", sa.select(*columns.cells).where(columns.where).limit(0))
        )
    for at, what, trial in trials:
        try:
            with dialect.reading() as connection:
                connection.execute(trial)
        except exc.DBAPIError as error:
            return [_refusal(error, f"{key}.{at}", what)]
    return []


def _writing(dialect: Dialect, columns: Columns, key: str) -> list[_Refusal]:
    kind = columns.owner_type if isinstance(columns.owner_type, int) else _SAMPLE
    parameters = columns.parameters(
        _SAMPLE, Owner(kind, _SAMPLE), [each.cell(_SAMPLE) for each in columns.ids], _SAMPLE
    )
    refusals = []
    for what, statement in (("insert", columns.insert), ("update", columns.move), ("delete", columns.delete)):
        try:
            with dialect.writing() as connection:
                if not dialect.takes_writes(connection):
                    return [_Refusal(f"{key}.url: the database is read-only")]
                _explain(connection, statement, parameters)
        except exc.DBAPIError as error:
            if diagnose(error) is Fault.UNUSABLE:
                return [_refusal(error, f"{key}.url", "the database takes no writes")]
            refusals.append(_refusal(error, f"{key}.name", f"may not be written ({what})"))
    return refusals


def _explain(connection: sa.Connection, statement: Statement, parameters: dict[str, object]) -> None:
    """Let the database say how it would carry a statement out, for which it looks at names, types and rights."""

    @event.listens_for(connection, "before_cursor_execute", retval=True)
    def only_explain(*given: Any) -> tuple[str, Any]:
        _, _, text, values, _, _ = given
        return f"EXPLAIN {text}", values

    connection.execute(statement.clause, statement.only(parameters))


def _refusal(error: exc.DBAPIError, at: str, what: str) -> _Refusal:
    fault = diagnose(error)
    if fault in {Fault.GONE, Fault.LOCKED, Fault.AGAIN}:
        raise error
    return _Refusal(f"{at}: {what}: {words(error)[1]}", denied=fault is Fault.DENIED)
