"""The questions of `syncd init`. What was given as an option is not asked.

Before anything is written the portal is asked whether it takes the webhook, and what it calls the types of owners.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from syncd.cli.answers import Answers, obstacle, reachable
from syncd.cli.screen import GAP, Line, Screen, TextTable
from syncd.cli.streams import confirm, prompt
from syncd.config.fields import LINK_NAME
from syncd.config.load import load
from syncd.config.mapping_columns import KEY_FIELDS, ORDER_COLUMNS
from syncd.config.model import Settings
from syncd.config.schedule import parse_schedule
from syncd.config.urls import parse_database_url, parse_webhook
from syncd.core.records import PortalNames
from syncd.engine import formatting
from syncd.errors import AuthError, SyncdError, UnavailableError, UsageError
from syncd.table.proposals import Proposal, propose_columns
from syncd.wiring import open_app_context

SHOWN = 12
"""How many tables are listed."""

STEPS = (
    "In the portal, as an administrator: Developer resources → Other → Inbound webhook, scope `crm`; copy its URL.",
    "If the mapping table holds the shop's own order numbers instead of order ids, add the scope `sale`.",
    "The URL is a password: it is stored in a file that only you may read, and is not shown while you paste it.",
)

DATABASE = "The mapping table's database, as an SQLAlchemy URL: postgresql://user@host/name, and the password in it."


def ask(answers: Answers, screen: Screen, given: frozenset[str], *, probe: bool) -> None:
    """Ask for what is missing, and fill the answers. A wrong answer is asked again, with the reason.

    Args:
        answers: What is known so far.
        screen: Where findings are shown.
        given: The names of the answers that were given as options.
        probe: Whether the portal is asked if it takes the webhook.
    """
    if "link" not in given:
        taken = link_names(answers)
        proposed = answers.link if answers.link not in taken else None
        answers.link = _asked("Name of the link", lambda name: _link(name, taken, answers), default=proposed)
    if not answers.webhook:
        screen.show(Line(step) for step in STEPS)
        answers.webhook = _ask_webhook(answers, screen, probe=probe)
    _ask_table(answers, screen, given)
    if "direction" not in given:
        choice = click.Choice(["two-way", "crm-to-table", "table-to-crm"])
        answers.direction = prompt("Which sides may syncd write", type=choice, default=answers.direction)
    if "schedule" not in given:
        answers.schedule = _asked("How often does the daemon make a pass", _schedule, default=answers.schedule)


def link_names(answers: Answers) -> list[str]:
    """Given where the configuration is, return the names of the links that are in it already.

    Raises:
        ConfigError: It is none.
    """
    if not answers.adds:
        return []
    return list(load(answers.path, os.environ, secrets=False).settings.links)


def _ask_webhook(answers: Answers, screen: Screen, *, probe: bool) -> str:

    while True:
        url = _asked("URL of the webhook", _webhook, hide=True)
        if not probe:
            return url
        try:
            answers.owner_type_names = ask_portal(url)
        except WebhookRefused as error:
            screen.show([Line(f"Error: {error}")])
        except SyncdError as error:
            screen.show([Line(f"Error: {error.message}")])
            if confirm("Keep it anyway", default=False):
                return url
        else:
            return url


def propose(answers: Answers) -> None:
    """Look through the database, and fill in what its columns suggest for the table that was chosen.

    Raises:
        ConfigError, UnavailableError, AuthError: The database cannot be looked at.
        UsageError: There is no such table.
    """
    _chosen(answers, propose_columns(reachable(answers)))


def _chosen(answers: Answers, found: Sequence[Proposal]) -> Proposal:
    chosen = next((one for one in found if one.name == answers.table), None)
    if chosen is None:
        names = ", ".join(one.name for one in found[:SHOWN]) or "none"
        raise UsageError(f"The database has no table {answers.table}.", hint=f"Its tables: {names}.")
    given = dict(answers.columns)
    if (column := given.pop("order_id", None)) is not None:
        _name_order(answers, chosen.columns, chosen.order_settings.get(str(column), "order_id"), column)
        answers.columns |= given
    else:
        answers.columns = chosen.columns | given
    return chosen


def _name_order(answers: Answers, columns: Mapping[str, str | int], setting: str, column: str | int) -> None:
    """Set the columns, with this one as the order's."""
    others = {key: value for key, value in columns.items() if key not in ORDER_COLUMNS}
    answers.columns = {setting: column, **others}


def _ask_database(answers: Answers, screen: Screen) -> list[Proposal]:
    """Return the tables of the database; where none was given as an option, ask until there is one with tables."""
    if answers.table_url:
        return propose_columns(reachable(answers))
    screen.show([Line(DATABASE)])
    while True:
        answers.table_url = _asked("URL of the database", _database, hide=True)
        try:
            found = propose_columns(reachable(answers))
        except SyncdError as error:
            reason = " ".join([error.message, *getattr(error, "problems", ()), error.hint]).strip()
        else:
            if found:
                return found
            reason = "The database has no tables."
        screen.show([Line(f"Error: {reason}")])


