"""A click group that imports a command only when somebody asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click


class ReaderGone(Exception):
    """Nobody reads what a command prints any more."""


class LazyGroup(click.Group):
    """A group whose commands are found by name.

    Args:
        sections: Headings of the help page, each with its commands: a name and `module:attribute` below
            `syncd.cli.commands`.
        hidden: Likewise, for commands that are left out of the help page.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, str]],
        hidden: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._places = {name: place for section in sections.values() for name, place in section.items()} | {**hidden}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands, in the order of the help page."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Given a name, import its command; None for a name there is none of."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(f"syncd.cli.commands.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        for heading, section in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self._short(ctx, name)) for name in section])

    def resolve_command(
        self, ctx: click.Context, args: Sequence[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command named by the first argument; a name there is none of gets the nearest one as a hint."""
        name = args[0] if args else ""
        if args and name not in self._places and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self._places, n=1)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, list(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A broken pipe gets a name of its own: click would end with 1, which means a bug."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None

    def _short(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(60) if command is not None else ""
