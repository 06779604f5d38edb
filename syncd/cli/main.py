"""The program `syncd`: finds the command, and turns every way it can end into one exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from syncd import __version__
from syncd.cli import failure
from syncd.cli.app import App
from syncd.cli.lazy import LazyGroup, ReaderGone
from syncd.cli.options import global_options
from syncd.cli.prompting import Left
from syncd.errors import SyncdError

SECTIONS = {
    "Beginning": {"demo": "demo:demo", "init": "init:init", "check": "check:check"},
    "Bringing into step": {
        "plan": "passes:plan",
        "apply": "passes:apply",
        "reconcile": "passes:reconcile",
        "run": "daemon:run",
    },
    "Looking": {
        "status": "status:status",
        "runs": "runs:runs",
        "show": "runs:show",
        "history": "history:history",
        "holds": "holds:holds",
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
        "config": "config:config",
        "db": "db:db",
        "sandbox": "sandbox:sandbox",
    },
}
HIDDEN = {"reference": "reference:reference"}
BROKEN_PIPE = 141


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
    epilog="Begin with `syncd demo`. `syncd COMMAND --help` tells more; the options above may stand behind it, too.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        args: The command line without the program's name; `sys.argv` when left out.

    Returns:
        The exit code (design.md section 3).
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's stream may be another kind
            stream.reconfigure(errors="backslashreplace")
    app = App()
    try:
        code = _run(args, app)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):
        # Nobody reads any more. The interpreter would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _run(args: Sequence[str] | None, app: App) -> int:
    try:
        code: Any = cli.main(args, prog_name="syncd", standalone_mode=False, obj=app)
    except click.Abort as aborted:
        with suppress(OSError):  # there may be no terminal any more
            click.echo("Aborted.", err=True)
        return aborted.exit_code if isinstance(aborted, Left) else failure.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return failure.USAGE
    except SyncdError as error:
        failure.tell(failure.told(error))
        return error.exit_code
    except ReaderGone:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it is, an operator gets a sentence
        failure.tell(failure.unexpected(error, debug=app.debug))
        return failure.UNEXPECTED
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
