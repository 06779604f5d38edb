"""`init`: the first configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.cli.answers import Answers
    from syncd.cli.screen import Block

_FILE = click.Path(path_type=Path, dir_okay=False)


@options.command("init", short_help="Write a first configuration; asks, or takes options.")
@click.option("--link", help="The link's name.  [default: shop]")
@click.option("--webhook-file", type=_FILE, metavar="FILE", help="A file with the webhook's URL; - is standard input.")
@click.option("--table-url", metavar="URL", help="The table's database, where its URL holds no password.")
@click.option("--table-url-file", type=_FILE, metavar="FILE", help="A file with the URL of the table's database.")
@click.option("--table", metavar="NAME", help="The mapping table.")
@click.option("--order-column", metavar="COLUMN", help="The column of the order id, or of the shop's own order number.")
@click.option("--owner-column", metavar="COLUMN", help="The column of the owner's id.")
@click.option("--owner-type", metavar="COLUMN|NUMBER", help="The column of the owner's type, or one for all: 2 deal.")
@click.option("--deleted", metavar="COLUMN", help="The column that marks deleted rows.")
@click.option("--touched", metavar="COLUMN", help="The column syncd sets when it writes.")
@click.option(
    "--direction", type=click.Choice(["two-way", "crm-to-table", "table-to-crm"]), help="Which sides syncd may write."
)
@click.option("--schedule", metavar="WHEN", help="When the daemon makes a pass.  [default: 5m]")
@click.option("--state", metavar="URL", help="The state database, where its URL holds no password.")
@click.option("--state-file", type=_FILE, metavar="FILE", help="A file with the URL of the state database.")
@click.option("--add", "adds", is_flag=True, help="Add another link to the existing configuration.")
@click.option("--no-input", is_flag=True, help="Ask nothing; a required option that is missing is an error.")
@click.option("--no-check", is_flag=True, help="Only write the files; connect to nothing but the table's database.")
def init(app: App, adds: bool, no_input: bool, no_check: bool, **given: Any) -> int:
    """Write a commented configuration to --config, or to ./syncd.toml.

    Asks for the portal and the table, shows the tables and columns it finds, and proposes what they mean. With options
    only, it asks nothing. A wrong answer is asked again. Secrets go to files of their own that only you may read.
    Nothing is ever overwritten. Afterwards it checks everything, as `syncd check` does, and shows the first plan and
    what to do next.

    In /etc/syncd the files are made for the service: its state is in /var/lib/syncd, its secrets are credentials.

    With --add, what is in the configuration stays as it is, and the tables of another link are appended to it.
    """
    from syncd.cli import answers as files
    from syncd.cli.asking import ask, link_names, propose
    from syncd.errors import UsageError

    app.log()
    answers = _given(**given)
    answers.path = _path(app, adds=adds)
    answers.adds = adds
    if not no_input and sys.stdin.isatty():
        ask(answers, app.screen, _names(given), probe=not no_check)
    else:
        _require(answers)
        if answers.link in link_names(answers):
            raise UsageError(f"{answers.path} has a link {answers.link} already.", hint="Name another with --link.")
        propose(answers)
    files.check(answers)
    app.screen.show(_written(files.write(answers)))
    app.config = answers.path
    code = 0 if no_check else _check_and_preview(app, answers.link)
    app.screen.show(_next(answers, code, checked=not no_check))
    return code


def _names(given: dict[str, Any]) -> frozenset[str]:
    return frozenset(name for name, value in given.items() if value is not None)


def _path(app: App, *, adds: bool) -> Path:
    """Return the path of the configuration to write, after checking that it can be written.

    Raises:
        UsageError: The file exists already; or a link is to be added, and it does not; or it may not be written.
    """
    from syncd.errors import UsageError

    if adds:
        from syncd.config.sources import find_file

        path = find_file(app.config, os.environ)
    else:
        path = app.config or Path("syncd.toml")
        if path.exists():
            hint = f"To add another link to it: syncd{_at(path)} init --add. Or name another file with --config."
            raise UsageError(f"{path} already exists, and `syncd init` never overwrites.", hint=hint)
    folder = next(one for one in (path.absolute().parent, *path.absolute().parents) if one.is_dir())
    if not os.access(folder, os.W_OK):
        raise UsageError(
            f"This user may not write to {folder}; nothing was asked or written.", hint="Try it with sudo."
        )
    return path


def _at(path: Path) -> str:
    """Return the option that commands need to find a configuration, with a space before it; empty if they find it."""
    from syncd.config.sources import SEARCHED

    return "" if path in SEARCHED else f" --config {path}"


def _next(answers: Answers, code: int, *, checked: bool) -> Iterator[Block]:
    """Yield what to do next, with the commands as they are to be typed here."""
    from syncd.cli.screen import GAP, Line

    sudo = "" if answers.service is None else "sudo "
    syncd = f"{sudo}syncd{_at(answers.path)}"
    steps = []
    if code or not checked:
        steps.append(("Fix that, and check again:" if code else "First, check it:", f"{syncd} check {answers.link}"))
    if answers.service is not None:
        verb = "restart" if answers.adds else "enable --now"
        steps.append(("Then let the service do it from now on:", f"sudo systemctl {verb} {answers.service.unit}"))
    else:
        running = "A running daemon adds the link on SIGHUP. Otherwise, " if answers.adds else "Then "
        steps.append((f"{running}let the daemon do it from now on:", f"{syncd} run"))
    yield GAP
    for sentence, command in steps:
        yield Line(sentence)
        yield Line(command, "command", indent=2)


def _given(**given: Any) -> Answers:
    from syncd.cli.answers import Answers
    from syncd.cli.asking import type_or_column

    answers = Answers()
    for name in ("link", "table", "deleted", "touched", "direction", "schedule"):
        if given[name] is not None:
            setattr(answers, name, given[name])
    if given["webhook_file"] is not None:
        answers.webhook, answers.webhook_file = _read(given["webhook_file"])
    if given["table_url_file"] is not None:
        answers.table_url, answers.table_url_file = _read(given["table_url_file"])
    elif given["table_url"] is not None:
        answers.table_url = _without_password("table-url", given["table_url"])
    if given["state_file"] is not None:
        answers.state, answers.state_file = _read(given["state_file"])
    elif given["state"] is not None:
        answers.state = _without_password("state", given["state"])
    named = (("order_id", given["order_column"]), ("owner_id", given["owner_column"]))
    answers.columns = {key: column for key, column in named if column is not None}
    if given["owner_type"] is not None:
        answers.columns["owner_type_id"] = type_or_column(given["owner_type"])
    return answers


def _without_password(option: str, url: str) -> str:
    """Return a URL that was given as an option, unless it holds a password: every user sees a process's options."""
    from syncd.config.urls import parse_database_url
    from syncd.errors import UsageError

    try:
        password = parse_database_url(url).password
    except ValueError as error:
        raise UsageError(f"--{option} {error}; nothing was written.") from None
    if password:
        file = "--table-url-file" if option == "table-url" else "--state-file"
        raise UsageError(
            f"--{option} holds a password. Every user of this host can see the options of a command, and the shell "
            "keeps them; nothing was written.",
            hint=f"Change the password if others use this host. Give the URL with {file} FILE; - is standard input.",
        )
    return url


def _read(file: Path) -> tuple[str, Path | None]:
    """Return a secret, and the file it stays in; one from standard input gets a file of its own."""
    from syncd.config.sources import read_secret
    from syncd.errors import UsageError

    if str(file) == "-":
        secret = sys.stdin.readline().strip()
        if not secret:
            raise UsageError("Standard input is empty; a line with the secret was expected.")
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
        raise UsageError(f"There is no terminal to ask on, and these options are missing: {', '.join(missing)}.")


def _written(written: list[Path]) -> list[Any]:
    from syncd.cli.screen import Line

    said = [Line(f"Wrote {written[0]}.", "good")]
    said += [Line(f"Wrote {file}, which only you may read.", "good") for file in written[1:]]
    return said


def _check_and_preview(app: App, link: str) -> int:
    """Check everything, and if nothing is wrong, show what the first plan would do."""
    from syncd.cli.commands.check import check_links
    from syncd.cli.commands.passes import preview
    from syncd.cli.screen import GAP

    app.screen.show([GAP])
    code = check_links(app, [link])
    if code:
        return code
    app.screen.show([GAP])
    return preview(app, link)