def _ask_table(answers: Answers, screen: Screen, given: frozenset[str]) -> None:
    found = _ask_database(answers, screen)
    if not answers.table:
        rows = [[one.name, ", ".join(one.found)] for one in found[:SHOWN]]
        screen.show([GAP, TextTable(rows, heads=["table", "columns"], indent=2), GAP])
        likeliest = found[0].name if found[0].columns else None
        names = [one.name for one in found]
        answers.table = _asked("The mapping table", lambda name: _one_of(name, names), default=likeliest)
    proposal = _chosen(answers, found)
    if "order_column" not in given:
        _ask_order(answers, proposal)
    columns = answers.columns
    if "owner_column" not in given:
        columns["owner_id"] = _column("Column of the deal's (or other owner's) id", proposal, columns.get("owner_id"))
    if "owner_type" not in given:
        default = columns.get("owner_type_id", next(iter(answers.owner_type_names), 2))
        what = f"Column of the owner's type, or a number ({_types(answers.owner_type_names)})"
        columns["owner_type_id"] = type_or_column(_column(what, proposal, default, number=True))
    if "deleted" not in given and proposal.deleted is not None:
        question = f"Does a value in {proposal.deleted} mean that the row is deleted (soft delete)"
        answers.deleted = proposal.deleted if confirm(question, default=False) else ""
    if "touched" not in given and proposal.touched is not None:
        question = f"Shall syncd set {proposal.touched} when it writes a row"
        answers.touched = proposal.touched if confirm(question, default=True) else ""


def _ask_order(answers: Answers, proposal: Proposal) -> None:
    proposed = next((column for key, column in answers.columns.items() if key in ORDER_COLUMNS), None)
    column = _column("Column of the order id, or of the shop's own order number", proposal, proposed)
    setting = proposal.order_settings.get(column, "order_id")
    if setting in KEY_FIELDS:
        question = f"Does {column} hold the {KEY_FIELDS[setting]} of the portal's orders, and not their ids"
        setting = setting if confirm(question, default=True) else "order_id"
    _name_order(answers, answers.columns, setting, column)


def _types(named: Mapping[int, str]) -> str:
    """Return the owner types to choose from: those that the portal names, and those that every portal has."""
    types = dict.fromkeys([*named, *formatting.OWNER_NAMES])
    return ", ".join(f"{one} {formatting.owner_type(one, PortalNames(types=named))}" for one in types)


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
    parse_webhook(url)


def _link(name: str, taken: Sequence[str], answers: Answers) -> None:
    if not re.match(LINK_NAME, name):
        raise ValueError("a link's name is made of letters, digits, _ and -")
    if name in taken:
        raise ValueError(f"the configuration has a link {name} already")
    answers.link = name
    if there := obstacle(answers):
        raise ValueError(f"{there}, and nothing is overwritten; take another name, or move it away")


def _schedule(text: str) -> None:
    parse_schedule(text)


def _database(url: str) -> None:
    parse_database_url(url)


def _one_of(name: str, names: list[str] | tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"{name} does not exist; choose one of: {', '.join(names)}")


class WebhookRefused(Exception):
    """The portal does not take it; the message is a sentence."""


def ask_portal(webhook: str) -> dict[int, str]:
    """Given a webhook's URL whose portal lets it read bindings, return the owner types that the portal names.

    Raises:
        WebhookRefused: It does not.
        UnavailableError: The portal is out of reach, or failed, so the answer is unknown.
    """
    refused, types = "", dict[int, str]()
    try:
        refused, types = asyncio.run(_ask(webhook))
    except AuthError as error:
        refused = f"{error.message} {error.hint}".strip()
    if refused:
        raise WebhookRefused(refused)
    return types


async def _ask(webhook: str) -> tuple[str, dict[int, str]]:
    with TemporaryDirectory(prefix="syncd-init-") as folder:
        # A link needs a state and a table; nothing is opened of the one, and the other is thrown away.
        none = f"sqlite:///{Path(folder, 'none.db')}"
        columns = {"order_id": "a", "owner_type_id": 2, "owner_id": "b"}
        link = {"portal": {"webhook": webhook}, "table": {"url": none, "name": "none", "columns": columns}}
        state = {"url": f"sqlite:///{Path(folder, 'syncd.db')}"}
        settings = Settings.model_validate({"state": state, "links": {"init": link}})
        async with open_app_context(settings) as context, context.portal("init") as portal:
            rights = await portal.probe()
            types = await portal.owner_types() if rights.read else {}
    if rights.read is None:
        raise UnavailableError(f"syncd could not find out whether bindings may be read. {'; '.join(rights.detail)}")
    said = f" ({'; '.join(rights.detail)})" if rights.detail else ""
    refused = "" if rights.read else f"The portal refuses to list bindings{said}. Give the webhook the scope `crm`."
    return refused, types
