"""The program `syncd`: imports the command that is asked for, and turns every way it can end into one exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from syncd import __version__
from syncd.cli import streams
from syncd.cli.app import (
    INTERRUPTED,
    UNEXPECTED,
    USAGE,
    App,
    describe_bug,
    describe_error,
    describe_lost_output,
)
from syncd.cli.options import global_options
from syncd.cli.screen import show_on_stderr
from syncd.errors import SyncdError


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

    def _short(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(60) if command is not None else ""


SECTIONS = {
    "Getting started": {"demo": "sandbox:demo", "init": "init:init", "check": "check:check"},
    "Bringing into step": {
        "plan": "passes:plan",
        "apply": "passes:apply",
        "reconcile": "passes:reconcile",
        "run": "daemon:run",
    },
    "Status and history": {
        "status": "daemon:status",
        "runs": "audit:runs",
        "show": "audit:show",
        "history": "audit:history",
        "holds": "holds:holds",
        "help": "reference:show_help",
    },
    "Deciding": {
        "resolve": "holds:resolve",
        "undo": "passes:undo",
        "rebase": "passes:rebase",
        "trigger": "daemon:trigger",
        "pause": "daemon:pause",
        "resume": "daemon:resume",
    },
    "Setting up": {
        "auth": "auth:auth",
        "config": "check:config",
        "db": "db:db",
        "notify": "check:notify",
        "sandbox": "sandbox:sandbox",
    },
}
HIDDEN = {"reference": "reference:reference"}
COMPLETE = "_SYNCD_COMPLETE"
"""The variable in which a shell says what it wants to complete; the scripts in deploy/completion/ set it."""


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"syncd {__version__}")
        ctx.exit()


cli = LazyGroup(
    "syncd",
    sections=SECTIONS,
    hidden=HIDDEN,
    params=[
        *global_options(),
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
        ),
    ],
    help="Keeps a Bitrix24 portal's order bindings and a mapping table in step, in both directions.",
    epilog="Begin with `syncd demo`. `syncd COMMAND --help` explains a command, which may also take the options above.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        args: The command line without the program's name; `sys.argv` when left out.

    Returns:
        The exit code (exit-codes.md).
    """
    output, app = streams.prepare(), App()
    try:
        try:
            if instruction := os.environ.get(COMPLETE):
                return _complete(instruction)
            # Not click's own main(), which ends with 1 where a pipe is broken: here 1 means a bug.
            with cli.make_context("syncd", list(sys.argv[1:] if args is None else args), obj=app) as context:
                code = int(cli.invoke(context) or 0)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - an operator gets a sentence for any error
            code = _show_ending(error, app)
        sys.stdout.flush()
    except BrokenPipeError:
        streams.discard()
        return streams.READER_GONE
    if output is not None and output.lost:
        show_on_stderr(describe_lost_output(output.lost, code))
        return code or streams.LOST
    return code


def _complete(instruction: str) -> int:
    """Answer the shell, which asks how a command line can be completed; return the exit code."""
    from click.shell_completion import shell_complete

    return shell_complete(cli, {}, "syncd", COMPLETE, instruction)


def _show_ending(error: BaseException, app: App) -> int:
    """Say on stderr what ended a command early, and return its exit code.

    Raises:
        BrokenPipeError: The reader of the output is gone, so nothing can be reported.
    """
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case BrokenPipeError():
            raise error
        case click.Abort() | EOFError() | KeyboardInterrupt():
            with suppress(OSError):  # the terminal may be gone
                click.echo("Aborted." if isinstance(error, click.Abort) else "\nAborted.", err=True)
            return error.exit_code if isinstance(error, streams.QuestionInterrupted) else INTERRUPTED
        case click.ClickException():
            error.show()
            return USAGE
        case SyncdError():
            show_on_stderr(describe_error(error))
            return error.exit_code
        case _:
            show_on_stderr(describe_bug(error, debug=app.debug))
            return UNEXPECTED


if __name__ == "__main__":
    sys.exit(main())
