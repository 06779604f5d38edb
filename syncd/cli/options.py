"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from syncd.cli.app import App

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "console", "json")


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Put a global option where the command finds it; what stands after the command wins."""
    if value is not None:
        setattr(ctx.ensure_object(App), str(param.name), value)
    return value


def global_options(*, hidden: bool = False) -> list[click.Option]:
    """Return the options of the whole program; hidden where they are only tolerated, after a command's name."""
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            callback=_keep,
            expose_value=False,
            hidden=hidden,
            help="The configuration; else $SYNCD_CONFIG, ./syncd.toml or /etc/syncd/syncd.toml.",
        ),
        click.Option(
            ["--log-level"],
            type=click.Choice(LEVELS),
            callback=_keep,
            expose_value=False,
            hidden=hidden,
            help="The least important lines to log, on stderr.  [default: info; error on a terminal, but for `run`]",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(FORMATS),
            callback=_keep,
            expose_value=False,
            hidden=hidden,
            help="How log lines look.  [default: console on a terminal, else json]",
        ),
    ]


class Command(click.Command):
    """A command that takes the global options behind its name, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += global_options(hidden=True)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., int]], Command]:
    """Like `click.command`; the function takes the `App` first and returns the exit code."""

    def decorate(function: Callable[..., int]) -> Command:
        made = click.command(name, cls=Command, **attributes)(click.pass_obj(function))
        assert isinstance(made, Command)
        return made

    return decorate


def complete_link(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of the configured links to the shell."""
    import os

    from syncd.config.load import load
    from syncd.errors import ConfigError

    try:
        names = load(ctx.ensure_object(App).config, os.environ).settings.links
    except ConfigError:
        return []
    return [name for name in names if name.startswith(incomplete)]


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
show_all = click.option("--all", "every", is_flag=True, help="Show every change, not only the first ten of each kind.")
one_link = click.argument(
    "link", required=False, shell_complete=complete_link, help="The link; may be left out where there is only one."
)
some_links = click.argument(
    "links", nargs=-1, metavar="[LINK]...", shell_complete=complete_link, help="Links by name; all of them if left out."
)
any_link = click.argument("link", required=False, shell_complete=complete_link, help="A link; all of them if left out.")
run_number = click.argument("run", type=click.IntRange(min=1), help="The run's number, from `syncd runs`.")
link_and_order = click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="[LINK] ORDER",
    shell_complete=complete_link,
    help="The order's id; before it the link, which may be left out where there is only one.",
)


def split_link_and_order(words: Sequence[str]) -> tuple[list[str], int]:
    """Given `[LINK] ORDER` as typed, return the link names (one or none) and the order id.

    Raises:
        click.UsageError: There are more words than two, or the last one is no order id.
    """
    *names, order = words
    if len(names) > 1:
        raise click.UsageError(f"Got unexpected extra argument ({words[2]}).")
    if not (order.isascii() and order.isdigit() and int(order)):
        raise click.UsageError(f"Invalid value for 'ORDER': {order!r} is not an order id.")
    return names, int(order)
