"""`init`: the first configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.cli.setup.answers import Answers

_FILE = click.Path(path_type=Path, dir_okay=False)


@options.command("init", short_help="Write a first configuration; asks, or takes options.")
@click.option("--link", help="The link's name.  [default: shop]")
@click.option("--webhook-file", type=_FILE, metavar="FILE", help="A file with the webhook's URL; - is standard input.")
@click.option("--table-url", metavar="URL", help="The table's database, where its URL holds no password.")
@click.option("--table-url-file", type=_FILE, metavar="FILE", help="A file with the URL of the table's database.")
@click.option("--table", metavar="NAME", help="The mapping table.")
@click.option("--order-column", metavar="COLUMN", help="The column of the order id.")
@click.option("--owner-column", metavar="COLUMN", help="The column of the owner's id.")
@click.option("--owner-type", metavar="COLUMN|NUMBER", help="The column of the owner's type, or one for all: 2 deal.")
@click.option("--deleted", metavar="COLUMN", help="The column that marks deleted rows.")
@click.option("--touched", metavar="COLUMN", help="The column syncd sets when it writes.")
@click.option(
    "--direction", type=click.Choice(["two-way", "crm-to-table", "table-to-crm"]), help="Which sides syncd may write."
)
@click.option("--schedule", metavar="WHEN", help="When the daemon makes a pass.  [default: 5m]")
@click.option("--state", metavar="URL", help="The state database.  [default: sqlite:///syncd.db]")
@click.option("--no-input", is_flag=True, help="Ask nothing; what is needed and not given is an error.")
@click.option("--no-check", is_flag=True, help="Only write the files; connect to nothing but the table's database.")
def init(app: App, no_input: bool, no_check: bool, **given: Any) -> int:
    """Write a commented configuration to --config, or to ./syncd.toml.

    Asks for the portal and the table, shows the tables and columns it finds, and proposes what they mean. With options
    only, it asks nothing. Secrets go to files of their own that only you may read. Nothing is ever overwritten.
    Afterwards everything is looked over, as by `syncd check`, and the first plan is shown.
    """
    from syncd.cli.setup import answers as files
    from syncd.cli.setup.asking import ask, propose
    from syncd.errors import UsageError

    app.log()
    path = app.config or Path("syncd.toml")
    if path.exists():
        raise UsageError(f"{path} is there already, and `syncd init` never overwrites.", hint="Name another: --config.")
    answers = _given(**given)
    if no_input or not sys.stdin.isatty():
        _require(answers)
        propose(answers)
    else:
        ask(answers, app.screen, frozenset(name for name, value in given.items() if value is not None))
    files.check(answers)
    written = files.write(answers, path)
    app.screen.show(_told(written))
    if no_check:
        return 0
    app.config = path
    return _look(app, answers.link)


def _given(**given: Any) -> Answers:
    from syncd.cli.setup.answers import Answers
    from syncd.cli.setup.asking import type_or_column

    answers = Answers()
    for name in ("link", "table", "deleted", "touched", "direction", "schedule", "state"):
        if given[name] is not None:
            setattr(answers, name, given[name])
    if given["webhook_file"] is not None:
        answers.webhook, answers.webhook_file = _read(given["webhook_file"])
    if given["table_url_file"] is not None:
        answers.table_url, answers.table_url_file = _read(given["table_url_file"])
    elif given["table_url"] is not None:
        answers.table_url = given["table_url"]
    named = (("order_id", given["order_column"]), ("owner_id", given["owner_column"]))
    answers.columns = {key: column for key, column in named if column is not None}
    if given["owner_type"] is not None:
        answers.columns["owner_type_id"] = type_or_column(given["owner_type"])
    return answers


def _read(file: Path) -> tuple[str, Path | None]:
    """Return a secret, and the file it stays in; one from standard input gets a file of its own."""
    from syncd.config.sources import read_secret
    from syncd.errors import UsageError

    if str(file) == "-":
        secret = sys.stdin.readline().strip()
        if not secret:
            raise UsageError("Standard input is empty; it was to hold a secret's line.")
        return secret, None
    try:
        return read_secret(file), file
    except ValueError as error:
        raise UsageError(f"{file} {error}.") from None


def _require(answers: Answers) -> None:
    from syncd.errors import UsageError

    needed = {
        "--webhook-file": answers.webhook,
        "--table-url or --table-url-file": answers.table_url,
        "--table": answers.table,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise UsageError(f"Nobody can be asked, and these are missing: {', '.join(missing)}.")


def _told(written: list[Path]) -> list[Any]:
    from syncd.cli.screen import Line

    said = [Line(f"Wrote {written[0]}.", "good")]
    said += [Line(f"Wrote {file}, which only you may read.", "good") for file in written[1:]]
    return said


def _look(app: App, link: str) -> int:
    """Look everything over, and, if all is well, show what the first plan would do."""
    from syncd.cli.commands.check import look
    from syncd.cli.commands.passes import preview
    from syncd.cli.screen import GAP

    app.screen.show([GAP])
    code = look(app, [link])
    if code:
        return code
    app.screen.show([GAP])
    return preview(app, link)
