"""`help`: what a command does, for those who ask with a word."""

from __future__ import annotations

from collections.abc import Sequence

import click

from syncd.cli import options
from syncd.cli.app import App


@options.command("help", short_help="Show what a command does.")
@click.argument("words", nargs=-1, metavar="[COMMAND]...", help="The command, such as `plan` or `db check`.")
@click.pass_context
def show_help(context: click.Context, _app: App, words: Sequence[str]) -> int:
    """Show the help of a command, as `syncd COMMAND --help` does; without one, that of the program."""
    asked = context.find_root()
    for word in words:
        if not isinstance(asked.command, click.Group):
            raise click.UsageError(f"{asked.command_path} has no commands of its own.", context)
        name, command, _rest = asked.command.resolve_command(asked, [word])
        assert command is not None  # resolve_command raises where there is none
        asked = click.Context(command, info_name=name, parent=asked)
    click.echo(asked.get_help())
    return 0
