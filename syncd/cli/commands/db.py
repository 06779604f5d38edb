"""`db`: the schema of the state database."""

from __future__ import annotations

import os
from typing import Any

import click

from syncd.cli import options
from syncd.cli.app import App


@click.group("db", short_help="Manage the state database: upgrade, current, check.")
def db() -> None:
    """Manage the schema of the state database."""


@db.command("upgrade", cls=options.GlobalCommand, short_help="Create or upgrade the schema.")
@options.as_json
@click.pass_obj
def upgrade(app: App, as_json: bool) -> int:
    """Create the schema of the state database, or upgrade it to the newest one.

    Starting any other command does the same. An SQLite file is copied beside itself before it is upgraded.
    """
    url = _url(app)
    from syncd.state.high_water import mark_files
    from syncd.state.migrate import upgrade as upgrade_schema

    before = upgrade_schema(url, used_by=mark_files(url, os.environ).links())
    if before.revision == before.head:
        sentence = f"The state database has the newest schema, {before.head}."
    else:
        sentence = f"The state database went from {before.revision or 'nothing'} to schema {before.head}."
    if before.backup is not None:
        sentence += f" A copy from before is kept in {before.backup}."
    backup = str(before.backup) if before.backup is not None else None
    _print_result(app, as_json, sentence, {"before": before.revision, "revision": before.head, "backup": backup})
    return 0


@db.command("current", cls=options.GlobalCommand, short_help="Show which schema there is.")
@options.as_json
@click.pass_obj
def current(app: App, as_json: bool) -> int:
    """Show which schema the state database has, and which one this syncd works with."""
    url = _url(app)
    from syncd.state.migrate import current as current_schema

    schema = current_schema(url)
    sentence = f"The state database has schema {schema.revision or '(none)'}; this syncd works with {schema.head}."
    _print_result(app, as_json, sentence, {"revision": schema.revision, "head": schema.head})
    return 0


@db.command("check", cls=options.GlobalCommand, short_help="Look for damage.")
@options.as_json
@click.pass_obj
def check(app: App, as_json: bool) -> int:
    """Check the state database: schema, damage, permissions, open intents. Writes nothing.

    Ends with 0 where all is well, with 69 where something is wrong, and with 78 where a newer syncd made the schema.
    """
    url = _url(app)
    from syncd.cli.screen import Line
    from syncd.errors import UnavailableError
    from syncd.state.migrate import check as check_database

    found = check_database(url)
    document = {
        "revision": found.schema.revision,
        "head": found.schema.head,
        "problems": list(found.problems),
        "open_intents": found.open_intents,
    }
    if as_json:
        app.screen.json(document)
    else:
        app.screen.show(Line(f"- {problem}", "bad") for problem in found.problems)
        if not found.problems:
            app.screen.show([Line(f"The state database is sound; its schema is {found.schema.revision}.", "good")])
        if found.open_intents:
            app.screen.show(
                [Line(f"{found.open_intents} writes have no outcome yet; the next pass finds their outcome.")]
            )
    return UnavailableError.exit_code if found.problems else 0


def _url(app: App) -> str:
    return app.load(secrets=False).settings.state.url.get_secret_value()


def _print_result(app: App, as_json: bool, sentence: str, document: dict[str, Any]) -> None:
    from syncd.cli.screen import Line

    if as_json:
        app.screen.json(document)
    else:
        app.screen.show([Line(sentence)])
