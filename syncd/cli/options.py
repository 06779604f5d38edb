"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.model import Owner

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "console", "json")


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Put a global option where the command finds it; one after the command wins."""
    if value is not None and value is not False:
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
            help="The minimum level to log, on stderr.  [default: info; error on a terminal, except for `run`]",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(FORMATS),
            callback=_keep,
            expose_value=False,
            hidden=hidden,
            help="How log lines look.  [default: console on a terminal, else json]",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            callback=_keep,
            expose_value=False,
            hidden=hidden,
            help="For cron: log only errors, and print nothing about successes. Reports are printed as usual.",
        ),
    ]


class GlobalCommand(click.Command):
    """A command that also takes the global options after its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += global_options(hidden=True)


STATE_ONLY = "This command needs only the state database, so it works where the secrets of links cannot be read."


def command(name: str, *, state_only: bool = False, **attributes: Any) -> Callable[[Callable[..., int]], GlobalCommand]:
    """Like `click.command`; the function takes the `App` first and returns the exit code.

    Args:
        name: The command's name.
        state_only: The help says that the command needs no secrets of links.
        attributes: As `click.command` takes them.
    """

    def decorate(function: Callable[..., int]) -> GlobalCommand:
        made = click.command(name, cls=GlobalCommand, **attributes)(click.pass_obj(function))
        assert isinstance(made, GlobalCommand)
        if state_only:
            made.help = f"{cleandoc(made.help or '')}\n\n{STATE_ONLY}"
        return made

    return decorate


def complete_link(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of the configured links to the shell."""
    import os

    from syncd.config.load import load
    from syncd.errors import ConfigError

    try:
        names = load(ctx.ensure_object(App).config, os.environ, secrets=False).settings.links
    except ConfigError:
        return []
    return [name for name in names if name.startswith(incomplete)]


comment = click.option("--comment", default="", metavar="TEXT", help="Why; kept with your name, the host and the time.")
as_csv = click.option("--csv", "as_csv", is_flag=True, help="Print a table for a spreadsheet.")
as_markdown = click.option("--markdown", "as_markdown", is_flag=True, help="Print a Markdown table.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
show_all = click.option("--all", "every", is_flag=True, help="Show every change, not only the first ten of each kind.")
one_link = click.argument(
    "link", required=False, shell_complete=complete_link, help="The link; may be left out where there is only one."
)
some_links = click.argument(
    "links", nargs=-1, metavar="[LINK]...", shell_complete=complete_link, help="Links by name; all of them if left out."
)
any_link = click.argument("link", required=False, shell_complete=complete_link, help="A link; all of them if left out.")


def form_of(**asked: bool) -> str:
    """Given which of --csv, --markdown and --json were asked for, return its name; empty for text.

    Raises:
        click.UsageError: There are several.
    """
    forms = [name for name, wanted in asked.items() if wanted]
    if len(forms) > 1:
        raise click.UsageError(f"--{forms[0]} and --{forms[1]} cannot be used together.")
    return forms[0] if forms else ""


def owner_of(text: str) -> Owner:
    """Given an owner as typed, `2:77`, return it.

    Raises:
        click.UsageError: It is none.
    """
    from syncd.engine.formatting import parse_owner

    owner = parse_owner(text)
    if owner is None:
        raise click.UsageError(f"Invalid value for '--owner': {text!r} is not TYPE:ID, such as 2:77 for deal 77.")
    return owner


class OrderRangesText(click.ParamType[Any]):
    """Order ids and ranges of them, as `core.order_ranges` reads them."""

    name = "orders"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Given the text, return the set of orders."""
        from syncd.core.order_ranges import OrderRanges

        try:
            return OrderRanges.parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


some_orders = click.option(
    "--orders",
    type=OrderRangesText(),
    metavar="ORDERS",
    help="Only these: order ids and ranges of them, such as 5125,5200-5300.",
)
LATEST = 0
"""What `latest` is in place of a run's number, until the command has looked it up."""


class Number(click.IntRange):
    """A number from 1 to what a database can hold."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Given the word, return the number."""
        number = int(super().convert(value, param, ctx))
        if number >= 2**63:
            self.fail(f"{number} is too large.", param, ctx)
        return number


class RunNumber(Number):
    """A run by its number; or `latest`, the newest plan that waits to be applied."""

    name = "run"

    def __init__(self, *, latest: bool = False) -> None:
        super().__init__()
        self._latest = latest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Given the word, return the number, or `LATEST`."""
        return LATEST if self._latest and value == "latest" else super().convert(value, param, ctx)


run_number = click.argument("run", type=RunNumber(), help="The run's number, from `syncd runs`.")
plan_number = click.argument(
    "run",
    type=RunNumber(latest=True),
    help="The plan's run number; or `latest`, the newest plan that waits, unless a guard refused it.",
)


def link_and_order(order: str) -> Callable[[F], F]:
    """Return the argument `[LINK] [ORDER]`, as `words`; `split_link_and_order` takes them apart.

    Args:
        order: What ORDER is, for the help.
    """
    return click.argument(
        "words",
        nargs=-1,
        metavar="[LINK] [ORDER]",
        shell_complete=complete_link,
        help=f"{order}; before it the link, which may be left out where there is only one.",
    )


def split_link_and_order(words: Sequence[str]) -> tuple[list[str], int]:
    """Given `[LINK] ORDER` as typed, return the link names (one or none) and the order id.

    Raises:
        click.UsageError: There is no word or more than two, or the last one is not an order id.
    """
    from syncd.core.order_ranges import parse_order_id

    if not words:
        raise click.UsageError("Missing argument 'ORDER'.")
    *names, order = words
    if len(names) > 1:
        raise click.UsageError(f"Got unexpected extra argument ({words[2]}).")
    number = parse_order_id(order)
    if number is None:
        raise click.UsageError(f"Invalid value for 'ORDER': {order!r} is not an order id.")
    return names, number
