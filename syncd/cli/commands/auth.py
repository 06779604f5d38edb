"""`auth`: the authorisation of an OAuth application."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import click

from syncd.cli import options
from syncd.cli.app import App
from syncd.cli.prompting import prompt

if TYPE_CHECKING:
    from syncd.config.model import PortalSettings
    from syncd.core.ports import Cancelled
    from syncd.portal.opening import Authorisation
    from syncd.wiring import Workplace


@options.command("auth", short_help="Authorise an OAuth application.")
@options.one_link
@click.option(
    "--listen",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Wait for the browser at http://127.0.0.1:PORT/, where the application's redirect address is that.",
)
def auth(app: App, link: str | None, listen: int | None) -> int:
    """Walk through the authorisation of a link's application, and keep its tokens in the state database.

    Open the address that is shown, in a browser that is signed in to the portal. The portal then sends the browser to
    the application's own address; paste that address here, or let --listen take it. The code in it is good for 30
    seconds. From then on tokens are renewed without anybody.
    """
    from syncd.cli.commands.daemon import who
    from syncd.cli.screen import Line
    from syncd.wiring import pick

    settings = app.load().settings
    (name,) = pick(settings, [link] if link else [], one=True)
    portal = settings.links[name].portal
    _require_oauth(name, portal)
    url, state = _begin(app, name)
    # The address is for the operator's browser, so it is printed as it is; its state is of no use to anybody else.
    click.echo("Open this address in a browser that is signed in to the portal:", err=True)
    click.echo(url)
    code, server = _from_browser(app, listen, state) if listen else _pasted(state)

    async def work(place: Workplace, _: Cancelled) -> int:
        authorisation = _authorisation(place, name)
        try:
            await authorisation.complete(code, server)
        finally:
            await authorisation.aclose()
        row = await place.store.find_link(name)
        if row is not None and row.parked:  # for want of these tokens, most likely
            await place.store.post_request(name, "trigger", who(), place.clock.now())
        app.screen.show([Line(f"Authorised; the tokens of link {name} are in the state database.", "good")])
        app.screen.show([Line("To see that it works:"), Line(f"syncd check {name}", "command", indent=2)])
        return 0

    return app.perform(work)


def _require_oauth(name: str, portal: PortalSettings) -> None:
    from syncd.errors import ConfigError

    if portal.oauth is None:
        raise ConfigError(
            f"Link {name} has a webhook, which needs no authorisation.",
            hint=f"For an application, give it [links.{name}.portal.oauth] instead.",
        )


def _begin(app: App, name: str) -> tuple[str, str]:
    """Return the address to open, and the state the redirect must bring back."""
    found: list[tuple[str, str]] = []

    async def work(place: Workplace, _: Cancelled) -> int:
        authorisation = _authorisation(place, name)
        found.append((authorisation.url, authorisation.state))
        await authorisation.aclose()
        return 0

    app.perform(work)
    return found[0]


def _authorisation(place: Workplace, name: str) -> Authorisation:
    from syncd.portal.opening import Authorisation

    return Authorisation(place.settings.links[name].portal, link=name, hosts=place.hosts, store=place.store)


def _pasted(state: str) -> tuple[str, str]:
    """Ask for the address the browser ended at; its code is no secret for longer than it is good for."""
    text: str = prompt("The address the browser was sent to", err=True)
    return answer_in(text, state)


def _from_browser(app: App, port: int, state: str) -> tuple[str, str]:
    from syncd.cli import stopping
    from syncd.cli.setup.redirect import wait_for_redirect

    found: list[tuple[str, str]] = []

    async def work() -> None:
        found.append(answer_in(await wait_for_redirect(port), state, by_hand=False))

    app.log()
    stopping.serve(work)
    if not found:
        raise click.Abort
    return found[0]


def answer_in(text: str, state: str, *, by_hand: bool = True) -> tuple[str, str]:
    """Given the address of the redirect, or only its code, return the code and the authorisation server, if named.

    Args:
        text: The address.
        state: What it must bring back.
        by_hand: A person brought it, so it may lack the state; any page could send a browser to a listening port.

    Raises:
        UsageError: It brings no code, or belongs to another authorisation.
    """
    from syncd.errors import UsageError

    text = text.strip()
    if "?" not in text:
        return text, ""
    query = {name: values[0] for name, values in parse_qs(urlsplit(text).query).items()}
    if not query.get("code"):
        raise UsageError("That address brings no code; nothing was stored.", hint="Paste the whole address.")
    if query.get("state", state if by_hand else "") != state:
        raise UsageError("That address belongs to another authorisation; nothing was stored.", hint="Begin again.")
    return query["code"], query.get("server_domain", "")
