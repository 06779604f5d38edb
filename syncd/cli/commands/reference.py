"""`reference`: the pages that are made from the commands; for those who package syncd."""

from __future__ import annotations

import click

from syncd.cli import options
from syncd.cli.app import App

PAGES = ("markdown", "man", "bash", "zsh", "fish")


@options.command("reference", hidden=True, short_help="Print a page made from the commands.")
@click.argument("page", type=click.Choice(PAGES), help="The reference, the man page, or a shell's completion.")
def reference(_app: App, page: str) -> int:
    """Print a page that is made from the commands: the reference, the man page, or a shell's completion script."""
    from syncd.cli.reference import page as render

    click.echo(render(page), nl=False)
    return 0
