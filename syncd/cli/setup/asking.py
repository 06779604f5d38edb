"""The questions of `syncd init`. What was given as an option is not asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from syncd.cli.prompting import confirm, prompt
from syncd.cli.screen import GAP, Line, Screen, Table
from syncd.cli.setup.answers import Answers

if TYPE_CHECKING:
    from syncd.table import Proposal

SHOWN = 12
"""How many tables are listed."""

STEPS = (
    "In the portal, as an administrator: Developer resources → Other → Inbound webhook, scope `crm`; copy its URL.",
    "It is a password: it goes to a file of its own that nobody else may read, and is not shown while you paste it.",
)

DATABASE = "The mapping table's database, as an SQLAlchemy URL: postgresql://user@host/name, and the password in it."


def ask(answers: Answers, screen: Screen, given: frozenset[str]) -> None:
    """Ask for what is missing, and fill the answers.

    Args:
        answers: What is known so far.
        screen: Where findings are shown.
        given: The names of the answers that were given as options.
    """
    if "link" not in given:
        answers.link = prompt("Name of the link", default=answers.link)
    if not answers.webhook:
        screen.show(Line(step) for step in STEPS)
        answers.webhook = _asked("URL of the webhook", _webhook, hide=True)
    if not answers.table_url:
        screen.show([Line(DATABASE)])
        answers.table_url = _asked("URL of the database", _database, hide=True)
    _ask_table(answers, screen, given)
    if "direction" not in given:
        choice = click.Choice(["two-way", "crm-to-table", "table-to-crm"])
        answers.direction = prompt("Which sides may syncd write", type=choice, default=answers.direction)
    if "schedule" not in given:
        answers.schedule = prompt("How often does the daemon make a pass", default=answers.schedule)


def propose(answers: Answers) -> Proposal | None:
    """Look through the database, and fill in what its columns suggest for the table that was chosen.

    Raises:
        ConfigError, UnavailableError, AuthError: The database cannot be looked at.
        UsageError: There is no such table.
    """
    from syncd.errors import UsageError
    from syncd.table import propose_columns

    found = propose_columns(answers.table_url)
    chosen = next((one for one in found if one.name == answers.table), None)
    if chosen is None:
        names = ", ".join(one.name for one in found[:SHOWN]) or "none"
        raise UsageError(f"The database has no table {answers.table}.", hint=f"Its tables: {names}.")
    answers.columns = chosen.columns | answers.columns
    return chosen


def _ask_table(answers: Answers, screen: Screen, given: frozenset[str]) -> None:
    from syncd.table import propose_columns

    if not answers.table:
        found = propose_columns(answers.table_url)
        rows = [[one.name, ", ".join(one.found)] for one in found[:SHOWN]]
        screen.show([GAP, Table(rows, heads=["table", "columns"], indent=2), GAP])
        likeliest = found[0].name if found and found[0].columns else None
        names = [one.name for one in found]
        answers.table = _asked("The mapping table", lambda name: _one_of(name, names), default=likeliest)
    proposal = propose(answers)
    if proposal is None:
        return
    columns = answers.columns
    if "order_column" not in given:
        columns["order_id"] = _column("Column of the order id", proposal, columns.get("order_id"))
    if "owner_column" not in given:
        columns["owner_id"] = _column("Column of the deal's (or other owner's) id", proposal, columns.get("owner_id"))
    if "owner_type" not in given:
        what = "Column of the owner's type, or a number (2 deal, 31 smart invoice)"
        columns["owner_type_id"] = type_or_column(_column(what, proposal, columns.get("owner_type_id", 2), number=True))
    if "deleted" not in given and proposal.deleted is not None:
        question = f"Does a value in {proposal.deleted} mean that the row is deleted (soft delete)"
        answers.deleted = proposal.deleted if confirm(question, default=False) else ""
    if "touched" not in given and proposal.touched is not None:
        question = f"Shall syncd set {proposal.touched} when it writes a row"
        answers.touched = proposal.touched if confirm(question, default=True) else ""


def type_or_column(text: str) -> str | int:
    """Given an owner type as typed, return the number, or the column's name."""
    return int(text) if text.isascii() and text.isdigit() else text


def _column(question: str, proposal: Proposal, default: str | int | None, *, number: bool = False) -> str:
    def check(name: str) -> None:
        if not (number and name.isascii() and name.isdigit()):
            _one_of(name, proposal.found)

    return _asked(question, check, default=None if default is None else str(default))


def _asked(question: str, check: Callable[[str], None], *, hide: bool = False, default: str | None = None) -> str:
    """Ask until the answer passes the check, which raises ValueError with a sentence."""

    def checked(text: str) -> str:
        try:
            check(text.strip())
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        return text.strip()

    answer: str = prompt(question, value_proc=checked, hide_input=hide, default=default)
    return answer


def _webhook(url: str) -> None:
    from syncd.config.endpoints import check_webhook

    check_webhook(url)


def _database(url: str) -> None:
    from syncd.config.endpoints import parse_database_url

    parse_database_url(url)


def _one_of(name: str, names: list[str] | tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"{name} is not there; there are: {', '.join(names)}")
